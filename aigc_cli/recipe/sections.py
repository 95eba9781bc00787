"""The parts of a recipe that every family shares, and the base class of all parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of every part of a recipe: no unknown keys, no coerced types, no later changes.

    The string under a field is its documentation: it becomes the text of the JSON schema, which is
    what an editor shows, and of `aigc recipe show --doc`.
    """

    TINY: ClassVar[Mapping[str, Any]] = {}
    """The smallest values that still exercise everything, for tests and `aigc model check`."""

    FEW: ClassVar[Mapping[str, Any]] = {}
    """What `aigc recipe new` sets where there is little data, such as a narrower network."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @classmethod
    def tiny(cls, **changed: Any) -> Self:
        """With the values of TINY, but for those that are `changed`."""
        return cls(**{**cls.TINY, **changed})


class Schedule(Section):
    """Learning rate as a multiple of each optimizer's own `lr`, a pure function of the step."""

    name: Literal["constant", "cosine", "linear", "step", "inverse_sqrt"] = "constant"
    """cosine, linear: fall to `final` at the last step; step: times `gamma` every `every` steps;
    inverse_sqrt: after `warmup` with the square root of the step. linear with a `start` of 0.8 is
    warm-up, stable, decay.
    """
    warmup: int = Field(0, ge=0)
    """Steps over which the rate first rises linearly from zero."""
    start: float = Field(0.0, ge=0, lt=1)
    """cosine, linear: fraction of the run after which the decay begins."""
    final: float = Field(0.0, ge=0, le=1)
    """cosine, linear: multiple reached at the last step."""
    every: int = Field(200_000, gt=0)
    """step: distance between two reductions, in steps."""
    gamma: float = Field(0.5, gt=0, le=1)
    """step: factor of one reduction."""


class Trainer(Section):
    """Budget, devices, precision, cadence. A step is `global_batch` items over all devices."""

    max_steps: int | None = Field(None, gt=0)
    """Length of the run in steps. Give this or `max_epochs`."""
    max_epochs: int | None = Field(None, gt=0)
    """Length of the run in passes over the training data. Give this or `max_steps`."""
    global_batch: int = Field(16, gt=0)
    """Items in one step, over all devices and accumulated parts together."""
    accumulate: int = Field(1, gt=0)
    """Parts in which a device computes its share of the batch, to save memory; same result."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes CUDA when it is there; mps, an Apple GPU, only when named, and was never run."""
    devices: int | Literal["auto"] = 1
    """Processes on each node; auto takes every GPU of the node, or one process on a CPU."""
    num_nodes: int = Field(1, gt=0)
    """Machines, when started by torchrun or SLURM."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """auto is ddp on several devices; fsdp also cuts the weights and optimizer states over them."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto is bf16 where the hardware multiplies it, else fp32; weights are always kept in fp32."""
    channels_last: bool = False
    """Store images as NHWC, which convolutions on CPUs and tensor cores prefer."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient of each optimizer; larger ones are scaled down."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the generator's weights, which then validates and samples."""
    schedule: Schedule = Schedule()
    """How the learning rate changes over the run."""
    workers: int = Field(0, ge=0)
    """Processes that prepare batches; 0 prepares them in the training process."""
    log_every: int = Field(50, gt=0)
    """Steps between two rows of metrics.jsonl."""
    validate_every: int = Field(1000, gt=0)
    """Steps between two validations; there is always one at the end."""
    checkpoint_every: int = Field(1000, gt=0)
    """Steps between two writes of last.ckpt; there is always one at the end."""
    preview_every: int = Field(1000, gt=0)
    """Steps between two images of what the model makes."""
    monitor: Name | None = None
    """Validation metric that chooses best.ckpt; the family's first metric when not given."""
    keep_best: bool = True
    """false: best.ckpt is of the last validation, for a measure that chooses badly, such as L1,
    which is least for blurred images.
    """
    patience: int | None = Field(None, gt=0)
    """Validations in a row without a better `monitor` that end the run; null trains to the end."""
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Trackers beside TensorBoard, which keep what they get on this machine: docs/report.md."""
    on_worse: Literal["warn", "fail"] = "warn"
    """What to do when the run ends far worse than it began, or than answers that need no model: say
    so, or also end with exit code 3.
    """

    @model_validator(mode="after")
    def _one_budget(self) -> Trainer:
        if (self.max_steps is None) == (self.max_epochs is None):
            raise ValueError("give exactly one of max_steps and max_epochs")
        if isinstance(self.devices, int) and self.devices < 1:
            raise ValueError(f"devices must be 1 or more, not {self.devices}")
        if self.patience is not None and not self.keep_best:
            raise ValueError("patience waits for a better validation, and keep_best is false")
        return self


class Evaluate(Section):
    """Defaults of `aigc evaluate` for this recipe."""

    metrics: tuple[Name, ...] = ()
    """Names of `aigc evaluate --metric list`; the family's own when empty."""
    options: tuple[Name, ...] = ()
    """Options of metrics, such as `bleu.tokenize=zh`, as on the command line."""
    require: tuple[Name, ...] = ()
    """Conditions such as `psnr_y>=36.0`; exit code 4 when one does not hold."""

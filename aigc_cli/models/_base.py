"""What every family promises: networks, an objective, optimizers, sampling.

A family is a plain module. What trains it is run/iteration.py and run/training.py, so that nothing
here, and nothing that samples or evaluates, needs Lightning.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.nn.ema import EMA
from aigc_cli.recipe.sections import Section, Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from aigc_cli.nn.features import FeatureNetwork

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One optimizer step within an iteration: which optimizer, what it minimizes, how its terms are
    named.
    """

    optimizer: int
    loss: Callable[[Batch], Terms]
    prefix: str = ""


@dataclass(frozen=True)
class Example:
    """An input that `sample` takes, and what is shown beside the answer, by caption."""

    given: Any
    references: Sequence[Any] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a module must know of the run it trains in."""

    trainer: Trainer
    seed: int
    max_steps: int
    rank: int = 0
    world: int = 1


class GenerativeModule(nn.Module, ABC):
    """Base of every family: networks, an objective, optimizers, sampling. Nothing about files or
    devices.

    A family sets the class variables and writes `loss`, `configure_optimizers` (one optimizer),
    `evaluate_batch` and `sample`.
    """

    accepts: ClassVar[tuple[type[Spec], ...]]
    """Specs the family can be built from."""
    metrics: ClassVar[dict[str, Literal["max", "min"]]]
    """What `evaluate_batch` returns and which direction is better; the first chooses the best
    checkpoint.
    """
    averaged: ClassVar[tuple[str, ...]]
    """Networks whose moving average validates and samples (the generator, never a discriminator).
    """
    find_unused: ClassVar[bool] = False
    """Whether a phase leaves parameters without a gradient, which DDP must then look for."""
    takes: ClassVar[str | None] = None
    """The modality (modalities/) of what `sample` is given; None where it draws from noise alone.
    """
    makes: ClassVar[str]
    """The modality of what `sample` returns, or "labels" (models/_classifier.py)."""
    input_optional: ClassVar[bool] = False
    """Whether a family that takes something also draws from noise alone."""
    suffix: str = ""
    """Behind the names of inputs in those of the answers."""
    turns_noise: ClassVar[bool] = False
    """Whether noise between that of two samples makes what lies between them (`--interpolate`)."""
    fewest: ClassVar[dict[str, int]] = {}
    """Items that a batch needs for a metric to be defined; smaller ones do not count in it."""
    counted: ClassVar[tuple[str, ...]] = ()
    """What `evaluate_batch` returns, where metrics are not means of it (`summarize`)."""
    reference_count: ClassVar[tuple[int, int]] = (0, 0)
    """Least and most things of `aigc sample --reference`."""
    training_free: ClassVar[bool] = False
    """Whether the family samples without weights of its own; its recipe has no data and trainer."""
    measures: ClassVar[dict[str, Literal["max", "min"]] | None] = None
    """What `measure` returns, where that differs from `metrics`."""
    batches_per_step: int = 1
    """Batches of `trainer.global_batch` items that one step consumes."""
    needs_color: ClassVar[bool] = False
    """Whether gray images teach it nothing."""
    frozen: ClassVar[Mapping[str, str]] = {"features": "features"}
    """Frozen networks that the run attaches: the attribute, and the field of `config` that names
    it, where there is one. They have `stamp`, which says what they are, and `state()`, plain data
    to restore them from; run/build.py opens them.
    """
    conditional: bool = False
    """Whether samples have classes (`labels_of`)."""

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__()
        self._place = torch.empty(0)
        self.config = config
        self.spec = spec
        self.step = 0
        self.ema: EMA | None = None
        self.mean_weight = torch.ones(())
        """Weight of an average part of the batch in progress; see `weight`."""
        self.run: Run | None = None
        self._noise: _Noise | None = None
        self.base: dict[str, Any] | None = None
        """What checkpoints leave to the model it started from (run/base.py)."""
        self.frozen_networks: dict[str, Any] = {}
        """Those of `frozen` that there are: in a dict, so that none is a submodule."""
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._count = 0

    @property
    def draws(self) -> bool:
        """Whether the family makes samples of noise alone."""
        return self.takes is None or self.input_optional

    @property
    def unchanged(self) -> frozenset[str]:
        """Names of weights that stay what they were in the model of `init_from`."""
        return frozenset()

    # What a family writes.

    @abstractmethod
    def loss(self, batch: Batch) -> Terms:
        """Loss terms of one batch; "loss" is what is minimized, the others are only logged."""

    @abstractmethod
    def configure_optimizers(self) -> Optimizer | list[Optimizer]:
        """New optimizers of all weights that are trained, in the order that `phases` counts."""

    @abstractmethod
    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """One value for each item of a validation batch, (B,), under the names of `metrics`."""

    def example(self, batch: Batch, options: Any) -> Example | None:
        """What `sample` is given for a validation item, a batch of one: previews, and `aigc sample`
        without an input, show the first few. None where samples are drawn from noise alone.
        """
        return None

    def weight(self, batch: Batch) -> Tensor | None:
        """What a batch counts for where items count differently, such as its supervised tokens.

        `loss` then divides sums over its part by `mean_weight`, and the gradient is that of the
        mean over the whole global batch, however it is spread over parts and devices. A batch that
        weighs nothing changes nothing.
        """
        return None

    def expand(self, batch: Batch) -> Batch:
        """The batch of a step with what is made of it once, before its phases and parts: samples to
        be judged. What is added has a row for each item, and is cut with them.
        """
        return batch

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> Mapping[str, Tensor]:
        """What to take, by our names, of the weights of another model (`init_from`), which `spec`
        describes; what does not fit is left out.

        Raises:
            InputError: nothing can start from such a model.
        """
        return weights

    @abstractmethod
    def sample(
        self,
        noise: SampleNoise,
        options: Any,
        given: Any = None,
        references: Sequence[Any] = (),
    ) -> Any:
        """One thing of the modality `makes` for each row of `noise`, which has all the randomness:
        out of noise alone, or made of what is `given`, a thing of the modality `takes`.

        Where a modality gives several things at once, as texts do, `given` is a list of P things
        and row `p * (noise.count // P) + i` is answer i to thing p.
        """

    def between(
        self, given: Sequence[Any] | None, steps: int, options: Any, noise: SampleNoise
    ) -> Sequence[Any]:
        """Things on the way from each thing to the next in so many steps, both ends included:
        between what is given, or between what the rows of `noise` make.

        Raises:
            InputError: there is no such way.
        """
        raise InputError("--interpolate: the family knows no way from one of its inputs to another")

    def measure(self, batch: Batch, options: Any) -> dict[str, Tensor]:
        """As `evaluate_batch`, for `aigc evaluate`: also what is too slow while training."""
        return self.evaluate_batch(batch)

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """The same measures for answers that need no model, such as {"identity": {"l1": (B,)}}."""
        return {}

    def health(self, means: dict[str, float]) -> list[str]:
        """Names of failures that the mean loss terms since the last row show, such as
        "discriminator wins".
        """
        return []

    def labels_of(self, options: Any, first: int, n: int) -> Tensor | None:
        """Classes (n,) of the samples from number `first` on: the one that `options.label` names,
        otherwise each in turn; None where samples have no classes.

        Raises:
            InputError: the model knows no such class, or none at all.
        """
        names = getattr(self.spec, "labels", None)
        chosen = getattr(options, "label", None)
        if not self.conditional or names is None:
            if chosen is not None:
                raise InputError(
                    f"label={chosen}: the model was trained without classes",
                    hint="leave it out, or train with model.conditional=true on items of classes",
                )
            return None
        if chosen is None:
            return (torch.arange(first, first + n) % len(names)).to(self.device)
        if chosen not in names and not (chosen.isdecimal() and int(chosen) < len(names)):
            raise InputError(
                f"label={chosen}: the model knows no such class", hint=did_you_mean(chosen, names)
            )
        number = names.index(chosen) if chosen in names else int(chosen)
        return torch.full((n,), number, device=self.device)

    @property
    def features(self) -> FeatureNetwork:
        """The frozen network that `config.features` names, on the device of the model. It is
        neither trained nor averaged and no part of the weights.
        """
        if not self.has_features:
            raise RuntimeError("no feature network was attached")
        network: FeatureNetwork = self.frozen_networks["features"].to(self.device)
        return network

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.frozen:  # torch would register a module
            self.frozen_networks[name] = self.suited(value)
        else:
            super().__setattr__(name, value)

    def suited(self, network: Any) -> Any:
        """What the model needs of a frozen network that is attached to it.

        Raises:
            InputError: the network does not suit the model.
        """
        return network

    @property
    def has_features(self) -> bool:
        return "features" in self.frozen_networks

    @property
    def device(self) -> torch.device:
        """Where the weights are; of a family without weights, where it was moved to."""
        weight = next(self.parameters(), None)
        return self._place.device if weight is None else weight.device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._place = fn(self._place)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def networks(self) -> dict[str, nn.Module]:
        """The networks with weights, by attribute name."""
        return {k: m for k, m in self.named_children() if any(True for _ in m.parameters())}

    def phases(self) -> list[Phase]:
        """What one iteration optimizes, in order."""
        return [Phase(0, self.loss)]

    def shard(self, mesh: DeviceMesh) -> None:
        """Cut the weights over the devices of `mesh`, where the strategy is fsdp.

        Every member of a Sequential or ModuleList is gathered on its own, the rest of a network at
        once.

        Raises:
            InputError: the family cannot train so.
        """
        from torch.distributed.fsdp import fully_shard

        for network in self.networks().values():
            for holder in network.modules():
                if isinstance(holder, (nn.Sequential, nn.ModuleList)):
                    for block in holder:
                        if any(True for _ in block.parameters()):
                            fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)

    # Around a training iteration, which is in run/iteration.py.

    def prepare(self, run: Run) -> None:
        """Take the run's settings; called once, when the weights are on their device."""
        self.run = run
        if run.trainer.ema is not None:
            averaged = nn.ModuleDict({name: getattr(self, name) for name in self.averaged})
            self.ema = EMA(averaged, run.trainer.ema)

    def before_step(self, batch: Batch) -> None:
        """Called before a training iteration with its whole batch on this device."""

    def after_step(self, batch: Batch) -> None:
        """Called after a training iteration, when `step` counts it."""

    # Randomness inside `loss`.

    def randn(self, batch_size: int, *shape: int) -> Tensor:
        """Standard normal noise (batch_size, *shape) for the items of this part of the batch.

        It is drawn for the whole global batch and sliced, so it does not depend on how the batch is
        spread over devices and accumulated parts.
        """
        return self._random().draw(torch.randn, batch_size, shape)

    def rand(self, batch_size: int, *shape: int) -> Tensor:
        """Uniform noise in [0, 1), otherwise as `randn`."""
        return self._random().draw(torch.rand, batch_size, shape)

    def over_devices(self, total: Tensor) -> Tensor:
        """The sum of a number over all devices."""
        if self._run().world > 1:
            total = total.to(self.device)
            torch.distributed.all_reduce(total)
        return total

    def all_gather(self, x: Tensor) -> Tensor:
        """The rows of `x` (b, ...) of all devices, (b * world, ...), in the order of the items; for
        state that must be the same on every device. Without a gradient.
        """
        if self._run().world == 1:
            return x.detach()
        parts = [torch.empty_like(x) for _ in range(self._run().world)]
        torch.distributed.all_gather(parts, x.detach().contiguous())
        return torch.cat(parts)

    def mine(self, x: Tensor) -> Tensor:
        """This device's rows of what `all_gather` returned."""
        return x.chunk(self._run().world)[self._run().rank]

    def val_noise(self, n: int) -> SampleNoise:
        """Noise for the n items of a validation batch, that of their numbers: the same in every
        validation, however the items are spread over devices.
        """
        if self.run is None:
            return SampleNoise(0, self._count, n)
        rank, world = self.run.rank, self.run.world
        return SampleNoise(self.run.seed, rank + self._count * world, n, step=world)

    def step_noise(self, n: int) -> SampleNoise:
        """Noise for n rows that this device draws in this step, the same however often."""
        run = self._run()
        return SampleNoise(_mix(run.seed, self.step), run.rank * n, n)

    def seed_step(self) -> None:
        """Seed the global generators, which dropout reads, for this step."""
        run = self._run()
        _seed_generators(_mix(run.seed, self.step, run.rank))

    def start_phase(self, number: int) -> None:
        """From here on `randn` and `rand` draw for this phase of the step."""
        run = self._run()
        self._noise = _Noise(_mix(run.seed, self.step, number), run, self.device)

    def start_part(self, number: int) -> None:
        """Accumulated part `number` of the phase; each sees its own rows of the same draws."""
        self._random().start_part(number)

    def end_phases(self) -> None:
        self._noise = None

    def _random(self) -> _Noise:
        if self._noise is None:
            raise RuntimeError("randn and rand are for loss functions, inside a training step")
        return self._noise

    def _run(self) -> Run:
        if self.run is None:
            raise RuntimeError("prepare(run) must come before training")
        return self.run

    # Validation: means over items, exact whatever the number of devices.

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Inside, the averaged networks have their moving average, where one is kept."""
        return self.ema.applied() if self.ema is not None else nullcontext()

    def start_means(self) -> None:
        """Forget what `add_to_means` has counted."""
        self._sums = {}
        self._counts = {}
        self._count = 0

    def add_to_means(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Count the values (B,) of a batch; returns them."""
        for name, value in values.items():
            if self.defines(name, len(value)):
                self._sums[name] = self._sums.get(name, 0.0) + float(value.double().sum())
                self._counts[name] = self._counts.get(name, 0) + len(value)
        self._count += len(next(iter(values.values())))
        return values

    def defines(self, name: str, items: int) -> bool:
        """Whether a metric is defined on a batch of so many items."""
        return items >= self.fewest.get(name, 1)

    def validation_means(self) -> dict[str, float]:
        """Means over all items seen by all devices since validation began; the same on every
        device, and NaN where a metric was defined on none.
        """
        names = list(self.counted or self.metrics)
        sums = torch.tensor(
            [[found.get(name, 0) for name in names] for found in (self._sums, self._counts)],
            dtype=torch.float64,
        )
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            sums = sums.to(self.device)
            torch.distributed.all_reduce(sums)
        totals, counts = sums.tolist()
        means = {
            name: total / count if count else nan
            for name, total, count in zip(names, totals, counts, strict=True)
        }
        return self.summarize(means)

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """Metrics from means over items of what `evaluate_batch` returns: such as nats per token
        from nats and tokens per item.
        """
        return means


class _Noise:
    """Draws of one phase: the k-th draw of every part is a slice of the same global k-th draw."""

    def __init__(self, seed: int, run: Run, device: torch.device) -> None:
        self._seed, self._run, self._device = seed, run, device
        self._part = self._draws = 0

    def start_part(self, number: int) -> None:
        self._part, self._draws = number, 0

    def draw(self, fn: Callable[..., Tensor], batch_size: int, shape: tuple[int, ...]) -> Tensor:
        parts = self._run.trainer.accumulate
        generator = torch.Generator(self._device).manual_seed(_mix(self._seed, self._draws))
        total = batch_size * parts * self._run.world
        all_gather = fn(total, *shape, generator=generator, device=self._device)
        self._draws += 1
        first = (self._run.rank * parts + self._part) * batch_size
        return all_gather[first : first + batch_size]


def _seed_generators(seed: int) -> None:
    """As torch.manual_seed, which takes 2 ms where no GPU is in use, to keep a stack trace."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _mix(*numbers: int) -> int:
    """A seed in [0, 2^63) from several numbers, well mixed (blake2b)."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1

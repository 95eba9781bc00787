"""WaveNet: sound sample by sample, of a class, or going on from a recording.

van den Oord et al., 2016, https://arxiv.org/abs/1609.03499. Each sample is one of the levels of the
mu-law scale; its probability is a softmax over them, or a mixture of logistics cut into the same
levels (Salimans et al., "PixelCNN++", 2017, https://arxiv.org/abs/1701.05517), so that the bits of
both compare.

Differs from the paper: samples come in as one number instead of a one-hot row, and the skips of all
layers are summed by one product. Where the words of a class have a course, as spoken digits do, a
short receptive field with the class alone does not tell where in the word it is: with `points` what
is told to the layers changes between the beginning of a recording and its end. Classifier-free
guidance (Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598) is not in the paper either; both
are off by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import log
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.media.audio import Sound
from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.nn.mulaw import from_levels, on_scale, to_levels
from aigc_cli.nn.wavenet import Cache, WaveNet
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.audio import AudioSpec

NARROWEST = -7.0  # least log width of a logistic, on the scale [-1, 1]

DIAL = Dial(
    goals=("generate", "continue"),
    sizes=tuple(
        {
            "data.sample_rate": rate, "data.length": length, "model.channels": D,
            "model.skip": 2 * D, "model.layers": layers, "model.stacks": stacks,
        }
        for rate, length, D, layers, stacks in (
            (8_000, 2_048, 16, 8, 1), (8_000, 4_096, 32, 9, 2), (16_000, 8_192, 64, 10, 2),
        )
    ),
    steps=800,
    always={
        "data.normalize": "peak", "model.lr": 2e-3, "trainer.global_batch": 4,
        "trainer.clip_norm": 1.0, "trainer.precision": "fp32",
    },
    rank=1,
)  # fmt: skip


class Config(Section):
    """The network and its training."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "channels": 4, "skip": 8, "layers": 3, "stacks": 1, "mixtures": 2,
    }  # fmt: skip

    channels: int = Field(32, gt=0, le=2048)
    """Width of the residual path."""
    skip: int = Field(128, gt=0, le=4096)
    """Width of the two layers behind all others."""
    layers: int = Field(10, gt=0, le=16)
    """Layers of a stack; the first looks back 1 sample, each next twice as far as the one before.
    """
    stacks: int = Field(2, gt=0, le=16)
    """Stacks on each other."""
    head: Literal["softmax", "logistic"] = "softmax"
    """softmax: a probability for each level; logistic: a mixture of logistics, also for many
    levels.
    """
    mixtures: int = Field(10, gt=0, le=64)
    """logistic: how many are mixed."""
    conditional: bool = True
    """Whether the classes of the data, where it has some, are told to every layer."""
    points: int = Field(0, ge=0, le=1024)
    """Points from the beginning of a recording to its end at which what is told to every layer is
    learned, for each class; it is linear between them. 0: the same throughout.
    """
    label_dropout: float = Field(0.0, ge=0, le=1)
    """Part of the recordings whose class is hidden, so that guidance has something to lean on."""
    lr: float = Field(1e-3, gt=0, le=1)
    """Learning rate before the schedule, of Adam."""


class Options(Section):
    """What sounds, and how it is drawn."""

    TINY: ClassVar[Mapping[str, Any]] = {"seconds": 0.004}

    seconds: float = Field(1.0, gt=0, le=600)
    """Length of what is made, behind that of an input."""
    label: str | None = None
    """Class to make, by name or number; without it each in turn."""
    temperature: float = Field(1.0, ge=0, le=100)
    """0 always takes the likeliest level; 1 draws from the model's probabilities."""
    guidance: float = Field(1.0, ge=0, le=100)
    """How much the class counts: 1 as learned, more for typical sounds, 0 for any class; for models
    of label_dropout.
    """


def mixture_logits(raw: Tensor, levels: int) -> Tensor:
    """Log-probabilities (..., V) of all levels under a mixture of logistics.

    raw (..., 3M): logits, means and log widths on the scale [-1, 1]. The first and the last level
    take all that lies beyond them.
    """
    logits, mean, width = raw.float().chunk(3, -1)  # (..., M)
    inverse = torch.exp(-width.clamp(min=NARROWEST))
    edges = torch.arange(1, levels, device=raw.device) * (2 / (levels - 1)) - 1 - 1 / (levels - 1)
    z = (edges[:, None] - mean[..., None, :]) * inverse[..., None, :]  # (..., V - 1, M)
    below = F.pad(torch.sigmoid(z), (0, 0, 1, 0))  # (..., V, M)
    # 1 - sigmoid(z) is sigmoid(-z): of two differences take that of the smaller numbers.
    above = F.pad(torch.sigmoid(-z), (0, 0, 0, 1))
    upper, lower = F.pad(torch.sigmoid(z), (0, 0, 0, 1), value=1.0), below
    direct, mirrored = upper - lower, F.pad(torch.sigmoid(-z), (0, 0, 1, 0), value=1.0) - above
    mass = torch.where(lower < 0.5, direct, mirrored)
    return torch.logsumexp(mass.clamp(min=1e-12).log() + logits.log_softmax(-1)[..., None, :], -1)


def level_nats(raw: Tensor, level: Tensor, levels: int) -> Tensor:
    """-log P(level) (...) under the mixture `raw` (..., 3M), without all other levels."""
    logits, mean, width = raw.float().chunk(3, -1)
    inverse = torch.exp(-width.clamp(min=NARROWEST))
    half, y = 1 / (levels - 1), on_scale(level, levels)[..., None]
    high, low = (y + half - mean) * inverse, (y - half - mean) * inverse
    high = torch.where((level == levels - 1)[..., None], torch.full_like(high, 1e4), high)
    low = torch.where((level == 0)[..., None], torch.full_like(low, -1e4), low)
    # Of the right tail take the mirrored difference, whose numbers are small.
    flip = low > 0
    high, low = torch.where(flip, -low, high), torch.where(flip, -high, low)
    mass = (torch.sigmoid(high) - torch.sigmoid(low)).clamp(min=1e-12)
    return -torch.logsumexp(mass.log() + logits.log_softmax(-1), -1)


class Model(GenerativeModule):
    """levels before t -> probabilities of the level at t."""

    accepts = (AudioSpec,)
    takes = "audio"
    makes = "audio"
    input_optional = True
    averaged = ("net",)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"bits_per_sample": "min"}
    counted = ("nats", "samples")
    suffix = "_on"
    config: Config
    spec: AudioSpec

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, AudioSpec)
        self.levels = spec.levels
        self.conditional = config.conditional and spec.labels is not None
        self.hidden = len(spec.labels or ())  # the class of those whose class is hidden
        self.net = WaveNet(
            channels=config.channels,
            skip=config.skip,
            dilations=[2**i for i in range(config.layers)] * config.stacks,
            outputs=spec.levels if config.head == "softmax" else 3 * config.mixtures,
            classes=self.hidden + (config.label_dropout > 0) if self.conditional else 0,
            points=config.points,
        )
        if config.head == "logistic":  # spread over the scale, each as wide as its share
            M = config.mixtures
            self.net.out.bias.data[M : 2 * M] = torch.linspace(-0.9, 0.9, M)
            self.net.out.bias.data[2 * M :] = log(1 / M)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.lr)

    def weight(self, batch: Batch) -> Tensor:
        return batch["counted"].sum()

    def nats(self, batch: Batch, label: Tensor | None = None) -> Tensor:
        """Of all counted samples of each item (B,), of the classes in the batch or in `label`."""
        level = to_levels(batch["audio"], self.levels)  # (B, T)
        # Before the first sample there is silence.
        y = on_scale(F.pad(level[:, :-1], (1, 0), value=self.silence), self.levels)
        label = batch.get("label") if label is None else label
        raw = self.net(y, label if self.conditional else None, batch.get("place"))
        first = self.spec.context
        raw, level = raw[:, first:].float(), level[:, first:]
        if self.config.head == "softmax":
            nats = F.cross_entropy(raw.transpose(1, 2), level, reduction="none")
        else:
            nats = level_nats(raw, level, self.levels)
        return (nats * batch["counted"][:, first:]).sum(1)

    @property
    def silence(self) -> int:
        """The level of 0."""
        return int(to_levels(torch.zeros(()), self.levels))

    def loss(self, batch: Batch) -> Terms:
        label = batch.get("label")
        if label is not None and self.conditional and self.config.label_dropout:
            gone = self.rand(len(label)) < self.config.label_dropout
            label = torch.where(gone, self.hidden, label)
        loss = self.nats(batch, label).sum() / self.mean_weight
        return {"loss": loss, "bits_per_sample": loss.detach() / log(2)}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return {"nats": self.nats(batch).double(), "samples": batch["counted"].double().sum(1)}

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Levels by their frequency in the training data, alone and after two others."""
        samples = batch["counted"].double().sum(1)
        names = [name for name in ("unigram", "markov") if name in batch]
        return {name: {"nats": batch[name], "samples": samples} for name in names}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        return {"bits_per_sample": means["nats"] / max(means["samples"], 1e-9) / log(2)}

    def log_probabilities(self, raw: Tensor) -> Tensor:
        """Outputs (B, O) -> float64 (B, V)."""
        if self.config.head == "logistic":
            return mixture_logits(raw, self.levels).double()
        return raw.double().log_softmax(-1)

    def probabilities(self, log_p: Tensor, temperature: float) -> Tensor:
        """What is drawn from, (B, V), of log-probabilities (B, V)."""
        if temperature == 0:
            return F.one_hot(log_p.argmax(-1), self.levels).double()
        return (log_p / temperature).softmax(-1)

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Any] = (),
    ) -> list[Sound]:
        """Sounds out of silence; with a recording `given` (T,), that and how it goes on."""
        B, rate, w = noise.count, self.spec.sample_rate, options.guidance
        labels = [self.labels_of(options, number, 1) for number in noise.numbers]
        label = torch.cat([one for one in labels if one is not None]) if self.conditional else None
        if w != 1:
            self._needs_hidden()
            assert label is not None
            label = torch.cat([torch.full_like(label, self.hidden), label])
        # A recording begins as in training: behind one sample of silence, and its context.
        start = torch.full((1 + self.spec.context,), self.silence, device=self.device)
        prime = start if given is None else torch.cat([start, to_levels(given, self.levels)])
        rows = B if w == 1 else 2 * B  # guidance: those whose class is hidden, and the others
        y = on_scale(prime, self.levels).expand(rows, -1)
        count = max(round(options.seconds * rate), 1)
        uniform = noise.rand(count).to(self.device).T[..., None].contiguous()  # (T, B, 1)
        time = torch.arange(len(prime) + count - 1, device=self.device) - self.spec.context
        place = time.clamp(min=0) / (time[-1] + 1)  # of what comes behind each sample
        place = place.double().expand(rows, -1)

        # In double precision what is drawn does not depend on the size of the batch.
        net, before = deepcopy(self.net).double(), len(prime) - 1
        cache = Cache(net, label, y[:, :-1].double(), place[:, :before])
        last, made = y[:, -1], []
        for step in range(count):
            log_p = self.log_probabilities(cache.step(last.double(), place[:, before + step]))
            if w != 1:
                of_any, of_class = log_p.chunk(2)
                log_p = torch.lerp(of_any, of_class, w)
            p = self.probabilities(log_p, options.temperature)
            level = torch.searchsorted(p.cumsum(-1), uniform[step])[:, 0]
            made.append(level.clamp(max=self.levels - 1))
            last = on_scale(made[-1], self.levels).repeat(rows // B)
        samples = from_levels(torch.stack(made, 1), self.levels).cpu()
        if given is not None:
            samples = torch.cat([given.cpu().expand(B, -1), samples], 1)
        return [Sound(one.numpy(), rate) for one in samples]

    def _needs_hidden(self) -> None:
        """See that there is a class of those whose class is hidden."""
        if not (self.conditional and self.config.label_dropout):
            raise InputError(
                "guidance: the model was trained without hidden classes, and knows no sound of any "
                "class",
                hint="leave guidance at 1, or train with model.label_dropout=0.1 on recordings of "
                "classes",
            )

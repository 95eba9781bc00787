"""Recurrent variational autoencoder of melodies with a hierarchical decoder (MusicVAE).

Roberts et al., 2018, https://arxiv.org/abs/1803.05428. A conductor unrolls the code into one vector
for each bar, and a second recurrent network writes each bar from its vector alone, so that the code
must carry what lies further back. Attribute vectors: section 4.4 of the paper.

Differs from the paper: GRUs instead of LSTMs; some symbols are hidden from the decoder in training
(Bowman et al., 2016, https://arxiv.org/abs/1511.06349), since small data lets it ignore the code;
the vector of an attribute is found in melodies that the decoder makes, which needs no data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.media.events import Music
from aigc_cli.media.melody import HOLD, PITCH, SIZE, from_melody, hamming, melody
from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.nn.divergence import kl_to_standard_normal
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.interpolation import slerp
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.melody import MelodySpec

HIDDEN = SIZE  # what stands for a symbol that the decoder may not see, and for none
STUDIED = 1024  # melodies in which attributes are looked for
WAY = 8  # steps of the ways that are measured


class Config(Section):
    """The networks and the bound."""

    TINY: ClassVar[Mapping[str, Any]] = {"latent_dim": 2, "hidden_dim": 6, "embedding": 4}

    latent_dim: int = Field(32, gt=0, le=4096)
    """Size of the code z."""
    hidden_dim: int = Field(160, gt=0, le=8192)
    """Units of the encoder (each way), the conductor and the decoder."""
    embedding: int = Field(48, gt=0, le=2048)
    """Width of a symbol."""
    beta: float = Field(0.2, ge=0, le=100)
    """Weight of the divergence in training; the bound that is reported has 1."""
    anneal: int = Field(300, ge=0)
    """Steps over which that weight rises from 0."""
    hide: float = Field(0.3, ge=0, le=1)
    """Share of the symbols that the decoder may not see while training."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Learning rate before the schedule, of Adam."""


class Options(Section):
    """What is written."""

    TINY: ClassVar[Mapping[str, Any]] = {}

    temperature: float = Field(0.5, ge=0, le=100)
    """0 always takes the likeliest symbol; 1 draws from the model's probabilities."""
    attribute: Literal["none", "density", "pitch", "range", "syncopation"] = "none"
    """What the code is moved along: notes, mean pitch, span of pitches, or notes off the beat."""
    amount: float = Field(0.0, ge=-10, le=10)
    """How far, in standard deviations of the code."""


def attributes(rows: Tensor, resolution: int) -> dict[str, Tensor]:
    """Of melodies (B, S) by name, (B,) float64."""
    onset, pitch = rows >= PITCH, (rows - PITCH).double()
    count = onset.sum(1).clamp(min=1)
    off = torch.arange(rows.shape[1], device=rows.device) % resolution > 0
    high = torch.where(onset, pitch, -torch.inf).amax(1)
    low = torch.where(onset, pitch, torch.inf).amin(1)
    return {
        "density": onset.sum(1).double(),
        "pitch": torch.where(onset, pitch, 0.0).sum(1) / count,
        "range": torch.where(onset.any(1), high - low, 0.0),
        "syncopation": (onset & off).sum(1) / count.double(),
    }


class Model(GenerativeModule):
    """melody (B, S) -> code (B, Z) -> logits (B, S, V)."""

    accepts = (MelodySpec,)
    takes = "music"
    makes = "music"
    input_optional = True
    averaged = ("encoder", "decoder")
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"accuracy": "max", "nats": "min"}
    measures: ClassVar[dict[str, Literal["max", "min"]] | None] = {
        "accuracy": "max", "nats": "min", "monotone": "max", "smoothness": "max",
    }  # fmt: skip
    suffix = "_again"
    config: Config
    spec: MelodySpec

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, MelodySpec)
        E, H, Z = config.embedding, config.hidden_dim, config.latent_dim
        self.encoder = nn.ModuleDict({
            "symbols": nn.Embedding(SIZE, E),
            "row": nn.GRU(E, H, batch_first=True, bidirectional=True),
            "code": nn.Linear(2 * H, 2 * Z),
        })  # fmt: skip
        self.decoder = nn.ModuleDict({
            "start": nn.Linear(Z, H),
            "bars": nn.GRU(Z, H, batch_first=True),
            "bar": nn.Linear(H, H),
            "symbols": nn.Embedding(SIZE + 1, E),
            "row": nn.GRU(E + H, H, batch_first=True),
            "logits": nn.Linear(H, SIZE),
        })  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.lr)

    # The networks.

    def encode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, Z)."""
        _, last = self.encoder["row"](self.encoder["symbols"](rows))  # (2, B, H)
        mu, logvar = self.encoder["code"](torch.cat([*last], 1)).chunk(2, 1)
        return mu, logvar

    def conduct(self, z: Tensor) -> Tensor:
        """z (B, Z) -> a vector for each bar, (B, N, H)."""
        start = torch.tanh(self.decoder["start"](z))[None]
        said, _ = self.decoder["bars"](z[:, None].expand(-1, self.spec.bars, -1), start)
        return torch.tanh(self.decoder["bar"](said))

    def decode(self, z: Tensor, seen: Tensor) -> Tensor:
        """Logits (B, S, V) of each symbol, after those before it as `seen` (B, S) has them."""
        B, S, N = len(z), self.spec.steps, self.spec.bars
        bars = self.conduct(z).flatten(0, 1)  # (B N, H)
        before = F.pad(seen[:, :-1], (1, 0), value=HIDDEN)
        x = self.decoder["symbols"](before).view(B * N, S // N, -1)
        x = torch.cat([x, bars[:, None].expand(-1, S // N, -1)], -1)
        h, _ = self.decoder["row"](x, bars[None].contiguous())
        logits: Tensor = self.decoder["logits"](h).view(B, S, SIZE)
        return logits

    def write(self, z: Tensor, temperature: float = 0.0, uniform: Tensor | None = None) -> Tensor:
        """z (B, Z) -> melodies (B, S), symbol by symbol; `uniform` (B, S) float64 draws them."""
        bars, steps = self.conduct(z), self.spec.steps // self.spec.bars
        last = torch.full((len(z),), HIDDEN, device=z.device)
        made: list[Tensor] = []
        for bar in bars.unbind(1):
            h = bar[None].contiguous()
            for _ in range(steps):
                x = torch.cat([self.decoder["symbols"](last), bar], -1)[:, None]
                out, h = self.decoder["row"](x, h)
                logits = self.decoder["logits"](out[:, 0]).double()
                if temperature == 0 or uniform is None:
                    last = logits.argmax(-1)
                else:
                    p = (logits / temperature).softmax(-1).cumsum(-1)
                    chosen = uniform[:, len(made), None].contiguous()
                    last = torch.searchsorted(p, chosen)[:, 0].clamp(max=SIZE - 1)
                made.append(last)
        return torch.stack(made, 1)

    # The bound.

    def _bound(self, rows: Tensor, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Nats of reconstruction and divergence, each (B,)."""
        mu, logvar = self.encode(rows)
        logits = self.decode(mu + (logvar / 2).exp() * noise, seen)
        nats = F.cross_entropy(logits.transpose(1, 2), rows, reduction="none").sum(1)
        return nats, kl_to_standard_normal(mu, logvar).sum(1)

    def loss(self, batch: Batch) -> Terms:
        rows, c = batch["melody"], self.config
        hidden = self.rand(*rows.shape) < c.hide
        seen = rows.masked_fill(hidden, HIDDEN)
        nats, divergence = self._bound(rows, seen, self.randn(len(rows), c.latent_dim))
        weight = c.beta * min(1.0, (self.step + 1) / max(c.anneal, 1))
        loss = (nats + weight * divergence).mean()
        return {"loss": loss, "reconstruction": nats.mean(), "divergence": divergence.mean()}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """`accuracy`: the share of steps that the likeliest melody of the mean code has right."""
        rows = batch["melody"]
        noise = self.val_noise(len(rows)).randn(self.config.latent_dim).to(self.device)
        nats, divergence = self._bound(rows, rows, noise)
        again = self.write(self.encode(rows)[0])
        return {"accuracy": (again == rows).float().mean(1), "nats": nats + divergence}

    def measure(self, batch: Batch, options: Options) -> dict[str, Tensor]:
        """Also of the way from each melody to the next in the batch in WAY steps: `monotone`, the
        share of steps that do not come nearer to the beginning (Hamming distance), and
        `smoothness`, 1 less the largest step, as a share of the whole distance.
        """
        rows = batch["melody"]
        ways = self._ways(self.encode(torch.cat([rows, rows[:1]]))[0], WAY)
        found = [way_measures([row.cpu().numpy() for row in way]) for way in ways]
        monotone, smooth = torch.tensor(found, device=self.device).unbind(1)
        return {**self.evaluate_batch(batch), "monotone": monotone, "smoothness": smooth}

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Chains of symbols, and holding on in every step."""
        names = [name for name in ("unigram", "markov") if name in batch]
        held = (batch["melody"] == HOLD).float().mean(1)
        return {"hold": {"accuracy": held}, **{name: {"nats": batch[name]} for name in names}}

    def _ways(self, z: Tensor, steps: int) -> list[Tensor]:
        """Codes (B + 1, Z) -> B ways of melodies (steps + 1, S), each with both its ends."""
        part = torch.arange(steps + 1, device=z.device) / steps
        codes = [
            slerp(a.expand(steps + 1, -1), b.expand(steps + 1, -1), part) for a, b in pairwise(z)
        ]
        return [*self.write(torch.cat(codes)).split(steps + 1)]

    # Music.

    def row_of(self, notes: Tensor) -> Tensor:
        """Notes (N, 4) as in media/events.py -> the first bars of their melody, (S,).

        Raises:
            InputError: there is no melody in them.
        """
        spec, rows = self.spec, notes.cpu().numpy()
        music = Music(rows, spec.resolution, spec.beats_per_bar, spec.bars, spec.tempo, 0)
        row = melody(music.bars_from(0, spec.bars))
        if not (row >= PITCH).any():
            raise InputError(f"an input has no melody in its first {spec.bars} bars")
        return torch.from_numpy(row).to(self.device)

    def _music(self, rows: Tensor) -> list[Music]:
        spec = self.spec
        return [
            from_melody(row, spec.resolution, spec.beats_per_bar, spec.tempo)
            for row in rows.cpu().numpy()
        ]

    @torch.no_grad()
    def direction(self, name: str) -> Tensor:
        """(Z,): along which the codes of what the decoder makes of noise have more of an attribute;
        of length 1.
        """
        z = SampleNoise(0, 0, STUDIED).randn(self.config.latent_dim).to(self.device)
        value = attributes(self.write(z), self.spec.resolution)[name]
        value = (value - value.mean()) / value.std().clamp(min=1e-9)
        return F.normalize((z.double() * value[:, None]).mean(0), dim=0).float()

    def _moved(self, z: Tensor, options: Options) -> Tensor:
        if options.attribute == "none" or options.amount == 0:
            return z
        return z + options.amount * self.direction(options.attribute)

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Any] = (),
    ) -> list[Music]:
        """Melodies of codes that are drawn, or of the code of the piece `given`, notes (N, 4)."""
        z = noise.randn(self.config.latent_dim).to(self.device)
        uniform = noise.rand(self.spec.steps).to(self.device)
        if given is not None:
            z = self.encode(self.row_of(given)[None])[0].expand(noise.count, -1)
        return self._music(self.write(self._moved(z, options), options.temperature, uniform))

    @torch.no_grad()
    def between(
        self, given: Sequence[Any] | None, steps: int, options: Options, noise: SampleNoise
    ) -> list[Music]:
        """The likeliest melodies on the way from code to code."""
        if given is None:
            z = noise.randn(self.config.latent_dim).to(self.device)
        else:
            z = self.encode(torch.stack([self.row_of(notes) for notes in given]))[0]
        if len(z) < 2:
            raise InputError("--interpolate: one piece has no way to another", hint="give two")
        ways = self._ways(self._moved(z, options), steps)
        rows = torch.cat([*(way[:-1] for way in ways), ways[-1][-1:]])
        return self._music(rows)


Distance = Callable[[np.ndarray, np.ndarray], float]


def way_measures(way: Sequence[np.ndarray], distance: Distance = hamming) -> tuple[float, float]:
    """(monotone, smoothness) of a way of melodies; see `Model.measure`."""
    far = [distance(way[0], row) for row in way]
    steps = [distance(a, b) for a, b in pairwise(way)]
    monotone = float(np.mean(np.diff(far) >= 0))
    return monotone, 1 - max(steps) / far[-1] if far[-1] else 1.0

"""What the families of drum patterns share: conditions, options, measures, and how a grid becomes
music.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.media.drums import DRUMS, from_grid
from aigc_cli.media.events import Music
from aigc_cli.models._base import Batch, GenerativeModule
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.rhythm import DrumSpec


class RhythmOptions(Section):
    """What is played."""

    label: str | None = None
    """Style to make, by name or number; without it each in turn."""
    tempo: float = Field(120.0, ge=40, le=240)
    """Quarters a minute."""
    density: float | None = Field(None, ge=0, le=9)
    """Hits a step that are aimed at; without it the mean of the training patterns."""


def mlp(sizes: list[int]) -> nn.Sequential:
    """Layers of these sizes with SiLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class RhythmModule(GenerativeModule):
    """Grids (B, S, 9) under conditions (B, K): style, tempo, density."""

    accepts = (DrumSpec,)
    makes = "music"
    spec: DrumSpec

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, DrumSpec)
        self.conditional = spec.labels is not None
        self.styles = len(spec.labels or ())
        self.shape = (spec.steps, len(DRUMS))
        self.cells = spec.steps * len(DRUMS)
        others = [name for name in self.metrics if name != "rate_error"]
        self.counted = (*others, *(f"more_{cell}" for cell in range(self.cells)))  # type: ignore[misc]

    def conditions(self, batch: Batch) -> Tensor:
        """(B, styles + 2)."""
        parts = [batch["tempo"][:, None], batch["density"][:, None] - self.spec.density]
        if self.conditional:
            parts.append(F.one_hot(batch["label"], self.styles))
        return torch.cat([part.float() for part in parts], 1)

    def asked(self, noise: SampleNoise, options: RhythmOptions) -> Batch:
        """The conditions that the options name, a row for each sample."""
        density = self.spec.density if options.density is None else options.density
        fill = torch.ones(noise.count, device=self.device)
        tempo = fill * torch.log2(torch.tensor(options.tempo / 120))
        batch = {"tempo": tempo, "density": density * fill}
        if self.conditional:
            rows = [self.labels_of(options, number, 1) for number in noise.numbers]
            batch["label"] = torch.cat([row for row in rows if row is not None])
        return batch

    @abstractmethod
    def draw(self, noise: SampleNoise, conditions: Tensor) -> Tensor:
        """Grids (B, S, 9) of 0 and 1."""

    def rhythm_values(self, batch: Batch) -> dict[str, Tensor]:
        """Of patterns drawn under the conditions of the batch."""
        return self._compared(
            self.draw(self.val_noise(len(batch["grid"])), self.conditions(batch)), batch
        )

    def _compared(self, made: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`density_error` in hits a step, and for each cell `more_0` ... how often it is hit more
        than in the batch: `rate_error` is one of whole sets, whatever batches and devices they are
        spread over, so it is made of the means of these.
        """
        more = (made - batch["grid"]).flatten(1).T  # (S 9, B)
        density = made.sum((1, 2)) / self.spec.steps
        return {
            **{f"more_{cell}": value for cell, value in enumerate(more)},
            "density_error": (density - batch["density"]).abs(),
        }

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """With `rate_error`, the mean over cells of how far the mean grids are from each other."""
        means = dict(means)
        cells = [name for name in means if name.startswith("more_")]
        more = [abs(means.pop(name)) for name in cells]
        return {**means, "rate_error": sum(more) / len(more)} if more else means

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Chains of steps: how frequent each is, alone and after the one before."""
        if "drawn" not in batch:
            return {}
        return {"unigram": {}, "markov": self._compared(batch["drawn"], batch)}

    def music(self, grids: Tensor, tempo: float) -> list[Music]:
        """Grids (B, S, 9) as pieces."""
        spec, rows = self.spec, (grids > 0.5).cpu().numpy()
        return [from_grid(row, tempo, spec.resolution, spec.beats_per_bar) for row in rows]

    @torch.no_grad()
    def sample(
        self, noise: SampleNoise, options: Any, given: Any = None, references: Any = ()
    ) -> list[Music]:
        conditions = self.conditions(self.asked(noise, options))
        return self.music(self.draw(noise, conditions), options.tempo)


MEASURES: dict[str, Literal["max", "min"]] = {"rate_error": "min", "density_error": "min"}

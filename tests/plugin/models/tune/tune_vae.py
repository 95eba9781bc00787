"""A VAE of tunes with one linear layer a side, which proves that a modality is new files only.

Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.registry import load_specs
from aigc_cli.sampling.noise import SampleNoise

specs = load_specs("tune")

DIAL = Dial(goals=("hum",), sizes=({"model.latent_dim": 4}, {"model.latent_dim": 8}), steps=100)


class Config(Section):
    """Both networks are linear."""

    TINY: ClassVar[Mapping[str, Any]] = {"latent_dim": 2}

    latent_dim: int = Field(4, gt=0)
    """Size of the code z."""
    lr: float = Field(1e-2, gt=0)
    """Learning rate of Adam."""


class Model(GenerativeModule):
    """notes (B, T) <-> code (B, Z)."""

    accepts = (specs.TuneSpec,)
    makes = "tune"
    turns_noise = True
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"nats": "min"}
    averaged = ("encoder", "decoder")
    config: Config

    def __init__(self, config: Config, spec: Any) -> None:
        super().__init__(config, spec)
        self.encoder = nn.Linear(spec.length, config.latent_dim)
        self.decoder = nn.Linear(config.latent_dim, spec.length * specs.PITCHES)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr)

    def _nats(self, notes: Tensor, z: Tensor) -> Tensor:
        """Cross-entropy of each tune, (B,)."""
        logits = self.decoder(z).unflatten(1, (self.spec.length, -1))  # (B, T, P)
        return F.cross_entropy(logits.mT, notes, reduction="none").sum(1)

    def _code(self, notes: Tensor) -> Tensor:
        return self.encoder(notes / 64 - 1)  # (B, Z)

    def loss(self, batch: Batch) -> Terms:
        mu = self._code(batch["notes"])
        nats = self._nats(batch["notes"], mu + self.randn(*mu.shape)).mean()
        kl = mu.square().sum(1).mean() / 2  # of N(mu, 1) from N(0, 1)
        return {"loss": nats + kl, "nats": nats, "kl": kl}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """`nats`: cross-entropy of a tune, of its likeliest code."""
        return {"nats": self._nats(batch["notes"], self._code(batch["notes"]))}

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Any = None,
        references: Sequence[Any] = (),
    ) -> Tensor:
        """Notes (n, T)."""
        z = options.temperature * noise.randn(self.config.latent_dim).to(self.device)
        return self.decoder(z).unflatten(1, (self.spec.length, -1)).argmax(2)


class Options(Section):
    """What `aigc sample` may set."""

    temperature: float = Field(1.0, ge=0)
    """Spread of the codes."""

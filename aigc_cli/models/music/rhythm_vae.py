"""Variational autoencoder of drum patterns, of a style, tempo and density.

Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114; Sohn et al., "Learning Structured Output
Representation using Deep Conditional Generative Models", 2015. Both networks are fully connected;
each cell of the grid is a Bernoulli variable given the code, so that the bound is one on the
likelihood of a grid and compares with the chains that `aigc evaluate` prints beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.music._rhythm import MEASURES, RhythmModule, RhythmOptions, mlp
from aigc_cli.nn.divergence import kl_to_standard_normal
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec


class Config(Section):
    """The networks and the bound."""

    TINY: ClassVar[Mapping[str, Any]] = {"latent_dim": 2, "hidden_dim": 8}

    latent_dim: int = Field(16, gt=0, le=1024)
    """Size of the code z."""
    hidden_dim: int = Field(192, gt=0, le=8192)
    """Units of the two hidden layers of each network."""
    beta: float = Field(1.0, ge=0, le=100)
    """Weight of the divergence in training; the bound that is reported has 1."""
    flip: float = Field(0.02, ge=0, lt=0.5)
    """Share of the cells that the encoder sees wrongly while training."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Learning rate before the schedule, of AdamW."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Decay of all weights."""


class Model(RhythmModule):
    """A code for each pattern, and the patterns of codes."""

    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"nats": "min", **MEASURES}
    averaged = ("encoder", "decoder")
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        Z, H, K = config.latent_dim, config.hidden_dim, self.styles + 2
        self.encoder = mlp([self.cells + K, H, H, 2 * Z])
        self.decoder = mlp([Z + K, H, H, self.cells])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return torch.optim.AdamW(self.parameters(), c.lr, weight_decay=c.weight_decay)

    def encode(self, grid: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, Z) of the code."""
        mu, logvar = self.encoder(torch.cat([grid.flatten(1), conditions], 1)).chunk(2, 1)
        return mu, logvar

    def decode(self, z: Tensor, conditions: Tensor) -> Tensor:
        """Logits (B, S, 9)."""
        return self.decoder(torch.cat([z, conditions], 1)).view(-1, *self.shape)

    def _bound(self, batch: Batch, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Nats of reconstruction and divergence, each (B,)."""
        c = self.conditions(batch)
        mu, logvar = self.encode(seen, c)
        logits = self.decode(mu + (logvar / 2).exp() * noise, c)
        nats = F.binary_cross_entropy_with_logits(logits, batch["grid"], reduction="none")
        divergence = kl_to_standard_normal(mu, logvar).sum(1)
        return nats.sum((1, 2)), divergence

    def loss(self, batch: Batch) -> Terms:
        grid, B = batch["grid"], len(batch["grid"])
        wrong = self.rand(B, *self.shape) < self.config.flip
        seen = torch.where(wrong, 1 - grid, grid)
        nats, divergence = self._bound(batch, seen, self.randn(B, self.config.latent_dim))
        loss = (nats + self.config.beta * divergence).mean()
        return {"loss": loss, "reconstruction": nats.mean(), "divergence": divergence.mean()}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        noise = self.val_noise(len(batch["grid"])).randn(self.config.latent_dim)
        nats, divergence = self._bound(batch, batch["grid"], noise.to(self.device))
        return {"nats": nats + divergence, **self.rhythm_values(batch)}

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        found = super().baselines(batch)
        return {name: {"nats": batch[name], **values} for name, values in found.items()}

    def draw(self, noise: SampleNoise, conditions: Tensor) -> Tensor:
        z = noise.randn(self.config.latent_dim).to(self.device)
        uniform = noise.rand(*self.shape).to(self.device)
        return (uniform < self.decode(z, conditions).sigmoid()).float()


class Options(RhythmOptions):
    """What is played."""

"""Base of the families with discriminators: two phases in one iteration.

The discriminators step first, `d_steps` times, then the generators; each phase asks gradients only
of its own weights. Everything else (accumulation, clipping, schedule, moving average, guard) is the
one implementation in `_base.py`.
"""

from __future__ import annotations

from abc import abstractmethod

from aigc_cli.models._base import Batch, GenerativeModule, Phase, Terms


class AdversarialModule(GenerativeModule):
    """A family writes `discriminator_loss` and `generator_loss`; `configure_optimizers` returns
    [discriminator's, generator's]. Every phase draws fresh noise, and every discriminator step has
    a batch of its own; the generator sees the last of them."""

    find_unused = True
    d_steps: int = 1

    @property
    def batches_per_step(self) -> int:  # type: ignore[override]
        return self.d_steps

    @abstractmethod
    def discriminator_loss(self, batch: Batch) -> Terms:
        """Terms with "loss" to be minimized by the discriminators. Detach what the generator
        made.
        """

    @abstractmethod
    def generator_loss(self, batch: Batch) -> Terms:
        """Terms with "loss" to be minimized by the generators."""

    def loss(self, batch: Batch) -> Terms:
        return self.generator_loss(batch)

    def phases(self) -> list[Phase]:
        discriminator = Phase(0, self.discriminator_loss, "d_")
        return [discriminator] * self.d_steps + [Phase(1, self.generator_loss, "g_")]

"""Base of the families that translate between two unpaired domains, A and B.

The generators step first and what they made is kept for the discriminators of the same step, as in
the code of CycleGAN: a step then runs the generators once, where computing fakes anew for the
discriminators costs a tenth more. What is kept never outlives the step, so a checkpoint needs none
of it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.metrics.image.kid import kid_block
from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Phase, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.models._tiles import SizedOptions
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import UnpairedSpec

MULTIPLE = 4  # the networks halve an image twice
SMALLEST = 8  # pixels; below, nothing is left behind the border that a convolution reflects

Direction = Literal["a2b", "b2a"]
Fakes = tuple[Tensor, ...]


class UnpairedModule(ImageModule, AdversarialModule):
    """A family writes what an adversarial family writes, `fakes` and `there_and_back`."""

    accepts = (UnpairedSpec,)
    takes = "image"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"block_kid": "min", "cycle_l1": "min"}
    fewest: ClassVar[dict[str, int]] = {"block_kid": 2}
    spec: UnpairedSpec

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, UnpairedSpec)
        if spec.image_size < SMALLEST or spec.image_size % MULTIPLE:
            raise InputError(
                f"data.image_size={spec.image_size}: this family needs a multiple of {MULTIPLE}, "
                f"at least {SMALLEST}",
                hint=f"try {max(SMALLEST, round(spec.image_size / MULTIPLE) * MULTIPLE)}",
            )
        self._stashed: list[Fakes] = []  # one a part, from the generators
        self._pooled: list[Fakes] = []  # the same, for the discriminators

    # The step: generators, then discriminators on the same fakes.

    def phases(self) -> list[Phase]:
        discriminators, generators = super().phases()
        return [generators, discriminators]

    def before_step(self, batch: Batch) -> None:
        self._stashed.clear()
        self._pooled.clear()

    @abstractmethod
    def fakes(self, batch: Batch) -> Fakes:
        """(fake_a, fake_b, ...), each (B, ...): what the discriminators' phase needs."""

    def stash_fakes(self, *made: Tensor) -> None:
        """Called once for each part of the generators' phase, with what `fakes` would return."""
        self._stashed.append(tuple(x.detach() for x in made))

    def stashed_fakes(self, batch: Batch) -> Fakes:
        """What `pooled` makes of that which was stashed for this part of the batch."""
        if not self._pooled:
            if not self._stashed:  # a discriminators' phase by itself
                with torch.no_grad():
                    self.stash_fakes(*self.fakes(batch))
            parts = len(self._stashed)
            whole = [torch.cat(pieces) for pieces in zip(*self._stashed, strict=True)]
            self._stashed.clear()
            self._pooled = list(zip(*(x.chunk(parts) for x in self.pooled(*whole)), strict=True))
        return self._pooled.pop(0)

    def pooled(self, *made: Tensor) -> Fakes:
        """Called once in a step with the items of all parts of this device."""
        return made

    # What can be seen of it.

    @abstractmethod
    def there_and_back(self, batch: Batch, noise: SampleNoise) -> dict[str, Tensor]:
        """fake_a, fake_b, cycle_a, cycle_b, each (B, C, S, S); all randomness is from `noise`."""

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """`block_kid`: unbiased squared MMD between fake and real images of the batch in the
        space of `model.features`, mean of both domains; `cycle_l1`: mean absolute distance, in
        [0, 2], of an image that went there and back.
        """
        made = self.there_and_back(batch, self.val_noise(len(batch["a"])))
        of_a, of_b = (l1_each(made[f"cycle_{k}"], batch[k]) for k in ("a", "b"))
        return {
            "block_kid": self._distance(made["fake_a"], made["fake_b"], batch),
            "cycle_l1": (of_a + of_b) / 2,
        }

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        a, b = batch["a"], batch["b"]
        unchanged = {"block_kid": self._distance(b, a, batch), "cycle_l1": a.new_zeros(len(a))}
        return {"identity": unchanged}

    def _distance(self, fake_a: Tensor, fake_b: Tensor, batch: Batch) -> Tensor:
        """One value for the whole batch, repeated (B,); NaN for a batch of one, which has none."""
        B = len(fake_a)
        if B < 2:
            return fake_a.new_full((B,), torch.nan)
        pairs = ((batch["a"], fake_a), (batch["b"], fake_b))
        distances = [kid_block(self.describe(real), self.describe(fake)) for real, fake in pairs]
        return torch.stack(distances).mean().expand(B)

    @property
    def attached(self) -> FeatureNetwork | None:
        return self.features if self.has_features else None

    def describe(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D): the pooled features of the attached network, or, without one,
        colors in a grid of 8 x 8.
        """
        features = self.attached
        if features is None:
            return F.adaptive_avg_pool2d(images, 8).flatten(1)
        layer = "pooled" if "pooled" in features.layers else features.layers[-1]
        found = features(images, [layer])[layer].float()
        return found.mean((2, 3)) if found.ndim == 4 else found

    def seen(self, batch: Batch, fake_a: Tensor, fake_b: Tensor) -> Terms:
        """What `health` looks at: how much an image changes, and whether its light and dark do."""
        with torch.no_grad():
            pairs = {"ab": (batch["a"], fake_b), "ba": (batch["b"], fake_a)}
            change = {f"change_{k}": l1_each(x, y).mean() for k, (x, y) in pairs.items()}
            luma = {f"luma_{k}": _correlation(x, y).mean() for k, (x, y) in pairs.items()}
        return change | luma

    def health(self, means: dict[str, float]) -> list[str]:
        found = []
        for way in ("ab", "ba"):
            if means.get(f"g_luma_{way}", 0.0) < -0.3:
                found.append(f"colors inverted ({way})")
            if means.get(f"g_change_{way}", 1.0) < 0.02:
                found.append(f"identity mapping ({way})")
        for domain in ("a", "b"):
            if means.get(f"d_{domain}", 1.0) < 0.02:  # 0.25 when it can only guess
                found.append(f"discriminator wins ({domain})")
        return found


class UnpairedOptions(SizedOptions):
    """Which way, and how images of any size are translated."""

    direction: Direction = "a2b"
    """a2b makes images of the second domain, b2a of the first."""


def repeated(image: Tensor, noise: SampleNoise) -> Tensor:
    """One image (1, C, H, W) for each of the asked samples, of a family that makes but one."""
    return image.expand(noise.count, -1, -1, -1)


def l1_each(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().flatten(1).mean(1)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Of the brightness of two batches of images, pixel by pixel: (B,) in [-1, 1]."""
    x, y = (z.float().mean(1).flatten(1) for z in (x, y))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return F.cosine_similarity(x, y, dim=1)

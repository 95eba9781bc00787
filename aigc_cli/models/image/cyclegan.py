"""CycleGAN: translation between two domains of images of which no two belong together.

Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", ICCV 2017, https://arxiv.org/abs/1703.10593. The defaults are the paper's; its schedule
(100 epochs constant, 100 linear to zero, batch 1) is in the recipe `cyclegan_256`.

Differs from the paper:
* below 256 pixels there are fewer blocks and below 128 the discriminators judge smaller patches
  (34 pixels from 64 on, else 16), so that a patch remains a part of the image;
* `upsample: resize` avoids checkerboards, `augment` (Zhao et al. 2020, nn/diffaugment.py) is for
  small domains;
* one draw of the image pool serves a batch of any size, spread over any number of devices;
* images beyond a tile are normalized by the statistics of their thumbnail (nn/norm.py);
* new generators begin by keeping light light (`keep_light_light`); `norm: group` keeps colors.
As in the authors' code the identity loss is on, the generators step before the discriminators, and
the discriminators see the fakes from before that step (models/_unpaired.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._unpaired import SMALLEST, UnpairedModule, UnpairedOptions, repeated
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.adversarial import discriminator_loss, generator_loss
from aigc_cli.nn.diffaugment import RANDOMS, Change, diff_augment
from aigc_cli.nn.image_pool import ImagePool
from aigc_cli.nn.patchgan import PatchGAN
from aigc_cli.nn.resnet_generator import Norm, ResnetGenerator, Upsample, keep_light_light
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec

DIAL = Dial(
    goals=("translate",),
    sizes=tuple(
        {
            "data.image_size": side, "model.num_features": D, "model.num_blocks": blocks,
            "model.discriminator_features": D,
        }
        for side, D, blocks in ((64, 16, 3), (64, 32, 4), (128, 32, 6))
    ),
    steps=2000,
    always={
        "data.flip": True, "model.norm": "group", "model.upsample": "resize",
        "trainer.global_batch": 1, "trainer.channels_last": True,
        "trainer.keep_best": False,  # a cycle is easiest where nothing changes
    },
)  # fmt: skip


class Config(Section):
    """Two generators, two discriminators; the defaults are those of the paper."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "num_features": 4,
        "num_blocks": 1,
        "discriminator_features": 4,
    }

    num_features: int = Field(64, gt=0, le=512)
    """Channels of the generators at full size; four times as many in their blocks."""
    num_blocks: int | None = Field(None, gt=0, le=32)
    """Residual blocks of a generator; by default 9 from 256 pixels on, else 6."""
    norm: Norm = "instance"
    """Of the generators. group keeps colors and contrasts, which instance takes out: a generator
    of some thousand steps then makes them right, above all of small images.
    """
    upsample: Upsample = "transpose"
    """resize: bilinear, then a convolution; makes no checkerboards and takes longer."""
    discriminator_features: int = Field(64, gt=0, le=512)
    """Channels after the first convolution of a discriminator."""
    discriminator_layers: int | None = Field(None, gt=0, le=5)
    """Halvings in a discriminator; by default 3 from 128 pixels on, 2 from 64 on, else 1."""
    cycle_weight: float = Field(10.0, ge=0)
    """Weight of the distance to an image that went there and back (lambda)."""
    identity_weight: float = Field(0.5, ge=0)
    """Weight, times `cycle_weight`, of leaving target images as they are; keeps the colors."""
    pool_size: int = Field(50, ge=0)
    """Earlier fakes kept for each discriminator; 0 shows it only the newest."""
    augment: tuple[Change, ...] = ()
    """DiffAugment's changes of what the discriminators see: color, translation, cutout; for domains
    of less than some thousand images.
    """
    features: str = Field("random:cnn", min_length=1)
    """Network in whose space validation compares fake and real images; none: 8 x 8 colors."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay of the first and second moment."""


class Model(UnpairedModule):
    """G_ab: A -> B, G_ba: B -> A; D_a and D_b tell real images of their domain from fakes."""

    averaged = ("generator_ab", "generator_ba")
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        C, S = self.spec.channels, self.spec.image_size
        blocks = config.num_blocks or (9 if S >= 256 else 6)
        layers = config.discriminator_layers or (3 if S >= 128 else 2 if S >= 64 else 1)
        least = PatchGAN.smallest(layers)
        if least > S:
            raise InputError(
                f"model.discriminator_layers={layers} needs images of {least} pixels or more, "
                f"data.image_size is {S}",
                hint="leave model.discriminator_layers out, or lower it",
            )

        def generator() -> ResnetGenerator:
            return ResnetGenerator(
                C,
                C,
                features=config.num_features,
                blocks=blocks,
                upsample=config.upsample,
                norm=config.norm,
            )

        self.generator_ab, self.generator_ba = generator(), generator()
        keep_light_light(self.generator_ab)
        keep_light_light(self.generator_ba)
        self.discriminator_a = PatchGAN(C, config.discriminator_features, layers)
        self.discriminator_b = PatchGAN(C, config.discriminator_features, layers)
        self.pool_a = ImagePool(config.pool_size, (C, S, S))
        self.pool_b = ImagePool(config.pool_size, (C, S, S))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        discriminators = [
            *self.discriminator_a.parameters(), *self.discriminator_b.parameters()
        ]  # fmt: skip
        generators = [*self.generator_ab.parameters(), *self.generator_ba.parameters()]
        return [fused_adam(p, c.lr, c.betas) for p in (discriminators, generators)]

    def generator_loss(self, batch: Batch) -> Terms:
        a, b = batch["a"], batch["b"]
        with_identity = self.config.identity_weight > 0
        # one pass for translation and identity: instance norm keeps images apart
        fake_b, *same_b = self.generator_ab(torch.cat([a, b]) if with_identity else a).split(len(a))
        fake_a, *same_a = self.generator_ba(torch.cat([b, a]) if with_identity else b).split(len(b))
        self.stash_fakes(fake_a, fake_b, self.rand(len(a), 4))

        gan_ab = generator_loss("lsgan", self.discriminator_b(self._augmented(fake_b)))
        gan_ba = generator_loss("lsgan", self.discriminator_a(self._augmented(fake_a)))
        cycle_a = (self.generator_ba(fake_b) - a).abs().mean()
        cycle_b = (self.generator_ab(fake_a) - b).abs().mean()
        terms = {"gan_ab": gan_ab, "gan_ba": gan_ba, "cycle_a": cycle_a, "cycle_b": cycle_b}
        loss = gan_ab + gan_ba + self.config.cycle_weight * (cycle_a + cycle_b)
        if with_identity:
            terms["identity_a"] = (same_a[0] - a).abs().mean()
            terms["identity_b"] = (same_b[0] - b).abs().mean()
            weight = self.config.cycle_weight * self.config.identity_weight
            loss = loss + weight * (terms["identity_a"] + terms["identity_b"])
        return {"loss": loss, **terms, **self.seen(batch, fake_a, fake_b)}

    def discriminator_loss(self, batch: Batch) -> Terms:
        fake_a, fake_b = self.stashed_fakes(batch)
        loss_a = self._halved(self.discriminator_a, batch["a"], fake_a)
        loss_b = self._halved(self.discriminator_b, batch["b"], fake_b)
        return {"loss": loss_a + loss_b, "a": loss_a, "b": loss_b}

    def _halved(self, discriminator: PatchGAN, real: Tensor, fake: Tensor) -> Tensor:
        """Half the loss, which slows the discriminator down against the generator (section 4)."""
        both = torch.cat([self._augmented(real), self._augmented(fake)])
        says_real, says_fake = discriminator(both).split(len(real))
        return discriminator_loss("lsgan", says_real, says_fake) / 2

    def _augmented(self, images: Tensor) -> Tensor:
        if not self.config.augment:
            return images
        return diff_augment(images, self.config.augment, self.rand(len(images), RANDOMS))

    def fakes(self, batch: Batch) -> tuple[Tensor, ...]:
        a, b = batch["a"], batch["b"]
        return self.generator_ba(b), self.generator_ab(a), self.rand(len(a), 4)

    def pooled(self, *made: Tensor) -> tuple[Tensor, ...]:
        """Fakes of the pools, which see the whole global batch and so are equal on all devices."""
        fake_a, fake_b, choices = (self.all_gather(x) for x in made)
        return (
            self.mine(self.pool_a.exchange(fake_a, choices[:, :2])),
            self.mine(self.pool_b.exchange(fake_b, choices[:, 2:])),
        )

    def there_and_back(self, batch: Batch, noise: SampleNoise) -> dict[str, Tensor]:
        fake_b, fake_a = self.generator_ab(batch["a"]), self.generator_ba(batch["b"])
        cycle_a, cycle_b = self.generator_ba(fake_b), self.generator_ab(fake_a)
        return {"fake_a": fake_a, "fake_b": fake_b, "cycle_a": cycle_a, "cycle_b": cycle_b}

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """Any size; deterministic, so all n results are equal."""
        assert given is not None
        net = self.generator_ab if options.direction == "a2b" else self.generator_ba
        made = options.apply(net, options.brought(given[None]), multiple=SMALLEST, norms=net)
        return repeated(made, noise)


class Options(UnpairedOptions):
    """What `aigc sample` may set."""

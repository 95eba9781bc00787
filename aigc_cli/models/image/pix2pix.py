"""pix2pix: what an image should become, learned from pairs by a conditional GAN.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, https://arxiv.org/abs/1611.07004. A U-Net with skip connections against a PatchGAN that sees
source and target together; cross-entropy and 100 times L1; Adam 2e-4, beta1 0.5.

Differs from the paper:
* `norm` is "instance" unless asked for. The paper normalizes by the statistics of the batch in
  training and in use, which with its batch of 1 is instance normalization with a learned scale;
  here it has none. With "batch", use is by running statistics. Either way one image has one
  answer, whatever else is in its batch;
* dropout is on in training only. `stochastic=true` turns it on in use, as the paper does, with
  noise that follows from the seed;
* generator and discriminator see different dropout masks within a step;
* images that cannot be halved 8 times have a shallower U-Net: 7 times at 128 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._paired import PairedModule
from aigc_cli.models._tiles import SizedOptions
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.adversarial import discriminator_loss, generator_loss
from aigc_cli.nn.patchgan import PatchGAN
from aigc_cli.nn.unet_generator import UNetGenerator, depth_for, dropout_from
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import PairSpec

DIAL = Dial(
    goals=("translate",),
    sizes=(
        {"data.image_size": 64, "model.num_features": 16},
        {"data.image_size": 64, "model.num_features": 32},
        {"data.image_size": 128, "model.num_features": 32},
        {"data.image_size": 256, "model.num_features": 64, "model.patch_layers": 3},
    ),
    steps=1600,
    always={
        "data.flip": True, "model.dropout": False, "model.patch_layers": 2,
        "model.upsample": "resize", "trainer.global_batch": 1, "trainer.channels_last": True,
        "trainer.keep_best": False,  # L1 alone would choose blurred images
    },
)  # fmt: skip


class Config(Section):
    """Both networks and their optimizers; the defaults are the paper's but for `norm`."""

    TINY: ClassVar[Mapping[str, Any]] = {"num_features": 4}

    features: str = "none"
    """Network of the distance `perceptual` of `aigc evaluate`, such as random:cnn, vgg16, a RUN."""
    num_features: int = Field(64, gt=0, le=512)
    """Channels of the outermost layer of both networks; inner ones have up to 8 times as many."""
    num_downs: int | None = Field(None, ge=2, le=10)
    """How often the U-Net halves an image; as its side allows, at most 8, when not given."""
    dropout: bool = True
    """Dropout of 0.5 in the three innermost blocks of the decoder."""
    norm: Literal["instance", "batch"] = "instance"
    """Normalization in both networks; batch for batches of 8 or more."""
    upsample: Literal["transpose", "resize"] = "transpose"
    """resize: bilinear, then a convolution; makes no checkerboards."""
    patch_layers: int = Field(3, ge=1, le=5)
    """Strided layers of the PatchGAN: patches of 16 (1), 34 (2), 70 (3) or 142 (4) pixels."""
    objective: Literal["vanilla", "lsgan", "hinge"] = "vanilla"
    """What the adversaries play for: cross-entropy, least squares, or margins."""
    l1_weight: float = Field(100.0, ge=0)
    """Weight of the mean absolute difference from the target, beside the adversarial loss."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Adam's learning rate of both networks before the schedule."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay of the first and second moment."""


class Model(PairedModule, AdversarialModule):
    """G(source) is to be like the target, and (source, G(source)) like (source, target)."""

    averaged = ("generator",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        assert isinstance(spec, PairSpec)
        C, C_out, S = spec.source_channels, spec.target_channels, spec.image_size
        super().__init__(config, spec, C_out, S)
        least = PatchGAN.smallest(config.patch_layers)
        if least > S:
            raise InputError(
                f"data.image_size={S}: a PatchGAN with model.patch_layers={config.patch_layers} "
                f"needs {least} pixels or more",
                hint="take fewer layers",
            )
        self.generator = UNetGenerator(
            C,
            C_out,
            num_downs(config.num_downs, S),
            features=config.num_features,
            dropout=config.dropout,
            norm=config.norm,
            upsample=config.upsample,
        )
        self.discriminator = PatchGAN(
            C + C_out, config.num_features, config.patch_layers, config.norm
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        return [
            fused_adam(network.parameters(), c.lr, c.betas)
            for network in (self.discriminator, self.generator)
        ]

    def discriminator_loss(self, batch: Batch) -> Terms:
        source, target = self.pairs(batch)
        with torch.no_grad():
            made = self._made(source)
        real, fake = self._judge(source, target), self._judge(source, made)
        boundary = 0.5 if self.config.objective == "lsgan" else 0.0
        right = ((real > boundary).float().mean() + (fake < boundary).float().mean()) / 2
        loss = discriminator_loss(self.config.objective, real, fake) / 2  # section 3.3
        return {"loss": loss, "right": right.detach()}

    def generator_loss(self, batch: Batch) -> Terms:
        source, target = self.pairs(batch)
        made = self._made(source)
        gan = generator_loss(self.config.objective, self._judge(source, made))
        l1 = (made - target).abs().mean()
        return {"loss": gan + self.config.l1_weight * l1, "gan": gan, "l1": l1}

    def _made(self, source: Tensor) -> Tensor:
        with dropout_from(self.generator, self.rand):
            made: Tensor = self.generator(source)
        return made

    def _judge(self, source: Tensor, target: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(torch.cat([source, target], 1)).float()
        return logits

    def health(self, means: dict[str, float]) -> list[str]:
        return ["discriminator wins"] if means.get("d_right", 0.0) > 0.99 else []

    @property
    def defaults(self) -> Options:
        return Options()

    def answers(self, batch: Batch, options: Section) -> Tensor:
        assert isinstance(options, Options)
        source = self.pairs(batch)[0]
        if not options.stochastic:
            made: Tensor = self.generator(source)
            return made
        return self._stochastic(source, self.val_noise(len(source)))

    def _stochastic(self, source: Tensor, noise: SampleNoise) -> Tensor:
        def uniform(B: int, *shape: int) -> Tensor:
            coins: Tensor = torch.special.ndtr(noise.randn(*shape))
            return coins

        with dropout_from(self.generator, uniform):
            made: Tensor = self.generator(source)
        return made

    def sample(
        self,
        noise: SampleNoise,
        options: Section,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """(C, H, W) -> (n, C', H, W); n equal images unless options.stochastic."""
        assert given is not None
        assert isinstance(options, Options)
        source = options.brought(given[None])
        net = self.generator
        if options.stochastic:
            source = source.expand(noise.count, -1, -1, -1)

        def translated(part: Tensor) -> Tensor:
            made: Tensor = self._stochastic(part, noise) if options.stochastic else net(part)
            return made

        S = self.target_mean.shape[-1]
        made = options.apply(translated, source, multiple=net.multiple, norms=net, learned=S)
        return made.expand(noise.count, -1, -1, -1)


class Options(SizedOptions):
    """What `aigc sample` may set."""

    stochastic: bool = False
    """Dropout on, as in the paper: each answer (-n) a little different."""


def num_downs(asked: int | None, image_size: int) -> int:
    """Halvings of a U-Net for images of a size.

    Raises:
        InputError: the size cannot be halved as often as asked, or less than twice.
    """
    possible = (image_size & -image_size).bit_length() - 1
    if possible >= (asked or 2):
        return asked or depth_for(image_size)
    multiple = 2 ** (asked or 2)
    best = max(multiple, round(image_size / multiple) * multiple)
    raise InputError(
        f"data.image_size={image_size}: the U-Net halves images {asked or 'at least 2'} times "
        f"and needs a multiple of {multiple}",
        hint=f"try {best}" + (", or a smaller model.num_downs" if asked else ""),
    )

"""DCGAN: images out of noise by a convolutional generator and its adversary.

Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", ICLR 2016, https://arxiv.org/abs/1511.06434: strided 4x4 convolutions, batch
normalization, weights N(0, 0.02). Sizes are 4 (5, 6, 7) times a power of two, at the paper's 64 the
networks are those of the paper's released code with `num_features` 64.

| objective      | source                                        | discriminator's normalization |
|----------------|-----------------------------------------------|-------------------------------|
| `vanilla`      | Goodfellow et al. 2014, as in DCGAN           | batch, but not the first layer |
| `lsgan`        | Mao et al. 2017                               | batch, but not the first layer |
| `hinge`        | SNGAN, Miyato et al. 2018                     | spectral, of every layer      |
| `wgan_gp`      | Gulrajani et al. 2017                         | none                          |
| `relativistic` | R3GAN, Huang et al. 2024: pairs, R1 and R2    | none                          |

Classes: projection discriminator (Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637) and,
as there, conditional batch normalization in the generator, which is given the class beside the
noise too (Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784): scales and shifts alone say
nothing of where in the image. Fakes have the labels of the real batch.
DiffAugment (Zhao et al. 2020) is nn/diffaugment.py.

Differs from the papers:
* noise is normal, not uniform, which interpolation and truncation ask for;
* R1 and R2 are taken at the augmented images; their weight is constant, and so is Adam's beta2;
* R3GAN's residual networks are not used: only its objective;
* the projection is of all features, not of their sum over places, which at 28 pixels sees no more
  than pieces of 10 pixels.

Batch statistics. Real and fake images go through the discriminator separately, each normalized by
its own statistics, as in the paper's code. Those of the generator belong to its weights, and a
running mean would belong to neither the weights at hand nor their average: before sampling they are
computed anew, for the weights in use, from PROBES noise vectors of a fixed seed ("standing
statistics" of BigGAN, Brock et al. 2019). An image thus depends on nothing else in its batch.
While training they are those of a device's part of the batch, as usual; so with several devices or
accumulated parts the `batch` normalized networks see smaller batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from aigc_cli.errors import InputError
from aigc_cli.metrics.image.kid import kid_block
from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.adversarial import (
    Objective,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    penalized,
)
from aigc_cli.nn.diffaugment import RANDOMS, Change, diff_augment
from aigc_cli.nn.init import init_normal
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec

Norm = Literal["batch", "spectral", "none"]
NORMS: dict[str, Norm] = {"vanilla": "batch", "lsgan": "batch", "hinge": "spectral"}
WIDEST = 8  # times num_features, as in the paper
PROBES, PROBES_AT_ONCE = 512, 64

DIAL = Dial(
    goals=("generate",),
    sizes=(
        {"data.image_size": 32, "model.num_features": 16},
        {"data.image_size": 32, "model.num_features": 32},
        {"data.image_size": 32, "model.num_features": 64},
        {"data.image_size": 64, "model.num_features": 64},
    ),
    steps=3000,
    always={
        "model.objective": "hinge", "model.latent_dim": 64, "model.lr": 4e-4,
        "model.betas": [0.0, 0.9], "trainer.global_batch": 64, "trainer.channels_last": True,
    },
    given={"classes": {"model.conditional": True}},
    validations=4,
    rank=1,
)  # fmt: skip


class Config(Section):
    """Both networks, their objective and optimizers."""

    TINY: ClassVar[Mapping[str, Any]] = {"num_features": 4, "latent_dim": 8}
    FEW: ClassVar[Mapping[str, Any]] = {"augment": ("color", "translation", "cutout")}

    objective: Literal["vanilla", "lsgan", "hinge", "wgan_gp", "relativistic"] = "relativistic"
    """What the networks play for; also decides how the discriminator is normalized."""
    conditional: bool = False
    """Whether images are made and judged by class; needs labeled data."""
    latent_dim: int = Field(100, gt=0, le=4096)
    """Size of the noise vector z."""
    num_features: int = Field(64, gt=0, le=1024)
    """Channels next to the image; they double with every halving of its side, up to 8 times."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Adam's learning rate of both networks."""
    d_lr: float | None = Field(None, gt=0, le=1)
    """The discriminator's, where it differs."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay of the first and second moment; (0, 0.9) for wgan_gp, (0, 0.99) for relativistic
    in their papers.
    """
    d_steps: int = Field(1, gt=0, le=100)
    """Discriminator steps before each of the generator, with a real batch each; 5 for wgan_gp."""
    gp_weight: float = Field(10.0, ge=0)
    """wgan_gp: weight of the gradient penalty."""
    gamma: float = Field(0.1, ge=0)
    """relativistic: R1 and R2 are weighted by half of it; larger is steadier, smaller sharper."""
    augment: tuple[Change, ...] = ()
    """DiffAugment's changes of what the discriminator sees: color, translation, cutout; for less
    than some thousand images.
    """
    features: str = Field("random:cnn", min_length=1)
    """Network whose features measure the distance `block_kid` to validation images: random:cnn,
    vgg16, or a run of family classifier, which means more; none compares colors only.
    """


class ClassBatchNorm(nn.Module):
    """Batch normalization, (B, D, h, w) -> same, with a scale and a shift for each class."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        # momentum None: plain means since the last reset, see `Generator.fit_statistics`.
        self.norm = nn.BatchNorm2d(features, affine=num_classes == 0, momentum=None)
        if num_classes:
            self.scale = nn.Embedding(num_classes, features)
            self.shift = nn.Embedding(num_classes, features)
            nn.init.normal_(self.scale.weight, 1.0, 0.02)
            nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        x = self.norm(x)
        if label is None:
            return x
        return torch.addcmul(
            self.shift(label)[..., None, None], x, self.scale(label)[..., None, None]
        )


class Generator(nn.Module):
    """z (B, Z), label (B,)? -> image (B, C, S, S) in [-1, 1]."""

    def __init__(self, config: Config, channels: int, size: int, num_classes: int) -> None:
        super().__init__()
        base, widths = shape_of(size, config.num_features)
        widths.reverse()
        self.base, self.num_classes = base, num_classes
        self.project = nn.Linear(config.latent_dim, widths[0] * base**2, bias=False)
        self.embed = nn.Embedding(num_classes, widths[0] * base**2) if num_classes else None
        self.norms = nn.ModuleList([ClassBatchNorm(width, num_classes) for width in widths])
        self.ups = nn.ModuleList(
            [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
                for before, after in pairwise([*widths, channels])
            ]
        )
        init_normal(self)
        if self.embed is not None:  # as large as what the noise is mapped to
            nn.init.normal_(self.embed.weight, 0.0, 0.02 * config.latent_dim**0.5)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.project(z)
        if self.embed is not None:
            x = x + self.embed(label)
        x = x.unflatten(1, (-1, self.base, self.base))
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(norm(x, label).relu_())  # (B, D, h, w) -> (B, D / 2, 2 h, 2 w)
        return x.float().tanh()  # 8 bits of mantissa cannot hold 256 levels

    @torch.no_grad()
    def fit_statistics(self) -> None:
        """Set the means and variances that evaluation uses to those of the present weights: their
        mean over batches of fixed noise, with the classes in turn.
        """
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        random = torch.Generator().manual_seed(0)
        device = self.project.weight.device
        for first in range(0, PROBES, PROBES_AT_ONCE):
            z = torch.randn(PROBES_AT_ONCE, self.project.in_features, generator=random).to(device)
            label = torch.arange(first, first + PROBES_AT_ONCE, device=device)
            self(z, label % self.num_classes if self.num_classes else None)
        for norm in norms:
            norm.eval()


class Discriminator(nn.Module):
    """Image (B, C, S, S), label (B,)? -> one logit each (B,)."""

    def __init__(
        self, config: Config, channels: int, size: int, num_classes: int, norm: Norm
    ) -> None:
        super().__init__()
        base, widths = shape_of(size, config.num_features)
        layers: list[nn.Module] = []
        for before, after in pairwise([channels, *widths]):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=norm != "batch"))
            if norm == "batch" and before != channels:
                layers.append(nn.BatchNorm2d(after, track_running_stats=False))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.down = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * base**2, 1, bias=False)
        self.embed = nn.Embedding(num_classes, widths[-1] * base**2) if num_classes else None
        init_normal(self)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.02)
        if norm == "spectral":
            for layer in [*self.down, self.head, self.embed]:
                if isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding)):
                    spectral_norm(layer)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.down(image).flatten(1)  # (B, D base base)
        logits: Tensor = self.head(h).squeeze(1)
        if self.embed is not None:
            logits = logits + (self.embed(label) * h).sum(1)
        return logits


class Model(ImageModule, AdversarialModule):
    """Two networks and their game."""

    accepts = (ImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"block_kid": "min"}
    fewest: ClassVar[dict[str, int]] = {"block_kid": 2}
    averaged = ("generator",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, ImageSpec)
        if config.conditional and not spec.labels:
            raise InputError(
                "model.conditional=true: the data has no classes",
                hint="put the images in folders named after their classes, or set it to false",
                code="unlabeled",
            )
        self.d_steps = config.d_steps
        self.conditional = config.conditional
        self.objective: Objective = "wgan" if config.objective == "wgan_gp" else config.objective
        self.classes = len(spec.labels) if spec.labels and config.conditional else 0
        shape = spec.channels, spec.image_size, self.classes
        self.generator = Generator(config, *shape)
        self.discriminator = Discriminator(config, *shape, NORMS.get(config.objective, "none"))
        self._statistics_fit = False

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        return [
            fused_adam(self.discriminator.parameters(), c.d_lr or c.lr, c.betas),
            fused_adam(self.generator.parameters(), c.lr, c.betas),
        ]

    # The game.

    def discriminator_loss(self, batch: Batch) -> Terms:
        real, label = batch["image"], self._label(batch)
        with torch.no_grad():
            fake = self._fake(real, label)
        spread = {"spread_real": _spread(real, label), "spread_fake": _spread(fake, label)}
        real, fake = self._augmented(real), self._augmented(fake)
        if self.objective == "relativistic":
            on_real, on_fake, penalty = self._with_r1_r2(real, fake, label)
        else:
            on_real, on_fake = self.discriminator(real, label), self.discriminator(fake, label)
            penalty = self._gradient_penalty(real, fake, label)
        loss = discriminator_loss(self.objective, on_real, on_fake)
        return {
            "loss": loss + sum(penalty.values()),
            "real": on_real.mean(),
            "fake": on_fake.mean(),
            "accuracy": self._accuracy(on_real.detach(), on_fake.detach()),
            **penalty,
            **spread,
        }

    def _with_r1_r2(
        self, real: Tensor, fake: Tensor, label: Tensor | None
    ) -> tuple[Tensor, Tensor, Terms]:
        """Logits of both, and gamma / 2 (R1 + R2)."""
        twice = None if label is None else label.repeat(2)
        logits, penalty = penalized(
            lambda x: self.discriminator(x, twice), torch.cat((real, fake))
        )  # its mean over twice as many images is (R1 + R2) / 2
        on_real, on_fake = logits.chunk(2)
        return on_real, on_fake, {"penalty": self.config.gamma * penalty}

    def _gradient_penalty(self, real: Tensor, fake: Tensor, label: Tensor | None) -> Terms:
        if self.objective != "wgan":
            return {}
        penalty = gradient_penalty(
            lambda x: self.discriminator(x, label), real, fake, self.rand(len(real))
        )
        return {"penalty": self.config.gp_weight * penalty}

    def generator_loss(self, batch: Batch) -> Terms:
        real, label = batch["image"], self._label(batch)
        on_fake = self.discriminator(self._augmented(self._fake(real, label)), label)
        on_real = None
        if self.objective == "relativistic":
            with torch.no_grad():
                on_real = self.discriminator(self._augmented(real), label)
        return {"loss": generator_loss(self.objective, on_fake, on_real)}

    def _label(self, batch: Batch) -> Tensor | None:
        return batch["label"] if self.conditional else None

    def _fake(self, real: Tensor, label: Tensor | None) -> Tensor:
        fake: Tensor = self.generator(self.randn(len(real), self.config.latent_dim), label)
        return fake

    def _augmented(self, images: Tensor) -> Tensor:
        if not self.config.augment:
            return images
        return diff_augment(images, self.config.augment, self.rand(len(images), RANDOMS))

    def _accuracy(self, on_real: Tensor, on_fake: Tensor) -> Tensor:
        """How often the discriminator is right: of single images, of pairs where it only sees
        pairs.
        """
        if self.objective in ("relativistic", "wgan"):
            return (on_real > on_fake).float().mean()
        middle = 0.5 if self.objective == "lsgan" else 0.0
        return ((on_real > middle).float().mean() + (on_fake <= middle).float().mean()) / 2

    def health(self, means: dict[str, float]) -> list[str]:
        """discriminator wins: it is right in 98 % of all cases, so that the generator learns
        little. Not told of a critic (wgan_gp), which should win.

        mode collapse: the images it makes are far more alike than real ones, 1 % of their
        variance; within classes where there are some. Not told in the first steps, when all are
        gray.

        diverging loss: logits beyond all that a working game shows.
        """
        found = []
        if self.objective != "wgan" and means.get("d_accuracy", 0.5) > 0.98:
            found.append("discriminator wins")
        real, fake = means.get("d_spread_real", 0.0), means.get("d_spread_fake", 0.0)
        if self.step > WARM_UP and fake < COLLAPSED * real:
            found.append("mode collapse")
        largest = max(abs(means.get(name, 0.0)) for name in ("d_real", "d_fake", "g_loss"))
        if largest > DIVERGED[self.objective]:
            found.append("diverging loss")
        return found

    # Samples.

    def train(self, mode: bool = True) -> Self:
        self._statistics_fit = False  # the weights may change
        return super().train(mode)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the generator is the averaged one, and so are its statistics."""
        with super().averaged_weights():
            self._statistics_fit = False
            yield
        self._statistics_fit = False

    @torch.no_grad()
    def _generate(self, z: Tensor, label: Tensor | None) -> Tensor:
        if not self._statistics_fit and not self.training:
            self.generator.fit_statistics()
            self._statistics_fit = True
        images: Tensor = self.generator(z.to(self.device), label)
        return images

    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """(n, C, S, S) in [-1, 1]; without `options.label` the classes take turns."""
        z = noise.randn(self.config.latent_dim)
        if options.truncation is not None:
            z = truncated(z, options.truncation)
        return self._generate(z, self.labels_of(options, noise.first, noise.count))

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """`block_kid`: squared MMD between this batch and as many samples of its classes, one value
        for all; NaN for a batch of one, which has none.
        """
        real = batch["image"]
        B = len(real)
        z = self.val_noise(B).randn(self.config.latent_dim)
        fake = self._generate(z, self._label(batch))
        if B < 2:
            return {"block_kid": real.new_full((B,), torch.nan)}
        return {"block_kid": kid_block(self._describe(real), self._describe(fake)).expand(B)}

    def _describe(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, D): features of the attached network; colors in a grid of 8 x 8
        without one.
        """
        if not self.has_features:
            return nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        layers = self.features.layers
        layer = "pooled" if "pooled" in layers else layers[-1]
        found = self.features(images, [layer])[layer].float()
        return found.mean((2, 3)) if found.ndim == 4 else found


class Options(Section):
    """What `aigc sample` may set."""

    label: str | None = None
    """Class to make, by name or number; without it the classes take turns."""
    truncation: float | None = Field(None, gt=0)
    """Largest absolute value in the noise, which is then drawn from the normal distribution cut off
    there (BigGAN): 2 to 0.5 gives more typical and less different images.
    """


WARM_UP, COLLAPSED = 200, 0.01
DIVERGED: dict[Objective, float] = {
    "vanilla": 50.0,
    "lsgan": 10.0,
    "hinge": 50.0,
    "wgan": 1e4,
    "relativistic": 50.0,
}
"""Mean logit or loss from which on it is called diverging, in the units of each objective."""


def shape_of(size: int, features: int) -> tuple[int, list[int]]:
    """Side of the smallest feature map, and the channels from the image's side inwards.

    Raises:
        InputError: the size is not 4, 5, 6 or 7 times a power of two.
    """
    halvings = max(1, (size // 4).bit_length() - 1)
    base = size // 2**halvings
    if size < 8 or base * 2**halvings != size:
        near = sorted({_fitting(size, down=True), _fitting(size, down=False)})
        raise InputError(
            f"data.image_size={size}: dcgan makes images of 4, 5, 6 or 7 pixels times a power of "
            "two",
            hint=f"take {' or '.join(map(str, near))}; the paper's size is 64",
        )
    return base, [features * min(2**i, WIDEST) for i in range(halvings)]


def _fitting(size: int, *, down: bool) -> int:
    """The next size below or above that works."""
    sizes = sorted(base * 2**k for base in (4, 5, 6, 7) for k in range(1, 13))
    nearest = [s for s in sizes if (s < size if down else s > size)]
    return (nearest[-1] if down else nearest[0]) if nearest else sizes[0]


def truncated(z: Tensor, largest: float) -> Tensor:
    """Standard normal numbers -> standard normal numbers given that |z| <= largest.

    By the quantiles instead of by drawing again until one fits: the same distribution, but
    continuous in z, so that interpolations stay smooth.
    """
    # In the lower tail, whatever the sign; erfc is exact there and ndtr is not.
    below = math.erfc(largest / 2**0.5) / 2
    quantile = below + torch.erfc(z.double().abs() / 2**0.5) / 2 * (1 - 2 * below)
    return torch.copysign(torch.special.ndtri(quantile), z).to(z.dtype)


@torch.no_grad()
def _spread(images: Tensor, label: Tensor | None) -> Tensor:
    """Half the mean squared distance of two images, of one class where there are classes, per
    pixel: the unbiased variance, pooled over classes. 0 when no two are of one class.
    """
    x = images.flatten(1).float()
    if label is None:
        label = torch.zeros(len(x), dtype=torch.long, device=x.device)
    same = (label[:, None] == label[None, :]).float()  # (B, B)
    members = same.sum(1)
    centered = x - (same @ x) / members[:, None]
    freedom = (len(x) - (1 / members).sum()).clamp(min=0.5)  # items less classes
    return centered.square().sum() / freedom / x.shape[1]

"""Variational autoencoder: images from a normally distributed code, with a bound on their
likelihood.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, https://arxiv.org/abs/1312.6114.
With the importance weighted bound of Burda, Grosse and Salakhutdinov, "Importance Weighted
Autoencoders", ICLR 2016, https://arxiv.org/abs/1509.00519; beta of Higgins et al., ICLR 2017; free
bits of Kingma et al., 2016, https://arxiv.org/abs/1606.04934, section C.8; the one learned variance
of Rybkin, Daniilidis and Levine, "Simple and Effective VAE Training with Calibrated Decoders", ICML
2021, https://arxiv.org/abs/2006.13202.

All likelihoods are natural logarithms (nats) of a whole image, summed over pixels and channels.
Bernoulli: of the probability of black and white pixels; on gray ones (`binarize: none`) a usual
loss, but no likelihood. Gaussian: of a density over pixel values in [-1, 1].

Differs from the papers:
* convolutional networks use group normalization, so that no image depends on the others of its
  batch, and upscale by repetition and convolution instead of transposed convolutions;
* free bits are counted for each dimension of the code, on the mean over one device's batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.divergence import kl_to_standard_normal
from aigc_cli.nn.norm import GroupNorm
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
}
MIN_LOGVAR = -12.0  # sigma of 0.0025, a third of a gray level (Rybkin et al., section 4.1)
MOST_AT_ONCE = 2**24  # pixels decoded at once when integrating: 64 MB in fp32

DIAL = Dial(
    goals=("generate",),
    sizes=(
        {"data.image_size": 32, "model.channels": [16, 32], "model.latent_dim": 16},
        {"data.image_size": 64, "model.channels": [32, 64], "model.latent_dim": 32},
    ),
    steps=1500,
    always={
        "model.arch": "conv", "model.likelihood": "gaussian", "model.activation": "leaky_relu",
        "trainer.global_batch": 64, "trainer.channels_last": True, "trainer.clip_norm": 1000.0,
    },
    rank=3,
)  # fmt: skip


class Config(Section):
    """The networks, the likelihood and the bound; the defaults fit small gray images."""

    TINY: ClassVar[Mapping[str, Any]] = {"hidden_dims": (8,), "latent_dim": 4}

    arch: Literal["mlp", "conv"] = "mlp"
    """mlp: fully connected layers of `hidden_dims`; conv: stages of `channels`."""
    latent_dim: int = Field(40, gt=0, le=65536)
    """Size of the code z."""
    hidden_dims: tuple[int, ...] = (400,)
    """mlp: units of the encoder's layers; the decoder has the same in reverse."""
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    """conv: channels of the encoder's stages, each of which halves the resolution."""
    activation: Literal["relu", "tanh", "leaky_relu", "silu"] = "relu"
    """Function after each layer."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """bernoulli: black and white pixels; gaussian: any values, with a learned variance."""
    variance: Literal["scalar", "pixel"] = "scalar"
    """gaussian: one variance for all pixels, or one for each pixel of each image."""
    binarize: Literal["none", "threshold", "fixed", "dynamic"] = "none"
    """Pixels made black or white: at half intensity; at random with the intensity as probability,
    once for each image (a fixed function of its pixels); or anew in every training step.
    """
    objective: Literal["elbo", "iwae"] = "elbo"
    """The bound that is maximized: evidence lower bound, or the tighter importance weighted one."""
    num_samples: int = Field(1, gt=0, le=10_000)
    """Codes drawn for each training image: k of the importance weighted bound."""
    beta: float = Field(1.0, ge=0)
    """elbo: weight of the KL divergence; above 1 codes carry less and are more independent."""
    free_bits: float = Field(0.0, ge=0)
    """elbo: nats of KL divergence that each dimension of the code has for free."""
    kl_warmup: int = Field(0, ge=0)
    """elbo: steps over which the weight of the KL divergence rises linearly to `beta`."""
    lr: float = Field(1e-3, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment."""
    eps: float = Field(1e-8, gt=0)
    """Adam's term that keeps the denominator from zero."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        layers = self.hidden_dims if self.arch == "mlp" else self.channels
        if not layers or min(layers) < 1:
            name = "hidden_dims" if self.arch == "mlp" else "channels"
            raise ValueError(f"{name} must name one or more layers of 1 or more units")
        if self.objective == "iwae" and (self.beta != 1 or self.free_bits or self.kl_warmup):
            raise ValueError("beta, free_bits and kl_warmup weigh the elbo; iwae has no such term")
        if self.likelihood == "gaussian" and self.binarize != "none":
            raise ValueError("black and white pixels need likelihood bernoulli, not gaussian")
        return self


class Encoder(nn.Module):
    """Image (B, C, S, S) in [-1, 1] -> mu and logvar of its code, (B, Z) each."""

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        C, S, activation = spec.channels, spec.image_size, ACTIVATIONS[config.activation]
        layers: list[nn.Module] = []
        if config.arch == "mlp":
            layers.append(nn.Flatten())
            D = C * S * S
            for width in config.hidden_dims:
                layers += [nn.Linear(D, width), activation()]
                D = width
        else:
            for width in config.channels:
                conv = nn.Conv2d(C, width, 3, stride=2, padding=1)
                layers += [conv, GroupNorm(_groups(width), width), activation()]
                C = width
            layers.append(nn.Flatten())
            D = C * _sides(config, S)[-1] ** 2
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(D, 2 * config.latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.head(self.body(x)).float().chunk(2, dim=1)  # each (B, Z)
        return mu, logvar


class Decoder(nn.Module):
    """Code (B, Z) -> distribution of the image, two tensors (B, C, S, S) or broadcast to it.

    bernoulli: logits, and nothing of use; gaussian: mean and log variance.
    """

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        C, S, activation = spec.channels, spec.image_size, ACTIVATIONS[config.activation]
        self.shape = (C, S, S)
        self.bernoulli = config.likelihood == "bernoulli"
        self.each = not self.bernoulli and config.variance == "pixel"
        out = 2 * C if self.each else C
        D = config.latent_dim
        layers: list[nn.Module] = []
        if config.arch == "mlp":
            for width in reversed(config.hidden_dims):
                layers += [nn.Linear(D, width), activation()]
                D = width
            layers += [nn.Linear(D, out * S * S), nn.Unflatten(1, (out, S, S))]
        else:
            widths, sides = config.channels[::-1], _sides(config, S)[::-1]
            width, side = widths[0], sides[0]
            layers += [nn.Linear(D, width * side**2), nn.Unflatten(1, (width, side, side))]
            for after, side in zip((*widths[1:], widths[-1]), sides[1:], strict=True):
                conv = nn.Conv2d(width, after, 3, padding=1)
                layers += [nn.Upsample((side, side)), conv]
                layers += [GroupNorm(_groups(after), after), activation()]
                width = after
            layers.append(nn.Conv2d(width, out, 3, padding=1))
        self.net = nn.Sequential(*layers)
        if not self.bernoulli and not self.each:
            self.logvar = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        made = self.net(z).float()
        if self.bernoulli:
            return made, made.new_zeros(1)
        mean, logvar = made.chunk(2, dim=1) if self.each else (made, self.logvar)
        return mean, MIN_LOGVAR + F.softplus(logvar - MIN_LOGVAR)


class Model(ImageModule):
    """Maximizes a bound of the likelihood by reparametrized samples of the code, with Adam."""

    accepts = (ImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"nelbo": "min", "reconstruction": "min"}
    measures: ClassVar[dict[str, Literal["max", "min"]] | None] = {
        "nll": "min",
        "nelbo": "min",
        "reconstruction": "min",
    }
    averaged = ("encoder", "decoder")
    takes = "image"
    input_optional = True
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, ImageSpec)
        self.shape = (spec.channels, spec.image_size, spec.image_size)
        self.encoder = Encoder(config, spec)
        self.decoder = Decoder(config, spec)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return fused_adam(self.parameters(), c.lr, c.betas, eps=c.eps)

    # The bounds.

    @torch.no_grad()
    def expand(self, batch: Batch) -> Batch:
        """With free bits, adds `free` (B, Z): the dimensions that cost nothing, the same for every
        image. The mean of each is over all images of the step (Kingma et al., 2016, appendix
        C.8), so it is taken before these are spread over parts; of pixels that are drawn, the fixed
        draw is taken.
        """
        free_bits = self.config.free_bits
        if not free_bits:
            return batch
        x = batch["image"]
        kl = self.all_gather(kl_to_standard_normal(*self.encoder(self.prepared(x))))
        return {**batch, "free": ~(kl.mean(0) > free_bits).expand(len(x), -1)}

    def loss(self, batch: Batch) -> Terms:
        c = self.config
        x = batch["image"]
        u = self.rand(len(x), *self.shape) if c.binarize == "dynamic" else None
        x = self.prepared(x, u)
        mu, logvar = self.encoder(x)
        eps = self.randn(len(x), c.num_samples, c.latent_dim)
        z = mu[:, None] + (logvar / 2).exp()[:, None] * eps  # (B, k, Z)
        log_px = self.log_likelihood(x, z)  # (B, k)
        kl = kl_to_standard_normal(mu, logvar).mean(0)  # (Z,)
        spread = self.all_gather(mu).var(0, correction=0)  # (Z,)
        terms = {
            "reconstruction": -log_px.mean(),
            "kl": kl.sum(),
            "active_units": (spread > 0.01).sum(),  # Burda et al., section 5.2
        }
        if c.objective == "iwae":
            log_w = log_px + log_prior_ratio(z, logvar, eps)
            return {"loss": -log_mean_exp(log_w).mean(), **terms}
        beta = c.beta * min(1.0, (self.step + 1) / c.kl_warmup) if c.kl_warmup else c.beta
        if c.free_bits:
            kl = torch.where(batch["free"][0], c.free_bits, kl)
        return {"loss": terms["reconstruction"] + beta * kl.sum(), **terms}

    def prepared(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Images in [-1, 1] with the pixels that `config.binarize` asks for; u in [0, 1) is fresh
        noise of the same shape for dynamic binarization, without which it is as the fixed one.
        """
        match self.config.binarize:
            case "none":
                return x
            case "threshold":
                white = x >= 0
            case _:
                white = fixed_coin(x) if u is None else u < (x + 1) / 2
        return white.to(x.dtype) * 2 - 1

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats, (B, k), for images (B, C, S, S) and codes (B, k, Z)."""
        B, k, _ = z.shape
        mean, logvar = self.decoder(z.flatten(0, 1))
        target = x.float()[:, None].expand(B, k, *x.shape[1:]).flatten(0, 1)
        if self.config.likelihood == "bernoulli":
            white = (target + 1) / 2
            log_p = -F.binary_cross_entropy_with_logits(mean, white, reduction="none")
        else:
            log_p = -0.5 * ((target - mean).square() * (-logvar).exp() + logvar + _LOG_2PI)
        return log_p.flatten(1).sum(1).view(B, k)

    def nll(self, x: Tensor, k: int, noise: SampleNoise) -> Tensor:
        """-log p(x) in nats, (B,), by k importance samples of each code: an upper bound in the
        mean, exact for k to infinity, and the negative evidence lower bound for k = 1.
        """
        mu, logvar = self.encoder(x)
        at_once = max(1, MOST_AT_ONCE // x.numel())
        total = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        for first in range(0, k, at_once):
            eps = noise.randn(min(at_once, k - first), self.config.latent_dim).to(mu)
            z = mu[:, None] + (logvar / 2).exp()[:, None] * eps
            log_w = self.log_likelihood(x, z) + log_prior_ratio(z, logvar, eps)
            total = torch.logaddexp(total, log_w.double().logsumexp(1))
        return math.log(k) - total

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        x = self.prepared(batch["image"])
        mu, logvar = self.encoder(x)
        eps = self.val_noise(len(x)).randn(self.config.latent_dim).to(mu)
        z = mu + (logvar / 2).exp() * eps
        reconstruction = -self.log_likelihood(x, z[:, None])[:, 0]
        kl = kl_to_standard_normal(mu, logvar).sum(1)
        return {"nelbo": reconstruction + kl, "reconstruction": reconstruction}

    def measure(self, batch: Batch, options: Section) -> dict[str, Tensor]:
        assert isinstance(options, Options)
        x = self.prepared(batch["image"])
        noise = self.val_noise(len(x))
        noise.randn(self.config.latent_dim)  # that of evaluate_batch
        return {
            "nll": self.nll(x, options.num_importance, noise),
            **self.evaluate_batch(batch),
        }

    # Images.

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """Images (n, C, S, S) in [-1, 1] of codes from the prior, or of codes along one dimension
        after the other where `options.traverse` asks for it. Of an image `given` (C, H, W): what
        becomes of its middle, at the model's size, through n codes of its posterior.
        """
        Z = self.config.latent_dim
        if given is not None:
            mu, logvar = self.encoder(self.prepared(_square(given, self.shape[-1])[None]))
            z = mu + options.temperature * (logvar / 2).exp() * noise.randn(Z).to(mu)
        elif options.traverse:
            z = self._traversal(noise.first, noise.count, options.traverse)
        else:
            z = options.temperature * noise.randn(Z).to(self.device)
        return self._pictures(z, options, noise)

    def _pictures(self, z: Tensor, options: Options, noise: SampleNoise) -> Tensor:
        """(B, Z) -> (B, C, S, S) in [-1, 1], expected pixels or drawn ones."""
        mean, logvar = self.decoder(z)
        bernoulli = self.config.likelihood == "bernoulli"
        if options.mean:
            return _expected(mean, bernoulli)
        eps = noise.randn(*self.shape).to(mean)
        if bernoulli:
            return (torch.special.ndtr(eps) < mean.sigmoid()).to(mean) * 2 - 1
        return (mean + (logvar / 2).exp() * eps).clamp(-1, 1)

    def _traversal(self, first: int, n: int, columns: int) -> Tensor:
        """Codes (n, Z): number i has row i div columns, the dimension that changes images most
        in row 0, and goes from -3 to 3 along the row; all else is zero.
        """
        Z = self.config.latent_dim
        one = torch.eye(Z, device=self.device)
        bernoulli = self.config.likelihood == "bernoulli"
        there = _expected(self.decoder(one)[0], bernoulli)
        back = _expected(self.decoder(-one)[0], bernoulli)
        order = (there - back).flatten(1).square().sum(1).argsort(descending=True, stable=True)
        number = torch.arange(first, first + n, device=self.device)
        value = torch.linspace(-3, 3, columns, device=self.device)[number % columns]
        return one[order[number // columns % Z]] * value[:, None]


class Options(Section):
    """What `aigc sample` and `aigc evaluate` may set."""

    temperature: float = Field(1.0, ge=0, le=10)
    """Factor on the spread of codes; 0 gives the most likely code: of all images, or with --input
    of the one to reconstruct.
    """
    mean: bool = True
    """Write the expected value of each pixel; false draws pixels from their distribution."""
    traverse: int = Field(0, ge=0, le=64)
    """Images in a row that moves one dimension of the code from -3 to 3, those that change most
    first; `-n` is this times the rows: traverse=8 -n 64. 0 draws independent codes.
    """
    num_importance: int = Field(200, gt=0, le=100_000)
    """Importance samples for each image in the `nll` of `aigc evaluate`; papers use 5000."""


_LOG_2PI = math.log(2 * math.pi)


def log_prior_ratio(z: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """log p(z) - log q(z | x), (B, k), of codes z = mu + sigma eps (B, k, Z); logvar (B, Z)."""
    return 0.5 * (eps.square() - z.square() + logvar[:, None]).sum(-1)


def log_mean_exp(log_w: Tensor) -> Tensor:
    """log of the mean of exp(log_w) over the last dimension."""
    return log_w.logsumexp(-1) - math.log(log_w.shape[-1])


def fixed_coin(x: Tensor) -> Tensor:
    """Whether each pixel of (B, C, H, W) in [-1, 1] is white: true with its intensity, one of 256
    levels, as probability, and always the same for the same image, on every device.

    The coin of a pixel is a hash of its place and of a hash of the whole image, so that coins
    differ between images, and no file of coins need be kept.
    """
    level = ((x.float() + 1) * 127.5).round().long().flatten(1)
    place = torch.arange(1, level.shape[1] + 1, dtype=torch.int32, device=x.device)  # not 0
    picture = (level * _unsigned(_hash(place))).sum(1)
    picture = (picture ^ picture >> 32).to(torch.int32)
    coin = _hash(place ^ _hash(picture)[:, None])
    return (_unsigned(coin) * 255 < level << 32).view(x.shape)


def _hash(x: Tensor) -> Tensor:
    """Well mixed bits, int32 -> int32: `lowbias32` of Wellons, 2018,
    https://nullprogram.com/blog/2018/07/31/. The masks make shifts those of unsigned numbers.
    """
    x = (x ^ (x >> 16 & 0xFFFF)) * 0x7FEB352D
    x = (x ^ (x >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ (x >> 16 & 0xFFFF)


def _unsigned(x: Tensor) -> Tensor:
    """The bits of int32 as a number from 0 to 2^32 - 1."""
    return x.long() & 0xFFFFFFFF


def _expected(mean: Tensor, bernoulli: bool) -> Tensor:
    """What the decoder's first tensor means as an image in [-1, 1]."""
    return (mean / 2).tanh() if bernoulli else mean.clamp(-1, 1)  # 2 sigmoid(x) - 1 = tanh(x / 2)


def _square(image: Tensor, size: int) -> Tensor:
    """The middle of (C, H, W), as (C, size, size), antialiased bicubic."""
    side = min(image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    middle = image[None, :, top : top + side, left : left + side]
    if side == size:
        return middle[0]
    made = F.interpolate(middle, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return made[0].clamp(-1, 1)


def _sides(config: Config, size: int) -> list[int]:
    """Sides of the image and of what each stage of the encoder makes of it."""
    sides = [size]
    for _ in config.channels:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _groups(channels: int) -> int:
    return math.gcd(channels, 8)

"""A conditional variational autoencoder from image to image: several answers to one source.

Our own design, since there is no recipe of reference. Sohn, Lee, Yan, "Learning Structured Output
Representation using Deep Conditional Generative Models", NeurIPS 2015, for the model

    log p(y | x) >= E_q log p(y | x, z) - KL(q(z | x, y) || p(z | x))    x source, y target

with a prior that is learned; a U-Net (Isola et al. 2017) from source to target whose decoder is
told z, a vector, by the scale and shift after each normalization (Huang and Belongie 2017); a
Laplace likelihood of fixed scale, so L1, and `kl_weight` that stands for this scale; free bits for
each dimension of z (Kingma et al. 2016); a distance of features, if wanted, for sharper images.

Where there are no pairs, only images of a domain such as paintings, sources are made from them:
`source_from` reduces a painting to its light and dark, its rough forms, or its edges, and the model
learns to paint it back. A photograph reduced in the same way then comes out in the colors and
strokes of the paintings; z, or a painting given as reference, says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._paired import PairedModule, as_channels
from aigc_cli.models._tiles import SizedOptions
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.features import perceptual_distance
from aigc_cli.nn.norm import InstanceNorm
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec, PairSpec, UnpairedSpec

Reduction = Literal["gray", "blur", "edges"]
HIDDEN = 128  # of the layer between z and the scales and shifts


class Config(Section):
    """The networks, the weights of the loss terms, and the optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {"num_features": 4}

    source_from: Reduction = "blur"
    """Without pairs, what is left of an image as its source: light and dark, that after a
    reduction by `blur`, or its edges.
    """
    blur: int = Field(4, gt=0, le=64)
    """Factor of the reduction of source_from=blur; details of this size are the model's to make."""
    num_features: int = Field(32, gt=0, le=512)
    """Channels of the outermost layer; inner ones have up to 8 times as many."""
    num_downs: int = Field(5, ge=2, le=10)
    """How often the networks halve an image."""
    latent_dim: int = Field(16, gt=0, le=4096)
    """Size of the latent vector z."""
    prior: Literal["learned", "standard"] = "learned"
    """learned: mean and variance of z follow from the source; standard: N(0, 1)."""
    kl_weight: float = Field(1e-3, ge=0)
    """Weight of the KL divergence, in nats, beside the mean absolute difference."""
    free_bits: float = Field(0.05, ge=0)
    """Nats of each dimension of z that cost nothing, so that z does not fall silent."""
    features: str = "none"
    """Network of the distance of features, such as random:vgg16, vgg16, or a classifier's RUN."""
    feature_weight: float = Field(0.0, ge=0)
    """Weight of the distance of features in the loss; with 0 it is only measured."""
    lr: float = Field(1e-3, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment."""


class Modulated(nn.Module):
    """(B, C, H, W), style (B, D) -> (B, C', 2 H, 2 W): upscale, convolve, normalize, then scale
    and shift as the style says.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm = InstanceNorm()
        self.affine = nn.Linear(HIDDEN, 2 * out_channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.norm(self.conv(F.interpolate(x, scale_factor=2.0)))
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, 1)
        return F.leaky_relu(x * (1 + scale) + shift, 0.2)


class Translator(nn.Module):
    """Source (B, C, H, W), z (B, Z) -> target (B, C', H, W) in [-1, 1], and p(z | source).

    H and W are multiples of 2^num_downs. The innermost layer is not normalized, so that it knows
    how light the image is.
    """

    def __init__(self, config: Config, channels: int, out_channels: int) -> None:
        super().__init__()
        D = config.num_features
        widths = [min(D * 2**n, 8 * D) for n in range(config.num_downs)]
        self.downs = nn.ModuleList([nn.Conv2d(channels, D, 4, 2, 1)])
        for n in range(1, len(widths)):
            innermost = n == len(widths) - 1
            conv = nn.Conv2d(widths[n - 1], widths[n], 4, 2, 1, bias=innermost)
            norm = [] if innermost else [InstanceNorm()]
            self.downs.append(nn.Sequential(nn.LeakyReLU(0.2), conv, *norm))
        self.style = nn.Sequential(nn.Linear(config.latent_dim, HIDDEN), nn.LeakyReLU(0.2))
        self.ups = nn.ModuleList()  # from the innermost
        for n in range(len(widths) - 1, -1, -1):
            wide = widths[n] if n == len(widths) - 1 else 2 * widths[n]
            self.ups.append(Modulated(wide, widths[max(n - 1, 0)]))
        self.head = nn.Conv2d(D, out_channels, 3, padding=1)
        learned = config.prior == "learned"
        self.prior = nn.Linear(widths[-1], 2 * config.latent_dim) if learned else None
        if self.prior is not None:  # N(0, 1) at first, whatever the source
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)

    def encode(self, source: Tensor) -> list[Tensor]:
        """What the decoder is joined to, from the outermost: (B, D, H/2, W/2) and so on."""
        found = []
        for down in self.downs:
            source = down(source)
            found.append(source)
        return found

    def decode(self, encoded: Sequence[Tensor], z: Tensor) -> Tensor:
        """(B, C', H, W) in [-1, 1]."""
        skips, style = list(encoded), self.style(z)
        x = self.ups[0](F.leaky_relu(skips.pop(), 0.2), style)
        for up in self.ups[1:]:
            x = up(torch.cat([x, F.leaky_relu(skips.pop(), 0.2)], 1), style)
        with torch.autocast(x.device.type, enabled=False):  # bf16 cannot hold 256 levels
            return torch.tanh(self.head(x.float()))

    def prior_of(self, encoded: Sequence[Tensor]) -> Tensor | None:
        """Mean and log variance of p(z | source), (B, 2 Z); None for N(0, 1)."""
        if self.prior is None:
            return None
        inner = F.leaky_relu(encoded[-1], 0.2).mean((2, 3))
        found: Tensor = self.prior(inner)
        return found.float()


class Posterior(nn.Module):
    """source (B, C, S, S), target (B, C', S, S) -> mean and log variance of q(z | source, target),
    (B, 2 Z). Not normalized, since z is to know the colors.
    """

    def __init__(self, config: Config, channels: int) -> None:
        super().__init__()
        D, layers = config.num_features, min(4, config.num_downs)
        widths = [channels, *(min(D * 2**n, 4 * D) for n in range(layers))]
        self.layers = nn.Sequential()
        for before, width in pairwise(widths):
            self.layers.extend([nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)])
        self.head = nn.Linear(widths[-1], 2 * config.latent_dim)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        x = self.layers(torch.cat([source, target], 1)).mean((2, 3))
        found: Tensor = self.head(x)
        return found.float()


class Model(PairedModule):
    """One evidence bound for both networks, one optimizer."""

    accepts = (PairSpec, UnpairedSpec, ImageSpec)
    averaged = ("translator", "posterior")
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        channels, out_channels, S = sizes(spec)
        super().__init__(config, spec, out_channels, S)
        multiple = 2**config.num_downs
        if S % multiple:
            raise InputError(
                f"data.image_size={S}: model.num_downs={config.num_downs} needs a multiple of "
                f"{multiple}",
                hint=f"try {max(1, round(S / multiple)) * multiple}, or a smaller num_downs",
            )
        if config.feature_weight and config.features == "none":
            raise InputError(
                f"model.feature_weight={config.feature_weight}: model.features names no network",
                hint="try model.features=random:vgg16",
            )
        self.multiple = multiple
        self.translator = Translator(config, channels, out_channels)
        self.posterior = Posterior(config, channels + out_channels)

    @property
    def reference_count(self) -> tuple[int, int]:  # type: ignore[override]
        """Where sources are made from images, one can be given to say what z is."""
        return (0, 0) if isinstance(self.spec, PairSpec) else (0, 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return fused_adam(self.parameters(), c.lr, c.betas)

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if isinstance(self.spec, PairSpec):
            return batch["source"], batch["target"]
        target = batch["b" if isinstance(self.spec, UnpairedSpec) else "image"]
        return self.reduced(target), target

    def reduced(self, image: Tensor) -> Tensor:
        """The source made from images of the domain (B, C, H, W): (B, 1, H, W)."""
        return reduced(image, self.config.source_from, self.config.blur)

    def loss(self, batch: Batch) -> Terms:
        c = self.config
        source, target = self.pairs(batch)
        encoded = self.translator.encode(source)
        q, p = self.posterior(source, target), self.translator.prior_of(encoded)
        p = torch.zeros_like(q) if p is None else p
        made = self.translator.decode(encoded, drawn(q, self.randn(len(q), c.latent_dim)))
        # Both sides of the divergence learn, but free bits are free for the posterior only.
        kl = kl_divergence(q, p.detach())
        kl_loss = (kl.clamp(min=c.free_bits) + kl_divergence(q.detach(), p)).sum(1).mean()
        l1 = (made - target).abs().mean()
        terms = {"loss": l1 + c.kl_weight * kl_loss, "l1": l1, "kl": kl.sum(1).mean()}
        if c.feature_weight:
            terms["feature"] = perceptual_distance(self.features, made, target).mean()
            terms["loss"] = terms["loss"] + c.feature_weight * terms["feature"]
        return terms

    def health(self, means: dict[str, float]) -> list[str]:
        return ["z is not used"] if means.get("kl", 1.0) < 0.01 else []

    @property
    def defaults(self) -> Options:
        return Options()

    def answers(self, batch: Batch, options: Section) -> Tensor:
        assert isinstance(options, Options)
        source = self.pairs(batch)[0]
        encoded = self.translator.encode(source)
        z = self._z(encoded, options.temperature, self.val_noise(len(source)))
        return self.translator.decode(encoded, z)

    def _z(self, encoded: Sequence[Tensor], temperature: float, noise: SampleNoise) -> Tensor:
        """z (n, Z) from the prior given the sources; their spread times `temperature`."""
        eps = temperature * noise.randn(self.config.latent_dim).to(encoded[0].device)
        p = self.translator.prior_of(encoded)
        return eps if p is None else drawn(p, eps)

    def sample(
        self,
        noise: SampleNoise,
        options: Section,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """(C, H, W) -> (n, C', H, W), each with a z of its own, or all with that of a reference."""
        assert given is not None
        assert isinstance(options, Options)
        source = options.brought(given[None])
        source = source if isinstance(self.spec, PairSpec) else self.reduced(source)
        # z is for a whole image of the size trained with, whatever is translated.
        z = self._z(self.translator.encode(self._fitted(source)), options.temperature, noise)
        for reference in references:
            domain = self._fitted(reference[None])
            q = self.posterior(self.reduced(domain), domain)
            eps = options.temperature * noise.randn(self.config.latent_dim).to(q.device)
            z = drawn(q, eps)

        S = self.target_mean.shape[-1]

        def answer(z: Tensor) -> Tensor:
            def net(part: Tensor) -> Tensor:
                made: Tensor = self.translator.decode(self.translator.encode(part), z)
                return made

            return options.apply(
                net, source, multiple=self.multiple, norms=self.translator, learned=S
            )

        return torch.cat([answer(row[None]) for row in z])

    def _fitted(self, image: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, C, S, S)."""
        size = self.target_mean.shape[-2:]
        if image.shape[-2:] == size:
            return image
        return F.interpolate(image, size=size, mode="bilinear", antialias=True)


class Options(SizedOptions):
    """What `aigc sample` may set."""

    temperature: float = Field(1.0, ge=0, le=4)
    """Spread of z: 1 as learned, less for likelier answers, 0 for the one in the middle."""


def sizes(spec: Spec) -> tuple[int, int, int]:
    """Channels of source and target, and their side; without pairs sources have one channel."""
    if isinstance(spec, PairSpec):
        return spec.source_channels, spec.target_channels, spec.image_size
    assert isinstance(spec, (UnpairedSpec, ImageSpec))
    return 1, spec.channels, spec.image_size


def drawn(gaussian: Tensor, eps: Tensor) -> Tensor:
    """Mean and log variance (B or 1, 2 Z), noise (B, Z) -> z (B, Z)."""
    mu, logvar = gaussian.chunk(2, 1)
    return mu + eps * (logvar.clamp(-10, 10) / 2).exp()


def kl_divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of Gaussians given as mean and log variance (B, 2 Z), in nats: (B, Z)."""
    mu_q, logvar_q = q.chunk(2, 1)
    mu_p, logvar_p = p.chunk(2, 1)
    logvar_q, logvar_p = logvar_q.clamp(-10, 10), logvar_p.clamp(-10, 10)
    squares = (logvar_q - logvar_p).exp() + (mu_q - mu_p).square() * (-logvar_p).exp()
    return (squares - 1 + logvar_p - logvar_q) / 2


def reduced(image: Tensor, how: Reduction, blur: int) -> Tensor:
    """Images (B, C, H, W) to what is left of them, (B, 1, H, W) in [-1, 1], without their
    brightness and contrast, in which photographs and paintings differ.
    """
    luma = as_channels(image, 1)
    if how == "blur":
        size = luma.shape[-2:]
        small = [max(1, round(side / blur)) for side in size]
        luma = F.interpolate(luma, size=small, mode="bilinear", antialias=True)
        luma = F.interpolate(luma, size=size, mode="bicubic")
    if how == "edges":
        padded = F.pad(luma, (1, 1, 1, 1), mode="replicate")
        across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        along = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        luma = (across.square() + along.square() + 1e-12).sqrt()
    var, mean = torch.var_mean(luma, (2, 3), correction=0, keepdim=True)
    return ((luma - mean) / (2.5 * (var + 1e-4).sqrt())).clamp(-1, 1)

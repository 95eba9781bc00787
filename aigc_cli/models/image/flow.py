"""Flow matching: images by following a learned velocity from noise, in a few steps.

Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, https://arxiv.org/abs/2210.02747,
on the straight paths of Liu, Gong and Liu, "Flow Straight and Fast", ICLR 2023,
https://arxiv.org/abs/2209.03003: x_t = (1 - t) noise + t image, whose velocity is
image - noise. Classes by classifier-free guidance, Ho and Salimans, 2022,
https://arxiv.org/abs/2207.12598; times from a logistic normal, Esser et al., 2024,
https://arxiv.org/abs/2403.03206; preconditioning, Karras et al., NeurIPS 2022,
https://arxiv.org/abs/2206.00364; noise assigned to images by optimal transport within the batch,
Tong et al., TMLR 2024, https://arxiv.org/abs/2302.00482. The network is the U-Net of Dhariwal and
Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021,
https://arxiv.org/abs/2105.05233.

A patch_size above 1 is Hoogeboom, Heek and Salimans, "simple diffusion", ICML 2023,
https://arxiv.org/abs/2301.11093.

Differs from the papers:
* the smallest noise has exactly no variance, where Lipman et al. keep sigma_min = 1e-5;
* resolutions change by plain convolutions, not inside residual blocks, as in Ho et al., 2020;
* layers that begin at zero there begin at 1e-5 of the usual size, as in Karras et al., 2022;
* the last step of every solver is Euler's, as in Karras et al., 2022;
* guidance counts the conditional model as 1 (Ho and Salimans: 0);
* optimal transport assigns within what one device computes at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.norm import GroupNorm
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.sampling.ode import SOLVERS, euler, uniform_times
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec

GOLDEN = (5**0.5 - 1) / 2

DIAL = Dial(
    goals=("generate",),
    sizes=tuple(
        {
            "data.image_size": side, "model.num_features": D, "model.multipliers": [1, 2],
            "model.patch_size": 2, "model.num_blocks": blocks,
        }
        for side, D, blocks in ((32, 32, 1), (32, 64, 1), (64, 64, 2))
    ),
    steps=1500,
    always={
        "model.time_sampling": "logit_normal", "model.lr": 1e-3, "trainer.global_batch": 64,
        "trainer.clip_norm": 1.0,
    },
    rank=2,
)  # fmt: skip


class Config(Section):
    """The network, how times and noise are drawn, and the optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "num_features": 8,
        "multipliers": (1, 2),
        "num_blocks": 1,
        "attention": (4,),
    }

    num_features: int = Field(64, gt=0, le=1024)
    """Channels at the first level, which has the full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 2)
    """Channels of each level as multiples of `num_features`; each level halves the resolution."""
    patch_size: int = Field(1, gt=0, le=16)
    """Side of the blocks of pixels that become the channels of one place: 2 needs a quarter of the
    time of 1, at some cost in detail.
    """
    num_blocks: int = Field(2, gt=0, le=16)
    """Residual blocks of each level on the way down; one more on the way up."""
    attention: tuple[int, ...] = ()
    """Levels, by their side in places, whose blocks are followed by self-attention: [16, 8]; the
    middle of the network always has one.
    """
    head_dim: int = Field(64, gt=0)
    """Channels of one head of attention."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Part of the features that is zeroed inside each residual block."""
    conditional: bool = True
    """Learn the classes of the images, where the data has any."""
    label_dropout: float = Field(0.1, ge=0, le=1)
    """Part of the images whose class is hidden, so that guidance has something to lean on."""
    time_sampling: Literal["uniform", "logit_normal"] = "uniform"
    """Times to learn at: all alike, or more in the middle, where the velocity is hardest to tell.
    """
    time_mean: float = Field(0.0, ge=-5, le=5)
    """logit_normal: mean of the logit of the times; above 0 for more times near the image."""
    time_std: float = Field(1.0, gt=0, le=5)
    """logit_normal: standard deviation of that logit."""
    sigma_data: float = Field(0.0, ge=0, le=2)
    """Root mean square of the images' values in [-1, 1], 0.5 for photographs; with it the network
    is preconditioned: it need not pass the noise on, and gives the image where all is noise and the
    noise where all is image. 0: it gives the velocity itself.
    """
    coupling: Literal["independent", "ot"] = "independent"
    """ot: give each image of the batch the noise that makes all paths shortest together."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment."""

    @model_validator(mode="after")
    def _has_levels(self) -> Config:
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError("multipliers must name one or more levels of 1 or more")
        return self


def _small(layer: nn.Conv2d) -> nn.Conv2d:
    """The last layer of a branch: it begins almost at zero, but passes a gradient."""
    nn.init.xavier_uniform_(layer.weight, gain=1e-5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(math.gcd(channels, 32), channels)


class ResidualBlock(nn.Module):
    """(B, D, H, W) and embedding (B, E) -> (B, D', H, W); the embedding scales and shifts."""

    def __init__(self, width: int, out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(width), _norm(out)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1)
        self.affine = nn.Linear(embedding, 2 * out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _small(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.affine(emb)[:, :, None, None].chunk(2, dim=1)  # each (B, D', 1, 1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self.conv2(self.dropout(F.silu(h)))
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """x + self-attention over all pixels, (B, D, H, W) -> same."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads = max(1, width // head_dim)
        self.norm = _norm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = _small(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, D, H, W = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, 3, self.heads, D // self.heads, H * W)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, H W, D / heads)
        h = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = x + self.out(h.transpose(-1, -2).reshape(B, D, H, W))
        return out


class Stage(nn.Module):
    """A residual block, and attention where asked for."""

    def __init__(
        self, config: Config, width: int, out: int, embedding: int, *, attends: bool
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(width, out, embedding, config.dropout)
        self.attention = Attention(out, config.head_dim) if attends else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        out: Tensor = self.attention(self.block(x, emb))
        return out


class UNet(nn.Module):
    """Velocity (B, C, S, S) at x (B, C, S, S), t (B,) in [0, 1] and label (B,), of which the number
    after the last class stands for no class.
    """

    def __init__(self, config: Config, spec: ImageSpec, num_classes: int) -> None:
        super().__init__()
        self.patch_size = P = config.patch_size
        D, S, C = config.num_features, spec.image_size // P, spec.channels * P * P
        widths = [D * m for m in config.multipliers]
        E = 4 * D
        self.frequencies = D
        self.time = nn.Sequential(nn.Linear(D, E), nn.SiLU(), nn.Linear(E, E))
        self.label = nn.Embedding(num_classes + 1, E) if num_classes else None
        self.head = nn.Conv2d(C, D, 3, padding=1)

        down: list[nn.Module] = []
        width, skips = D, [D]
        for level, out in enumerate(widths):
            if level:
                down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(config.num_blocks):
                down.append(Stage(config, width, out, E, attends=S >> level in config.attention))
                skips.append(out)
                width = out
        up: list[nn.Module] = []
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(config.num_blocks + 1):
                attends = S >> level in config.attention
                up.append(Stage(config, width + skips.pop(), out, E, attends=attends))
                width = out
            if level:
                conv = nn.Conv2d(width, width, 3, padding=1)
                up.append(nn.Sequential(nn.Upsample(scale_factor=2.0), conv))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        last = widths[-1]
        self.middle = nn.ModuleList(
            [
                Stage(config, last, last, E, attends=True),
                Stage(config, last, last, E, attends=False),
            ]
        )
        self.tail = nn.Sequential(
            _norm(width), nn.SiLU(), _small(nn.Conv2d(width, C, 3, padding=1))
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        emb = self.time(sinusoids(1000 * t, self.frequencies))
        if self.label is not None:
            emb = emb + self.label(label)
        emb = F.silu(emb)  # (B, E)
        x = self.head(F.pixel_unshuffle(x, self.patch_size))
        skips = [x]
        for layer in self.down:
            x = layer(x, emb) if isinstance(layer, Stage) else layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, emb)
        for layer in self.up:
            if isinstance(layer, Stage):
                x = layer(torch.cat([x, skips.pop()], dim=1), emb)
            else:
                x = layer(x)
        v = F.pixel_shuffle(self.tail(x), self.patch_size)
        return v.float()


class Model(ImageModule):
    """Mean squared error of the velocity, Adam; samples by solving an ordinary differential
    equation.
    """

    accepts = (ImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"flow_loss": "min"}
    averaged = ("net",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, ImageSpec)
        multiple = config.patch_size * 2 ** (len(config.multipliers) - 1)
        if spec.image_size % multiple:
            raise InputError(
                f"model: {len(config.multipliers)} multipliers and patch_size {config.patch_size} "
                f"need a multiple of {multiple} pixels, data.image_size is {spec.image_size}",
                hint="change data.image_size, or take fewer multipliers",
            )
        self.shape = (spec.channels, spec.image_size, spec.image_size)
        self.conditional = config.conditional and spec.labels is not None
        self.num_classes = len(spec.labels or ()) if self.conditional else 0
        self.net = UNet(config, spec, self.num_classes)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return fused_adam(self.net.parameters(), c.lr, c.betas)

    def loss(self, batch: Batch) -> Terms:
        c, x1 = self.config, batch["image"]
        B = len(x1)
        x0 = self.randn(B, *self.shape)
        if c.coupling == "ot":
            x0 = x0[optimal_assignment(x0, x1)]
        t = self.rand(B)
        if c.time_sampling == "logit_normal":
            t = (c.time_mean + c.time_std * self.randn(B)).sigmoid()
        label = batch["label"] if self.conditional else None
        if label is not None:
            label = label.masked_fill(self.rand(B) < c.label_dropout, self.num_classes)
        return {"loss": self._error(x0, x1, t, label).mean()}

    def _error(self, x0: Tensor, x1: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """Mean squared error of the velocity of each item, (B,)."""
        x_t = torch.lerp(x0, x1, t[:, None, None, None])
        return (self.velocity(x_t, t, label) - (x1 - x0)).square().flatten(1).mean(1)

    def velocity(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """v at x (B, C, S, S) and t (B,). With `sigma_data` it is the best linear guess from x and
        t alone plus the network's answer, in units of that guess's error (Karras et al. 2022,
        table 1, for these paths).
        """
        if not (sigma := self.config.sigma_data):
            v: Tensor = self.net(x, t, label)
            return v
        time = t[:, None, None, None]
        variance = (sigma * time).square() + (1 - time).square()  # of x
        guess = x * (sigma**2 * time - (1 - time)) / variance
        scale = variance.rsqrt()
        return guess + sigma * scale * self.net(scale * x, t, label)

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        x1 = batch["image"]
        noise = self.val_noise(len(x1))
        x0 = noise.randn(*self.shape).to(x1)
        t = torch.tensor(
            [(number + 0.5) * GOLDEN % 1 for number in noise.numbers],  # evenly spread
            dtype=x1.dtype,
            device=x1.device,
        )
        return {"flow_loss": self._error(x0, x1, t, batch["label"] if self.conditional else None)}

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """Images (n, C, S, S) in [-1, 1], of the classes that `labels_of` names."""
        x = noise.randn(*self.shape).to(self.device)
        label = self.labels_of(options, noise.first, noise.count)
        w = options.guidance

        def velocity(x: Tensor, t: float) -> Tensor:
            time = x.new_full((len(x),), t)
            if label is None or w == 1:
                return self.velocity(x, time, label)
            none = torch.full_like(label, self.num_classes)
            if w == 0:
                return self.velocity(x, time, none)
            both = self.velocity(x.repeat(2, 1, 1, 1), time.repeat(2), torch.cat([none, label]))
            v_none, v_label = both.chunk(2)
            return torch.lerp(v_none, v_label, w)

        # The last step goes straight to what the model takes for the image: at the end of the path
        # hardly anything was learned, and a second look from there leaves specks.
        *times, end = uniform_times(options.steps)
        x = SOLVERS[options.solver](velocity, x, times)
        return euler(velocity, x, [times[-1], end]).clamp(-1, 1)


class Options(Section):
    """What `aigc sample` may set."""

    steps: int = Field(20, gt=0, le=10_000)
    """Steps from noise to image; heun and midpoint look twice in each."""
    solver: Literal["euler", "midpoint", "heun"] = "heun"
    """How to step; euler needs about twice the steps for the same error."""
    guidance: float = Field(1.0, ge=0, le=100)
    """How much the class counts: 1 as learned, more for typical images, 0 for any class."""
    label: str | None = None
    """Class of all samples, by name or number; each in turn when not given."""


def sinusoids(x: Tensor, count: int) -> Tensor:
    """(B,) -> (B, count): cosines and sines of wavelengths 2 pi to 10,000 times 2 pi (Vaswani et
    al., 2017); the last is zero when count is odd.
    """
    half = count // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=x.device) / max(1, half))
    phase = x[:, None] * rates
    return F.pad(torch.cat([phase.cos(), phase.sin()], dim=1), (0, count - 2 * half))


def optimal_assignment(x0: Tensor, x1: Tensor) -> Tensor:
    """Which row of x0 (B, ...) belongs to each row of x1 (B, ...), (B,): the permutation with the
    smallest sum of squared distances.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(x1.flatten(1).float(), x0.flatten(1).float()).square()
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(columns).to(x0.device)

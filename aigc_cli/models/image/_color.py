"""What the families that color gray images share: the statistics of the training colors, the
measures, and chroma of model size on luminance of full size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import DataError, Problem, RecipeError
from aigc_cli.media.lab import lab_to_rgb, rgb_to_lab
from aigc_cli.metrics.image.auc import auc
from aigc_cli.metrics.image.colorfulness import colorfulness
from aigc_cli.models._base import Batch
from aigc_cli.models._image import ImageModule
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.border import BORDER, bordered
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec

STEP = 10
"""Side of a bin of the ab plane."""
GRAY = 5.0
"""Where neither a nor b ever exceeds this, an image has no color (Zhang et al., their code)."""
SIGMA = 5.0
"""Standard deviation of the Gaussian that smooths the prior."""
RAREST = 0.01
"""A bin is never taken to be rarer than this fraction of 1 / Q: few images leave many empty."""
STRIP = 512
"""Rows of a large image that are converted at once."""
LEAST_PICTURES = 32
"""So many training images without any color are no accident."""


class ColorizationOptions(Section):
    """What `aigc sample` may set in every family that colors images."""

    size: int | None = Field(None, ge=8, le=2048)
    """Shorter side, in pixels, at which chroma is predicted; that of training when not given.
    Luminance always keeps the full size.
    """


@lru_cache(maxsize=1)
def gamut() -> Tensor:
    """Centers (Q, 2) of the bins of the ab plane that some sRGB color of any lightness falls into.

    Enumerates the faces of the RGB cube: the lightest and the darkest color of a given chroma lie
    there. Q is 261. The file that Zhang et al. published has 313 centers, those around the gamut
    among them; they say not how it came about, and a class that no image has is only ever a
    distractor.
    """
    level = torch.linspace(-1, 1, 256, device="cpu")  # also where models are built on meta
    u, v = torch.meshgrid(level, level, indexing="ij")
    faces = [
        torch.stack(torch.broadcast_tensors(*planes))
        for w in (level[:1], level[-1:])
        for planes in ((w, u, v), (u, w, v), (u, v, w))
    ]
    ab = torch.cat([rgb_to_lab(face)[1:].flatten(1) for face in faces], dim=1)
    return STEP * (ab / STEP).round().unique(dim=1).T.contiguous()


class ColorizationModule(ImageModule):
    """Base of these families; each writes `chroma`.

    Three buffers count the colors of the first `prior_steps` steps, over all devices, and are part
    of the checkpoint: `histogram` (Q,) the pixels of each bin, `chroma_sum` (2,) a and b in 256ths,
    `images` (2,) all and those with color. They are integers, so that neither the number of
    devices nor the order matters.
    """

    accepts = (ImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "auc": "max",
        "auc_rebalanced": "max",
        "psnr_rgb": "max",
        "colorfulness": "max",
    }
    takes = "image"
    needs_color = True
    prior_steps: int
    bins: Tensor
    table: Tensor
    histogram: Tensor
    chroma_sum: Tensor
    pictures: Tensor

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, ImageSpec)
        if spec.channels != 3:
            problem = "gray images for a color recipe"
            raise RecipeError([Problem(problem, key="data.channels", hint="set data.channels=3")])
        self.size = spec.image_size
        bins = gamut()
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("table", _table(bins), persistent=False)
        self.register_buffer("histogram", torch.zeros(len(bins), dtype=torch.int64))
        self.register_buffer("chroma_sum", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("pictures", torch.zeros(2, dtype=torch.int64))

    @abstractmethod
    def chroma(self, L: Tensor, options: Section) -> Tensor:
        """Lightness (B, 1, h, w) in [0, 100] -> a and b (B, 2, h', w') for the same image."""

    # Statistics of the training colors.

    def before_step(self, batch: Batch) -> None:
        if self.step < self.prior_steps:
            self.count(batch["image"])

    @torch.no_grad()
    def count(self, images: Tensor) -> None:
        """Add the colors of this device's share of a batch, and that of all others.

        Raises:
            DataError: no training image so far has any color.
        """
        ab = rgb_to_lab(images)[:, 1:]
        colored = has_color(ab).sum()
        row = torch.cat(
            [
                torch.bincount(self.nearest(ab).flatten(), minlength=len(self.bins)),
                (256 * ab).round().long().sum((0, 2, 3)),
                torch.stack([torch.full_like(colored, len(ab)), colored]),
            ]
        )
        total = self.all_gather(row[None]).sum(0)
        for buffer, part in zip(
            (self.histogram, self.chroma_sum, self.pictures),
            total.split([len(self.bins), 2, 2]),
            strict=True,
        ):
            buffer += part
        before, now = (int(self.pictures[0] - total[-2]), int(self.pictures[0]))
        if before < LEAST_PICTURES <= now and self.pictures[1] == 0:
            raise DataError(
                f"data.train: gray images for a color recipe, no color in the first {now}",
                hint="name photographs in color",
            )

    def nearest(self, ab: Tensor) -> Tensor:
        """Number (B, H, W) of the bin of each color in ab (B, 2, H, W)."""
        a, b = (ab / STEP).round().long().clamp(-_REACH, _REACH).unbind(1)
        return self.table[a + _REACH, b + _REACH]

    def prior(self) -> Tensor:
        """Probability (Q,) of each bin in the training images, smoothed with a Gaussian; uniform
        before any was counted.
        """
        count = self.histogram.double()
        if count.sum() == 0:
            return torch.full_like(count, 1 / len(count)).float()
        kernel = torch.exp(-torch.cdist(self.bins, self.bins).square() / (2 * SIGMA**2)).double()
        smooth = (kernel / kernel.sum(0)) @ (count / count.sum())
        smooth = smooth.clamp_min(RAREST / len(smooth))
        return (smooth / smooth.sum()).float()

    def class_weights(self, uniform: float) -> Tensor:
        """Weights (Q,) inverse to the prior mixed with a uniform one, of mean 1 under the prior
        (equation 4); `uniform` is the paper's lambda.
        """
        p = self.prior()
        w = 1 / ((1 - uniform) * p + uniform / len(p))
        return w / (p * w).sum()

    def mean_chroma(self) -> Tensor:
        """Mean a and b (2,) of the training images."""
        return (self.chroma_sum.double() / 256 / self.histogram.sum().clamp_min(1)).float()

    # Measures.

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return self.measure(batch, self.options())

    def measure(self, batch: Batch, options: Section) -> dict[str, Tensor]:
        """AuC and PSNR of the colored images as they would be written, before rounding."""
        L = rgb_to_lab(batch["image"])[:, :1]
        return self._compare(L, self._full(self.chroma(L, options), L), batch["image"])

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        L = rgb_to_lab(batch["image"])[:, :1]
        mean = self.mean_chroma().view(1, 2, 1, 1)
        answers = {"gray": torch.zeros_like(mean), "mean color": mean}
        return {
            name: self._compare(L, ab.expand(len(L), 2, *L.shape[-2:]), batch["image"])
            for name, ab in answers.items()
        }

    @abstractmethod
    def options(self) -> Section:
        """The family's `Options` with their defaults."""

    def _compare(self, L: Tensor, ab: Tensor, target: Tensor) -> dict[str, Tensor]:
        made = lab_to_rgb(torch.cat([L, ab], dim=1))
        made_ab, true_ab = rgb_to_lab(made)[:, 1:], rgb_to_lab(target)[:, 1:]
        weight = self.class_weights(uniform=0.0)[self.nearest(true_ab)]
        error = ((made - target) / 2).square().mean((1, 2, 3))
        return {
            "auc": auc(made_ab, true_ab),
            "auc_rebalanced": auc(made_ab, true_ab, weight),
            "psnr_rgb": -10 * error.clamp_min(1e-10).log10(),  # 100 dB at most
            "colorfulness": colorfulness(made),
        }

    # Images of any size.

    def sample(
        self,
        noise: SampleNoise,
        options: Section,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """Color a gray or color image (1 or 3, H, W) in [-1, 1] -> (n, 3, H, W).

        Only its lightness is used, and kept but for colors that sRGB does not have. Chroma is
        predicted from the image reduced as training images are, so that memory is that of the
        result. Deterministic: all n are equal.
        """
        assert given is not None
        assert isinstance(options, ColorizationOptions)
        rgb = given.float().expand(3, -1, -1).to(self.device)
        small = _reduced(rgb[None], options.size or self.size)
        L = rgb_to_lab(small)[:, :1]
        border = 0 if L.shape[-2:] == (self.size, self.size) else BORDER
        ab = bordered(lambda x: self._full(self.chroma(x, options), x), L, border)
        ab = self._full(ab, rgb)[0]
        if torch.compiler.is_exporting():  # a graph of any height has no loop over strips
            made = lab_to_rgb(torch.cat([rgb_to_lab(rgb)[:1], ab]))
            return made.expand(noise.count, -1, -1, -1)
        out = torch.empty_like(rgb)
        for top in range(0, rgb.shape[1], STRIP):
            rows = slice(top, top + STRIP)
            L = rgb_to_lab(rgb[:, rows])[:1]
            out[:, rows] = lab_to_rgb(torch.cat([L, ab[:, rows]]))
        return out.expand(noise.count, -1, -1, -1)

    @staticmethod
    def _full(ab: Tensor, like: Tensor) -> Tensor:
        size = like.shape[-2:]
        return F.interpolate(ab.float(), size=size, mode="bilinear", align_corners=False)


def has_color(ab: Tensor) -> Tensor:
    """Whether a or b exceeds 5 anywhere in each image: (B, 2, H, W) -> (B,)."""
    return (ab.abs() > GRAY).flatten(1).any(1)


def _reduced(images: Tensor, shorter: int) -> Tensor:
    """(1, 3, H, W) with the shorter side given and the longer at most four times it."""
    H, W = images.shape[-2:]
    whole = max(4 * min(H, W), max(H, W))  # of which 4 * shorter is left; in whole numbers, for
    size = [max(8, (8 * shorter * side + whole) // (2 * whole)) for side in (H, W)]  # graphs
    if size == [H, W]:
        return images
    small = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
    return small.clamp_(-1, 1)


_REACH = 12


def _table(bins: Tensor) -> Tensor:
    """Number of the nearest bin for every cell of the plane, (25, 25)."""
    line = torch.arange(-_REACH, _REACH + 1.0, device="cpu") * STEP
    cells = torch.cartesian_prod(line, line)
    return torch.cdist(cells, bins).argmin(1).view(len(line), len(line))

"""The metrics that compare a picture with its reference, by the names that people type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError, InputError, did_you_mean
from aigc_cli.metrics.color import rgb_to_y
from aigc_cli.metrics.psnr import psnr
from aigc_cli.metrics.ssim import ssim

if TYPE_CHECKING:
    from torch import Tensor, nn

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PairMetric:
    """A number for two 8-bit pictures (H, W, 1 or 3), gray counting as R = G = B.

    `formula` gets both as (H, W, 3) after the border is cut; perceptual metrics cut none. `prepare`
    raises at once what `compute` would raise for want of weights.
    """

    name: str
    higher_is_better: bool
    unit: str
    protocol: str
    formula: Callable[[Pixels, Pixels], float]
    smallest: int = 1
    cuts_border: bool = True
    prepare: Callable[[], object] = lambda: None

    def describe(self, border: int) -> str:
        """The protocol, without which the number is no result."""
        return self.protocol.format(border=border)

    def compute(self, preds: Pixels, target: Pixels, border: int, *, name: str = "") -> float:
        """Compare; `border` pixels on every side are left out, `name` opens error messages.

        Raises:
            DataError: the sizes differ, or too little is left to compare.
            MissingError, CheckpointError: the weights that it needs are absent or damaged.
        """
        place = f"{name}: " if name else ""
        sizes = [f"{p.shape[1]} x {p.shape[0]}" for p in (preds, target)]
        if sizes[0] != sizes[1]:
            raise DataError(f"{place}{sizes[0]} pixels, but its reference has {sizes[1]}")
        border = border if self.cuts_border else 0
        least = self.smallest + 2 * border
        if min(preds.shape[:2]) < least:
            raise DataError(
                f"{place}{sizes[0]} pixels, {self.name} needs {least} x {least} or more"
            )
        H, W = preds.shape[:2]
        x, y = (
            np.broadcast_to(p, (H, W, 3))[border : H - border, border : W - border]
            for p in (preds, target)
        )
        return self.formula(x, y)


def _lpips(preds: Pixels, target: Pixels) -> float:
    return _distance(_lpips_network(), preds, target, lowest=-1.0)


def _dists(preds: Pixels, target: Pixels) -> float:
    return _distance(_dists_network(), preds, target, lowest=0.0)


def _no_extractor(preds: Pixels, target: Pixels) -> float:
    raise InputError("perceptual needs an extractor", hint="see `seen_by`")


def seen_by(
    metric: PairMetric, stamp: str, distance: Callable[[Tensor, Tensor], Tensor]
) -> PairMetric:
    """`perceptual` in the network called `stamp`; all others as they are.

    distance: (1, 3, H, W) twice, in [-1, 1] -> (1,).
    """
    if metric.name != "perceptual":
        return metric

    def formula(preds: Pixels, target: Pixels) -> float:
        from aigc_cli.media.image import to_tensor

        return float(distance(to_tensor(preds)[None], to_tensor(target)[None]))

    protocol = f"as LPIPS without learned weights, stages of {stamp}, RGB, 8 bit, whole picture"
    return replace(metric, protocol=protocol, formula=formula)


def _auc(preds: Pixels, target: Pixels) -> float:
    from aigc_cli.media.image import to_tensor
    from aigc_cli.media.lab import rgb_to_lab
    from aigc_cli.metrics.colorization import auc

    ab = [rgb_to_lab(to_tensor(pixels))[None, 1:] for pixels in (preds, target)]
    return float(auc(*ab))


def _colourfulness(preds: Pixels, target: Pixels) -> float:
    from aigc_cli.media.image import to_tensor
    from aigc_cli.metrics.colorization import colourfulness

    return float(colourfulness(to_tensor(preds)[None]))


@lru_cache(maxsize=1)
def _lpips_network() -> nn.Module:
    from aigc_cli.metrics.lpips import LPIPS

    return LPIPS("alex")


@lru_cache(maxsize=1)
def _dists_network() -> nn.Module:
    from aigc_cli.metrics.dists import DISTS

    return DISTS()


def _distance(network: nn.Module, preds: Pixels, target: Pixels, *, lowest: float) -> float:
    import torch

    def tensor(pixels: Pixels) -> Tensor:
        """(1, 3, H, W) from `lowest` to 1."""
        unit = torch.from_numpy(pixels.astype(np.float32) / 255)
        return (unit * (1 - lowest) + lowest).permute(2, 0, 1)[None]

    with torch.inference_mode():
        return float(network(tensor(preds), tensor(target)))


_Y = "Y of MATLAB BT.601 (16-235, rounded), 8 bit, border {border}"
_RGB = "RGB, 8 bit, border {border}"
_WINDOW = "11x11 Gaussian window (sigma 1.5), valid area, K1 0.01, K2 0.03"

METRICS: dict[str, PairMetric] = {
    metric.name: metric
    for metric in (
        PairMetric(
            name="psnr_y",
            higher_is_better=True,
            unit="dB",
            protocol=f"{_Y}, peak 255",
            formula=lambda x, y: psnr(rgb_to_y(x), rgb_to_y(y)),
        ),
        PairMetric(
            name="ssim_y",
            higher_is_better=True,
            unit="",
            protocol=f"{_Y}, {_WINDOW}",
            formula=lambda x, y: ssim(rgb_to_y(x), rgb_to_y(y)),
            smallest=11,
        ),
        PairMetric(
            name="psnr_rgb",
            higher_is_better=True,
            unit="dB",
            protocol=f"{_RGB}, peak 255",
            formula=psnr,
        ),
        PairMetric(
            name="ssim_rgb",
            higher_is_better=True,
            unit="",
            protocol=f"{_RGB}, mean of channels, {_WINDOW}",
            formula=ssim,
            smallest=11,
        ),
        PairMetric(
            name="lpips",
            higher_is_better=False,
            unit="",
            protocol="LPIPS 0.1 with AlexNet, RGB, 8 bit, whole picture",
            formula=_lpips,
            smallest=31,
            cuts_border=False,
            prepare=_lpips_network,
        ),
        PairMetric(
            name="dists",
            higher_is_better=False,
            unit="",
            protocol="DISTS with VGG16, RGB, 8 bit, whole picture, not resized",
            formula=_dists,
            smallest=16,
            cuts_border=False,
            prepare=_dists_network,
        ),
        PairMetric(
            name="perceptual",
            higher_is_better=False,
            unit="",
            protocol="as LPIPS on the extractor's stages without learned weights, RGB, 8 bit",
            formula=_no_extractor,
            cuts_border=False,
        ),
        PairMetric(
            name="auc",
            higher_is_better=True,
            unit="%",
            protocol="area under the share of pixels within d in ab of Lab (D65), d to 150, 8 bit",
            formula=_auc,
            cuts_border=False,
        ),
        PairMetric(
            name="colourfulness",
            higher_is_better=True,
            unit="",
            protocol="Hasler and Suesstrunk 2003, of the made picture alone, RGB, 8 bit",
            formula=_colourfulness,
            cuts_border=False,
        ),
    )
}

GROUPS: dict[str, tuple[str, ...]] = {
    "psnr": ("psnr_y", "psnr_rgb"),
    "ssim": ("ssim_y", "ssim_rgb"),
}
"""Names that stand for several metrics."""


def resolve(names: Iterable[str]) -> list[PairMetric]:
    """The metrics behind names and groups, each once, in the order given.

    Raises:
        InputError: a name is unknown.
    """
    chosen: dict[str, PairMetric] = {}
    for name in names:
        if name not in METRICS and name not in GROUPS:
            hint = did_you_mean(name, [*METRICS, *GROUPS])
            raise InputError(f"unknown metric {name!r}", hint=hint)
        for member in GROUPS.get(name, (name,)):
            chosen[member] = METRICS[member]
    return list(chosen.values())

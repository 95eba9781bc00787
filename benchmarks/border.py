"""What super-resolution makes of the outer pixels, by what lies beyond the border of the image.

    aigc train edsr_small_x2 "data.train=[t91,bsds500_train]" data.val=set5 --out runs/edsr
    python -m benchmarks.border runs/edsr/checkpoints/last.ckpt kodak set5

Three crops of 96 x 96 pixels of each image, halved bicubically; PSNR of RGB over the outer 4
pixels of all crops together, and over those inside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.data._sources import open_source
from aigc_cli.media.image import Pixels, from_tensor, to_tensor
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.run.trained import load_trained
from aigc_cli.sampling.border import mirrored

SIDE, RING = 96, 4


def crops(folders: list[str]) -> list[Pixels]:
    """(SIDE, SIDE, 3) each."""
    source, random, found = open_source(folders), np.random.default_rng(0), []
    for number in range(len(source)):
        pixels = source.read(number).as_bits(8).as_channels(3).pixels
        for _ in range(3):
            y, x = (int(random.integers(0, side - SIDE)) for side in pixels.shape[:2])
            found.append(pixels[y : y + SIDE, x : x + SIDE])
    return found


def psnr(made: list[Pixels], truth: list[Pixels]) -> tuple[float, float]:
    """Of the outer RING pixels and of the others, in dB."""
    outer = np.ones((SIDE, SIDE), bool)
    outer[RING:-RING, RING:-RING] = False
    error = np.square(np.stack(made).astype(float) - np.stack(truth))
    ring, inside = (10 * np.log10(255**2 / error[:, part].mean()) for part in (outer, ~outer))
    return float(ring), float(inside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("images", nargs="+", type=str)
    words = parser.parse_args()
    torch.set_num_threads(1)
    model = load_trained(str(Path(words.checkpoint)), device="cpu").model
    net, scale = model.net, model.scale
    truth = crops(words.images)
    lows = [resize_bicubic(pixels, scale=1 / scale) for pixels in truth]

    def continued(how: str, border: int) -> Callable[[Tensor], Tensor]:
        sides = (border, border)

        def fn(low: Tensor) -> Tensor:
            pad = mirrored(low, sides, sides) if how == "mirror" else F.pad(low, 2 * sides, how)
            cut = scale * border
            made: Tensor = net(pad)
            return made[..., cut : made.shape[-2] - cut, cut : made.shape[-1] - cut]

        return fn

    ways = {f"{how} {n}": continued(how, n) for how in ("replicate", "reflect", "mirror")
            for n in (2, 4, 8, 16)}  # fmt: skip
    rows = {"bicubic": [resize_bicubic(low, scale=scale) for low in lows]}
    with torch.no_grad():
        for name, fn in {"nothing": net, **ways}.items():
            rows[name] = [from_tensor(fn(to_tensor(low)[None])[0]) for low in lows]
    for name, made in rows.items():
        ring, inside = psnr(made, truth)
        print(f"{name:<12}  ring {ring:.2f} dB  inside {inside:.2f} dB")


if __name__ == "__main__":
    main()

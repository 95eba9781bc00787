"""What `aigc augment` costs on images beside a plain torchvision loop that writes files too.

    python -m benchmarks.augment

Both read the same PNG files of 64 x 64 pixels, vary each image by rotation, scale, shear, shift,
brightness, contrast, saturation, hue and noise, and write a PNG. The peer is ImageFolder with
torchvision's v2 transforms behind a DataLoader, and keeps no record; ours also has digests, the
list of origins and the journal. CPU time of one process, segments interleaved, medians; the ratio
is above 1 when aigc is faster.

Then the whole command with one worker process and with two, by the clock, and beside it what the
machine allows: two peers at once, each over all images, against one alone. Where two threads share
a core neither can become twice as fast.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from aigc_cli.data._sources import open_source
from aigc_cli.run.augment import augment
from aigc_cli.run.augmenting import Augmenting

ROUNDS, IMAGES, SIDE = 5, 120, 64
TIMES = 8  # how often each image is varied where processes are compared


def cut_photographs(folder: Path) -> None:
    """IMAGES squares of the built-in photographs, in two classes."""
    source = open_source("builtin:photos")
    for number in range(IMAGES):
        pixels = source.read(number % len(source)).as_channels(3).as_bits(8).pixels
        top, left = (
            (37 * number) % (pixels.shape[0] - SIDE),
            (91 * number) % (pixels.shape[1] - SIDE),
        )
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[top : top + SIDE, left : left + SIDE]).save(place / f"{number}.png")


def ours(data: Path, out: Path) -> float:
    """CPU seconds for IMAGES new items, without those that copy and open the source."""
    ends: list[float] = []

    def told(done: int, of: int) -> None:
        if done in (of - IMAGES, of):
            ends.append(time.process_time())

    asked = Augmenting(str(data), out, val=str(data.parent / "val"), workers=0, overwrite=True)
    augment(asked, told=told)
    return ends[1] - ends[0]


def plain(data: Path, out: Path) -> float:
    """CPU seconds of the loop that one writes by hand."""
    vary = v2.Compose([
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 5, v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(0.15, 0.15, 0.1, 0.02), v2.GaussianNoise(0, 0.01), v2.ToPILImage(),
    ])  # fmt: skip
    loader = DataLoader(ImageFolder(str(data), vary), batch_size=16, shuffle=True, collate_fn=list)
    begun, number = time.process_time(), 0
    for batch in loader:
        for image, label in batch:
            place = out / "ab"[label]
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{number}.png")
            number += 1
    return time.process_time() - begun


def in_processes(data: Path, out: Path, workers: int) -> float:
    """Seconds of the whole command for TIMES new items of each image."""
    begun = time.perf_counter()
    val = str(data.parent / "val")
    augment(Augmenting(str(data), out, val=val, factor=1 + TIMES, workers=workers, overwrite=True))
    return time.perf_counter() - begun


def peers(data: Path, out: Path, count: int) -> float:
    """Seconds of `count` plain loops at once, each TIMES over all images."""
    begun = time.perf_counter()
    forked = multiprocessing.get_context("fork")
    loops = [forked.Process(target=_loops, args=(data, out / str(n))) for n in range(count)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    return time.perf_counter() - begun


def _loops(data: Path, out: Path) -> None:
    for _ in range(TIMES):
        plain(data, out)


def main() -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        cut_photographs(place / "data")
        for label, color in (("a", 10), ("b", 90)):
            (place / "val" / label).mkdir(parents=True)
            Image.new("RGB", (SIDE, SIDE), (color, 0, 0)).save(place / "val" / label / "0.png")
        data, o, p = place / "data", place / "o", place / "p"
        rounds = [(ours(data, o), plain(data, p)) for _ in range(ROUNDS)]
        clock = [
            (
                in_processes(data, o, 1),
                in_processes(data, o, 2),
                peers(data, p, 1),
                peers(data, p, 2),
            )
            for _ in range(ROUNDS)
        ]
    aigc, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    scaling = [one / two for one, two, _, _ in clock]
    limit = [2 * alone / both for _, _, alone, both in clock]
    return {
        "benchmark": "augment", "images": IMAGES, "side": SIDE, "threads": 1,
        "aigc_images_per_cpu_s": round(IMAGES / aigc, 1),
        "torchvision_images_per_cpu_s": round(IMAGES / peer, 1),
        "ratio": round(peer / aigc, 3),
        "ratios": [round(b / a, 3) for a, b in rounds],
        "two_workers": round(statistics.median(scaling), 2),
        "two_workers_all": [round(ratio, 2) for ratio in scaling],
        "two_peers": round(statistics.median(limit), 2),
        "two_peers_all": [round(ratio, 2) for ratio in limit],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main()))

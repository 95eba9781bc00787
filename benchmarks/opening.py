"""CPU time of opening a folder of images, here and in another checkout, turn by turn.

    git worktree add before d58ee36
    python -m benchmarks.opening before [--images 8000] [--runs 3]

PNG of 32 px in eight folders; "first" has an empty cache, so that every image is decoded, "again"
finds what the check before it saw. Each opening is a process of its own, timed after its imports.
The ratio is that of the medians; the range is of the ratios of neighboring runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

OPEN = """
import os, sys
from pathlib import Path
import aigc_cli.run.train
from aigc_cli.registry import load_data_kind
try:
    from aigc_cli.run.build import freeze_imports
except ImportError:
    freeze_imports = lambda: None
kind = load_data_kind("images")
config = kind.Config(kind="images", train=sys.argv[1], image_size=32)
begin = os.times()
freeze_imports()
kind.Data(config, seed=0, bases=(Path.cwd(),))
print(sum(os.times()[:4]) - sum(begin[:4]))
"""


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % 8}" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(place)


def seconds(tree: Path, images: Path, cache: Path) -> float:
    env = {**os.environ, "PYTHONPATH": str(tree), "AIGC_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(images)], env=env, cwd=images, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--runs", type=int, default=3)
    words = parser.parse_args()
    trees = {"before": words.before.absolute(), "now": Path(__file__).absolute().parents[1]}
    taken: dict[str, list[tuple[float, float]]] = {"first": [], "again": []}
    print(f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores, {words.runs} runs")
    with TemporaryDirectory() as place:
        images, cache = Path(place, "images"), Path(place, "cache")
        images.mkdir()
        draw(images, words.images)
        for _ in range(words.runs):
            shutil.rmtree(cache, ignore_errors=True)
            for pairs in taken.values():
                old, new = (seconds(tree, images, cache / name) for name, tree in trees.items())
                pairs.append((old, new))
    for name, pairs in taken.items():
        old, new = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{name}: {new:.2f} s, before {old:.2f} s: {old / new:.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()

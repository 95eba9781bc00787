"""Shards beside a folder of the same images: items a second, time until the first item, and memory.

    python benchmarks/shards.py [--images 1000 1000000]

Images are PNG of 16 x 16 pixels in ten classes. Each figure is of a process of its own with one
thread and an empty cache; folder and shards take turns, three times, and the median counts. The
folder stops at 10,000 files: its first scan decodes all, which was done when shards were made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SIZES = [1_000, 10_000, 100_000, 1_000_000]
FOLDER_MOST = 10_000
READ = 900  # items of a pass, the first of an epoch in the order of training
CHILD = """
import json, sys, time
start = time.perf_counter()
from aigc_cli.data.images import Config, Data
loaded = time.perf_counter()
place, cache = sys.argv[1:3]
data = Data(Config(train=place, image_size=16, cache=cache), seed=0)
from aigc_cli.data._stream import key_at
data.train[key_at(0, 0, len(data.train))]
first = time.perf_counter()
def memory():
    rows = dict(line.split(":") for line in open("/proc/self/status"))
    return int(rows["RssAnon"].split()[0]) / 1e3
count = min(int(sys.argv[3]), len(data.train) - 1)
keys = [key_at(0, p, len(data.train)) for p in range(1, count + 1)]
begin = time.perf_counter()
for key in keys:
    data.train[key]
rate = count / (time.perf_counter() - begin)
print(json.dumps({"start_s": first - loaded, "items_s": rate, "anon_mb": memory()}))
"""


def png(number: int) -> bytes:
    import io

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(number % 4096)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def make_shards(folder: Path, count: int) -> float:
    """Straight from memory: a folder of a million files would take longer than all else."""
    from aigc_cli.data._check import _decode_all
    from aigc_cli.data._shards import Item, ShardWriter
    from aigc_cli.data._sources import FileSource

    files = [png(number) for number in range(min(count, 4096))]
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place, f"{n}.png") for n in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        source = FileSource(paths, [path.name for path in paths])
        source.max_pixels = 1 << 20
        seen = _decode_all(source, range(len(files)))
    facts = [vars(one) for one in seen]
    folder.mkdir()
    begin = time.perf_counter()
    with ShardWriter(folder, 64_000_000) as writer:
        for number in range(count):
            name = f"{number * 10 // count}/{number:07d}.png"
            writer.add(Item(name, files[number % len(files)], facts[number % len(files)]))
        writer.finish("image", "benchmark", {})
    return time.perf_counter() - begin


def make_folder(folder: Path, count: int) -> None:
    for number in range(count):
        path = folder / f"{number * 10 // count}/{number:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))


def measured(place: Path, cache: Path | str) -> dict[str, float]:
    """Of a fresh process."""
    words = [sys.executable, "-c", CHILD, str(place), str(cache), str(READ)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args().images
    print(f"{os.cpu_count()} threads of the machine, load {os.getloadavg()[0]:.1f}")
    print("items      source  start s   items/s   anonymous MB   made in s")
    with tempfile.TemporaryDirectory() as work:
        for count in sizes:
            shards, folder = Path(work, f"shards-{count}"), Path(work, f"folder-{count}")
            took = {"shards": make_shards(shards, count)}
            places = {"shards": shards}
            if count <= FOLDER_MOST:
                make_folder(folder, count)
                places["folder"] = folder
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in places}
            for turn in range(3 if count < 1_000_000 else 2):
                for name, place in places.items():
                    rows[name].append(measured(place, Path(work, f"cache-{name}-{count}-{turn}")))
            for name, found in rows.items():
                start, rate, anon = (
                    median(row[key] for row in found) for key in ("start_s", "items_s", "anon_mb")
                )
                made = f"{took[name]:9.1f}" if name in took else "        -"
                row = f"{count:9,}  {name:6}  {start:7.2f}  {rate:8,.0f}   {anon:12.0f}   {made}"
                print(row, flush=True)


if __name__ == "__main__":
    main()

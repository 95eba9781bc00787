"""What `aigc` costs before it works: seconds of CPU of whole processes, `import torch` among them.

RUN is a run of edsr_demo, or of another family that super-resolves. It works on one image of 32
pixels, so nearly all of it is start-up.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._sides import Skip
from benchmarks.metrics import cpu_seconds

ROUNDS = int(os.environ.get("ROUNDS", "3"))


def main() -> dict[str, Any]:
    if not (run := os.environ.get("RUN")):
        raise Skip("RUN names no run of edsr_demo")
    aigc, run = ["-m", "aigc_cli"], str(Path(run).absolute())
    commands = {
        "import_torch": ["-c", "import torch"],
        "sample": [*aigc, "sample", run, "--input", "images", "--out", "made", "--overwrite"],
        "evaluate": [*aigc, "evaluate", run, "--data", "images"],
        "evaluate_texts": [*aigc, "evaluate", "--generated", "a.txt", "--reference", "a.txt",
                           "-m", "rouge"],
        "wrong_file": [*aigc, "sample", run, "--input", "nowhere.png"],
        "wrong_key": [*aigc, "evaluate", run, "tyle=3"],
        "wrong_name": [*aigc, "evaluate", run, "-m", "psnrr"],
        "wrong_data": [*aigc, "train", "edsr_demo", "data.train=nowhere"],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        (Path(folder) / "images").mkdir()
        Image.fromarray(pixels).resize((32, 32)).save(Path(folder) / "images/a.png")
        (Path(folder) / "a.txt").write_text("a text\n")
        rounds = [
            {name: cpu_seconds(words, folder, check=False) for name, words in commands.items()}
            for _ in range(ROUNDS)
        ]
    seconds = {name: statistics.median(row[name] for row in rounds) for name in commands}
    above = {name: seconds[name] - seconds["import_torch"] for name in ("sample", "evaluate")}
    rows = {name: round(value, 2) for name, value in seconds.items()}
    return {
        "benchmark": "benchmarks.start", "rounds": ROUNDS, "cpu_s": rows,
        "above_torch_s": {name: round(value, 2) for name, value in above.items()},
        "load": os.getloadavg()[0],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main()))

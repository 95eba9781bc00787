"""Super-resolution of a whole image, here and in another checkout, turn by turn.

    git worktree add before 9168f9b
    python -m benchmarks.super_resolution before --run runs/edsr_demo/latest

EDSR-baseline x2 with new weights, or with `--run` a trained one, on 510 x 340 pixels, one thread,
seconds of CPU: as a whole and in tiles of 256 with an overlap of 16. The ratio is that of the
medians; the range is of the ratios of neighboring runs. Only trained weights say which precision
is exact enough: those of random ones add rounding up.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from aigc_cli.run.checkpoint import load_checkpoint

WAYS = {"whole": 0, "tiles of 256": 256}
WORKER = """
import sys, time, torch
from aigc_cli.models.image.edsr import Config, Model, Options
try:
    from aigc_cli.specs.image import SuperResolutionSpec
except ImportError:
    from aigc_cli.specs import SuperResolutionSpec
torch.set_num_threads(1)
torch.manual_seed(0)
blocks, features, weights = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
config = Config(num_blocks=blocks, num_features=features)
model = Model(config, SuperResolutionSpec(channels=3, scale=2)).eval()
if weights:
    from safetensors.torch import load_file
    model.load_state_dict(load_file(weights))
low = torch.randint(0, 256, (1, 3, 340, 510)) / 127.5 - 1
low = torch.nn.functional.avg_pool2d(low, 9, 1, 4)
low = ((low + 1) * 127.5).round() / 127.5 - 1
print(torch.get_num_threads(), flush=True)
for line in sys.stdin:
    options = Options(tile=int(line))
    start = time.process_time()
    if hasattr(model, "super_resolve"):
        model.super_resolve(low, options)
    else:
        model.sample(1, options, condition={"low": low})
    print(time.process_time() - start, getattr(model, "facts", ""), sep=";", flush=True)
"""


class Worker:
    """A process that runs the code of one checkout."""

    def __init__(self, tree: Path, sizes: Mapping[str, Any], weights: Path | None) -> None:
        env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", WORKER, str(sizes["num_blocks"]),
                str(sizes["num_features"]), str(weights or ""),
            ], env=env, cwd=tree, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def seconds(self, tile: int) -> tuple[float, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(tile, file=self.process.stdin, flush=True)
        time, _, facts = self.process.stdout.readline().partition(";")
        return float(time), facts.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--run", type=Path, help="a run of the family edsr, x2")
    words = parser.parse_args()
    with TemporaryDirectory() as folder:
        sizes, weights = {"num_blocks": 16, "num_features": 64}, None
        if words.run:
            state = load_checkpoint(words.run / "checkpoints/best.ckpt")
            sizes, weights = state["recipe"]["model"], Path(folder, "weights.safetensors")
            trained = state["ema"] or state["weights"]
            save_file({key: value.contiguous() for key, value in trained.items()}, weights)
        before = Worker(words.before, sizes, weights)
        now = Worker(Path(__file__).parents[1], sizes, weights)
    load = os.getloadavg()[0]
    print(f"1 thread, load {load:.1f} of {os.cpu_count()} cores, {words.runs} runs")
    for name, tile in WAYS.items():
        pairs, facts = [], ""
        for _ in range(words.runs):
            new, facts = now.seconds(tile)
            pairs.append((before.seconds(tile)[0], new))
        old, new = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{name}: {new:.2f} s, before {old:.2f} s: {old / new:.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) {facts}"
        )


if __name__ == "__main__":
    main()

"""Peak memory of tiled upscaled image of a 2040x1356 image x2, beside taking it whole.

Each runs in a process of its own with EDSR-baseline; the peak is above what the process held with
the model loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

HEIGHT, WIDTH = 1356, 2040


def measure(tile: int) -> dict[str, float]:
    """Run by the child process."""
    import resource
    import time

    import psutil
    import torch

    from aigc_cli.models.image.edsr import Config, Model, Options
    from aigc_cli.specs.image import SuperResolutionSpec

    model = Model(Config(), SuperResolutionSpec(channels=3, scale=2)).eval()
    low = torch.rand(1, 3, HEIGHT, WIDTH) * 2 - 1
    model.super_resolve(low[..., :32, :32], Options())
    before = psutil.Process().memory_info().rss
    begun = time.perf_counter()
    model.super_resolve(low, Options(tile=tile))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"gb": (peak - before) / 1e9, "seconds": time.perf_counter() - begun}


def main() -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, tile in (("tiled", 256), ("whole", 0)):
        code = f"import json, benchmarks.memory as m; print(json.dumps(m.measure({tile})))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        rows[name] = {k: round(v, 2) for k, v in json.loads(done.stdout).items()}
    rows["memory_ratio"] = round(rows["whole"]["gb"] / rows["tiled"]["gb"], 1)
    return {"benchmark": f"upscale {WIDTH}x{HEIGHT} x2, EDSR-baseline, CPU", **rows}

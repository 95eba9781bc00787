"""What the features of FID cost beside torch-fidelity's: the same network, weights, images and
precision, on random weights. Needs `pip install --no-deps torch-fidelity`.

Batches of the two are interleaved, since the speed of a shared machine drifts; the ratio is that of
the median seconds per batch, above 1 when aigc is faster. The features are compared as well.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aigc_cli.nn.fid_inception import FILES, FIDInception, fid_inception
from benchmarks._sides import Skip

ROUNDS = int(os.environ.get("ROUNDS", "8"))
BATCH = int(os.environ.get("BATCH", "16"))
SIDE = 32


def random_weights(folder: Path) -> Path:
    """A file of weights drawn so that no layer dies out."""
    torch.manual_seed(0)
    network = FIDInception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), folder / FILES[0])
    return folder / FILES[0]


def seconds(call: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    with torch.inference_mode():
        made = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun, made


def main() -> dict[str, Any]:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise Skip("needs pip install --no-deps torch-fidelity==0.4.0") from None

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        file = random_weights(Path(folder))
        ours = fid_inception(folder=Path(folder)).to(device)
        theirs = FeatureExtractorInceptionV3("inception", ["2048"], str(file)).eval().to(device)
    levels = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, device=device)
    images = levels.float() / 127.5 - 1
    times: dict[str, list[float]] = {"aigc": [], "torch-fidelity": []}
    calls = {
        "aigc": lambda: ours(images, ["pooled"])["pooled"],
        "torch-fidelity": lambda: theirs(levels)[0],
    }
    made: dict[str, Tensor] = {}
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            took, made[name] = seconds(call, device)
            times[name] += [took] if number else []  # the first warms up
    a, b = (statistics.median(times[name]) for name in calls)
    error = (made["aigc"] - made["torch-fidelity"]).abs().max() / made["aigc"].abs().max()
    return {
        "benchmark": f"features of FID, {BATCH} x {SIDE} px, fp32, {device}",
        "aigc_images_per_s": round(BATCH / a, 1),
        "torch_fidelity_images_per_s": round(BATCH / b, 1),
        "ratio": round(b / a, 3),
        "largest_relative_difference": float(f"{error:.1e}"),
        "batches": ROUNDS,
    }


if __name__ == "__main__":
    print(json.dumps(main()))

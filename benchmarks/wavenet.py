"""Samples a second of WaveNet, from its cache and naively, for 10 x 3 layers of 32 channels.

    OMP_NUM_THREADS=1 python -m benchmarks.wavenet

The naive loop evaluates the receptive field of each row again for every sample, as a plain
implementation does. Both run in turn, in processor time; `off` is the largest difference of what
they say of the same samples.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any

import torch

from aigc_cli.nn.wavenet import Cache, WaveNet

ROUNDS, CACHED, NAIVE = 5, 200, 2


@torch.inference_mode()
def main() -> dict[str, Any]:
    torch.manual_seed(0)
    dilations = [2**i for i in range(10)] * 3
    net = WaveNet(channels=32, skip=128, dilations=dilations, outputs=256, classes=0)
    found: dict[str, Any] = {"benchmark": "wavenet", "threads": torch.get_num_threads()}
    for B in (1, 16):
        y = torch.rand(B, net.receptive + CACHED) * 2 - 1
        start, seconds = net.receptive, {"cached": [], "naive": []}
        for _ in range(ROUNDS):
            cache = Cache(net, None, y[:, :start])
            begun = time.process_time()
            made = [cache.step(y[:, start + t]) for t in range(CACHED)]
            seconds["cached"].append((time.process_time() - begun) / CACHED)
            begun = time.process_time()
            naive = [net(y[:, t + 1 : start + t + 1])[:, -1] for t in range(NAIVE)]
            seconds["naive"].append((time.process_time() - begun) / NAIVE)
        off = max(float((a - b).abs().max()) for a, b in zip(made[:NAIVE], naive, strict=True))
        rates = {name: B / median(times) for name, times in seconds.items()}
        found[f"batch {B}"] = {
            "cached_samples_per_second": round(rates["cached"], 1),
            "naive_samples_per_second": round(rates["naive"], 1),
            "ratio": round(rates["cached"] / rates["naive"], 1),
            "off": off,
        }
    # Batched and cached beside what one would write first: one row at a time, naively.
    first, last = found["batch 1"], found["batch 16"]
    rate = last["cached_samples_per_second"] / first["naive_samples_per_second"]
    return {**found, "cached batch 16 over naive batch 1": round(rate, 1)}


if __name__ == "__main__":
    print(json.dumps(main()))

"""Run every benchmark and print its result as one JSON line."""

from __future__ import annotations

import json
import os
import platform

import torch

from benchmarks import data, memory, training


def main() -> None:
    where = {"cores": os.cpu_count(), "torch": torch.__version__, "machine": platform.machine()}
    print(json.dumps(where), flush=True)
    for benchmark in (training.main, memory.main, data.main):
        print(json.dumps(benchmark()), flush=True)


main()

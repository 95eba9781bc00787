"""Run every benchmark and print its result as one JSON line.

    make bench
    make bench PEERS=folder IDX=train-images-idx3-ubyte.gz TEXT=tinyshakespeare/train.txt \
        CORPUS=multi30k/train.en.gz RUN=runs/edsr_demo/latest

PEERS is a folder with the packages that two of them compare with:
pip install --no-deps --target PEERS torch-fidelity==0.4.0 pythae==0.1.2 cloudpickle scikit-learn
joblib threadpoolctl. IDX is what the VAE beside pythae learns, TEXT what the language model does,
CORPUS what measures of texts score, RUN what starts.
"""

from __future__ import annotations

import json
import os
import platform

import torch

from benchmarks import data, fid, image, memory, metrics, start, text, vae
from benchmarks._sides import Skip


def main() -> None:
    where = {"cores": os.cpu_count(), "torch": torch.__version__, "machine": platform.machine()}
    print(json.dumps(where), flush=True)
    for benchmark in (image, fid, vae, text, memory, data, metrics, start):
        try:
            found = benchmark.main()
        except Skip as reason:
            found = {"benchmark": benchmark.__name__, "skipped": str(reason)}
        print(json.dumps(found), flush=True)


main()

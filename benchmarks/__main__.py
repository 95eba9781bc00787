"""Run every benchmark and print its result as one JSON line.

    make bench
    make bench PEERS=folder IDX=train-images-idx3-ubyte.gz TEXT=tinyshakespeare/train.txt

PEERS is a folder with the packages that two of them compare with:
pip install --no-deps --target PEERS torch-fidelity==0.4.0 pythae==0.1.2 cloudpickle scikit-learn
joblib threadpoolctl. IDX is what the VAE beside pythae learns, TEXT what the language model does.
"""

from __future__ import annotations

import json
import os
import platform

import torch

from benchmarks import data, fid, image, memory, text, vae
from benchmarks._sides import Skip


def main() -> None:
    where = {"cores": os.cpu_count(), "torch": torch.__version__, "machine": platform.machine()}
    print(json.dumps(where), flush=True)
    for benchmark in (image.main, fid.main, vae.main, text.main, memory.main, data.main):
        try:
            found = benchmark()
        except Skip as reason:
            found = {"benchmark": benchmark.__module__, "skipped": str(reason)}
        print(json.dumps(found), flush=True)


main()

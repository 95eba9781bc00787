"""What measures of texts cost from the shell beside the command of the package they equal: seconds
of CPU of whole processes, the two in turn. CORPUS is a gzipped file with a text a line; its first
20,000 are the references, and without every fifth word the texts that are scored.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks._sides import Skip

ROUNDS = int(os.environ.get("ROUNDS", "3"))
LINES = 20_000
PEERS = {
    "bleu": ["-m", "sacrebleu", "ref.txt", "-i", "hyp.txt", "-m", "bleu", "--confidence"],
    "rouge": [
        "-m", "rouge_score.rouge", "--target_filepattern=ref.txt",
        "--prediction_filepattern=hyp.txt", "--output_filename=rouge.csv", "--use_stemmer=true",
        "--rouge_types=rouge1,rouge2,rougeL,rougeLsum",
    ],
}  # fmt: skip


def main() -> dict[str, Any]:
    if not (corpus := os.environ.get("CORPUS")):
        raise Skip("CORPUS names no gzipped file of texts")
    found: dict[str, Any] = {"benchmark": "benchmarks.metrics", "lines": LINES, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as folder, gzip.open(corpus, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in islice(file, LINES)]
        cut = (" ".join(w for i, w in enumerate(line.split(), 1) if i % 5) for line in lines)
        (Path(folder) / "ref.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (Path(folder) / "hyp.txt").write_text("\n".join(cut) + "\n", encoding="utf-8")
        for metric, peer in PEERS.items():
            ours = ["-m", "aigc_cli", "evaluate", "--generated", "hyp.txt", "--reference"]
            both = ([*ours, "ref.txt", "-m", metric], peer)
            times = [[cpu_seconds(words, folder) for words in both] for _ in range(ROUNDS)]
            aigc, theirs = (statistics.median(column) for column in zip(*times, strict=True))
            found[metric] = {"aigc_s": aigc, "peer_s": theirs, "ratio": theirs / aigc}
    return found


def cpu_seconds(words: list[str], folder: str, *, check: bool = True) -> float:
    """User and system time of `python WORDS`, to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *words], cwd=folder, check=check, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    print(json.dumps(main()))

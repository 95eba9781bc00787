"""Events a second that models of music write, with merged tokens and without; time of the grammar.

    OMP_NUM_THREADS=1 python -m benchmarks.merges RUN RUN ...

Pieces of eight bars, one at a time and 32 at once, in processor time, the runs in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import process_time
from typing import Any

from aigc_cli.media.merges import Merges
from aigc_cli.models.music._events import EventWriter
from aigc_cli.models.music.music_lm import Options
from aigc_cli.run.trained import load_trained
from aigc_cli.sampling.noise import SampleNoise

ROUNDS = {1: 5, 32: 3}


@contextmanager
def counting() -> Iterator[dict[str, float]]:
    """Tokens and events that are written, and seconds in the grammar."""
    found = {"tokens": 0.0, "events": 0.0, "grammar": 0.0}
    piece, allowed = EventWriter._piece, Merges.allowed

    def counted(self: EventWriter, prime: Any, written: list[int], *rest: Any) -> Any:
        found["tokens"] += len(written)
        found["events"] += len(self.merges.split(written))
        return piece(self, prime, written, *rest)

    def timed(self: Merges, grammar: Any) -> Any:
        begun = process_time()
        mask = allowed(self, grammar)
        found["grammar"] += process_time() - begun
        return mask

    EventWriter._piece, Merges.allowed = counted, timed  # type: ignore[method-assign]
    try:
        yield found
    finally:
        EventWriter._piece, Merges.allowed = piece, allowed  # type: ignore[method-assign]


def main(runs: list[str]) -> dict[str, Any]:
    models = {run: load_trained(run).model for run in runs}
    found: dict[str, dict[str, float]] = {run: {} for run in runs}
    for rows, rounds in ROUNDS.items():
        rates: dict[str, list[float]] = {run: [] for run in runs}
        for seed in range(rounds):
            for run, model in models.items():
                with counting() as count:
                    begun = process_time()
                    model.sample(SampleNoise(seed, 0, rows), Options(bars=8))
                    took = process_time() - begun
                rates[run].append(count["events"] / took)
                found[run][f"microseconds_of_grammar_{rows}"] = round(
                    1e6 * count["grammar"] / count["tokens"], 1
                )
        for run, values in rates.items():
            found[run][f"events_per_second_{rows}"] = round(median(values))
    return {"benchmark": "merges", "runs": found}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))

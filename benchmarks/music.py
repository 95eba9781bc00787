"""Music: files parsed beside pretty_midi, events written with and without a cache, and sound.

    OMP_NUM_THREADS=1 PEERS=folder MUSIC=pop909 python -m benchmarks.music

MUSIC is any source of MIDI files, by default the pieces that ship with aigc. PEERS is a folder with
pretty_midi (pip install --target PEERS pretty_midi). Parsing: the same files in one process, in
processor time, both sides in turn; what our data sets use beside it, with its processes, in time on
the clock. Events: those of the network of recipe music_lm_pop909 with random weights, the loop
without a cache as one writes it first. WaveNet has its own: benchmarks.wavenet.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from aigc_cli.data._music_files import files_in
from aigc_cli.media.events import Events
from aigc_cli.media.midi import read_midi
from aigc_cli.media.parsing import parse
from aigc_cli.media.synth import SAMPLE_RATE, _tone, render
from aigc_cli.models.music._network import build
from aigc_cli.nn.cached_lm import CachedLM, Prefix
from aigc_cli.recipe.load import load_recipe

ROUNDS, FILES, EVENTS, ROWS = 3, 40, 256, 16


def seconds(work: Callable[[], Any]) -> float:
    """Of processor time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def parsing() -> dict[str, Any]:
    """Files a second."""
    every = list(files_in(os.environ.get("MUSIC", "builtin:pop909:songs")))
    files = every[:FILES]
    sides: dict[str, Callable[[bytes], Any]] = {"aigc": lambda data: read_midi(data, "x")}
    if peers := os.environ.get("PEERS"):
        sys.path.append(peers)
        import pretty_midi

        sides["pretty_midi"] = lambda data: pretty_midi.PrettyMIDI(io.BytesIO(data))
    times: dict[str, list[float]] = {name: [] for name in sides}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(ROUNDS):
            for name, side in sides.items():
                times[name].append(seconds(lambda side=side: [side(data) for _, data in files]))
    found: dict[str, Any] = {"files": len(files)}
    found |= {f"{n}_files_per_second": round(len(files) / median(t), 1) for n, t in times.items()}
    if "pretty_midi" in times:
        found["ratio"] = round(median(times["pretty_midi"]) / median(times["aigc"]), 1)
    list(parse(files[:4]))  # starts the processes
    begun = time.monotonic()
    count = len(list(parse(every)))
    found["in_processes_files_per_second"] = round(count / (time.monotonic() - begun), 1)
    return found


@torch.inference_mode()
def writing() -> dict[str, Any]:
    """Events a second."""
    torch.manual_seed(0)
    recipe: Any = load_recipe("music_lm_pop909")
    net = build(recipe.model, Events(4, 4).offsets["size"], recipe.data.context).eval()
    cached = CachedLM(net)

    def with_cache(rows: int) -> torch.Tensor:
        tokens, prefix = torch.ones(rows, 1, dtype=torch.long), Prefix()
        made = [tokens]
        for _ in range(EVENTS):
            made.append(cached(made[-1], prefix).argmax(-1, keepdim=True))
        return torch.cat(made, 1)

    def without(rows: int) -> torch.Tensor:
        tokens = torch.ones(rows, 1, dtype=torch.long)
        for _ in range(EVENTS):
            tokens = torch.cat([tokens, net(tokens)[:, -1].argmax(-1, keepdim=True)], 1)
        return tokens

    found: dict[str, Any] = {"events": EVENTS, "same": bool((with_cache(1) == without(1)).all())}
    times: dict[str, list[float]] = {"cached": [], "uncached": [], "cached_batch": []}
    for _ in range(ROUNDS):
        times["cached"].append(seconds(lambda: with_cache(1)))
        times["uncached"].append(seconds(lambda: without(1)))
        times["cached_batch"].append(seconds(lambda: with_cache(ROWS)) / ROWS)
    rates = {name: EVENTS / median(values) for name, values in times.items()}
    found |= {f"{name}_events_per_second": round(rate, 1) for name, rate in rates.items()}
    found["ratio"] = round(rates["cached"] / rates["uncached"], 1)
    found[f"ratio_batch_{ROWS}"] = round(rates["cached_batch"] / rates["uncached"], 1)
    return found


def sounding() -> dict[str, Any]:
    """The synthesizer in times real time, on a minute in four parts."""
    rows = [
        [beat * 240, 240, pitch + beat * 5 % 12, program, 90]
        for beat in range(240)
        for pitch, program in ((72, 72), (64, 68), (55, 60), (43, 32))
    ]
    notes, times = np.array(rows, np.int64), []
    for _ in range(ROUNDS):
        _tone.cache_clear()  # what a new process has to compute
        times.append(seconds(lambda: render(notes, 60 / 120 / 480)))
    length = len(render(notes, 60 / 120 / 480)) / SAMPLE_RATE
    return {"seconds_of_music": round(length, 1), "times_real_time": round(length / median(times))}


def main() -> dict[str, Any]:
    return {
        "benchmark": "music", "threads": torch.get_num_threads(),
        "parsing": parsing(), "writing": writing(), "synthesizer": sounding(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main()))

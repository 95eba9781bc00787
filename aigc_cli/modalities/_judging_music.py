"""What an evaluation needs to know of music: what a model writes stands beside held-out pieces of
as many bars, and beside what a Markov chain writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from aigc_cli.media.events import Events, Grammar, Music
from aigc_cli.media.frames import KEYS, music_of
from aigc_cli.media.merges import merges_of
from aigc_cli.metrics._things import Corpus, Pair, Sets
from aigc_cli.modalities import _judging
from aigc_cli.modalities._judging import MOST, Drawn, Listed, Trial
from aigc_cli.sampling.markov import Markov
from aigc_cli.specs.music import FramesSpec, MusicSpec

LONGEST = 4096  # events that a chain writes


class Judging(_judging.Judging):
    """Pieces on a grid."""

    usual = ("pitch_class_entropy", "scale_consistency", "groove_consistency", "empty_beat_rate")

    def made_corpus(self, trial: Trial) -> Corpus:
        drawn = Drawn(self, trial, trial.limit or trial.count or self.modality.usual_count)
        names = [f"sample-{number:05d}" for number in range(len(drawn))]
        at_once = max(trial.batch_size, 1)

        @lru_cache(maxsize=1)
        def several(first: int) -> Sequence[Music]:
            return drawn.read(range(first, min(first + at_once, len(drawn))))

        def read(number: int) -> Music:
            return several(number // at_once * at_once)[number % at_once]

        beside: dict[str, Callable[[int], Music]] = {}
        data = trial.open_data()
        if real := stretches_of(data, "data.val", _bars(trial), len(drawn)):
            beside["real"] = lambda number: real[number % len(real)]
        if chain := chain_of(data, _bars(trial) or 8):
            beside["markov"] = chain
        return Written(names, read, beside)

    def made_sets(self, trial: Trial) -> Sets:
        data, bars = trial.open_data(), _bars(trial)
        count = trial.count or MOST
        real = stretches_of(data, "data.val", bars, count)
        val = Listed(real, f"{trial.recipe.name}, validation part, {bars or 'all'} bars each")
        reference: Any = val
        if trial.references and (named := trial.references[-1]) != "val":
            from pathlib import Path

            reference, _ = self.open_set(Path(named), "--reference", trial.reading, None)
        learned = data.music.get("data.train", ())
        train = Listed(learned, f"{trial.recipe.name}, training part") if learned else None
        drawn = Drawn(self, trial, trial.count or min(len(reference), MOST))
        return Sets(drawn, reference, train=train, held_out=val, made=True)


class Written(Corpus):
    """What a model writes, and what stands beside each of it."""

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Music],
        beside: Mapping[str, Callable[[int], Music]],
    ) -> None:
        super().__init__(names, read, has_references=False)
        self.beside = beside

    def pairs(self) -> Iterator[Pair]:
        for number, name in enumerate(self.names):
            others = {key: other(number) for key, other in self.beside.items()}
            yield Pair(name, self.read(number), None, others)


def _bars(trial: Trial) -> int:
    """Of what the model writes; 0 where it ends pieces itself."""
    asked = getattr(trial.recipe.sample, "bars", None)
    return int(getattr(trial.model.spec, "bars", 0) if asked is None else asked)


def stretches_of(data: Any, key: str, bars: int, most: int) -> list[Music]:
    """The pieces of a part in stretches of so many bars with notes, evenly many of each up to
    `most`; whole for 0.
    """
    pieces: Sequence[Music] = data.music.get(key, ())
    if not bars:
        return list(pieces)[:most]
    parts = [
        part
        for music in pieces
        for first in range(0, music.bars - bars + 1, bars)
        if len((part := music.bars_from(first, bars)).notes)
    ]
    chosen = np.linspace(0, len(parts) - 1, min(most, len(parts))).round().astype(int)
    return [parts[number] for number in chosen]


def chain_of(data: Any, bars: int) -> Callable[[int], Music] | None:
    """What writes piece number n of so many bars by a Markov chain of the training pieces: of two
    events under the grammar, or of each key by itself; None for other kinds of data.
    """
    spec = data.spec
    if isinstance(spec, FramesSpec):
        return lambda number: _frames(spec, bars, number)
    if not isinstance(spec, MusicSpec) or not data.val.chains:
        return None
    events = merges_of(spec).events
    chain: Markov = data.val.chains[-1]
    return lambda number: _events(chain, events, bars, number)


def _events(chain: Markov, events: Events, bars: int, number: int) -> Music:
    random, grammar = np.random.default_rng(number), Grammar(events)
    row: list[int] = []
    grammar.left = bars
    while len(row) < LONGEST and (not row or row[-1] != events.offsets["end"]):
        p = chain.after(np.array(row[-chain.order :], np.int64)) * grammar.allowed()
        row.append(int(random.choice(len(p), p=p / p.sum())))
        grammar.read(row[-1:])
    return events.decode(row)


def _frames(spec: FramesSpec, bars: int, number: int) -> Music:
    random, markov = np.random.default_rng(number), np.array(spec.markov).reshape(2, KEYS)
    frames = np.zeros((bars * spec.resolution * spec.beats_per_bar, KEYS), np.bool_)
    p = np.array(spec.unigram)
    for frame in frames:
        frame[:] = random.random(KEYS) < p
        p = np.where(frame, markov[1], markov[0])
    return music_of(frames, spec.resolution, spec.beats_per_bar, spec.tempo)

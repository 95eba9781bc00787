"""Rows of events as rows of tokens: one event each, or several that often follow each other.

Byte pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909) of music, as Fradet et
al., 2023, https://arxiv.org/abs/2301.11975, do, by the same library. Events are the first tokens.
Nothing is merged beyond its bar, nor what stands before, between or behind the bars, so a bar has
the same tokens wherever it stands, and conditions, holes and the end are tokens of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from aigc_cli.media.events import Events, Grammar
from aigc_cli.specs.music import MusicSpec

BASE = 0xF0000  # code point of event 0: for private use
LEAST = 2  # occurrences of a pair that is merged
ANY = 1 << 30  # above all that a piece can have


class Needs(NamedTuple):
    """What the events of each token behind its first ask of those before the token, (V,) each."""

    position: NDArray[np.int64]
    """A position before this one."""
    pitch: NDArray[np.int64]
    """A pitch below this one."""
    instrument: NDArray[np.int64]
    """An instrument before this one."""
    other: NDArray[np.int64]
    """An instrument that is not this one."""
    some: NDArray[np.int64]
    """An instrument of at least this number: 0 where a pitch has that of the note before."""


class Merges:
    """The tokens of a grid; `pairs` are the two tokens of each merge, one after the other."""

    def __init__(self, events: Events, pairs: Sequence[int] = ()) -> None:
        self.events, self.pairs = events, tuple(pairs)
        self.spelled: list[tuple[int, ...]] = [(n,) for n in range(events.offsets["size"])]
        """The events of each token."""
        known = set(self.spelled)
        for a, b in zip(pairs[::2], pairs[1::2], strict=True):
            if (whole := self.spelled[a] + self.spelled[b]) not in known:
                self.spelled.append(whole)
                known.add(whole)
        self.first = np.array([token[0] for token in self.spelled])
        self.lengths = np.array([len(token) for token in self.spelled])

    @classmethod
    def learn(cls, events: Events, rows: Iterable[Sequence[int]], size: int) -> Merges:
        """The most frequent, until there are `size` tokens or no pair occurs twice."""
        engine = Merges(events)._engine
        alphabet = [_text([event]) for event in range(events.offsets["size"])]
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=LEAST, initial_alphabet=alphabet, show_progress=False
        )
        engine.train_from_iterator(map(_text, rows), trainer)
        model = json.loads(engine.to_str())["model"]
        return cls(events, [model["vocab"][part] for pair in model["merges"] for part in pair])

    @cached_property
    def _engine(self) -> Engine:
        names = [_text(token) for token in self.spelled]
        pairs = zip(self.pairs[::2], self.pairs[1::2], strict=True)
        engine = Engine(
            models.BPE(
                {name: number for number, name in enumerate(names)},
                [(names[a], names[b]) for a, b in pairs],
            )
        )
        at = self.events.offsets
        bar, first, last = (_text([event]) for event in (at["bar"], at["position"], at["size"] - 1))
        words = Regex(f"{bar}?[{first}-{last}]+|.")
        engine.pre_tokenizer = pre_tokenizers.Split(words, "isolated")
        return engine

    def merged(self, row: Sequence[int]) -> list[int]:
        """The tokens of a row of whole bars."""
        return self._engine.encode(_text(row)).ids if self.pairs else list(row)

    def split(self, tokens: Iterable[int]) -> list[int]:
        """The events of a row of tokens."""
        return [event for token in tokens for event in self.spelled[token]]

    def allowed(self, grammar: Grammar) -> NDArray[np.bool_]:
        """(V,): True for each token whose events may come next, one after the other."""
        first = grammar.allowed()
        if not self.pairs:
            return first
        needs = self._needs
        return (
            first[self.first]
            & (needs.position > grammar.position)
            & (needs.pitch > grammar.pitch)
            & (needs.instrument > grammar.instrument)
            & (needs.other != grammar.instrument)
            & (needs.some <= grammar.instrument)
        )

    @cached_property
    def _needs(self) -> Needs:
        needs = Needs(*(np.full(len(self.spelled), n) for n in (ANY, ANY, ANY, -2, -1)))
        for number, token in enumerate(self.spelled):
            # What an event sets anew, those behind it no longer ask of what is before the token.
            asks, before = {"position", "pitch", "instrument"}, ""
            for kind, value in map(self.events.kind_of, token):
                if before and kind == "position" and "position" in asks:
                    needs.position[number] = value
                elif before and kind == "instrument" and "instrument" in asks:
                    (needs.other if before == "position" else needs.instrument)[number] = value
                elif before and kind == "pitch" and "pitch" in asks:
                    needs.pitch[number] = value
                elif before == "position" and kind == "pitch" and "instrument" in asks:
                    needs.some[number] = 0
                asks -= {kind, *(("pitch",) if kind in ("position", "instrument") else ())}
                asks -= {"position", "instrument"} if kind == "bar" else set()
                before = kind
        return needs


def merges_of(spec: MusicSpec) -> Merges:
    """The tokens of a model."""
    events = Events(spec.resolution, spec.beats_per_bar, len(spec.labels))
    return Merges(events, spec.merges)


def _text(row: Sequence[int]) -> str:
    """A row of events as the library reads it: a character each."""
    return (np.asarray(row, np.uint32) + BASE).astype("<u4").tobytes().decode("utf-32-le")

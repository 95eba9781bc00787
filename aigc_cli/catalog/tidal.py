"""Drum patterns of TidalCycles: Haskell modules in, MIDI files out.

A voice is written as a cycle, "[t ~ t ~] [~ ~ ~ ~]": its groups are beats, what stands in a group
shares its time equally, `t` is a hit, and groups nest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

TICKS = 480  # of a beat
NOTES = {
    "bd": 36, "sn": 38, "rm": 37, "cp": 39, "ch": 42, "oh": 46, "lt": 45, "mt": 47, "ht": 50,
    "cy": 49, "cb": 56, "cow": 56, "cl": 75, "sh": 70,
}  # fmt: skip
"""Of General MIDI; `ac` is no drum, but says where the others are loud."""
SOFT, LOUD = 84, 112
USUAL = 120  # beats a minute where the module says 1 a second, its default
VOICE = re.compile(r'^(\w+)\s*=\s*"([^"]*)"\s*::\s*Pattern Bool', re.MULTILINE)

Tree = str | list["Tree"]


def drum_patterns(source: Path, out: Path) -> None:
    """A MIDI file for each module that has a pattern, in the folder train."""
    from symusic import Note, Score, Tempo, Track

    (out / "train").mkdir()
    for path in sorted(source.glob("*.hs")):
        text = path.read_text("utf-8")
        hits = {name: set(_hits(_tree(cycle))) for name, cycle in VOICE.findall(text)}
        loud = hits.pop("ac", set())
        notes = sorted(
            (round(beat * TICKS), NOTES[name], LOUD if beat in loud else SOFT)
            for name, beats in hits.items()
            for beat in beats
        )
        if not notes:
            continue
        second = re.search(r"^bps\s*=\s*([\d.]+)", text, re.MULTILINE)
        pace = float(second[1]) if second else 1.0
        score: Any = Score(TICKS)
        score.tempos.append(Tempo(0, qpm=USUAL if pace == 1 else 60 * pace))
        track: Any = Track("drums", 0, True)
        for time, pitch, velocity in notes:
            track.notes.append(Note(time, TICKS // 8, pitch, velocity))
        score.tracks.append(track)
        score.dump_midi(out / "train" / f"{path.stem}.mid")


def _tree(cycle: str) -> list[Tree]:
    """
    Raises:
        ValueError: the brackets do not match.
    """
    groups: list[list[Tree]] = [[]]
    for mark in re.findall(r"[\[\]t~]", cycle):
        if mark == "[":
            groups.append([])
        elif mark == "]":
            groups[-2].append(groups[-1])
            groups.pop()
        else:
            groups[-1].append(mark)
    (whole,) = groups
    return whole


def _hits(groups: list[Tree]) -> Iterator[Fraction]:
    """The beats of the hits; the groups are beats."""

    def inside(node: Tree, start: Fraction, length: Fraction) -> Iterator[Fraction]:
        if node == "t":
            yield start
        elif isinstance(node, list) and node:
            part = length / len(node)
            for number, child in enumerate(node):
                yield from inside(child, start + number * part, part)

    yield from inside(groups, Fraction(0), Fraction(len(groups)))

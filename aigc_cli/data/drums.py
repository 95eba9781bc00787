"""Drum patterns out of MIDI files, on a grid of nine drums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from aigc_cli.data._data import Prepared
from aigc_cli.data._music_files import PieceConfig, Pieces
from aigc_cli.data._named_files import classes_of, one_group
from aigc_cli.data._pieces import OTHER, Chains, common_classes, split
from aigc_cli.data._stream import Key
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data.midi import report_of
from aigc_cli.errors import DataError
from aigc_cli.media.drums import DRUMS, Grid, codes, from_codes, from_grid, looped, to_grid
from aigc_cli.media.events import Events, Music
from aigc_cli.media.midi import midi_bytes
from aigc_cli.specs.rhythm import DrumSpec


class Config(PieceConfig):
    """Patterns, and how they are cut."""

    kind: Literal["drums"] = "drums"
    """The drums of MIDI files."""
    bars: int = Field(1, ge=1, le=16)
    """Bars of a pattern; shorter pieces are repeated, longer ones cut."""
    label_pattern: str | None = None
    """Regular expression with one group, the style, that is searched in the name of each file;
    without it the folders are the styles.
    """
    least: int = Field(1, ge=1)
    """Styles of fewer training files than these together are one style, `other`."""

    _one_group = field_validator("label_pattern")(one_group)


class Patterns:
    """The patterns of pieces that have a hit."""

    def __init__(
        self, pieces: Pieces[Music], spec: DrumSpec, styles: Sequence[str] | None, key: str
    ) -> None:
        self.grids: list[Grid] = []
        self.tempos: list[float] = []
        self.labels: list[int] | None = None if spec.labels is None else []
        for number, music in enumerate(pieces.music):
            parts = [part for part in looped(to_grid(music), spec.steps) if part.any()]
            self.grids += parts
            self.tempos += [float(np.log2(music.tempo / 120))] * len(parts)
            if self.labels is not None and spec.labels is not None:
                style = styles[number] if styles is not None else OTHER
                if style not in spec.labels and OTHER not in spec.labels:
                    raise DataError(f"{key}: has style {style!r}, which is not trained with")
                known = style if style in spec.labels else OTHER
                self.labels += [spec.labels.index(known)] * len(parts)
        if not self.grids:
            raise DataError(
                f"{key}: {pieces.source}: no piece has one of the drums {', '.join(DRUMS)}"
            )

    def __len__(self) -> int:
        return len(self.grids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        grid = torch.from_numpy(self.grids[index]).float()
        item = {
            "grid": grid,
            "tempo": torch.tensor(self.tempos[index]),
            "density": grid.sum() / len(grid),
        }
        return item if self.labels is None else {
            **item, "label": torch.tensor(self.labels[index])
        }  # fmt: skip


class Drawn:
    """Training patterns by (number, seed)."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        return self.patterns[key[0]]


class Beside:
    """Validation patterns, and what chains of steps make of them."""

    def __init__(self, patterns: Patterns, train: Patterns | None) -> None:
        self.patterns = patterns
        rows = [] if train is None else [codes(grid) for grid in train.grids]
        self.chains = Chains(rows, 1 << len(DRUMS), 1)

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item, row = self.patterns[index], codes(self.patterns.grids[index])
        item |= self.chains.costs(row)
        if self.chains.chains:
            item["drawn"] = torch.from_numpy(self._drawn(index, len(row))).float()
        return item

    def _drawn(self, index: int, steps: int) -> Grid:
        """A pattern of the chain, the same for the same number."""
        random, row = np.random.default_rng(index), np.zeros(0, np.int64)
        for _ in range(steps):
            p = self.chains.chains["markov"].after(row[-1:])
            row = np.append(row, random.choice(len(p), p=p / p.sum()))
        return from_codes(row)


class Data(Prepared):
    """Training and validation patterns, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, on the grid of the model.

    Raises:
        DataError: a source is absent, no file in it can be used, or it has no drums.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: DrumSpec | None = None,
    ) -> None:
        at = spec or config
        events = Events(at.resolution, at.beats_per_bar)
        parts = split(config.train, config.val, events, bases, val_only=spec is not None)
        self.report = {key: report_of(parts[key], events) for key in sorted(parts)}
        self.music = {key: part.music for key, part in parts.items()}
        styles = {key: classes_of(p.names, config.label_pattern) for key, p in parts.items()}
        if spec is None:
            named = styles["data.train"]
            labels = None if named is None else common_classes(named, config.least)
            spec = DrumSpec(config.bars, config.resolution, config.beats_per_bar, 0.0, labels)
            train = Patterns(parts["data.train"], spec, named, "data.train")
            density = float(np.mean([grid.sum(1).mean() for grid in train.grids]))
            spec = DrumSpec(config.bars, config.resolution, config.beats_per_bar, density, labels)
            self.train = Drawn(train)
        self.spec = spec
        val = Patterns(parts["data.val"], spec, styles["data.val"], "data.val")
        learned = parts.get("data.train")
        chains = Patterns(learned, spec, styles["data.train"], "data.train") if learned else None
        self.val = Beside(val, chains)
        self.val_batch_size = min(len(val), 512)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """Nothing follows from the files."""
    events = Events(config.resolution, config.beats_per_bar)
    split(config.train, config.val, events, bases, val_only=False)
    return {}


def beat(number: int, *, half: bool) -> bytes:
    """A bar of rock, or of half time, with a hat that depends on the number."""
    grid = np.zeros((16, len(DRUMS)), np.bool_)
    grid[[0, 8] if not half else [0], 0] = True
    grid[[4, 12] if not half else [8], 1] = True
    grid[:: (4, 2, 1)[number % 3], 2] = True
    music = from_grid(grid, 96 + 8 * number, 4, 4)
    return midi_bytes(music.as_midi(), music.tempo, (4, 4))


def example(folder: Path) -> dict[str, Any]:
    """Beats of two styles, a folder for each."""
    for name, half in (("half", True), ("rock", False)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (folder / name / f"{number}.mid").write_bytes(beat(number, half=half))
    return {"kind": "drums", "train": str(folder), "val": "25%"}

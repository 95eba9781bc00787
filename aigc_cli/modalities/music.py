"""Music: MIDI files in; out come MIDI, sound and a piano roll."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aigc_cli.data._music_files import ENDINGS, LISTED, files_in
from aigc_cli.data._names import is_hidden
from aigc_cli.data._paths import find_path
from aigc_cli.data.midi import read_pieces, report_of, scale_file
from aigc_cli.errors import DataError
from aigc_cli.media.events import KEYS, Events, Music, estimate_key, on_grid
from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Raster, write_image
from aigc_cli.media.midi import MICROSECONDS, TICKS, midi_bytes
from aigc_cli.media.parsing import read_music
from aigc_cli.media.record import packet
from aigc_cli.media.roll import piano_roll
from aigc_cli.media.score import tunes
from aigc_cli.media.soundfont import Soundfont
from aigc_cli.media.synth import render, wav_bytes
from aigc_cli.modalities import _modality
from aigc_cli.modalities._findings import Findings, warn_of_twins
from aigc_cli.modalities._modality import Input, Inputs, Task
from aigc_cli.modalities._music_inputs import Form, Primes, Reading, WholePieces
from aigc_cli.modalities._output import File, Output
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section
from aigc_cli.specs.music import FramesSpec, MusicSpec

SHEET = 8  # pieces on it
WIDEST = 2_000  # pixels of a roll on the sheet
GAP = 12  # pixels between rolls


class Writing(Section):
    """How pieces are written."""

    sound: bool = True
    """Whether each has a WAV file beside it."""
    roll: bool = True
    """Whether each has a piano roll beside it."""
    soundfont: str = ""
    """File of sounds (.sf2, .sf3) that plays them by tinysoundfont, not the built-in ones."""


def obeyed(options: Any, music: Music) -> dict[str, bool]:
    """Whether a piece has what the options of its family ask for, judged by its notes alone: its
    likeliest key, and its notes a quarter within a third. What it is played at is always as asked.
    """
    found = {}
    if key := getattr(options, "key", ""):
        found[f"key={key}"] = KEYS[estimate_key(music.notes)] == key
    if density := getattr(options, "density", 0):
        notes = len(music.notes) / max(music.bars * music.beats_per_bar, 1)
        found[f"density={density:g}"] = density / 1.34 <= notes <= density * 1.34
    return found


class Writer(_modality.FileWriter):
    """A MIDI file for each piece, its sound and its piano roll, and the first SHEET rolls below
    each other.
    """

    def __init__(self, output: Output, task: Task) -> None:
        super().__init__(output, task)
        assert isinstance(task.writing, Writing)
        self.options = task.writing
        font = Soundfont(Path(self.options.soundfont)) if self.options.soundfont else None
        self._render = render if font is None else font.render
        self._rolls: list[Raster] = []
        self._obeyed: dict[str, list[bool]] = {}

    def _write(self, stem: str, music: Music, facts: Mapping[str, Any]) -> list[File]:
        facts = {**facts, **music.facts}
        record = {**self.task.record, **facts}
        path = self.output.name(f"{stem}.mid")
        notes = music.as_midi()
        text = json.dumps({"aigc": record}, ensure_ascii=False, default=str)
        data = midi_bytes(notes, music.tempo, (music.beats_per_bar, 4), text=text)
        write_bytes(path, data)
        files = [File(path, facts)]
        if self.options.sound:
            beside = self.output.name(f"{stem}.wav")
            sound = self._render(notes, MICROSECONDS / 1e6 / music.tempo / TICKS)
            write_bytes(beside, wav_bytes(sound))
            files.append(File(beside, {"of": path.name}, sample=False))
        roll = piano_roll(music)
        if self.options.roll:
            beside = self.output.name(f"{stem}.png")
            write_image(beside, roll, xmp=packet(record, "trainedAlgorithmicMedia"))
            files.append(File(beside, {"of": path.name}, sample=False))
        if len(self._rolls) < SHEET:
            self._rolls.append(roll)
        for condition, obeys in obeyed(self.task.options, music).items():
            self._obeyed.setdefault(condition, []).append(obeys)
        return files

    def answered(self, number: int, input: Input, made: Sequence[Any]) -> list[File]:
        """At the tempo of the piece that was given, whatever the model knows of it."""
        tempo = input.thing.tempo
        return super().answered(number, input, [replace(music, tempo=tempo) for music in made])

    def finish(self, rows: int | None = None) -> list[File]:
        for condition, all_obey in self._obeyed.items():
            self.notes.append(f"{condition}: {sum(all_obey)} of {len(all_obey)} pieces are so")
        if not self._rolls:
            return []
        rolls = [roll.pixels[:, :WIDEST] for roll in self._rolls]
        width = max(roll.shape[1] for roll in rolls)
        parts = []
        for roll in rolls:
            part = np.full((roll.shape[0] + GAP, width, 3), 255, np.uint8)
            part[: roll.shape[0], : roll.shape[1]] = roll
            parts.append(part)
        path = self.output.own("sheet.png")
        write_image(path, Raster(np.concatenate(parts)))
        return [File(path, {"pieces": len(rolls)}, sample=False)]


class Modality(_modality.Modality):
    """Music."""

    name = "music"
    title = "pieces of music"
    endings = frozenset(ENDINGS)
    Reading = Reading
    Writing = Writing
    own_files = ("sheet.png",)
    usual_count = 4

    def open(self, source: Path, task: Task, makes: _modality.Modality | None) -> Inputs:
        found = Form(task.model.spec).read(str(source))
        if found.skipped:
            reasons = [f"{name} {why}" for name, why in list(found.skipped.items())[:LISTED]]
            raise DataError(
                f"--input: {len(found.skipped):,} files cannot be used: {'; '.join(reasons)}",
                hint="leave them out",
            )
        if not isinstance(task.model.spec, (MusicSpec, FramesSpec)):
            return WholePieces(found.names, found.music)
        return Primes(found.names, found.music, task)

    def thing_of(self, given: Tensor, task: Task) -> Music:
        return Form(task.model.spec).thing(given)

    def read(self, path: Path) -> list[Music]:
        """The piece in a file, on a grid of sixteenths."""
        found = files_in(str(path))
        return [on_grid(read_music(data, name), Events(4, 4), name) for name, data in found]

    def example_files(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"scale {root}.mid" for root in (0, 7)]
        for root, path in zip((0, 7), paths, strict=True):
            path.write_bytes(scale_file(root, bars=1))
        return paths

    def writer(self, output: Output, task: Task) -> Writer:
        return Writer(output, task)

    def recognizes(self, source: str) -> bool:
        """A MIDI file, or the first file of a folder or zip that is not hidden and ends so."""
        try:
            if Path(source).suffix.lower() in ENDINGS:
                return find_path(source, ()).is_file()
            path = find_path(source.split(".zip/")[0] + ".zip" if ".zip/" in source else source, ())
            if path.is_dir():
                files = (p for p in path.rglob("*") if not is_hidden(p.name))
                return any(p.suffix.lower() in ENDINGS for p in files)
            return path.suffix.lower() == ".zip" and next(files_in(source), None) is not None
        except DataError:
            return False

    def require_usable(self, name: str, data: bytes) -> None:
        for number, tune in tunes(data) if name.lower().endswith(".abc") else [(0, data)]:
            read_music(tune, f"{name}:{number}" if number else name)

    def source_part(self, source: str) -> dict[str, Any]:
        events = Events(4, 4)
        return report_of(read_pieces(source, events), events).as_dict()

    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {key: report.as_dict() for key, report in data.report.items()}

    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        for name in part["counted"]:
            yield f"{name:<8} {part[name]:,}"
        for name, why in list(part["skipped"].items())[:LISTED]:
            yield f"skipped  {name} {why}"
        if len(part["skipped"]) > LISTED:
            yield f"skipped  {len(part['skipped']):,} files in all"

    def inspect(self, subject: Recipe | str) -> Findings:
        findings = super().inspect(subject)
        warn_of_twins(findings, "notes")
        return findings

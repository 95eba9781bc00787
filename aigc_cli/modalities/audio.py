"""Audio: recordings in; out come WAV files and their spectrograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data import _music_files
from aigc_cli.data._named_files import holds_one
from aigc_cli.data.recordings import read_recordings, tone
from aigc_cli.errors import DataError
from aigc_cli.media.audio import ENDINGS, Sound, read_audio, sound_bytes, spectrogram
from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Raster, write_image
from aigc_cli.media.record import packet
from aigc_cli.modalities import _modality
from aigc_cli.modalities._findings import Findings, warn_of_twins
from aigc_cli.modalities._modality import Input, Inputs, Task
from aigc_cli.modalities._output import File, Output
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section
from aigc_cli.specs.audio import AudioSpec

SHEET = 16  # spectrograms on it
COLUMNS = 4
WIDEST = 400  # pixels of one on the sheet
LISTED = 5
GAP = 8  # pixels between them


class Reading(Section):
    """How recordings are read."""

    seconds: float = Field(0.0, ge=0)
    """First seconds of an input that are used; 0 uses all of it."""


class Writing(Section):
    """How recordings are written."""

    spectrogram: bool = True
    """Whether each has its spectrogram beside it."""


class Writer(_modality.FileWriter):
    """A WAV file for each sound, its spectrogram, and the first SHEET of these in rows."""

    def __init__(self, output: Output, task: Task) -> None:
        super().__init__(output, task)
        assert isinstance(task.writing, Writing)
        self.options = task.writing
        self._shown: list[Raster] = []

    def _write(self, stem: str, sound: Sound, facts: Mapping[str, Any]) -> list[File]:
        facts = {**facts, **sound.facts}
        record = {**self.task.record, **facts}
        path = self.output.name(f"{stem}.wav")
        write_bytes(path, sound_bytes(sound, record))
        files = [File(path, facts)]
        shown = spectrogram(sound)
        if self.options.spectrogram:
            beside = self.output.name(f"{stem}.png")
            write_image(beside, shown, xmp=packet(record, "trainedAlgorithmicMedia"))
            files.append(File(beside, {"of": path.name}, sample=False))
        if len(self._shown) < SHEET:
            self._shown.append(shown)
        return files

    def finish(self, rows: int | None = None) -> list[File]:
        if not self._shown:
            return []
        parts = [shown.pixels[:, :WIDEST] for shown in self._shown]
        columns = min(rows or COLUMNS, len(parts))
        height, width = parts[0].shape[0] + GAP, max(part.shape[1] for part in parts) + GAP
        sheet = np.full((-(-len(parts) // columns) * height, columns * width, 3), 255, np.uint8)
        for number, part in enumerate(parts):
            top, left = number // columns * height, number % columns * width
            sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
        path = self.output.own("sheet.png")
        write_image(path, Raster(sheet))
        return [File(path, {"sounds": len(parts)}, sample=False)]


class Opened(Inputs):
    """Recordings at the rate of the model, all checked."""

    def __init__(self, names: Sequence[str], sounds: Sequence[Sound]) -> None:
        self.names, self.sounds = names, sounds
        twice = Counter(str(Path(name).with_suffix("")) for name in names)
        self.stems = [
            stem if twice[stem] == 1 else f"{stem}_{Path(name).suffix[1:]}"
            for name in names
            for stem in [str(Path(name).with_suffix(""))]
        ]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        return self.names[number]

    def __getitem__(self, number: int) -> Input:
        sound = self.sounds[number]
        given = torch.from_numpy(sound.samples)
        return Input(self.names[number], sound, given, self.stems[number])


class Modality(_modality.Modality):
    """Audio."""

    name = "audio"
    title = "recordings"
    endings = frozenset(ENDINGS)
    Reading = Reading
    Writing = Writing
    own_files = ("sheet.png",)
    usual_count = 4

    def open(self, source: Path, task: Task, makes: _modality.Modality | None) -> Inputs:
        spec = task.model.spec
        assert isinstance(spec, AudioSpec)
        assert isinstance(task.reading, Reading)
        found = read_recordings(str(source), spec.sample_rate, key="--input")
        if found.skipped:
            reasons = [f"{name} {why}" for name, why in list(found.skipped.items())[:LISTED]]
            raise DataError(
                f"--input: {len(found.skipped):,} files cannot be used: {'; '.join(reasons)}",
                hint="leave them out",
            )
        most = round(task.reading.seconds * spec.sample_rate) or None
        return Opened(
            found.names, [Sound(s.samples[:most], s.sample_rate) for s in found.sounds]
        )  # fmt: skip

    def thing_of(self, given: Tensor, task: Task) -> Sound:
        spec = task.model.spec
        assert isinstance(spec, AudioSpec)
        return Sound(given.numpy(), spec.sample_rate)

    def read(self, path: Path) -> list[Sound]:
        return [read_audio(path.read_bytes(), str(path))]

    def example_files(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"tone {hertz}.wav" for hertz in (220, 660)]
        for hertz, path in zip((220, 660), paths, strict=True):
            path.write_bytes(sound_bytes(tone(hertz, 0.05)))
        return paths

    def writer(self, output: Output, task: Task) -> Writer:
        return Writer(output, task)

    def recognizes(self, source: str) -> bool:
        """An audio file, or a folder or zip with some and without MIDI, whose sound they may be."""
        return holds_one(source, ENDINGS) and not holds_one(source, _music_files.ENDINGS)

    def opened(self, path: Path) -> tuple[np.ndarray, int]:
        """Samples (T,) in [-1, 1], and samples a second."""
        (sound,) = self.read(path)
        return sound.samples, sound.sample_rate

    def require_usable(self, name: str, data: bytes) -> None:
        read_audio(data, name)

    def source_part(self, source: str) -> dict[str, Any]:
        return read_recordings(source).report().as_dict()

    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {key: report.as_dict() for key, report in data.report.items()}

    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        yield f"recordings  {len(part['names']):,}"
        yield f"seconds     {part['seconds']:,.1f}"
        yield f"samples     {part['samples']:,}"
        if part["classes"]:
            counts = ", ".join(f"{name} {n:,}" for name, n in list(part["classes"].items())[:20])
            yield f"classes     {len(part['classes']):,}: {counts}"
        for name, why in list(part["skipped"].items())[:LISTED]:
            yield f"skipped     {name} {why}"
        if len(part["skipped"]) > LISTED:
            yield f"skipped     {len(part['skipped']):,} files in all"

    def inspect(self, subject: Recipe | str) -> Findings:
        findings = super().inspect(subject)
        warn_of_twins(findings, "samples")
        return findings

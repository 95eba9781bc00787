"""Tunes: files of pitches, one tune a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from aigc_cli.data._sources import find_path
from aigc_cli.errors import DataError
from aigc_cli.media.files import write_bytes
from aigc_cli.modalities import _modality
from aigc_cli.modalities._findings import Findings
from aigc_cli.modalities._modality import Input, Inputs, Task
from aigc_cli.modalities._output import File, Kept, Output
from aigc_cli.recipe.load import Recipe


class Writer(_modality.Writer):
    """A file for each tune, and all of them below each other."""

    def __init__(self, output: Output, task: Task) -> None:
        super().__init__(output, task)
        self.lines: list[str] = []

    def _write(self, name: str, made: Tensor, facts: Mapping[str, Any]) -> list[File]:
        path = self.output.name(name)
        self.lines.append(" ".join(str(int(note)) for note in made))
        write_bytes(path, f"{self.lines[-1]}\n".encode())
        return [File(path, facts)]

    def drawn(self, number: int, made: Tensor, facts: Mapping[str, Any]) -> list[File]:
        return self._write(f"sample-{number:05d}.tune", made, facts)

    def between(self, number: int, made: Tensor, facts: Mapping[str, Any]) -> list[File]:
        return self._write(f"between-{number:05d}.tune", made, facts)

    def answered(self, number: int, input: Input, made: Sequence[Any]) -> list[File]:
        return [
            file
            for index, one in enumerate(made)
            for file in self._write(f"{input.stem}-{index}.tune", one, {"input": input.name})
        ]

    def again(self, kept: Kept) -> bool:
        self.lines += [file.path.read_text(encoding="utf-8").strip() for file in kept.files]
        return True

    def finish(self, rows: int | None = None) -> list[File]:
        path = self.output.own("sheet.txt")
        write_bytes(path, "".join(f"{line}\n" for line in self.lines).encode())
        return [File(path, {"tunes": len(self.lines)}, sample=False)]


class Modality(_modality.Modality):
    """Tunes."""

    name = "tune"
    title = "tunes"
    endings = frozenset({".tune"})
    own_files = ("sheet.txt",)
    usual_count = 4

    def open(self, source: Path, task: Task, makes: _modality.Modality | None) -> Inputs:
        raise DataError("no family takes tunes yet")

    def example_files(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "up.tune").write_text("60 62 64 65 67 69 71 72\n")
        return [folder / "up.tune"]

    def read(self, path: Path) -> list[list[int]]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [[int(word) for word in line.split()] for line in lines]

    def thing_of_item(self, item: Mapping[str, Tensor]) -> list[int]:
        return list(map(int, item["notes"]))

    def writer(self, output: Output, task: Task) -> Writer:
        return Writer(output, task)

    def recognizes(self, source: str) -> bool:
        return Path(source).suffix in self.endings

    def source_part(self, source: str) -> dict[str, Any]:
        lines = find_path(source, ()).read_text(encoding="utf-8").splitlines()
        return {"source": source, "tunes": len(lines), "repeated": len(lines) - len(set(lines))}

    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {key: report.as_dict() for key, report in data.report.items()}

    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        yield f"tunes  {part['tunes']}"

    def inspect(self, subject: Recipe | str) -> Findings:
        findings = super().inspect(subject)
        for key, part in findings.parts.items():
            if part["repeated"]:
                findings.warn(f"{part['repeated']} tunes stand there before", "repeated", key)
        return findings

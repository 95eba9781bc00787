"""Boxes: objects found in images; out come the images with boxes drawn, and COCO JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from aigc_cli.data._box_files import format_of, read_notes
from aigc_cli.data._box_parts import BadBoxesError, open_boxes, require_good
from aigc_cli.data._cache import cache_folder
from aigc_cli.data._paths import find_path
from aigc_cli.data.boxes import example
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.boxes import Boxes, coco_image, coco_json, coco_objects, draw
from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Raster, tile_grid, write_image
from aigc_cli.media.record import packet
from aigc_cli.modalities import _modality
from aigc_cli.modalities._findings import Findings
from aigc_cli.modalities._modality import Input, Inputs, Task, open_data
from aigc_cli.modalities._output import File, Kept, Output
from aigc_cli.modalities.image import small
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section

NOTES, SHEET = "boxes.json", "grid.png"
SHOWN = 16  # images on a sheet
FEW = 10  # a class with fewer boxes is rare
LISTED = 5


class Writing(Section):
    """How objects are written."""

    draw: bool = True
    """Whether each image is written with its boxes drawn."""
    format: Literal["png", "jpg", "webp"] = "png"
    """Of the images with boxes."""


class Writer(_modality.Writer):
    """Each input with its boxes drawn, and all boxes in one COCO file."""

    def __init__(self, output: Output, task: Task) -> None:
        super().__init__(output, task)
        assert isinstance(task.writing, Writing)
        self.options: Writing = task.writing
        self.labels: Sequence[str] = task.model.spec.labels  # type: ignore[attr-defined]
        self.classes = {name: i for i, name in enumerate(self.labels, 1)}
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._cells: list[Raster] = []
        self._last: dict[str, Any] | None = None

    def drawn(self, number: int, made: Any, facts: Mapping[str, Any]) -> list[File]:
        raise InputError("boxes are found in images, not drawn of noise")

    def between(self, number: int, made: Any, facts: Mapping[str, Any]) -> list[File]:
        raise InputError("between boxes there is no way to go")

    def answered(self, number: int, input: Input, made: Sequence[Boxes]) -> list[File]:
        found, picture = made[0], input.thing
        image = coco_image(number + 1, input.name, picture.width, picture.height)
        objects = coco_objects(found, number + 1, 0, self.classes)
        self._add(image, objects)
        real = [draw(picture, boxes, self.labels) for boxes in input.beside.values()]
        shown = draw(picture, found, self.labels)
        if len(self._cells) < SHOWN:
            self._cells += [small(cell) for cell in (shown, *real)]
        if not self.options.draw:
            return []
        path = self.output.name(f"{input.stem}{self.task.model.suffix}.{self.options.format}")
        facts = {"input": input.name, "objects": len(found)}
        record = {**self.task.record, **facts}
        write_image(path, shown, xmp=packet(record, "compositeWithTrainedAlgorithmicMedia"))
        return [File(path, facts)]

    def _add(self, image: dict[str, Any], objects: list[dict[str, Any]]) -> None:
        self._last = {"image": image, "objects": objects}
        self._images.append(image)
        self._objects += objects

    def state(self) -> Any:
        return self._last

    def again(self, kept: Kept) -> bool:
        """The boxes are in the journal; without drawn images there is nothing else."""
        if not isinstance(kept.state, dict) or len(self._cells) < SHOWN:
            return False
        for file in kept.files:
            self.output.name(file.path.relative_to(self.output.folder).as_posix())
        self._add(kept.state["image"], kept.state["objects"])
        return True

    def shown(self) -> list[str]:
        """How many objects of each class were found in the last image."""
        if self._last is None:
            return []
        found = [entry["category_id"] for entry in self._last["objects"]]
        counts = [f"{found.count(n)} {name}" for name, n in self.classes.items() if n in found]
        return [f"{self._last['image']['file_name']}: {', '.join(counts) or 'nothing found'}"]

    def finish(self, rows: int | None = None) -> list[File]:
        images = sorted(self._images, key=lambda image: image["id"])
        objects = sorted(self._objects, key=lambda entry: entry["image_id"])
        numbered = [{**entry, "id": number} for number, entry in enumerate(objects, 1)]
        path = self.output.own(NOTES)
        write_bytes(path, coco_json(images, numbered, self.classes))
        files = [File(path, {"images": len(images), "objects": len(numbered)}, sample=False)]
        if len(self._cells) > 1:
            sheet = self.output.own(SHEET)
            write_image(sheet, tile_grid(self._cells, 2))
            files.append(File(sheet, {}, sample=False))
        return files


class Modality(_modality.Modality):
    """Boxes."""

    name = "boxes"
    title = "boxes"
    endings = frozenset({".json"})
    Writing = Writing
    own_files = (NOTES, SHEET)

    def open(self, source: Path, task: Task, makes: _modality.Modality | None) -> Inputs:
        raise InputError("no family takes boxes")

    def example_files(self, folder: Path) -> list[Path]:
        example(folder)
        return [folder / "coco.json"]

    def read(self, path: Path) -> list[Boxes]:
        """Of each image of a COCO file, by its name."""
        return [noted.boxes for noted in read_notes(str(path)).images]

    def thing_of_item(self, item: Mapping[str, Tensor]) -> Boxes:
        raise InputError("boxes of items are compared by _judging_boxes")

    def writer(self, output: Output, task: Task) -> Writer:
        return Writer(output, task)

    def recognizes(self, source: str) -> bool:
        try:
            return format_of(find_path(source, ())) is not None
        except DataError:
            return False

    def source_part(self, source: str) -> dict[str, Any]:
        return open_boxes(source, cache=cache_folder("auto")).as_dict()

    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {key: part.as_dict() for key, part in data.report.items()}

    def describe(self, subject: Recipe | str, n: int | None, sheet: Path | None) -> dict[str, Any]:
        facts = super().describe(subject, n, None)
        if sheet is not None:
            part = (
                open_boxes(subject)
                if isinstance(subject, str)
                else next(iter(open_data(subject).report.values()))
            )
            cells = [
                small(draw(part.read(i), part.objects[i], part.classes))
                for i in range(min(n or SHOWN, len(part)))
            ]
            write_image(sheet, tile_grid(cells, 4 if len(cells) > 3 else 1))
            facts["sheet"] = str(sheet)
        return facts

    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        yield f"format   {part['format']}"
        yield f"images   {part['images']:,}, {part['empty']:,} of them without objects"
        if part["sizes"]:
            sides = ", ".join(f"{key} {w} x {h}" for key, (w, h) in part["sizes"].items())
            yield f"sizes    {sides}"
        counts = ", ".join(f"{name} {count:,}" for name, count in part["boxes"].items())
        yield f"boxes    {counts}"
        for kind, count in part["faults"].items():
            yield f"faults   {kind}: {count:,}"
        for bad in part["bad"][:LISTED]:
            yield f"         {bad['name']} {bad['reason']}"

    def inspect(self, subject: Recipe | str) -> Findings:
        """As training would, but that what cannot be used is listed for all parts."""
        bad: BadBoxesError | None = None
        try:
            if isinstance(subject, str):
                parts = {"data": open_boxes(subject, cache=cache_folder("auto"))}
                require_good(parts, "stop")
            else:
                parts = open_data(subject).report
        except BadBoxesError as error:
            bad, parts = error, error.parts
        findings = Findings(self.name, {key: part.as_dict() for key, part in parts.items()})
        findings.bad = bad
        for key, part in findings.parts.items():
            for name, count in part["boxes"].items():
                if count < FEW:
                    findings.warn(f"class {name!r} has {count} boxes", "small_class", key)
            for kind, count in part["faults"].items():
                if findings.bad is None:
                    findings.warn(f"{count:,} {kind} are left out or cut", "skipped", key)
        return findings

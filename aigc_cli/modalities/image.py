"""Images: files of any size in, files with the same bits, transparency and profile out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from aigc_cli.data._check import BadImagesError, Report, check
from aigc_cli.data._domains import DomainConfig, resized
from aigc_cli.data._example import paint
from aigc_cli.data._images import in_8_bits
from aigc_cli.data._seen import Seen
from aigc_cli.data._sources import Source, open_source
from aigc_cli.data.images import fitted
from aigc_cli.errors import InputError
from aigc_cli.media import alpha
from aigc_cli.media.image import (
    MAX_PIXELS,
    SUFFIXES,
    Raster,
    from_tensor,
    read_image,
    tile_grid,
    to_tensor,
    write_animation,
    write_image,
)
from aigc_cli.media.record import Provenance, packet
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.modalities import _image_data as image_data
from aigc_cli.modalities import _modality
from aigc_cli.modalities._findings import Findings
from aigc_cli.modalities._modality import Input, Inputs, Task
from aigc_cli.modalities._output import File, Kept, Output
from aigc_cli.models._image import ImageModule
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

SHEET = 64  # images on a sheet
THUMBNAIL = 256  # sides of images of any size on a sheet
LOSSLESS = ("png", "webp", "tiff")


class Writing(Section):
    """How images are written."""

    format: Literal["png", "jpg", "webp", "tiff"] = "png"
    """jpg has neither transparency, which then lies over white, nor 16 bits; webp has 8 bits."""


class Reading(Section):
    """How images are read."""

    on_error: Literal["stop", "skip"] = "stop"
    """Images that cannot be used: stop and name them, or leave them out and say so."""
    max_pixels: int = Field(MAX_PIXELS, gt=0)
    """Larger images are refused before they are decoded."""


class ImageInputs(Inputs):
    """The usable images of a source, as the model sees them."""

    def __init__(self, report: Report, task: Task) -> None:
        self.source, self.task = report.source, task
        self.numbers, self._skipped = sorted(report.seen), dict(report.bad)
        self.stems = _stems([self.source.name(number) for number in self.numbers])

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, number: int) -> str:
        return self.source.name(self.numbers[number])

    def skipped(self) -> Mapping[str, str]:
        return self._skipped

    def __getitem__(self, number: int) -> Input:
        picture = self.source.read(self.numbers[number])
        given = seen(picture, self.task)
        return Input(self.name(number), picture, given, self.stems[number])


class Writer(_modality.Writer):
    """A file for each image, and the first SHEET of them on one sheet."""

    def __init__(self, output: Output, task: Task) -> None:
        super().__init__(output, task)
        assert isinstance(task.writing, Writing)
        self.format = task.writing.format
        self._cells: list[Raster] = []
        self._columns: int | None = None
        self._labels: list[str] = []
        self._frames: list[Raster] = []
        self._sides: dict[str, int] = {}
        self._lost: Counter[str] = Counter()
        self._first_frames = 0

    def _write(
        self, path: Path, picture: Raster, facts: Mapping[str, Any], provenance: Provenance
    ) -> None:
        """As the format can hold it, with the record of its making inside."""
        picture, lost = alpha.fitting(picture, self.format)
        if lost is not None:
            self._lost[lost] += 1
        write_image(path, picture, xmp=packet({**self.task.record, **facts}, provenance))

    def drawn(self, number: int, made: Tensor, facts: Mapping[str, Any]) -> list[File]:
        picture = Raster(from_tensor(made))
        path = self.output.name(f"sample-{number:05d}.{self.format}")
        self._write(path, picture, facts, "trainedAlgorithmicMedia")
        self._show([picture])
        return [File(path, facts)]

    def between(self, number: int, made: Tensor, facts: Mapping[str, Any]) -> list[File]:
        picture = Raster(from_tensor(made))
        path = self.output.name(f"frame-{number:05d}.{self.format}")
        self._write(path, picture, facts, "trainedAlgorithmicMedia")
        self._frames.append(picture)
        return [File(path, facts)]

    def answered(self, number: int, input: Input, made: Sequence[Any]) -> list[File]:
        """Transparency is kept; EXIF and profile too where the answer has the same colors."""
        picture: Raster = input.thing
        same = _is_same_image(self.task)
        answers = [answer_to(picture, image, same=same) for image in made]
        stem = f"{input.stem}{self.task.model.suffix}"
        files = []
        for index, answer in enumerate(answers):
            count = f"-{index:02d}" if len(answers) > 1 else ""
            path = self.output.name(f"{stem}{count}.{self.format}")
            size = {"width": answer.width, "height": answer.height}
            facts = {"input": input.name, "seed": self.task.seed, **size}
            facts |= getattr(self.task.model, "facts", {})
            self._write(path, answer, facts, "compositeWithTrainedAlgorithmicMedia")
            files.append(File(path, facts))
            self._sides[input.name] = min(answer.width, answer.height)
        self._first_frames += picture.is_first
        beside = {key: Raster(from_tensor(image)) for key, image in input.beside.items()}
        self._columns = 1 + len(answers) + len(beside)
        captions = ["input", *([""] * len(answers)), *beside]
        if beside or not same:  # a larger image is looked at by itself
            self._show([picture, *answers, *beside.values()], captions if beside else None)
        return files + self._film(number, input, stem)

    def _film(self, number: int, input: Input, stem: str) -> list[File]:
        model, noise = self.task.model, SampleNoise(self.task.seed, number << 20, 1)
        if not isinstance(model, ImageModule):
            return []
        with torch.no_grad():
            frames = model.animation(input.given.to(model.device), self.task.options, noise)
        if not frames:
            return []
        path = self.output.name(f"{stem}.gif")
        write_animation(path, [Raster(from_tensor(frame)) for frame in frames])
        return [File(path, {"input": input.name, "frames": len(frames)}, sample=False)]

    def _show(self, row: Sequence[Raster], captions: Sequence[str] | None = None) -> None:
        """Put a row of images on the sheet, if there is room."""
        if len(self._cells) < SHEET:
            self._cells += [small(picture) for picture in row]
            self._labels += captions or []

    def again(self, kept: Kept) -> bool:
        """Drawn samples are read back where nothing was lost in the file."""
        names = [file.path.name for file in kept.files]
        if self.format not in LOSSLESS or len(names) != 1 or not names[0].startswith("sample-"):
            return False
        (file,) = kept.files
        self.output.name(file.path.name)
        if len(self._cells) < SHEET:
            self._show([read_image(file.path)])
        return True

    def finish(self, rows: int | None = None) -> list[File]:
        """`rows`: images in a row of the sheet; a square where nothing is said."""
        self._note_large()
        if self._first_frames:
            inputs = "1 input holds" if self._first_frames == 1 else f"{self._first_frames} hold"
            self.notes.append(f"{inputs} several frames or pages; only the first was used")
        for lost, count in self._lost.items():
            images = "1 image has" if count == 1 else f"{count} images have"
            self.notes.append(f"{images} lost {lost}: .{self.format} cannot hold it")
        files, facts = [], {"seed": self.task.seed}
        cells, columns = self._cells, self._columns or rows
        if self._frames:
            assert rows is not None
            ways, columns = max(1, (len(self._frames) - 1) // rows), rows + 1
            cells = [p for way in range(ways) for p in self._frames[way * rows :][:columns]]
            film = self.output.own("film.gif")
            write_animation(film, self._frames)
            files.append(File(film, {**facts, "frames": len(self._frames)}, sample=False))
        if cells:
            sheet = self.output.own("grid.png")
            columns = columns or ceil(len(cells) ** 0.5)
            write_image(sheet, tile_grid(cells, columns, labels=self._labels or None))
            files.insert(0, File(sheet, facts, sample=False))
        return files

    def _note_large(self) -> None:
        """Tell who translated images far larger than those the model has learned from."""
        data, options = self.task.recipe.data, self.task.options
        if not isinstance(data, DomainConfig) or data.resize == "none":
            return
        if getattr(options, "short_side", None) != 0:
            return
        most = max(data.load_sizes)
        large = sum(side >= 2 * most for side in self._sides.values())
        if large:
            self.notes.append(
                f"{large} of {len(self._sides)} images are twice as large as the {most} pixels "
                f"trained with or larger, perhaps too large to be recognized; short_side={most} "
                "reduces them"
            )


class Modality(_modality.Modality):
    """Images."""

    name = "image"
    title = "images"
    endings = frozenset(SUFFIXES)
    Reading = Reading
    Writing = Writing
    own_files = ("grid.png", "film.gif")

    def open(self, source: Path, task: Task, makes: _modality.Modality | None) -> Inputs:
        reading = task.reading if isinstance(task.reading, Reading) else Reading()
        found = open_source(str(source), key="--input", max_pixels=reading.max_pixels)
        report = check(found, range(len(found)), unfit=_unfit(input_channels(task)))
        if report.bad and (reading.on_error == "stop" or not report.seen):
            hint = "repair or remove them, or leave them out with read.on_error=skip"
            raise BadImagesError({"--input": report}, hint=hint)
        return ImageInputs(report, task)

    def open_references(self, paths: Sequence[Path], task: Task) -> list[Tensor]:
        return [_reference(path, input_channels(task)) for path in paths]

    def thing_of(self, given: Tensor, task: Task) -> Raster:
        return Raster(from_tensor(given))

    def fitted(self, inputs: Sequence[Input], task: Task) -> list[Tensor]:
        """Brought to the size of the training images, in the recipe's way."""
        spec = task.model.spec
        assert isinstance(spec, ImageSpec)
        asked = task.recipe.data.model_dump().get("resize", "crop")
        resize: Literal["crop", "stretch"] = "stretch" if asked == "stretch" else "crop"
        pixels = [in_8_bits(input.thing, spec.channels) for input in inputs]
        return [to_tensor(fitted(p, spec.image_size, resize)) for p in pixels]

    def example_files(self, folder: Path) -> list[Path]:
        paint(folder, 2)
        return sorted(folder.iterdir())

    def writer(self, output: Output, task: Task) -> Writer:
        return Writer(output, task)

    def recognizes(self, source: str) -> bool:
        return image_data.recognizes(source, self.endings)

    def opened(self, path: Path) -> Image.Image:
        with Image.open(path) as image:
            image.load()
            return image.copy()

    def stored(self, source: str) -> _modality.Stored:
        return image_data.stored(source)

    def source_part(self, source: str) -> dict[str, Any]:
        return image_data.source_part(source)

    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return image_data.parts_of(data)

    def describe(self, subject: Recipe | str, n: int | None, sheet: Path | None) -> dict[str, Any]:
        return image_data.describe(subject, n, sheet)

    def inspect(self, subject: Recipe | str) -> Findings:
        return image_data.inspect(subject)

    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        return image_data.part_lines(part)

    def summary_lines(self, key: str, part: Mapping[str, Any]) -> list[str]:
        skipped = sum(part["other_files"].values())
        beside = f", {skipped:,} other files skipped" if skipped else ""
        return [f"{key}: {part['source']}: {part['pictures']:,} usable images{beside}"]


def input_channels(task: Task) -> int:
    """Channels of the images that a model works on.

    Raises:
        InputError: it works on none.
    """
    channels = getattr(task.model.spec, "input_channels", None)
    if channels is None:
        raise InputError(f"models of '{task.model.spec.kind}' do not work on images")
    return int(channels)


def over_white(picture: Raster, channels: int) -> Tensor:
    """The image as a model sees it: (channels, H, W) in [-1, 1], transparency over white."""
    picture = picture.as_channels(channels)
    if picture.alpha is None:
        return to_tensor(picture.pixels)
    return _tensor(alpha.over_white(picture))


def seen(picture: Raster, task: Task) -> Tensor:
    """The image as the model gets it: (C, H, W) in [-1, 1]; transparent parts over white, or over
    what surrounds them where the answer is the same image.
    """
    channels = input_channels(task)
    if picture.alpha is None or not _is_same_image(task):
        return over_white(picture, channels)
    low = picture.as_channels(channels)
    colors, opacity = alpha.unit(low.pixels), alpha.unit(picture.alpha)
    return _tensor(alpha.blend(colors, opacity, alpha.surroundings(colors, opacity)))


def _is_same_image(task: Task) -> bool:
    return isinstance(task.model, ImageModule) and task.model.same_image


def answer_to(picture: Raster, image: Tensor, *, same: bool = False) -> Raster:
    """The model's answer (C, H, W) with the bits and what else belongs to the input.

    Over white, as the model saw its input, a transparent answer looks as the model made it. `same`:
    it is the same image, such as a larger one; gray stays gray, and the background is what
    surrounds what can be seen.
    """
    dtype = picture.pixels.dtype.type
    if picture.alpha is None:
        if same and picture.channels == 1:
            image = image.mean(0, keepdim=True)
        icc = picture.icc if len(image) == picture.channels else None
        return Raster(from_tensor(image, dtype), exif=picture.exif, icc=icc)
    H, W = image.shape[1:]
    opacity = resize_bicubic(picture.alpha, size=(H, W))
    background = alpha.WHITE
    if same:
        low = picture.as_channels(len(image))
        around = alpha.surroundings(alpha.unit(low.pixels), alpha.unit(picture.alpha))
        background = resize_bicubic(around, size=(H, W)).clip(0, 1)
    colors = alpha.unblend(_colors(image), alpha.unit(opacity), background)
    if same and picture.channels == 1:
        colors = colors.mean(2, keepdims=True)
    icc = picture.icc if colors.shape[2] == picture.channels else None
    return Raster(alpha.levels(colors, dtype), opacity, picture.exif, icc)


def _tensor(colors: alpha.Floats) -> Tensor:
    """(H, W, C) in [0, 1] -> (C, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(colors.transpose(2, 0, 1))).mul_(2).sub_(1)


def _colors(image: Tensor) -> alpha.Floats:
    """(C, H, W) in [-1, 1] -> (H, W, C) in [0, 1], but for what lies outside."""
    return image.float().add(1).div_(2).permute(1, 2, 0).numpy()


def _stems(names: Sequence[str]) -> list[str]:
    """dir/photo.jpg -> dir/photo; with the old ending, photo_jpg, where two would be equal."""
    paths = [PurePosixPath(name) for name in names]
    count = Counter(path.with_suffix("") for path in paths)

    def stem(path: PurePosixPath) -> str:
        old = f"_{path.suffix[1:]}" if count[path.with_suffix("")] > 1 else ""
        return str(path.with_name(f"{path.stem}{old}"))

    return [stem(path) for path in paths]


def small(picture: Raster) -> Raster:
    """The image, or a reduction with sides of at most THUMBNAIL pixels, for sheets."""
    scale = max(picture.width, picture.height) / THUMBNAIL
    if scale <= 1:
        return picture
    size = (max(1, round(picture.height / scale)), max(1, round(picture.width / scale)))
    pixels = alpha.levels(alpha.over_white(picture), np.uint8)
    return Raster(resized(pixels, *size))


def open_input(path: Path, option: str) -> Source:
    """The images a user names: a file, a folder with its sub-folders, or any source of a recipe.

    Raises:
        DataError: there is no such thing, or no image in it; `option` says what was asked.
    """
    return open_source(str(path), key=option)


def _reference(path: Path, channels: int) -> Tensor:
    source = open_input(path, "--reference")
    if len(source) != 1:
        raise InputError(f"--reference {path}: holds {len(source)} images", hint="name one")
    return over_white(source.read(0), channels)


def _unfit(channels: int) -> Callable[[Seen], str | None]:
    """Why a readable image does not suit a model of `channels`."""

    def unfit(seen: Seen) -> str | None:
        if channels == 1 and seen.mode.startswith("RGB"):
            return "has color, and the model is for gray images"
        return None

    return unfit

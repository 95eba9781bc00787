"""The images of a source with their boxes, each checked against the image: what `boxes` trains on,
what is described, and what is augmented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from aigc_cli.data._box_files import Noted, read_notes
from aigc_cli.data._check import Report as ImageReport
from aigc_cli.data._check import check
from aigc_cli.data._images import Checked
from aigc_cli.data._sources._files import FileSource
from aigc_cli.errors import DataError, Problem
from aigc_cli.media.boxes import Boxes
from aigc_cli.media.image import MAX_PIXELS, Raster

SLACK = 1.0  # pixels that a box may reach beyond its image: how edges are rounded
LISTED = 20  # faults that a message names; `problems` has all

FILE, ABSENT, UNREADABLE, EMPTY, OUTSIDE, BEYOND, CLASS = (
    "files or entries that cannot be read", "images that are not there", "unreadable images",
    "boxes without width or height", "boxes outside of their image",
    "boxes that reach beyond their image", "boxes of an unknown class",
)  # fmt: skip
"""Kinds of faults, as they are counted."""


@dataclass(frozen=True)
class Fault:
    """What cannot be used, where, and why."""

    kind: str
    where: str
    reason: str


@dataclass
class BoxImages:
    """Usable images with boxes in pixels, and the faults of the others."""

    source: str
    format: str
    pictures: Checked
    images: ImageReport
    objects: list[Boxes]
    classes: list[str]
    faults: list[Fault] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.objects)

    def name(self, number: int) -> str:
        return self.pictures.name(number)

    def read(self, number: int) -> Raster:
        return self.pictures.read(number)

    def size(self, number: int) -> tuple[int, int]:
        """(width, height)."""
        seen = self.pictures.seen[number]
        return seen.width, seen.height

    @property
    def counts(self) -> dict[str, int]:
        """Boxes of each class."""
        found = Counter(name for boxes in self.objects for name in boxes.names)
        return {name: found[name] for name in self.classes}

    @property
    def content(self) -> str:
        """Digest of all pixels, boxes and classes, wherever the files lie."""
        state = blake2b(self.images.content.encode())
        for boxes in self.objects:
            state.update(boxes.boxes.tobytes() + repr(boxes.names).encode())
        return state.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        bad = [{"name": fault.where, "reason": fault.reason} for fault in self.faults]
        return {
            "source": self.source,
            "format": self.format,
            "images": len(self),
            "sizes": self.images.sizes,
            "boxes": self.counts,
            "empty": sum(not len(boxes) for boxes in self.objects),
            "faults": dict(Counter(fault.kind for fault in self.faults)),
            "bad": bad,
        }


class BadBoxesError(DataError):
    """Boxes or images that cannot be used: counted by kind, the first LISTED named."""

    code = "data.bad_boxes"

    def __init__(self, parts: dict[str, BoxImages], hint: str) -> None:
        self.parts = parts
        faults = [(key, fault) for key, part in parts.items() for fault in part.faults]
        kinds = Counter(fault.kind for _, fault in faults)
        counted = ", ".join(f"{kind}: {n:,}" for kind, n in kinds.most_common())
        lines = [f"  {key}: {fault.where}  {fault.reason}" for key, fault in faults[:LISTED]]
        if len(faults) > LISTED:
            lines.append(f"  and {len(faults) - LISTED:,} more")
        self._problems = [
            Problem(fault.reason, code=self.code, file=fault.where, key=key)
            for key, fault in faults
        ]
        super().__init__("\n".join([counted, *lines]), hint=hint)

    @property
    def problems(self) -> list[Problem]:
        return self._problems


def open_boxes(
    source: str,
    *,
    bases: Sequence[Path] = (),
    key: str = "data",
    max_pixels: int = MAX_PIXELS,
    cache: Path | None = None,
) -> BoxImages:
    """Read the notes of a source, decode every image once, and compare both. A box that reaches
    beyond its image is cut at its edge.

    Raises:
        DataError: the source is absent or of no known format, or no image is left.
    """
    notes = read_notes(source, bases, key=key)
    faults = [Fault(FILE, where, reason) for where, reason in notes.bad]
    faults += [
        Fault(ABSENT, noted.where, f"names image {noted.name!r}, which is not there")
        for noted in notes.images
        if noted.image is None
    ]
    there = [noted for noted in notes.images if noted.image is not None]
    if not there:
        raise DataError(
            f"{key}: none of the {len(notes.images):,} images that {source!r} names is there",
            hint="images lie beside the notes, or in images/ beside them",
        )
    files = FileSource([noted.image for noted in there if noted.image], [one.name for one in there])
    files.text, files.max_pixels = source, max_pixels
    report = check(files, range(len(files)), cache=cache)
    faults += [Fault(UNREADABLE, name, reason) for name, reason in report.bad]
    if not report.seen:
        raise DataError(f"{key}: none of the {len(there):,} images of {source!r} can be read")
    objects = []
    for number, seen in report.seen.items():
        kept, bad = _fitted(there[number], seen.width, seen.height)
        objects.append(kept)
        faults += bad
    return BoxImages(source, notes.format, Checked(report), report, objects, notes.classes, faults)


def some(part: BoxImages, numbers: Sequence[int], *, faults: bool) -> BoxImages:
    """Only these images; of the faults all or none."""
    order = list(part.images.seen)
    seen = {order[i]: part.images.seen[order[i]] for i in numbers}
    report = replace(part.images, seen=seen, bad=part.images.bad if faults else [])
    return replace(
        part,
        pictures=Checked(report),
        images=report,
        objects=[part.objects[i] for i in numbers],
        faults=part.faults if faults else [],
    )


def of_classes(part: BoxImages, classes: Sequence[str]) -> BoxImages:
    """Only objects of these classes; the others are faults."""
    objects, faults = [], []
    for number, found in enumerate(part.objects):
        kept = [i for i, name in enumerate(found.names) if name in classes]
        objects.append(found.some(kept))
        for i in sorted(set(range(len(found))) - set(kept)):
            where = f"{part.name(number)}: box {i + 1}, {found.names[i]}"
            faults.append(Fault(CLASS, where, f"is of none of the classes {', '.join(classes)}"))
    return replace(part, objects=objects, classes=list(classes), faults=[*part.faults, *faults])


def require_good(parts: dict[str, BoxImages], on_error: str) -> None:
    """Stop at faults unless they are to be left out.

    Raises:
        BadBoxesError: all of them.
    """
    if on_error == "stop" and any(part.faults for part in parts.values()):
        raise BadBoxesError(
            parts,
            "repair them, or set data.on_error=skip, which leaves out what cannot be used and cuts "
            "boxes at the edge of their image",
        )


def _fitted(noted: Noted, width: int, height: int) -> tuple[Boxes, list[Fault]]:
    """The boxes of an image in its pixels and within it, and the faults of the others."""
    sides = np.array([width, height], dtype=np.float64)
    found = noted.boxes
    boxes = found.boxes * np.tile(sides, 2) if noted.relative else found.boxes
    outlines = found.outlines
    if noted.relative and outlines:
        outlines = tuple(tuple(p * sides for p in outline) for outline in outlines)
    kept, faults = [], []
    cut = np.clip(boxes, 0, np.tile(sides, 2)) if len(boxes) else boxes
    for i, (box, name) in enumerate(zip(boxes, found.names, strict=True)):
        where = f"{noted.where} ({noted.name}): box {i + 1}, {name}"
        left, top, right, bottom = box
        said = f"{left:g}, {top:g} to {right:g}, {bottom:g}"
        beyond = float(np.abs(box - cut[i]).max())
        if not np.isfinite(box).all() or right <= left or bottom <= top:
            faults.append(Fault(EMPTY, where, f"has no width or height: {said}"))
            continue
        if cut[i][2] <= cut[i][0] or cut[i][3] <= cut[i][1]:
            faults.append(Fault(OUTSIDE, where, f"lies outside of {width} x {height}: {said}"))
            continue
        if beyond > SLACK:
            faults.append(Fault(BEYOND, where, f"reaches beyond {width} x {height}: {said}"))
        kept.append(i)
    return Boxes(cut, found.names, outlines=outlines).some(kept), faults

"""Where boxes come from: one text in a recipe, one file format for each way to note them.

| text                        | what it is                                                         |
|-----------------------------|--------------------------------------------------------------------|
| `coco.json`                 | COCO; images lie beside it, or in images/ beside it                |
| `cells/` with one .json     | the same                                                           |
| `cells/` with .xml files    | Pascal VOC, an XML file for each image, in the folder or below it  |
| `ImageSets/Main/train.txt`  | Pascal VOC, of the images that the list names                      |
| `cells/` with `labels/`     | YOLO, a text file for each image, and classes.txt or data.yaml     |

Where a folder has several, the first of them counts. Edges of a box are taken as they are written:
of VOC, whose pixels count from 1, `xmin` and `xmax` are left and right, as most files mean it.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from aigc_cli.data._paths import find_path
from aigc_cli.errors import DataError
from aigc_cli.media.boxes import Boxes, Outline
from aigc_cli.media.image import SUFFIXES

LARGEST = 1 << 30  # bytes of a JSON file, which is read whole
HEAD = 1 << 14  # bytes by which a format is told
LARGEST_NOTE = 1 << 24  # bytes of the notes of one image
IMAGES = ("images", "JPEGImages")


@dataclass
class Noted:
    """What is noted of one image; `where` is the file that says it."""

    image: Path | None
    name: str
    where: str
    boxes: Boxes = field(default_factory=Boxes)
    """As they are noted; of YOLO in parts of the sides of the image."""
    relative: bool = False


@dataclass
class Notes:
    """All images of a source by name, the classes in their order, and what cannot be used."""

    images: list[Noted]
    classes: list[str]
    format: str
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(place, why)"""


def read_notes(text: str, bases: Sequence[Path] = (), *, key: str = "data") -> Notes:
    """What a source notes; images are not opened, and boxes not compared with them.

    Raises:
        DataError: nothing is there, it is of no known format, or a file cannot be read.
    """
    try:
        return _read(find_path(text, bases), text)
    except DataError as error:
        raise DataError(f"{key}: {error.message}", hint=error.hint) from error


def format_of(path: Path) -> str | None:
    """coco, voc, list or yolo; None where nothing notes boxes."""
    if path.is_file():
        lists = path.suffix == ".txt" and (path.parent.parent.parent / "Annotations").is_dir()
        is_coco = path.suffix.lower() == ".json" and _looks_like_coco(path)
        return "coco" if is_coco else "list" if lists else None
    if not path.is_dir():
        return None
    if _json_in(path) is not None:
        return "coco"
    if _notes_voc(path):
        return "voc"
    return "yolo" if any((path / "labels").rglob("*.txt")) else None


def _read(path: Path, text: str) -> Notes:
    match "coco" if path.suffix.lower() == ".json" else format_of(path):
        case "coco":
            return read_coco(path if path.is_file() else _json_in(path) or path)
        case "voc":
            return read_voc(sorted(path.rglob("*.xml")), path)
        case "list":
            return _read_list(path)
        case "yolo":
            return read_yolo(path)
    raise DataError(
        f"{text!r} notes no boxes",
        hint="name a COCO JSON file, a folder of Pascal VOC XML files, a list in ImageSets/Main, "
        "or a folder with images/, labels/ and classes.txt",
    )


def _json_in(folder: Path) -> Path | None:
    """The one JSON file in a folder that begins like COCO's."""
    found = [file for file in sorted(folder.glob("*.json")) if _looks_like_coco(file)]
    return found[0] if len(found) == 1 else None


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD)
    return any(f'"{key}"'.encode() in head for key in ("file_name", "bbox", "supercategory"))


def _notes_voc(folder: Path) -> bool:
    """Whether the first XML file in or below a folder is one of Pascal VOC: music is XML, too."""
    for file in folder.rglob("*.xml"):
        with file.open("rb") as opened:
            return b"<annotation" in opened.read(HEAD)
    return False


# -- COCO ------------------------------------------------------------------------------------------


def read_coco(path: Path) -> Notes:
    """Every image of a COCO file. Crowds are left out, as are masks that are no polygons; what has
    scores was found by a model, and comes the surest first.

    Raises:
        DataError: it is no such file.
    """
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: is larger than {LARGEST >> 30} GB")
    try:
        whole = json.loads(path.read_bytes())
        entries = {entry["id"]: entry for entry in whole["images"]}
        names = {entry["id"]: str(entry["name"]) for entry in whole["categories"]}
        objects = list(whole["annotations"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: is no COCO file: {type(error).__name__} {error}",
            hint="it needs images, annotations and categories, each a list of objects with an id",
        ) from error
    bad: list[tuple[str, str]] = []
    rows: dict[Any, list[Any]] = {number: [] for number in entries}
    for place, entry in enumerate(objects):
        where = f"{path.name}: annotation {_said(entry, place)}"
        reason = _add_object(entry, rows, names)
        if reason is not None:
            bad.append((where, reason))
    images = []
    for number, entry in sorted(entries.items(), key=lambda pair: str(pair[1].get("file_name"))):
        name = str(entry.get("file_name", ""))
        found = _find_image(path.parent, name)
        boxes = _boxes([row[:3] for row in rows[number]])
        if boxes and all(row[3] is not None for row in rows[number]):
            scores = np.array([row[3] for row in rows[number]], dtype=np.float64)
            boxes = replace(boxes, scores=scores).some(np.argsort(-scores, kind="stable").tolist())
        images.append(Noted(found, name, path.name, boxes))
    classes = [names[number] for number in sorted(names, key=lambda n: (str(type(n)), n))]
    used = {name for noted in images for name in noted.boxes.names}
    return Notes(images, [name for name in classes if name in used], "COCO", bad)


def _said(entry: Any, place: int) -> str:
    return str(entry.get("id", place)) if isinstance(entry, dict) else str(place)


def _add_object(entry: Any, rows: dict[Any, list[Any]], names: dict[Any, str]) -> str | None:
    """Put an annotation to its image; or why it cannot be used."""
    try:
        if entry.get("iscrowd"):
            return None
        image, category = entry["image_id"], entry["category_id"]
        left, top, width, height = map(float, entry["bbox"])
        score = None if entry.get("score") is None else float(entry["score"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"has no image_id, category_id and bbox of four numbers: {error}"
    if image not in rows:
        return f"names image {image!r}, which is not in `images`"
    if category not in names:
        return f"names class {category!r}, which is not in `categories`"
    outline = _polygons(entry.get("segmentation"))
    box = [left, top, left + width, top + height]
    rows[image].append((box, names[category], outline, score))
    return None


def _polygons(found: Any) -> Outline:
    if not isinstance(found, list):
        return ()
    flat = [p for p in found if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
    return tuple(np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in flat)


# -- Pascal VOC ------------------------------------------------------------------------------------


def read_voc(files: Iterable[Path], root: Path) -> Notes:
    """An image for each XML file: in its folder, in images/ or JPEGImages/ beside, or below `root`.

    Raises:
        DataError: there is no file.
    """
    images, bad, used = [], [], set()
    for file in files:
        where = str(file.relative_to(root)) if file.is_relative_to(root) else file.name
        try:
            name, rows = _voc_file(file)
        except (OSError, ET.ParseError, ValueError) as error:
            bad.append((where, f"is no Pascal VOC file: {error}"))
            continue
        folders = (file.parent, file.parent.parent, root)
        stems = (name, *(f"{file.stem}{suffix}" for suffix in SUFFIXES))
        found = next((p for f in folders for stem in stems if (p := _find_image(f, stem))), None)
        images.append(Noted(found, found.name if found else name or f"{file.stem}.jpg", where,
                            _boxes(rows)))  # fmt: skip
        used |= {name for _, name, _ in rows}
    if not images and not bad:
        raise DataError(f"{str(root)!r} holds no XML files")
    return Notes(images, sorted(used), "Pascal VOC", bad)


def _voc_file(file: Path) -> tuple[str, list[tuple[list[float], str, Outline]]]:
    """The name of the image, and its objects.

    Raises:
        ValueError, ET.ParseError: it is no such file. OSError: it cannot be read.
    """
    if file.stat().st_size > LARGEST_NOTE:
        raise ValueError("it is larger than 16 MB")
    tree = ET.fromstring(file.read_bytes())  # noqa: S314 - expat bounds what entities expand to
    rows: list[tuple[list[float], str, Outline]] = []
    for place, entry in enumerate(tree.iter("object"), 1):
        name = (entry.findtext("name") or "").strip()
        edges = [entry.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        if not name or None in edges:
            raise ValueError(f"object {place} has no name, or no bndbox with four edges")
        rows.append(([float(edge or "") for edge in edges], name, ()))
    return (tree.findtext("filename") or "").strip(), rows


def _read_list(path: Path) -> Notes:
    """The images that a file of ImageSets/Main names, a name without ending a line."""
    root = path.parent.parent.parent
    names = [line.split()[0] for line in path.read_text("utf-8").splitlines() if line.strip()]
    files = [root / "Annotations" / f"{PurePosixPath(name).name}.xml" for name in names]
    absent = [file for file in files if not file.is_file()]
    notes = read_voc([file for file in files if file.is_file()], root)
    notes.bad += [(path.name, f"names {file.stem}, and there is no {file}") for file in absent]
    return notes


# -- YOLO ------------------------------------------------------------------------------------------


def read_yolo(root: Path) -> Notes:
    """An image for each text file below labels/, at the same place below images/. A line is a class
    number, then the middle and the sides of a box as parts of the image's; more are a polygon.

    Raises:
        DataError: the classes are named nowhere.
    """
    classes = _yolo_classes(root)
    images, bad = [], []
    for file in sorted((root / "labels").rglob("*.txt")):
        inside = file.relative_to(root / "labels").with_suffix("")
        where = str(file.relative_to(root))
        rows = []
        try:
            lines = file.read_text("utf-8").splitlines() if file.stat().st_size else []
        except (OSError, UnicodeDecodeError) as error:
            bad.append((where, f"cannot be read: {error}"))
            continue
        for place, line in enumerate(lines, 1):
            row = _yolo_line(line.split(), classes)
            if isinstance(row, str):
                bad.append((f"{where}:{place}", row))
            elif row is not None:
                rows.append(row)
        stems = (f"{inside}{suffix}" for suffix in SUFFIXES)
        found = next((p for s in stems if (p := _find_image(root / "images", s))), None)
        name = str(found.relative_to(root / "images")) if found else f"{inside}.jpg"
        images.append(Noted(found, name, where, _boxes(rows), relative=True))
    return Notes(images, classes, "YOLO", bad)


def _yolo_line(
    words: Sequence[str], classes: Sequence[str]
) -> tuple[list[float], str, Outline] | str | None:
    if not words:
        return None
    try:
        number, *values = int(words[0]), *map(float, words[1:])
    except ValueError:
        return "is no line of numbers"
    if not 0 <= number < len(classes):
        return f"names class {number}, and there are {len(classes)}"
    if len(values) == 4:
        x, y, width, height = values
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        return box, classes[number], ()
    if len(values) >= 6 and len(values) % 2 == 0:
        points = np.asarray(values).reshape(-1, 2)
        return [*points.min(0), *points.max(0)], classes[number], (points,)
    return f"has {len(values)} numbers behind the class, not 4"


def _yolo_classes(root: Path) -> list[str]:
    """Of classes.txt, a name a line, or of `names` in data.yaml, a list or a table by number."""
    if (root / "classes.txt").is_file():
        lines = (root / "classes.txt").read_text("utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()]
    for folder in (root, root.parent):
        for file in (*sorted(folder.glob("data.y*ml")), *sorted(folder.glob("dataset.y*ml"))):
            try:
                names = yaml.safe_load(file.read_bytes())["names"]
                in_order = [names[i] for i in range(len(names))]  # of a list, and of a table
                return [str(name) for name in in_order]
            except (yaml.YAMLError, KeyError, TypeError, IndexError) as error:
                raise DataError(f"{file}: has no `names` of classes: {error}") from error
    raise DataError(
        f"{str(root)!r} has labels/ and names no classes",
        hint="add classes.txt with a name a line, or data.yaml with `names`",
    )


# -- all -------------------------------------------------------------------------------------------


def _boxes(rows: Sequence[tuple[list[float], str, Outline]]) -> Boxes:
    if not rows:
        return Boxes()
    boxes, names, outlines = zip(*rows, strict=True)
    return Boxes(
        np.asarray(boxes, dtype=np.float64), names, outlines=outlines if any(outlines) else ()
    )


def _find_image(folder: Path, name: str) -> Path | None:
    """The file of an image below a folder or its images/, never outside of it."""
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or ".." in parts:
        return None
    places = (folder / name, *(folder / inner / name for inner in IMAGES))
    return next((place for place in places if place.is_file()), None)

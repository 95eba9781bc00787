"""Images that are files of their own: folders, lists, and the built-in ones."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from aigc_cli.data._names import clean_name, is_hidden
from aigc_cli.data._paths import listed
from aigc_cli.data._sources._source import Source
from aigc_cli.errors import DataError, MissingError, did_you_mean
from aigc_cli.media.image import SUFFIXES, Raster, begins_like_image, read_image

# Color photographs of scikit-image's wheel. The two held out share no scene with the others.
PHOTOS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    "validation": ("chelsea.png", "coffee.png"),
}


class FileSource(Source):
    """Images that are files of their own."""

    def __init__(self, paths: Sequence[str | Path], names: Sequence[str]) -> None:
        self.paths, self.names = [str(path) for path in paths], [clean_name(n) for n in names]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.names[index]

    def fingerprint(self, index: int) -> str:
        path = self.paths[index]
        try:
            status = os.stat(path)
        except OSError:
            return f"{path}|absent"
        return f"{path}|{status.st_size}|{status.st_mtime_ns}"

    def read(self, index: int) -> Raster:
        path, name = self.paths[index], self.names[index]
        return read_image(Path(path), name=name, max_pixels=self.max_pixels)

    def content(self, index: int) -> bytes:
        try:
            return Path(self.paths[index]).read_bytes()
        except OSError as error:
            raise DataError(f"{self.names[index]}: cannot be read: {error.strerror}") from error


def folder(path: Path) -> FileSource:
    """Every image below `path`, by name; hidden files and `__MACOSX` are no images. A file
    without an ending is one when it begins like one. `skipped` counts the others.

    Raises:
        DataError: there is none, or the folder cannot be listed.
    """
    found: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    for name, place in _walk(str(path), skipped):
        if is_picture(name, place):
            found[name] = place
        else:
            skipped[PurePosixPath(name).suffix.lower() or "no ending"] += 1
    if not found:
        raise DataError(f"no images in {str(path)!r}", hint=_what_instead(path))
    names = sorted(found)
    source = FileSource([found[name] for name in names], names)
    source.skipped = +skipped
    return source


def is_picture(name: str, place: str) -> bool:
    """By its ending, or, where it has none, by its first bytes."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix.strip(".") or os.path.isdir(place):
        return suffix in SUFFIXES
    try:
        if not stat.S_ISREG(os.stat(place).st_mode):  # never wait for a pipe
            return False
        with open(place, "rb") as file:
            return begins_like_image(file.read(16))
    except OSError:
        return False


def _walk(top: str, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    """Relative name and path of each file; counts the hidden ones that end like images. A folder
    is entered once, however many links lead to it.
    """
    waiting, seen = [("", top)], set()
    while waiting:
        inside, here = waiting.pop()
        try:
            status = os.stat(here)
            children = list(os.scandir(here))
        except OSError as error:
            raise DataError(f"cannot list {here!r}: {error.strerror}") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for child in sorted(children, key=lambda entry: entry.name):
            if is_hidden(child.name):
                hidden = Path(child.path).rglob("*") if child.is_dir() else [Path(child.path)]
                skipped["hidden"] += sum(file.suffix.lower() in SUFFIXES for file in hidden)
                continue
            # a folder that is called like an image is named by the check
            ends_like_picture = os.path.splitext(child.name)[1].lower() in SUFFIXES
            if not ends_like_picture and os.path.isdir(child.path):
                waiting.append((f"{inside}{child.name}/", child.path))
            else:
                yield inside + child.name, child.path


def is_table(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".arrow")


def _what_instead(path: Path) -> str:
    """Hint for a folder without images: what it holds that another source could read."""
    names = sorted(name for name in listed(path) if not name.startswith("."))
    if any(is_table(Path(name)) or name == "dataset_dict.json" for name in names):
        return f"write hf:{path} to read it with Hugging Face datasets"
    for name in names:
        if name.endswith(".zip") or re.search(r"images-idx3-ubyte(\.gz)?$", name):
            return f"did you mean {path / name}?"
    if not names:
        return "the folder is empty"
    return f"known suffixes are {', '.join(sorted(SUFFIXES))}"


def list_file(path: Path) -> FileSource:
    """The paths in a text file; entries that are missing are found when the images are checked.

    Raises:
        DataError: it is no UTF-8 text, or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: not UTF-8 text at byte {error.start}") from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from error
    entries = [line.strip() for line in lines]
    entries = [entry for entry in entries if entry and not entry.startswith("#")]
    for entry in entries:
        if not entry.isprintable():
            raise DataError(f"{path.name}: {entry[:80]!r} is no path")
    if not entries:
        raise DataError(f"no images are named in {str(path)!r}")
    return FileSource([path.parent / entry for entry in entries], entries)


def builtin(name: str) -> FileSource:
    """`photos`, `photos:train` or `photos:validation`, from scikit-image's own folder.

    Raises:
        DataError: the split is another one.
        MissingError: scikit-image is not installed.
    """
    _, _, split = name.partition(":")
    if split and split not in PHOTOS:
        raise DataError(
            f"unknown split {split!r} of builtin:photos", hint=did_you_mean(split, PHOTOS)
        )
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            "builtin:photos are in scikit-image, which is not installed",
            hint="pip install scikit-image",
        )
    place = Path(spec.submodule_search_locations[0]) / "data"
    names = sorted(PHOTOS[split] if split else sum(PHOTOS.values(), ()))
    return FileSource([place / file for file in names], names)

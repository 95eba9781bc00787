"""Where pictures come from: one text in a recipe, one class for each kind of store.

| text                         | what it is                                                       |
|------------------------------|------------------------------------------------------------------|
| `photos/`                    | folder, searched recursively for pictures                        |
| `photo.png`                  | one picture                                                      |
| `photos.zip`                 | the pictures in a zip, read without unpacking                    |
| `photos.zip/cat`             | those in one of its folders                                      |
| `photos.txt`                 | one path a line, relative to the file; `#` begins a comment line |
| `train-images-idx3-ubyte.gz` | MNIST's format, with the labels file beside it                   |
| `hf:user/name[:split]`       | data set of the Hugging Face hub, downloaded by `datasets`       |
| `hf:folder[:split]`          | the same from disk: saved data set, imagefolder, parquet, arrow  |
| `builtin:photos[:split]`     | photographs inside scikit-image; split is train or validation    |

A relative path is looked for in the working folder and then beside the recipe. The order of the
pictures is that of their names, so it is the same on every machine.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import zipfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from aigc_cli.errors import DataError, MissingError, did_you_mean
from aigc_cli.media.image import MAX_PIXELS, SUFFIXES, Picture, read_picture

# Colour photographs of scikit-image's wheel. The two held out share no scene with the others.
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


class Source(ABC):
    """Numbered pictures. Instances travel to worker processes without their open files."""

    text: str
    """What the recipe says, for messages."""
    max_pixels: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Relative name with `/`, free of `..` and control characters; also safe as a file name."""

    @abstractmethod
    def fingerprint(self, index: int) -> str:
        """Text that changes when the stored bytes do."""

    @abstractmethod
    def read(self, index: int) -> Picture:
        """The decoded picture, upright.

        Raises:
            DataError: the picture cannot be used; the message names it.
        """

    def twin_name(self, index: int) -> str:
        """What the picture that belongs to it in another source is called too: no ending."""
        return str(PurePosixPath(self.name(index)).with_suffix(""))

    def labels(self) -> list[str] | None:
        """Class of each picture; None when there are no classes."""
        return folder_labels([self.name(index) for index in range(len(self))])


def open_source(
    text: str | Sequence[str],
    *,
    bases: Sequence[Path] = (),
    max_pixels: int = MAX_PIXELS,
    key: str = "data",
) -> Source:
    """The source that `text` means, or several as one; `key` is the recipe key that messages name.

    Raises:
        DataError: nothing is there, or it holds no pictures.
        MissingError: `hf:` without the package `datasets`.
    """
    if not isinstance(text, str):
        parts = [open_source(t, bases=bases, max_pixels=max_pixels, key=key) for t in text]
        return parts[0] if len(parts) == 1 else Joined(parts)
    try:
        source = _open(text, bases)
    except DataError as error:
        raise DataError(f"{key}: {error.message}", hint=error.hint) from error
    source.text, source.max_pixels = text, max_pixels
    return source


def _open(text: str, bases: Sequence[Path]) -> Source:
    kind, _, rest = text.partition(":")
    if kind == "builtin":
        return builtin(rest)
    if kind == "hf":
        return HuggingFace.open(rest, bases)
    if place := zip_folder(text, bases):
        return Zip(*place)
    path = find_path(text, bases)
    if path.is_dir():
        return folder(path)
    if path.suffix.lower() in SUFFIXES:
        return Files([path], [path.name])
    if path.suffix.lower() == ".zip":
        return Zip(path)
    if path.suffix.lower() == ".txt":
        return list_file(path)
    if re.search(r"-idx3-ubyte(\.gz)?$", path.name):
        return Idx(path)
    raise DataError(
        f"{text!r} is no folder, picture, zip, .txt list or idx3-ubyte file",
        hint=f"write hf:{text} for a parquet or arrow file" if _is_table(path) else None,
    )


def zip_folder(text: str, bases: Sequence[Path]) -> tuple[Path, str] | None:
    """The zip and the folder in it that a text such as `photos.zip/cat` means, if it means that."""
    match = re.fullmatch(r"(.*?\.zip)/+(.*[^/])/*", text, re.IGNORECASE)
    if match is None:
        return None
    archive, inner = Path(match[1]).expanduser(), match[2]
    paths = [base / archive for base in bases or (Path(),)]
    return next(((path.resolve(), inner) for path in paths if path.is_file()), None)


def subfolders(text: str, bases: Sequence[Path]) -> list[str]:
    """Names of the folders that lie directly in a folder or zip; none when it is something else."""
    if text.startswith(("hf:", "builtin:")) or not text.isprintable():
        return []
    try:
        path, inner = zip_folder(text, bases) or (find_path(text, bases), "")
        if path.is_dir():
            return sorted(child.name for child in path.iterdir() if child.is_dir())
        if path.suffix.lower() != ".zip":
            return []
        return sorted({name.split("/")[0] for name in Zip(path, inner).names if "/" in name})
    except (DataError, OSError):  # whoever opens the source says it better
        return []


def find_path(text: str, bases: Sequence[Path]) -> Path:
    """Where `text` is, tried against each base in turn; an absolute path ignores them.

    Raises:
        DataError: it is nowhere; the message says where it was looked for.
    """
    if not text or not text.isprintable():
        raise DataError(f"{text!r} is no path")
    given = Path(text).expanduser()
    tried = dict.fromkeys(base / given for base in bases or (Path(),))
    for path in tried:
        if os.path.exists(path):
            return path.resolve()
    folders = [str(base.absolute()) for base in bases or (Path(),)]
    places = "" if given.is_absolute() else f"; looked in {' and in '.join(dict.fromkeys(folders))}"
    siblings = [name for path in tried for name in _listed(path.parent)]
    hint = did_you_mean(given.name, siblings)
    raise DataError(
        f"{text!r} does not exist{places}", hint=hint if hint.startswith("did") else None
    )


def _listed(path: Path) -> list[str]:
    """Names in a folder; none when it cannot be listed."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def clean_name(name: str) -> str:
    """`name` as a harmless relative path: no drive, no root, no `..`, nothing unprintable.

    >>> clean_name("../../etc/pass\\nwd"), clean_name("C:\\\\photos\\\\a.png")
    ('etc/pass?wd', 'photos/a.png')
    """
    parts = re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")).split("/")
    safe = "/".join(part for part in parts if part not in ("", ".", ".."))
    return "".join(c if c.isprintable() else "?" for c in safe)


def folder_labels(names: Sequence[str]) -> list[str] | None:
    """Class of each picture: the first folder in which the names differ; None when there is none.

    Pictures in the outermost folder mean that the folders are no classes.

    >>> folder_labels(["train/cat/1.png", "train/dog/1.png"])
    ['cat', 'dog']
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    for depth in count():
        here = {parts[depth : depth + 1] for parts in folders}
        if not here or () in here:
            return None
        if len(here) > 1:
            return [parts[depth] for parts in folders]
    raise AssertionError("unreachable")


def beside_folders(names: Sequence[str]) -> list[str]:
    """Images that lie beside folders of others, which makes the folders no classes.

    >>> beside_folders(["p/cat/1.png", "p/dog/1.png", "p/2.png"])
    ['p/2.png']
    """
    parents = [PurePosixPath(name).parent for name in names]
    above = {folder for parent in set(parents) for folder in parent.parents}
    return [name for name, parent in zip(names, parents, strict=True) if parent in above]


class Files(Source):
    """Pictures that are files of their own."""

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self.paths, self.names = list(paths), [clean_name(name) for name in names]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.names[index]

    def fingerprint(self, index: int) -> str:
        path = self.paths[index]
        try:
            status = path.stat()
        except OSError:
            return f"{path}|absent"
        return f"{path}|{status.st_size}|{status.st_mtime_ns}"

    def read(self, index: int) -> Picture:
        path, name = self.paths[index], self.names[index]
        return read_picture(path, name=name, max_pixels=self.max_pixels)


def folder(path: Path) -> Files:
    """Every picture below `path`, by name; hidden files and `__MACOSX` are no pictures.

    Raises:
        DataError: there is none, or the folder cannot be listed.
    """
    found = sorted((str(file.relative_to(path).as_posix()), file) for file in _walk(path))
    if not found:
        raise DataError(f"no pictures in {str(path)!r}", hint=_what_instead(path))
    return Files([file for _, file in found], [name for name, _ in found])


def _walk(top: Path) -> Iterator[Path]:
    """Files with a picture's suffix. A folder is entered once, however many links lead to it."""
    waiting, seen = [top], set()
    while waiting:
        here = waiting.pop()
        try:
            status = here.stat()
            children = sorted(here.iterdir())
        except OSError as error:
            raise DataError(f"cannot list {str(here)!r}: {error.strerror}") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for child in children:
            if child.name.startswith(".") or child.name == "__MACOSX":
                continue
            if child.suffix.lower() in SUFFIXES:
                yield child  # even a folder: the check will name it
            elif child.is_dir():
                waiting.append(child)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".arrow")


def _what_instead(path: Path) -> str:
    """Hint for a folder without pictures: what it holds that another source could read."""
    names = sorted(name for name in _listed(path) if not name.startswith("."))
    if any(_is_table(Path(name)) or name == "dataset_dict.json" for name in names):
        return f"write hf:{path} to read it with Hugging Face datasets"
    for name in names:
        if name.endswith(".zip") or re.search(r"images-idx3-ubyte(\.gz)?$", name):
            return f"did you mean {path / name}?"
    if not names:
        return "the folder is empty"
    return f"known suffixes are {', '.join(sorted(SUFFIXES))}"


def list_file(path: Path) -> Files:
    """The paths in a text file; entries that are missing are found when the pictures are checked.

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
            raise DataError(f"{path.name}: {entry!r} is no path")
    if not entries:
        raise DataError(f"no pictures are named in {str(path)!r}")
    return Files([path.parent / entry for entry in entries], entries)


def builtin(name: str) -> Files:
    """`photos`, `photos:train` or `photos:validation`, from scikit-image's own folder.

    Raises:
        DataError: the name is another one.
        MissingError: scikit-image is not installed.
    """
    collection, _, split = name.partition(":")
    if collection != "photos":
        raise DataError(f"unknown builtin data {collection!r}", hint="there is builtin:photos")
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
    return Files([place / file for file in names], names)


class Joined(Source):
    """Several sources, one after the other."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = list(parts)
        self.text = ", ".join(part.text for part in parts)
        self.max_pixels = parts[0].max_pixels
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, index: int) -> tuple[Source, int]:
        part = bisect_right(self._ends, index)
        return self.parts[part], index - (self._ends[part - 1] if part else 0)

    def name(self, index: int) -> str:
        """The name in its part behind the last word of what the recipe calls the part."""
        part, number = self._find(index)
        return f"{PurePosixPath(clean_name(part.text)).name}/{part.name(number)}"

    def twin_name(self, index: int) -> str:
        part, number = self._find(index)
        return f"{self.parts.index(part)}/{part.twin_name(number)}"

    def fingerprint(self, index: int) -> str:
        part, number = self._find(index)
        return part.fingerprint(number)

    def read(self, index: int) -> Picture:
        part, number = self._find(index)
        try:
            return part.read(number)
        except DataError as error:
            reason = error.message.removeprefix(f"{part.name(number)}: ")
            raise DataError(f"{self.name(index)}: {reason}") from error

    def labels(self) -> list[str] | None:
        labels = [part.labels() for part in self.parts]
        if any(known is None for known in labels):
            return None
        return [label for known in labels for label in known or ()]


class _PerProcess:
    """A resource opened again in each process: neither pickled nor shared across a fork."""

    def __init__(self, open_: Callable[[], Any]) -> None:
        self._open = open_
        self._owner, self._value = 0, None

    def __call__(self) -> Any:
        if self._owner != os.getpid():
            self._owner, self._value = os.getpid(), self._open()
        return self._value

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": self._open, "_owner": 0, "_value": None}


class Zip(Source):
    """The pictures inside a zip file. Nothing is unpacked, and sizes are checked before reading.

    With `inner` only those in that folder, whose names begin there.

    Raises:
        DataError: it is no zip, has no such folder, or no pictures.
    """

    def __init__(self, path: Path, inner: str = "") -> None:
        self.path = path
        self._archive = _PerProcess(partial(zipfile.ZipFile, path))
        try:
            members = self._archive().infolist()
            status = path.stat()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(f"{path.name}: not a readable zip file ({error})") from error
        named = sorted(
            (name, number)
            for number, member in enumerate(members)
            if not member.is_dir() and _is_picture(name := clean_name(member.filename))
        )
        if not named:
            raise DataError(f"no pictures in {str(path)!r}")
        if inner:
            named = _within(named, inner, path)
        self.names = [name for name, _ in named]
        self.members = [members[number] for _, number in named]
        self._stamp = f"{path}|{status.st_size}|{status.st_mtime_ns}"

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def fingerprint(self, index: int) -> str:
        member = self.members[index]
        return f"{self._stamp}|{member.header_offset}|{member.CRC}"

    def read(self, index: int) -> Picture:
        name, member = self.names[index], self.members[index]
        limit = 8 * self.max_pixels + (1 << 20)  # 16-bit RGBA without compression
        if member.file_size > limit:
            raise DataError(f"{name}: unpacks to {member.file_size / 1e6:.0f} MB")
        try:
            content = self._archive().read(member)
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"{name}: damaged in the zip ({error})") from error
        except (RuntimeError, NotImplementedError) as error:
            raise DataError(f"{name}: encrypted, or of an unknown compression") from error
        except Exception as error:  # zlib, lzma and bz2 each have their own for bad streams
            raise DataError(f"{name}: damaged in the zip ({error})") from error
        return read_picture(content, name=name, max_pixels=self.max_pixels)


def _within(named: list[tuple[str, int]], inner: str, path: Path) -> list[tuple[str, int]]:
    """The pictures in one folder of a zip, named from there."""
    start = f"{clean_name(inner)}/"
    inside = [(name.removeprefix(start), n) for name, n in named if name.startswith(start)]
    if not inside:
        folders = {str(p) for name, _ in named for p in PurePosixPath(name).parents} - {"."}
        raise DataError(
            f"{path.name} has no pictures in a folder {inner!r}", hint=did_you_mean(inner, folders)
        )
    return inside


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


class Idx(Source):
    """Gray pictures in MNIST's IDX format, plain or gzipped, with labels when their file is there.

    LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist

    Raises:
        DataError: a header or a length is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pixels = _PerProcess(partial(read_idx, path, 3))
        self._length = len(self._pixels())
        status = path.stat()
        self._stamp = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        self._labels: np.ndarray | None = None
        if labels != path and labels.is_file():
            self._labels = read_idx(labels, 1)
            if len(self._labels) != self._length:
                raise DataError(
                    f"{labels.name} has {len(self._labels)} labels for {self._length} pictures"
                )

    def __len__(self) -> int:
        return self._length

    def name(self, index: int) -> str:
        return f"{self.path.name.split('-idx3')[0]}/{index:0{len(str(self._length - 1))}d}"

    def fingerprint(self, index: int) -> str:
        return f"{self._stamp}|{index}"

    def labels(self) -> list[str] | None:
        return None if self._labels is None else [str(label) for label in self._labels]

    def read(self, index: int) -> Picture:
        return Picture(pixels=self._pixels()[index, :, :, None])


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Array of bytes with `ndim` axes from an IDX file.

    Raises:
        DataError: it is no such file, or shorter or longer than it says.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4 + 4 * ndim)
            if head[:4] != bytes((0, 0, 8, ndim)) or len(head) < 4 + 4 * ndim:
                raise DataError(f"{path.name}: not an IDX file of bytes with {ndim} axes")
            shape = tuple(np.frombuffer(head, ">u4", offset=4).tolist())
            size = int(np.prod(shape, dtype=object))
            content = file.read(min(size, 1 << 32) + 1)
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name}: cannot be read ({error})") from error
    if len(content) != size:
        raise DataError(f"{path.name}: holds {len(content)} bytes where its header says {size}")
    return np.frombuffer(content, np.uint8).reshape(shape)


class HuggingFace(Source):
    """One split of a Hugging Face data set; pictures are decoded here, so every limit holds."""

    def __init__(self, split: Any, image: str, label: str | None) -> None:
        self._split, self._image, self._label = split, image, label

    @classmethod
    def open(cls, text: str, bases: Sequence[Path]) -> HuggingFace:
        """Load `name[:split]`; raises as `load_split`, or DataError: no pictures in it."""
        loaded, name = load_split(text, bases)
        import datasets

        columns = loaded.features
        images = [c for c, kind in columns.items() if isinstance(kind, datasets.Image)]
        if not images:
            raise DataError(
                f"{name!r} has no column of pictures", hint=f"columns: {', '.join(columns)}"
            )
        labels = [c for c, kind in columns.items() if isinstance(kind, datasets.ClassLabel)]
        raw = loaded.cast_column(images[0], datasets.Image(decode=False))
        return cls(raw, images[0], labels[0] if labels else None)

    def __len__(self) -> int:
        return len(self._split)

    def name(self, index: int) -> str:
        return f"row-{index:0{len(str(len(self) - 1))}d}"

    def fingerprint(self, index: int) -> str:
        return f"{self._split._fingerprint}|{index}"

    def labels(self) -> list[str] | None:
        if self._label is None:
            return None
        names = self._split.features[self._label].names
        return [names[number] for number in self._split[self._label]]

    def read(self, index: int) -> Picture:
        cell = self._split[index][self._image]
        name = self.name(index)
        if cell is None:
            raise DataError(f"{name}: no picture")
        content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])
        return read_picture(content, name=name, max_pixels=self.max_pixels)


def load_split(text: str, bases: Sequence[Path]) -> tuple[Any, str]:
    """The data set `name[:split]`, and its name; the split defaults to train, or to the only one.

    Raises:
        DataError: no such data set or split, or it cannot be fetched.
        MissingError: the package `datasets` is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "hf: data needs the package datasets", hint="pip install datasets"
        ) from error
    name, split = _name_and_split(text, bases)
    try:
        loaded = _load(name)
    except DataError:
        raise
    except Exception as error:  # datasets, huggingface_hub, httpx and pyarrow raise their own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        hint = "check the name and the network, or name a local copy: hf:FOLDER"
        raise DataError(
            f"cannot load the data set {str(name)!r}: {reason}",
            hint=hint if isinstance(name, str) else None,
        ) from error
    if isinstance(loaded, dict):
        splits = list(loaded)
        split = split or ("train" if "train" in splits or len(splits) != 1 else splits[0])
        if split not in splits:
            raise DataError(
                f"{str(name)!r} has no split {split!r}", hint=did_you_mean(split, splits)
            )
        loaded = loaded[split]
    return loaded, str(name)


def _name_and_split(text: str, bases: Sequence[Path]) -> tuple[str | Path, str]:
    """`name[:split]`, where a name that exists on disk means that folder or file."""
    for name, split in ((text, ""), (text.rpartition(":")[0], text.rpartition(":")[2])):
        for base in bases or (Path(),):
            if name and os.path.exists(base / name):
                return (base / name).resolve(), split
    name, _, split = text.partition(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        find_path(name, bases)
    return name, split


def _load(name: str | Path) -> Any:
    """A data set, or a dict of its splits, from the hub or from disk."""
    import datasets

    datasets.disable_progress_bars()
    if isinstance(name, str):
        return datasets.load_dataset(name)
    if (name / "state.json").exists() or (name / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(name))
    if name.is_file():
        kind = {".parquet": "parquet", ".arrow": "arrow"}.get(name.suffix.lower())
        if kind is None:
            raise DataError("only .parquet and .arrow files can be read")
        return datasets.load_dataset(kind, data_files=str(name))
    return datasets.load_dataset(str(name))

"""Where images come from: one text in a recipe, one class for each kind of store.

| text                         | what it is                                                       |
|------------------------------|------------------------------------------------------------------|
| `photos/`                    | folder, searched recursively for images                        |
| `photo.png`                  | one image                                                      |
| `photos.zip`                 | the images in a zip, read without unpacking                    |
| `photos.zip/cat`             | those in one of its folders                                      |
| `photos.txt`                 | one path a line, relative to the file; `#` begins a comment line |
| `train-images-idx3-ubyte.gz` | MNIST's format, with the labels file beside it                   |
| `x.npz`, `x.npz:train`       | arrays of MedMNIST or Keras, of a part if there are several      |
| `hf:user/name[:split]`       | data set of the Hugging Face hub, downloaded by `datasets`       |
| `hf:folder[:split]`          | the same from disk: saved data set, imagefolder, parquet, arrow  |
| `shards`, `shards/cat`       | what `aigc data shard` made, or one of the folders in it         |
| `https://host/x/index.json`  | the same behind an address, also `s3://` and what fsspec knows   |
| `builtin:photos[:split]`     | photographs inside scikit-image; split is train or validation    |
| `builtin:emoji:yellow`       | part of a set inside the package; catalog/find.py has the rules  |
| `fashion_mnist`, `mnist/test` | set of the catalog, or part of it, that `aigc data get` fetched |

A relative path is looked for in the working folder and then beside the recipe. The order of the
images is that of their names, so it is the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from aigc_cli.catalog.builtin import parts_of
from aigc_cli.data._names import (
    beside_folders,
    clean_name,
    folder_labels,
    is_hidden,
)
from aigc_cli.data._paths import find_path, find_shards, npz_part, zip_folder
from aigc_cli.data._shards import Shards
from aigc_cli.data._sources._files import (
    PHOTOS,
    FileSource,
    builtin,
    folder,
    is_picture,
    is_table,
    list_file,
)
from aigc_cli.data._sources._hugging_face import HuggingFace, load_split
from aigc_cli.data._sources._idx import Idx
from aigc_cli.data._sources._joined import Joined
from aigc_cli.data._sources._npz import Npz
from aigc_cli.data._sources._sharded import Sharded
from aigc_cli.data._sources._source import Source
from aigc_cli.data._sources._zip import Zip
from aigc_cli.errors import DataError
from aigc_cli.media.image import MAX_PIXELS

__all__ = [
    "PHOTOS",
    "FileSource",
    "HuggingFace",
    "Idx",
    "Joined",
    "Npz",
    "Source",
    "Zip",
    "beside_folders",
    "clean_name",
    "find_path",
    "folder_labels",
    "is_hidden",
    "load_split",
    "open_source",
    "subfolders",
    "zip_folder",
]


def open_source(
    text: str | Sequence[str],
    *,
    bases: Sequence[Path] = (),
    max_pixels: int = MAX_PIXELS,
    key: str = "data",
) -> Source:
    """The source that `text` means, or several as one; `key` is the recipe key that messages name.

    Raises:
        DataError: nothing is there, or it holds no images.
        MissingError: `hf:` without the package `datasets`.
    """
    if isinstance(text, str) and not text.startswith("builtin:photos"):
        text = parts_of(text) or text
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
    if kind == "builtin" and rest.partition(":")[0] == "photos":
        return builtin(rest)
    if kind == "hf":
        return HuggingFace.open(rest, bases)
    if place := zip_folder(text, bases):
        return Zip(*place)
    if shards := find_shards(text, bases):
        return Sharded(*shards)
    if arrays := npz_part(text, bases):
        return Npz(*arrays)
    path = find_path(text, bases)
    if path.is_dir():
        return folder(path)
    if is_picture(path.name, str(path)):
        return FileSource([path], [path.name])
    if path.suffix.lower() == ".zip":
        return Zip(path)
    if path.suffix.lower() == ".txt":
        return list_file(path)
    if re.search(r"-idx3-ubyte(\.gz)?$", path.name):
        return Idx(path)
    raise DataError(
        f"{text!r} is no folder, image, zip, .txt list, .npz or idx3-ubyte file",
        hint=f"write hf:{text} for a parquet or arrow file" if is_table(path) else None,
    )


def subfolders(text: str, bases: Sequence[Path]) -> list[str]:
    """Names of the folders that lie directly in a folder or zip; none when it is something else."""
    if text.startswith(("hf:", "builtin:photos")) or not text.isprintable():
        return []
    try:
        if npz_part(text, bases):
            return []
        if shards := find_shards(text, bases):
            folders = Shards(*shards).folders[1]
            return sorted({folder.split("/")[0] for folder in folders} - {""})
        path, inner = zip_folder(text, bases) or (find_path(text, bases), "")
        if path.is_dir():
            return sorted(child.name for child in path.iterdir() if child.is_dir())
        if path.suffix.lower() != ".zip":
            return []
        return sorted({name.split("/")[0] for name in Zip(path, inner).names if "/" in name})
    except (DataError, OSError):  # whoever opens the source says it better
        return []

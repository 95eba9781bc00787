"""Data sets of the Hugging Face hub, and the same from disk."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aigc_cli.data._paths import find_path
from aigc_cli.data._sources._source import Source
from aigc_cli.errors import DataError, MissingError, did_you_mean
from aigc_cli.media.image import Raster, read_image


class HuggingFace(Source):
    """One split of a Hugging Face data set; images are decoded here, so every limit holds."""

    def __init__(self, split: Any, image: str, label: str | None) -> None:
        self._split, self._image, self._label = split, image, label

    @classmethod
    def open(cls, text: str, bases: Sequence[Path]) -> HuggingFace:
        """Load `name[:split]`; raises as `load_split`, or DataError: no images in it."""
        loaded, name = load_split(text, bases)
        import datasets

        columns = loaded.features
        images = [c for c, kind in columns.items() if isinstance(kind, datasets.Image)]
        if not images:
            raise DataError(
                f"{name!r} has no column of images", hint=f"columns: {', '.join(columns)}"
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

    def content(self, index: int) -> bytes:
        cell = self._split[index][self._image]
        if cell is None or cell["bytes"] is None:
            return super().content(index)
        return bytes(cell["bytes"])

    def read(self, index: int) -> Raster:
        cell = self._split[index][self._image]
        name = self.name(index)
        if cell is None:
            raise DataError(f"{name}: no image")
        content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])
        return read_image(content, name=name, max_pixels=self.max_pixels)


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

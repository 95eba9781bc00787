"""Tokenizers of a recipe, and texts as token ids in a file that is mapped into memory.

Rows of ids lie one after the other: those of a row, of all rows, then where each begins, then the
number of rows. The file is named by the digest of all it depends on and gets its name when it is
complete, so what is there under a name is whole. Texts are read, encoded and written piece by
piece, so they may be larger than the memory.
"""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model, model_validator

from aigc_cli.catalog.weights import find_model, is_model
from aigc_cli.data._cache import digest, trim
from aigc_cli.data._suggest import Suggestions
from aigc_cli.errors import DataError, DiskFullError, InputError, OutputError
from aigc_cli.media.files import write_bytes
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.text.folder import read_tokenizer
from aigc_cli.text.tokenizer import SPECIALS, Tokenizer
from aigc_cli.text.tokenizer_training import Kind

VERSION = 1  # raise it when the same texts would become other ids
CHAT = ("<|system|>", "<|user|>", "<|assistant|>")
VOCABULARY = 8000  # the default of bpe and unigram
BYTES_PER_TOKEN = 200  # of training text that a token of the vocabulary should have, at least
CHUNK = 1 << 20  # ids that are looked at at once
PIECE = 1 << 18  # characters that are encoded at once
UNWRITABLE = "data.cache cannot be written (%s): this run keeps its texts apart"

Ids = NDArray[np.integer[Any]]

# `from` is a word of Python, so no class can be written with a field of this name.
_From = cast(
    "type[Section]",
    create_model(
        "_From",
        __base__=Section,
        **{
            "from": (
                Name | None,
                Field(
                    None,
                    description="Run, checkpoint or tokenizer.json whose tokenizer is taken, "
                    "instead of one that is trained on the training texts.",
                ),
            )
        },  # type: ignore[call-overload]
    ),
)

log = logging.getLogger(__name__)


class TokenizerConfig(_From):  # type: ignore[valid-type, misc]
    """How texts become tokens."""

    kind: Kind = "bpe"
    """bpe and unigram: pieces of words, every text can be written; characters; words."""
    vocab_size: int | None = Field(None, gt=0, le=1_000_000)
    """Most tokens, all included; by default 8000 of bpe and unigram, and all there are of others.
    """
    min_count: int = Field(1, ge=1)
    """Least occurrences of a character, a word, or a pair that bpe merges."""
    lowercase: bool = False
    """Make all letters small first."""
    specials: Literal["none", "texts", "chat"] = "texts"
    """texts: padding, begin and end; chat: also what begins a turn; none: for characters only."""

    @model_validator(mode="after")
    def _fits_together(self) -> TokenizerConfig:
        if self.specials == "none" and self.kind != "characters":
            raise ValueError(f"specials: none needs kind characters, not {self.kind}")
        if self.kind == "unigram" and self.min_count > 1:
            raise ValueError("unigram has no min_count")
        return self

    @property
    def source(self) -> str | None:
        """The value of `from`."""
        return cast("str | None", getattr(self, "from"))

    @property
    def names(self) -> tuple[str, ...]:
        return {"none": (), "texts": SPECIALS, "chat": (*SPECIALS, *CHAT)}[self.specials]


class ChatTokenizerConfig(TokenizerConfig):
    """How conversations become tokens."""

    specials: Literal["none", "texts", "chat"] = "chat"
    """texts: padding, begin and end; chat: also what begins a turn; none: for characters only."""


def fit_vocabulary(config: TokenizerConfig, size: int) -> Suggestions:
    """`tokenizer.vocab_size` for `size` bytes of text, for `suggest`; nothing where the
    default suits, or something else was chosen.
    """
    tokens = max(512, size // BYTES_PER_TOKEN // 64 * 64)
    chosen = config.source is not None or config.vocab_size is not None
    if chosen or config.kind not in ("bpe", "unigram") or tokens >= VOCABULARY:
        return {}
    reason = f"For {size:,} bytes of text; with more tokens most were too rare to be learned."
    return {"tokenizer.vocab_size": (tokens, reason)}


def find_tokenizer(
    config: TokenizerConfig,
    texts: Callable[[], Iterable[str]],
    *,
    source: str,
    key: Iterable[object],
    cache: Path | None,
    bases: Sequence[Path],
    role: Literal["source", "target"] = "target",
) -> Tokenizer:
    """The tokenizer that is named, remembered or trained; `key` is all that `texts` depend on.

    source: where the texts are, for messages.
    role: whose tokenizer of a checkpoint that has two.

    Raises:
        DataError: there is no text, or nothing usable where `from` points.
    """
    if config.source is not None:
        return load_tokenizer(config.source, bases, role)
    values = config.model_dump()
    path = cache / "tokenizers" / f"{digest([VERSION, *key, values])}.json" if cache else None
    if path is not None:
        with suppress(OSError, InputError, ValueError):
            return Tokenizer.from_json(path.read_text(encoding="utf-8"))
    try:
        tokenizer = Tokenizer.train(
            texts(),
            kind=config.kind,
            vocab_size=config.vocab_size,
            min_count=config.min_count,
            lowercase=config.lowercase,
            specials=config.names,
        )
    except DataError:
        raise
    except InputError as error:
        raise DataError(f"data.tokenizer: {source}: {error.message}", hint=error.hint) from error
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, tokenizer.to_json().encode())
        except (OSError, DiskFullError, OutputError) as error:
            log.warning(UNWRITABLE, error)
    return tokenizer


def load_tokenizer(
    text: str, bases: Sequence[Path], role: Literal["source", "target"] = "target"
) -> Tokenizer:
    """The tokenizer in a tokenizer.json, also that of a folder of `transformers`, in a checkpoint,
    in the best checkpoint of a run, or of a model of the catalogue.

    Raises:
        DataError: there is none. MissingError: that model was not got yet.
    """
    path = _find(text, bases)
    try:
        if path.suffix == ".json":
            return read_tokenizer(path)
        return Tokenizer.from_json(_in_checkpoint(path, role))
    except (InputError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.tokenizer.from: {path}: {error}") from error


def _find(text: str, bases: Sequence[Path]) -> Path:
    places = [base / text for base in (*(bases or (Path(),)), Path("runs"))]
    if is_model(text) and not any(place.exists() for place in places):
        places = [find_model(text)]
    inside = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "tokenizer.json")
    for place in places:
        if place.is_file():
            return place
        for folder in (place, place / "latest"):
            for name in inside:
                if (folder / name).is_file():
                    return folder / name
    raise DataError(
        f"data.tokenizer.from: {text!r} is no run, checkpoint or tokenizer.json",
        hint="see what there is: aigc run ls",
    )


def _in_checkpoint(path: Path, role: str) -> str:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        spec = state["spec"]
        found = spec.get("tokenizer") or spec[f"{role}_tokenizer"]
    except Exception as error:  # hostile bytes end in errors of every type
        raise InputError("no checkpoint of a family that reads texts") from error
    return str(found)


class Tokens:
    """Rows of token ids in a file."""

    def __init__(self, file: IO[bytes], dtype: type[np.unsignedinteger[Any]]) -> None:
        size = os.fstat(file.fileno()).st_size
        file.seek(size - 8)
        count = int.from_bytes(file.read(8), "little")
        self._starts = np.memmap(file, "<i8", "r", size - 8 * (count + 2), (count + 1,))
        total = int(self._starts[-1])
        # An empty file cannot be mapped.
        self.ids: Ids = np.memmap(file, dtype, "r", 0, (total,)) if total else np.zeros(0, dtype)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Ids:
        """Ids of a row, read-only and lying in the file."""
        return self.ids[self._starts[row] : self._starts[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) ids in each."""
        return np.diff(self._starts)

    def chunks(self, every: slice = slice(None)) -> Iterator[Ids]:
        """The ids of every row in a slice of them, some at a time."""
        if every == slice(None):
            yield from (self.ids[i : i + CHUNK] for i in range(0, len(self.ids), CHUNK))
        else:
            yield from (self[row] for row in range(len(self))[every])


Piece = tuple[Sequence[int] | Ids, bool]
"""Ids, and whether they are the last of their row."""


def token_file(
    cache: Path | None, key: Iterable[object], vocab_size: int, make: Callable[[], Iterable[Piece]]
) -> Tokens:
    """The rows that `make` gives, from the cache where they are there. Without a folder, or with
    one that cannot be written, they lie in a temporary file that ends with the process.

    Raises:
        DataError: there is nowhere to write, or a character is unknown and there is no `<unk>`.
    """
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    path = cache / "tokens" / f"{digest([VERSION, dtype, *key])}.tokens" if cache else None
    try:
        if path is not None:
            try:
                return _cached(path, make, dtype)
            except OSError as error:  # such as a full disk, which is no reason not to train
                log.warning(UNWRITABLE, error)
        with tempfile.TemporaryFile() as file:  # the maps keep it
            _write(file, make(), dtype)
            return Tokens(file, dtype)
    except DataError:
        raise
    except InputError as error:  # of the tokenizer
        raise DataError(f"data.tokenizer: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise DataError(
            f"nowhere to keep the tokens of the texts ({error})",
            hint="set data.cache=FOLDER to a folder with space",
        ) from error


def _cached(
    path: Path, make: Callable[[], Iterable[Piece]], dtype: type[np.unsignedinteger[Any]]
) -> Tokens:
    """The rows in the file, which is written whole if it is not there. Raises OSError."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as new:
                _write(new, make(), dtype)
                os.fsync(new.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        trim(path.parent, keep=path)
    os.utime(path)
    with path.open("rb") as kept:
        return Tokens(kept, dtype)


def _write(file: IO[bytes], pieces: Iterable[Piece], dtype: type[np.unsignedinteger[Any]]) -> None:
    starts, total = array("q", [0]), 0
    for ids, last in pieces:
        file.write(np.asarray(ids, dtype).tobytes())
        total += len(ids)
        if last:
            starts.append(total)
    file.write(b"\0" * (-total * dtype().itemsize % 8))
    file.write(np.asarray([*starts, len(starts) - 1], "<i8").tobytes())
    file.flush()


def encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    """Ids of each text, many texts at a time."""
    for group in grouped(texts):
        yield from tokenizer.encode_batch(group)


def grouped(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of about PIECE characters."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text) + 1
        if size >= PIECE:
            yield group
            group, size = [], 0
    if group:
        yield group

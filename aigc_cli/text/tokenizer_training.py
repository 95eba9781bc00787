"""Learns the vocabulary of a tokenizer from texts; the kinds are those of `text.tokenizer`."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from aigc_cli.errors import InputError, PromptError

Kind = Literal["bpe", "unigram", "characters", "words"]
UNKNOWN = "<unk>"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SUBWORDS = 8000  # tokens of bpe and unigram when no number is given

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
_CJK_MARKS = "、。，！？；：「」『』（）《》〈〉【】…"  # noqa: RUF001
_WORD = rf"[\p{{L}}\p{{M}}\p{{N}}_&&[^{_CJK}]]"
_WORDS = rf"[{_CJK}]|(?<={_WORD})['’-]{_WORD}+|(?<=\p{{N}})[.,]\p{{N}}+|{_WORD}+|[^\s]|\n"  # noqa: RUF001
# A word takes a space before it, unless it is a clitic or mark, follows a bracket, or is CJK.
_GLUED = (
    r" (?=['’-]\w|[.,]\p{N}|[.,;:!?%…)\]}»])"  # noqa: RUF001
    r"|(?<=[(\[{«\n]) | (?=\n)"
    rf"|(?<=[{_CJK}{_CJK_MARKS}]) (?=[{_CJK}{_CJK_MARKS}])"
)
_PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s"


def codes(text: str) -> NDArray[np.uint32]:
    """The code points (L,) of a text.

    Raises:
        PromptError: half of a surrogate pair is among them.
    """
    try:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except UnicodeEncodeError as error:
        raise PromptError(f"the text cannot be written in UTF-8 ({error})") from error


def _engine(model: models.Model, lowercase: bool) -> Engine:
    engine = Engine(model)
    if lowercase:
        engine.normalizer = normalizers.Lowercase()
    return engine


Train = Callable[[Iterable[str], int | None, int, bool, Sequence[str]], Engine]


def _bpe(
    texts: Iterable[str], size: int | None, least: int, lowercase: bool, specials: Sequence[str]
) -> Engine:
    engine = _engine(models.BPE(), lowercase)
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_room(size, specials),
        min_frequency=least,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(_some(texts), trainer)
    return engine


def _unigram(
    texts: Iterable[str], size: int | None, least: int, lowercase: bool, specials: Sequence[str]
) -> Engine:
    """By sentencepiece, since the trainer in `tokenizers` follows the order of a random hash."""
    import sentencepiece

    engine = _engine(models.Unigram(), lowercase)
    # "<" stands alone, so that no text matches a special or the name of a byte.
    split = [pre_tokenizers.Split(pattern, "isolated") for pattern in ("<", Regex(_PIECES))]
    engine.pre_tokenizer = pre_tokenizers.Sequence(split)
    engine.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    room = _room(size, specials) - len(specials) - len(BYTES)
    counts = _counted(engine, texts)
    stored = io.BytesIO()
    if not all(map(str.isspace, counts)) and room > 1:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{w}\t{n}" for w, n in sorted(counts.items()) if not w.isspace()),
            input_format="tsv",
            model_writer=stored,
            model_type="unigram",
            vocab_size=room + 1,  # with its own <unk>
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            num_threads=4,  # a fixed number, as sums in another order round differently
            max_sentence_length=1 << 30,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    found = _scores(stored.getvalue())[:room]
    low = min((score for _, score in found), default=0.0) - 10
    pieces = [*((special, 0.0) for special in specials), *found, *((byte, low) for byte in BYTES)]
    engine.model = models.Unigram(pieces, unk_id=0, byte_fallback=True)
    return engine


def _scores(model: bytes) -> list[tuple[str, float]]:
    """Pieces of a sentencepiece model with their log-probabilities, likely ones first."""
    import sentencepiece

    if not model:
        return []
    trained = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [
        (trained.id_to_piece(n).replace("▁", " "), trained.get_score(n))
        for n in range(1, trained.get_piece_size())
    ]


def _characters(
    texts: Iterable[str], size: int | None, least: int, lowercase: bool, specials: Sequence[str]
) -> Engine:
    """A BPE without merges; ids by code point."""
    engine = _engine(models.BPE(), lowercase)
    engine.decoder = decoders.Fuse()
    seen = np.zeros(0, np.int64)  # how often each code point occurs
    for piece in _pieces(normal(engine, text) for text in _some(texts)):
        found = np.bincount(codes(piece), minlength=len(seen))
        found[: len(seen)] += seen
        seen = found
    counts = Counter({chr(code): int(seen[code]) for code in np.flatnonzero(seen)})
    fixed = [*specials, UNKNOWN] if specials else []
    chosen = sorted(_frequent(counts, size, least, len(fixed)))
    vocab = {token: number for number, token in enumerate([*fixed, *chosen])}
    engine.model = models.BPE(vocab, [], unk_token=UNKNOWN if specials else None)
    return engine


def _words(
    texts: Iterable[str], size: int | None, least: int, lowercase: bool, specials: Sequence[str]
) -> Engine:
    """Ids by falling count, then by code point."""
    engine = _engine(models.WordLevel(), lowercase)
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    spaced = decoders.WordPiece(prefix="##", cleanup=False)
    glued = decoders.Replace(Regex(_GLUED), "")
    engine.decoder = decoders.Sequence([spaced, decoders.Fuse(), glued])
    fixed = [*specials, UNKNOWN]
    chosen = _frequent(_counted(engine, texts), size, least, len(fixed))
    vocab = {token: number for number, token in enumerate([*fixed, *chosen])}
    engine.model = models.WordLevel(vocab, unk_token=UNKNOWN)
    return engine


TRAIN: dict[Kind, Train] = {
    "bpe": _bpe,
    "unigram": _unigram,
    "characters": _characters,
    "words": _words,
}


def _room(size: int | None, specials: Sequence[str]) -> int:
    size = SUBWORDS if size is None else size
    if size < len(specials) + len(BYTES):
        raise InputError(
            f"vocab_size {size} is less than the {len(BYTES)} bytes and {len(specials)} specials"
        )
    return size


def _some(texts: Iterable[str]) -> Iterator[str]:
    """The texts.

    Raises:
        InputError: all are empty.
    """
    empty = True
    for text in texts:
        if text:
            empty = False
            yield text
    if empty:
        raise InputError("there is no text to train a tokenizer on", code="tokenizer")


def _pieces(texts: Iterable[str], size: int = 1 << 14) -> Iterator[str]:
    """The texts joined to about so many characters; nothing is counted well in short ones."""
    piece, length = [], 0
    for text in texts:
        piece.append(text)
        length += len(text)
        if length >= size:
            yield "".join(piece)
            piece, length = [], 0
    yield "".join(piece)


def normal(engine: Engine, text: str) -> str:
    return text if engine.normalizer is None else engine.normalizer.normalize_str(text)


def split(engine: Engine, text: str) -> list[str]:
    text = normal(engine, text)
    if engine.pre_tokenizer is None:  # characters
        return list(text)
    return [word for word, _ in engine.pre_tokenizer.pre_tokenize_str(text)]


def _counted(engine: Engine, texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in _some(texts):
        counts.update(split(engine, text))
    return counts


def _frequent(counts: Counter[str], size: int | None, least: int, fixed: int) -> list[str]:
    """The most frequent tokens with at least `least` occurrences that fit beside `fixed` others."""
    order = sorted((-n, token) for token, n in counts.items() if n >= least)
    return [token for _, token in order[: None if size is None else max(size - fixed, 0)]]

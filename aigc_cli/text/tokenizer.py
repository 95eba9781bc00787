"""Text to token ids and back: byte-level BPE, unigram, characters and words.

One class over the `tokenizers` library. A tokenizer is one JSON text, the `tokenizer.json` of the
Hugging Face libraries, which is all that the spec and so every checkpoint stores. Which tokens pad,
begin and end a text stands in it too, as the tokens of a template that adds none by itself.

| kind         | tokens                                                    | what comes back       |
|--------------|-----------------------------------------------------------|-----------------------|
| `bpe`        | merged bytes within words (Sennrich et al., 2016; GPT-2)  | the text              |
| `unigram`    | likely pieces (Kudo, 2018), bytes of other characters     | the text              |
| `characters` | code points                                               | `<unk>` for a new one |
| `words`      | words, clitics (`'s`, `-like`), marks, single CJK, lines  | usual spaces, `<unk>` |

Text that spells a special token never becomes one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Engine
from tokenizers import processors
from tokenizers.decoders import DecodeStream

from aigc_cli.errors import InputError, PromptError
from aigc_cli.text.tokenizer_training import TRAIN, UNKNOWN, Kind, codes, normal, split

PROBE = "A cat, 12 \tÜ 猫 🐈\n"  # what a tokenizer from elsewhere must survive
ROLES = ("pad", "bos", "eos")
SPECIALS = ("<pad>", "<bos>", "<eos>")


class Tokenizer:
    """Fixed tokens of a text. Ids of the specials come first: pad 0, bos 1, eos 2, then others."""

    def __init__(self, engine: Engine, text: str) -> None:
        self._engine, self._text = engine, text
        engine.encode_special_tokens = True  # that is: as the ordinary text they are

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: Kind,
        vocab_size: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
        specials: Sequence[str] = SPECIALS,
    ) -> Tokenizer:
        """A tokenizer of at most `vocab_size` tokens, all included; equal for equal texts.

        texts: read once. None is the default of `vocab_size`: every character, every word, or
        SUBWORDS. min_count: least occurrences of a character, a word or a merged pair.
        specials: names like `<pad>`, the first three with the roles ROLES; none at all makes a
        `characters` vocabulary of exactly the sorted symbols, which refuses any other.

        Raises:
            InputError: there is no text, `vocab_size` leaves no room, or a special has no brackets.
        """
        for special in specials:
            if not re.fullmatch(r"<\|?\w+\|?>", special):
                raise InputError(
                    f"special token {special!r} is not written like <name> or <|name|>"
                )
        if specials and (len(specials) < len(ROLES) or len(set(specials)) < len(specials)):
            raise InputError(f"special tokens {list(specials)} are not {len(ROLES)} or more names")
        if not specials and kind != "characters":
            raise InputError(f"a tokenizer of kind {kind} needs special tokens")
        engine = TRAIN[kind](texts, vocab_size, min_count, lowercase, specials)
        if specials:
            engine.add_special_tokens(list(specials))
            engine.post_processor = _roles(dict(zip(ROLES, specials, strict=False)), engine)
        return cls.from_json(engine.to_str())

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Inverse of `to_json`.

        Raises:
            InputError: it is damaged, or no tokenizer of ours (`adopt` takes others).
        """
        tokenizer = cls(_parse(text), text)
        roles = tokenizer._roles
        if roles and (set(roles) != set(ROLES) or roles["pad"] == roles["eos"]):
            raise InputError(
                "the tokenizer does not say which tokens pad, begin and end a text",
                code="tokenizer",
            )
        return tokenizer

    @classmethod
    def adopt(
        cls, text: str, *, eos: str, bos: str | None = None, pad: str | None = None
    ) -> Tokenizer:
        """The tokenizer in a `tokenizer.json` of another program, told its roles.

        Without `bos` texts begin with eos, as in GPT-2. A pad that is absent or the same as eos
        becomes a token `<pad>` of its own, behind all others.

        Raises:
            InputError: it is damaged, or has no token of such a name.
        """
        engine = _parse(text)
        if pad in (None, eos):
            pad = "<pad>"
            engine.add_special_tokens([pad])
        names = {"eos": eos, "bos": bos or eos, "pad": pad}
        for role, name in names.items():
            if name is None or engine.token_to_id(name) is None:
                raise InputError(f"the tokenizer has no token {name!r} to be its {role}")
        engine.post_processor = _roles(names, engine)
        return cls.from_json(engine.to_str())

    def to_json(self) -> str:
        return self._text

    def __getstate__(self) -> str:
        return self._text

    def __setstate__(self, text: str) -> None:
        self.__init__(_parse(text), text)  # type: ignore[misc]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON: equal for equal tokenizers."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @cached_property
    def _json(self) -> dict[str, Any]:
        return json.loads(self._text)

    @cached_property
    def _roles(self) -> dict[str, int]:
        template = self._json.get("post_processor") or {}
        tokens = template.get("special_tokens") if isinstance(template, dict) else None
        return {t["id"]: t["ids"][0] for t in (tokens or {}).values() if t["id"] in ROLES}

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return self._engine.get_vocab_size()

    @cached_property
    def specials(self) -> list[str]:
        """Tokens that no text is cut into, such as `<eos>`."""
        return [token["content"] for token in self._json["added_tokens"] if token["special"]]

    @property
    def pad_id(self) -> int | None:
        return self._roles.get("pad")

    @property
    def bos_id(self) -> int | None:
        return self._roles.get("bos")

    @property
    def eos_id(self) -> int | None:
        return self._roles.get("eos")

    @cached_property
    def unk_id(self) -> int | None:
        """What stands for anything else; None where every text has tokens of its own."""
        model = self._json["model"]
        name = model.get("unk_token")
        return None if name is None else self._engine.token_to_id(name)

    def id_of(self, token: str) -> int:
        """Id of a special or any other token by name.

        Raises:
            InputError: there is no such token.
        """
        number: int | None = self._engine.token_to_id(token)
        if number is None:
            raise InputError(f"the tokenizer has no token {token!r}", code="tokenizer")
        return number

    @cached_property
    def tokens(self) -> list[str]:
        """The name of every id. Bytes of `bpe` are written as GPT-2 writes them."""
        return [self._engine.id_to_token(number) or "" for number in range(self.vocab_size)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with no special tokens added. Raises as `encode_batch`."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text.

        Raises:
            PromptError: a character is unknown and there is no `<unk>`; or half of a surrogate
                pair.
        """
        if self._table is not None:
            return [ids.tolist() for ids in self.encode_arrays(texts)]
        try:
            encodings = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise PromptError(f"the text cannot be written in UTF-8 ({error})") from error
        return [encoding.ids for encoding in encodings]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """As `encode_batch`, an array (L,) for each text."""
        if self._table is None:
            return [np.array(ids, np.int32) for ids in self.encode_batch(texts)]
        others = len(self._table) - 1
        found = [
            self._table[np.minimum(codes(normal(self._engine, text)), others)] for text in texts
        ]
        if self._symbols is not None:
            for text, ids in zip(texts, found, strict=True):
                if (ids < 0).any():
                    self._require_known([text])
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens are left out, `<unk>` stays."""
        return self._engine.decode(list(ids))

    def decode_batch(self, rows: Iterable[Iterable[int]]) -> list[str]:
        return self._engine.decode_batch([list(ids) for ids in rows])

    def show(self, ids: Iterable[int]) -> str:
        """As `decode`, with the names of special tokens."""
        return self._engine.decode(list(ids), skip_special_tokens=False)

    def join(self, words: Sequence[str]) -> str:
        """Text of words or other tokens by name, with the spacing of `decode`."""
        text: str = self._engine.decoder.decode(list(words))
        return text

    def stream(self) -> Callable[[int], str]:
        """A function that takes one id after the other and returns the text that this completes,
        which is never half a character.
        """
        stream = DecodeStream(skip_special_tokens=True)
        return lambda number: stream.step(self._engine, number) or ""

    def words(self, text: str) -> list[str]:
        """What is looked up in the vocabulary of `words` or `characters`, known or not."""
        return split(self._engine, text)

    def copy_ids(self, source: str, target: str | None = None) -> tuple[list[int], list[int]]:
        """Ids of a source and of its target in which words that the vocabulary lacks, but the
        source has, are numbered from `vocab_size` on in the order of the source (See et al., 2017).
        """
        numbers: dict[str, int] = {}
        unknown = -1 if self.unk_id is None else self.unk_id

        def ids(text: str, *, new: bool) -> list[int]:
            found = []
            for word in self.words(text):
                number = self._engine.token_to_id(word)
                if number is None and new:
                    number = numbers.setdefault(word, self.vocab_size + len(numbers))
                found.append(numbers.get(word, unknown) if number is None else number)
            return found

        return ids(source, new=True), [] if target is None else ids(target, new=False)

    @cached_property
    def byte_lengths(self) -> list[int]:
        """Bytes of UTF-8 that each id adds to a text: 0 for specials, one more for the space before
        a word of `words`.
        """
        decoder = json.dumps(self._json.get("decoder"), ensure_ascii=False)
        special = {token["id"] for token in self._json["added_tokens"] if token["special"]}
        space = int("WordPiece" in decoder)

        def length(token: str) -> int:
            if "ByteLevel" in decoder:
                return len(token)
            if "ByteFallback" in decoder and re.fullmatch(r"<0x[0-9A-F]{2}>", token):
                return 1
            return len((token.replace("▁", " ") if "▁" in decoder else token).encode()) + space

        return [0 if n in special else length(token) for n, token in enumerate(self.tokens)]

    @cached_property
    def _table(self) -> NDArray[np.int32] | None:
        """Of `characters` the id of each code point, and at the end what stands for all above."""
        model = self._json["model"]
        plain = model["type"] == "BPE" and not model["merges"] and not model.get("byte_fallback")
        normalizer = self._json.get("normalizer") or {"type": "Lowercase"}
        others = self._json.get("pre_tokenizer") or normalizer["type"] != "Lowercase"
        if not plain or others or model.get("fuse_unk"):
            return None
        special = {token["content"] for token in self._json["added_tokens"]}
        names = [name for name in model["vocab"] if name not in special and name != UNKNOWN]
        if any(len(name) != 1 for name in names):
            return None
        unknown = -1 if self.unk_id is None else self.unk_id
        points = codes("".join(names))
        table = np.full(int(points.max(initial=0)) + 2, unknown, np.int32)
        table[points] = [model["vocab"][name] for name in names]
        return table

    @cached_property
    def _symbols(self) -> frozenset[str] | None:
        """All the characters there are, where others are an error."""
        bare = not self._roles and self._json["model"].get("unk_token") is None
        return frozenset(self.tokens) if bare else None

    def _require_known(self, texts: Sequence[str]) -> None:
        assert self._symbols is not None
        for text in texts:
            if unknown := sorted(set(normal(self._engine, text)) - self._symbols):
                raise PromptError(
                    f"the character {unknown[0]!r} is none of the tokenizer's {self.vocab_size}",
                    hint="data.tokenizer.specials=texts adds <unk>, which stands for any",
                )


def _parse(text: str) -> Engine:
    try:
        engine = Engine.from_str(text)
    except Exception as error:  # the library raises the bare class
        raise InputError(f"not a tokenizer: {error}", code="tokenizer") from error
    try:
        with suppress(Exception):  # characters that it does not know are no fault
            engine.encode(PROBE)
    except BaseException as error:  # a Rust panic, which is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"not a tokenizer: it fails on the text {PROBE!r} ({error})", code="tokenizer"
        ) from error
    return engine


def _roles(names: dict[str, Any], engine: Engine) -> processors.TemplateProcessing:
    """A template that adds nothing and remembers which token has which role."""
    tokens = [
        {"id": role, "ids": [engine.token_to_id(name)], "tokens": [name]}
        for role, name in names.items()
    ]
    return processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=tokens)

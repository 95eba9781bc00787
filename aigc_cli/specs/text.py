"""Specs of texts, and what their batches hold.

| kind               | key   | shape             | range                                  |
|--------------------|-------|-------------------|----------------------------------------|
| `text`             | tokens| (B, T)            | token ids                              |
|                    | target| (B, T)            | the token that follows each, IGNORE    |
|                    |       |                   | where nothing is to be learned         |
|                    | document | (B, T)         | number of the text in its row; only    |
|                    |       |                   | where texts must not see each other    |
| `chat`             |       |                   | as `text`; target only in answers      |
| `text_pairs`       | source| (B, S)            | token ids, ended by eos, then pad      |
|                    | target| (B, T)            | bos, token ids, eos, then pad          |
|                    | source_copy, target_copy | | with `copy`: the same, where words that|
|                    |       |                   | the vocabulary lacks are numbered from |
|                    |       |                   | vocab_size on in each pair             |
| `labelled_texts`   | tokens| (B, T)            | token ids, ended by eos, then pad      |
|                    | label | (B,)              | class number                           |
| `preferences`      | chosen, rejected | (B, T) | token ids of prompt and answer         |
|                    | chosen_target, rejected_target | (B, T) | as `target`, only in answers |
| `prompts`          | prompt| (B, P)            | token ids, pad on the left             |
|                    | reference | (B, R)        | token ids of what is asked for, if any |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from aigc_cli.specs import Spec

IGNORE = -100
"""In `target`: nothing is to be learned here."""


@dataclass(frozen=True)
class TextSpec(Spec):
    """Running text. `tokenizer` is what `Tokenizer.from_json` reads; rows have `context` tokens."""

    kind: ClassVar[str] = "text"

    tokenizer: str
    context: int


@dataclass(frozen=True)
class ChatSpec(Spec):
    """Conversations; `template` is the name of how turns become text (text/template.py)."""

    kind: ClassVar[str] = "chat"

    tokenizer: str
    context: int
    template: str


@dataclass(frozen=True)
class PreferenceSpec(Spec):
    """Prompts with a better and a worse answer."""

    kind: ClassVar[str] = "preferences"

    tokenizer: str
    context: int
    template: str


@dataclass(frozen=True)
class PromptSpec(Spec):
    """Prompts, and what is asked for where that is known."""

    kind: ClassVar[str] = "prompts"

    tokenizer: str
    context: int
    template: str


@dataclass(frozen=True)
class TextPairSpec(Spec):
    """Texts and what they should become. The two tokenizers are equal where the vocabulary is
    shared; lengths are in tokens, with eos and bos. `copy`: words the vocabulary lacks can be
    copied. `languages` are codes such as ("de", "en"), where they are known.
    """

    kind: ClassVar[str] = "text_pairs"

    source_tokenizer: str
    target_tokenizer: str
    max_source: int
    max_target: int
    copy: bool = False
    languages: tuple[str, str] | None = None


@dataclass(frozen=True)
class LabelledTextSpec(Spec):
    """Texts of at most `max_length` tokens, with eos, each of one of the classes in `labels`;
    `counts` are the training texts of each, where that matters.
    """

    kind: ClassVar[str] = "labelled_texts"

    tokenizer: str
    max_length: int
    labels: tuple[str, ...]
    counts: tuple[int, ...] = field(default=(), compare=False)

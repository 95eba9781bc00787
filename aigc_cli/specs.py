"""What data tells a model before the first batch, and the fixed names and ranges of a batch.

A data kind exposes one Spec; a family says which Spec classes it accepts and is built from
`(config, spec)`, so no size is written twice in a recipe and a checkpoint can decode its own
samples.

Batches are dicts of tensors:

| kind               | key   | shape             | range                                  |
|--------------------|-------|-------------------|----------------------------------------|
| `images`           | image | (B, C, H, W)      | [-1, 1]                                |
|                    | label | (B,)              | class number; only with labelled data  |
| `super_resolution` | low   | (B, C, h, w)      | [-1, 1], bicubic of `high`             |
|                    | high  | (B, C, s h, s w)  | [-1, 1]                                |
| `image_pairs`      | source| (B, C, S, S)      | [-1, 1], what the model is given       |
|                    | target| (B, C', S, S)     | [-1, 1], what it should answer         |
| `unpaired_images`  | a     | (B, C, S, S)      | [-1, 1], pictures of the first domain  |
|                    | b     | (B, C, S, S)      | [-1, 1], unrelated ones of the second  |
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

Validation batches of `super_resolution` hold one whole picture each (B = 1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from aigc_cli.errors import CheckpointError


@dataclass(frozen=True)
class Spec:
    """Base of all specs. Plain data only: it is written into every checkpoint."""

    kind: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class ImageSpec(Spec):
    """Pictures of one size; `labels` names the classes when there are any."""

    kind: ClassVar[str] = "images"

    channels: int
    image_size: int
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SuperResolutionSpec(Spec):
    """Pairs of a picture and its bicubic reduction by `scale`."""

    kind: ClassVar[str] = "super_resolution"

    channels: int
    scale: int


@dataclass(frozen=True)
class PairSpec(Spec):
    """Pairs of a picture and the picture it should become, both of one size."""

    kind: ClassVar[str] = "image_pairs"

    source_channels: int
    target_channels: int
    image_size: int


@dataclass(frozen=True)
class UnpairedSpec(Spec):
    """Pictures of two domains, A and B, that do not belong together one by one."""

    kind: ClassVar[str] = "unpaired_images"

    channels: int
    image_size: int


@dataclass(frozen=True)
class PictureSpec(Spec):
    """Pictures of any size, for families that are not trained; no kind of data makes it."""

    kind: ClassVar[str] = "pictures"

    channels: int


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


SPECS: dict[str, type[Spec]] = {
    s.kind: s
    for s in (
        ImageSpec,
        SuperResolutionSpec,
        PairSpec,
        UnpairedSpec,
        PictureSpec,
        TextSpec,
        ChatSpec,
        PreferenceSpec,
        PromptSpec,
        TextPairSpec,
        LabelledTextSpec,
    )
}


def spec_from_dict(data: dict[str, Any]) -> Spec:
    """Inverse of `Spec.as_dict`, for checkpoints.

    Raises:
        CheckpointError: the kind is unknown or its fields do not fit, as in a newer checkpoint.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in SPECS:
        raise CheckpointError(
            f"unknown data kind {kind!r} in the checkpoint", hint="was it written by a newer aigc?"
        )
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return SPECS[kind](**fields)
    except TypeError as error:
        raise CheckpointError(f"the {kind} spec in the checkpoint does not fit: {error}") from error

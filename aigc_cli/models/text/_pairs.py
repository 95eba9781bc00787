"""Base of the families that make one text of another: what they count, read and show."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError, PromptError
from aigc_cli.models._base import Batch, Example
from aigc_cli.models._text import TextModule
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.decoding import Decoding, TokenDecoder
from aigc_cli.specs import Spec
from aigc_cli.specs.text import TextPairSpec
from aigc_cli.text.sentences import lead
from aigc_cli.text.template import Messages
from aigc_cli.text.tokenizer import Tokenizer

PREVIEW = 100  # tokens


class PairOptions(Decoding):
    """What `aigc sample` and `aigc evaluate` may set."""

    temperature: float = Field(0.0, ge=0, le=100)
    """0 always takes the likeliest token; 1 draws from the model's probabilities."""
    max_tokens: int = Field(100, gt=0)
    """Longest text, in tokens."""
    lead: int = Field(0, ge=0)
    """First sentences of each source that `aigc evaluate` scores beside the model's summaries."""


class PairModule(TextModule):
    """A family writes `log_probs` and `read_ids`, beside `loss` and `configure_optimizers`."""

    accepts = (TextPairSpec,)
    averaged = ("network",)
    truncates: bool = False
    """Whether of a source that is too long the beginning is read; otherwise it is refused."""
    spec: TextPairSpec
    byte_lengths: Tensor

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, TextPairSpec)
        self.source_tokenizer = Tokenizer.from_json(spec.source_tokenizer)
        self.tokenizer = self.source_tokenizer
        if spec.target_tokenizer != spec.source_tokenizer:
            self.tokenizer = Tokenizer.from_json(spec.target_tokenizer)
        self.source_pad, self.source_eos, _ = roles(self.source_tokenizer)
        self.pad, self.eos, self.bos = roles(self.tokenizer)
        sizes = torch.tensor(self.tokenizer.byte_lengths)
        self.register_buffer("byte_lengths", sizes, persistent=False)

    @abstractmethod
    def log_probs(self, source: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities (B, T - 1) of the tokens of `target` (B, T) after its first, each given
        the source (B, S) and those before it; 0 at padding. With a gradient.
        """

    @abstractmethod
    def read_ids(self, source: Tensor) -> TokenDecoder:
        """A decoder whose rows have read the rows of `source` (R, S), ended by eos, then pad."""

    def read(self, prompts: Sequence[str]) -> TokenDecoder:
        """A decoder whose rows have read these texts.

        Raises:
            PromptError: a text is longer than the model reads; names it and both lengths.
        """
        return self.read_ids(self.source_ids(prompts))

    def sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What of a batch `log_probs` and `read_ids` take."""
        return batch["source"], batch["target"]

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each source, without its end."""
        return self.source_tokenizer.encode_batch(texts)

    def source_ids(self, texts: Sequence[str]) -> Tensor:
        """Ids (R, S) of texts, as those of a batch. Raises as `read`."""
        most = self.spec.max_source - 1
        rows = self.encoded(texts)
        for text, row in zip(texts, rows, strict=True):
            if len(row) > most and not self.truncates:
                raise PromptError(
                    f"a text of {len(row)} tokens is longer than the model reads, {most}: "
                    f"{text[:60]!r}",
                    hint="split it, or train with a larger data.max_source",
                )
        ended = [[*row[:most], self.source_eos] for row in rows]
        return padded(ended, self.source_pad).to(self.device)

    def baseline_texts(self, prompts: Sequence[str], options: Decoding) -> list[str] | None:
        """The first sentences of the sources, where the options ask for some."""
        assert isinstance(options, PairOptions)
        return [lead(text, options.lead) for text in prompts] if options.lead else None

    def weight(self, batch: Batch) -> Tensor:
        return (batch["target"][:, 1:] != self.pad).sum()

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        target = batch["target"]
        return {
            "nats": -self.log_probs(*self.sides(batch)).double().sum(1),
            "tokens": (target[:, 1:] != self.pad).sum(1),
            "bytes": self.byte_lengths[target].sum(1),
        }

    def example(self, batch: Batch, options: Section) -> Example:
        """The source as the data has it cut: a word that is unknown stays one token."""
        source, _ = self.sides(batch)
        (target,) = self.tokenizer.decode_batch(batch["target"].tolist())
        ids = [token for token in source[0].tolist() if token != self.source_pad]
        return Example(ids, beside={"reference": target})

    def read_rows(self, prompts: Sequence[Messages | Sequence[int]]) -> TokenDecoder:
        rows = [list(prompt) for prompt in prompts]
        return self.read_ids(padded(rows, self.source_pad).to(self.device))  # type: ignore[arg-type]

    @property
    def prompt_tokenizer(self) -> Tokenizer:
        return self.source_tokenizer


def roles(tokenizer: Tokenizer) -> tuple[int, int, int]:
    """Ids of pad, eos and bos.

    Raises:
        InputError: the tokenizer has none.
    """
    pad, eos, bos = tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id
    if pad is None or eos is None or bos is None:
        raise InputError(
            "texts that pair need tokens for padding, begin and end",
            hint="leave data.tokenizer.specials at its default",
        )
    return pad, eos, bos


def padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Rows of ids as one tensor (R, S), padded at the end."""
    made = torch.full((len(rows), max(map(len, rows), default=0)), pad)
    for place, row in enumerate(rows):
        made[place, : len(row)] = torch.tensor(row)
    return made

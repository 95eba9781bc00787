"""Base of the families that write texts: token-normalised loss, likelihoods, and a decoder.

The loss is the sum over supervised tokens divided by their number in the whole global batch, so
accumulation and devices change nothing. Validation counts nats, tokens and bytes, from which come
nats per token, perplexity and bits per byte; only the last is comparable across tokenizers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import exp, log
from typing import ClassVar, Literal

from aigc_cli.models._base import GenerativeModule
from aigc_cli.sampling.decoding import Decoder
from aigc_cli.text.tokenizer import Tokenizer


class TextModule(GenerativeModule):
    """A family writes `read`, and `evaluate_batch` with the values named in `counted`."""

    makes = "texts"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "loss": "min",
        "perplexity": "min",
        "bits_per_byte": "min",
    }
    counted = ("nats", "tokens", "bytes")
    tokenizer: Tokenizer
    """Of the texts the family writes."""

    @abstractmethod
    def read(self, prompts: Sequence[str]) -> Decoder:
        """A decoder whose rows have read these prompts: beginnings to be continued, or sources.

        Raises:
            InputError: a prompt is longer than the model can read; names it and both lengths.
        """

    def summarise(self, means: dict[str, float]) -> dict[str, float]:
        """loss (nats per token), perplexity, and bits per byte of UTF-8."""
        loss = means["nats"] / max(means["tokens"], 1e-9)
        bits = means["nats"] / log(2) / max(means["bytes"], 1e-9)
        return {"loss": loss, "perplexity": exp(min(loss, 700)), "bits_per_byte": bits}

"""Base of the families that write texts: token-normalized loss, likelihoods, and a decoder.

The loss is the sum over supervised tokens divided by their number in the whole global batch, so
accumulation and devices change nothing. Validation counts nats, tokens and bytes, from which come
nats per token, perplexity and bits per byte; only the last is comparable across tokenizers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import exp, log
from typing import ClassVar, Literal

from aigc_cli.errors import InputError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.sampling.decoding import Answer, Decoding, Job, TokenDecoder, decode
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.text.template import Messages
from aigc_cli.text.tokenizer import Tokenizer

Prompt = str | Messages | Sequence[int]
"""A text, a conversation to be gone on with, or tokens."""


class TextModule(GenerativeModule):
    """A family writes `read`, and `evaluate_batch` with the values named in `counted`."""

    takes = "text"
    makes = "text"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "loss": "min",
        "perplexity": "min",
        "bits_per_byte": "min",
    }
    counted: ClassVar[tuple[str, ...]] = ("nats", "tokens", "bytes")
    continues: ClassVar[bool] = False
    """Whether a text is the continuation of its prompt."""
    tokenizer: Tokenizer
    """Of the texts the family writes."""

    @abstractmethod
    def read(self, prompts: Sequence[str]) -> TokenDecoder:
        """A decoder whose rows have read these prompts: beginnings to be continued, or sources.

        Raises:
            PromptError: a prompt is longer than the model can read; names it and both lengths.
        """

    def sample(
        self,
        noise: SampleNoise,
        options: Decoding,
        given: Sequence[Prompt] | None = None,
        references: Sequence[str] = (),
    ) -> list[Answer]:
        """Texts that go on from, or answer, P prompts: see the base. Without any, to an empty one.

        Raises: as `read`; InputError: more answers than beams.
        """
        prompts = [""] if given is None else given
        count = noise.count // len(prompts)
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if len(texts) == len(prompts):
            several = self.write(texts, options, noise, count=count)
        else:
            decoder = self.read_rows([prompt for prompt in prompts if not isinstance(prompt, str)])
            several = self.answer(decoder, len(prompts), options, noise, count)
        return [answer for answers in several for answer in answers]

    def read_rows(self, prompts: Sequence[Messages | Sequence[int]]) -> TokenDecoder:
        """As `read`, of prompts that are conversations, or tokens as the data has them."""
        return self.converse(prompts)  # type: ignore[arg-type]

    def converse(self, conversations: Sequence[Messages]) -> TokenDecoder:
        """As `read`, of conversations whose next answer is to be written.

        Raises:
            InputError: as `read`, or the family does not learn from conversations.
        """
        raise InputError("the model was not trained on conversations")

    def prepare_to_write(self, options: Decoding, *, half: bool) -> str:
        """Called once when the weights stay as they are: the type of those that will write. `half`
        says whether bfloat16 is theirs and fast here.
        """
        return "float32"

    def write(
        self,
        prompts: Sequence[str],
        options: Decoding,
        noise: SampleNoise,
        *,
        count: int = 1,
        watch: Callable[[int, Sequence[int]], None] | None = None,
    ) -> list[list[Answer]]:
        """`count` answers to each prompt. Row `p * count + i` of the noise is that of answer i to
        prompt p; `watch` is told rows and their tokens as these come.

        Raises: as `read`; InputError: more answers than beams.
        """
        return self.answer(self.read(prompts), len(prompts), options, noise, count, watch)

    def answer(
        self,
        decoder: TokenDecoder,
        prompts: int,
        options: Decoding,
        noise: SampleNoise | None,
        count: int = 1,
        watch: Callable[[int, Sequence[int]], None] | None = None,
    ) -> list[list[Answer]]:
        """As `write`, of prompts that are read already."""
        if 1 < options.beams < count:
            raise InputError(
                f"-n {count}: beam search with {options.beams} beams has no {count} answers",
                hint=f"set beams={count} or more",
            )
        job = Job(prompts, self.stop_ids, self.text_of, self.banned_ids, count, watch)
        return decode(decoder, options, job, noise)

    def baseline_texts(self, prompts: Sequence[str], options: Decoding) -> list[str] | None:
        """Answers that need no model, one to each prompt, which `aigc evaluate` scores beside those
        of the model: such as the first sentences of what is to be summarized.
        """
        return None

    @property
    def prompt_tokenizer(self) -> Tokenizer:
        """Of the texts the family reads."""
        return self.tokenizer

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a text."""
        return [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]

    @property
    def banned_ids(self) -> list[int]:
        """Tokens that are never written: padding, begin, and the unknown word."""
        own = self.tokenizer
        never = {own.pad_id, own.bos_id, own.unk_id} - {None, *self.stop_ids}
        return sorted(token for token in never if token is not None)

    def text_of(self, prompt: int, ids: Sequence[int]) -> str:
        """The text of tokens that answer prompt number `prompt` of those read last."""
        return self.tokenizer.decode(ids)

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """loss (nats per token), perplexity, and bits per byte of UTF-8."""
        loss = means["nats"] / max(means["tokens"], 1e-9)
        bits = means["nats"] / log(2) / max(means["bytes"], 1e-9)
        return {"loss": loss, "perplexity": exp(min(loss, 700)), "bits_per_byte": bits}


def require_tokenizer(name: str, theirs: str, ours: Tokenizer) -> None:
    """See that the model of `init_from` cut its texts as the data are cut; `theirs` is JSON.

    Raises:
        InputError: it did not; names both digests.
    """
    digest = Tokenizer.from_json(theirs).digest
    if digest != ours.digest:
        raise InputError(
            f"init_from: its {name} is {digest[:12]}, that of the data is {ours.digest[:12]}",
            hint=f"set data.{name.removeprefix('source_')}.from to the model of init_from",
            code="tokenizer",
        )

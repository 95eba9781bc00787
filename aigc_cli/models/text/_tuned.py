"""Base of the families that go on from a language model: chat, dpo, grpo. Full weights, or LoRA.

Where adapters alone are trained, checkpoints and states of the optimizer are theirs alone
(`unchanged`, run/base.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.errors import PromptError
from aigc_cli.models._base import Example
from aigc_cli.models.text._causal import CausalConfig, CausalModule
from aigc_cli.nn.causal_lm import CausalLM
from aigc_cli.nn.frozen import frozen_copy
from aigc_cli.nn.lora import add_adapters, without_adapters
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.decoding import TokenDecoder
from aigc_cli.specs import Spec
from aigc_cli.specs.text import IGNORE
from aigc_cli.text.template import Messages, find_template


class Lora(Section):
    """Adapters to train instead of the weights."""

    rank: int = Field(0, ge=0)
    """Inner size of the adapters of every linear layer in the blocks; 0 trains the weights."""
    alpha: float = Field(16.0, gt=0)
    """Adapters are scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Part of the adapters' input that is zeroed while training."""
    embeddings: bool = False
    """Train the embeddings and the head as well, for tokens that the model has never seen."""


class TunedConfig(CausalConfig):
    """The network and what of it is trained. Sizes come from the model of `init_from`."""

    lora: Lora = Lora()
    """Adapters; they take about ten times the learning rate of full training."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the first and second moment."""
    weight_decay: float = Field(0.0, ge=0)
    """Pull towards zero, of embeddings and matrices only."""

    @model_validator(mode="after")
    def _muon_has_matrices(self) -> Self:
        if self.optimizer == "muon" and self.lora.rank:
            raise ValueError(
                "optimizer muon is for whole matrices, and lora.rank trains factors of them; "
                "set optimizer to adamw, or lora.rank to 0"
            )
        return self


class TunedModule(CausalModule):
    """Answers conversations, as `template` writes them."""

    continues = input_optional = False
    config: TunedConfig

    def __init__(self, config: TunedConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.template = find_template(spec.template)  # type: ignore[attr-defined]
        self.end_id = self.template.end_id(self.tokenizer)
        if config.lora.rank:
            self._adapt(config.lora)

    @property
    def drops(self) -> bool:
        return super().drops or self.config.lora.dropout > 0

    @property
    def unchanged(self) -> frozenset[str]:
        if not self.config.lora.rank:
            return frozenset()
        frozen = (name for name, p in self.net.named_parameters() if not p.requires_grad)
        return frozenset(f"net.{name}" for name in frozen)

    def _adapt(self, lora: Lora) -> None:
        self.net.requires_grad_(False)
        adapters = add_adapters(
            self.net.blocks, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout
        )
        embeddings = [m.weight for m in self.net.modules() if isinstance(m, nn.Embedding)]
        for parameter in [*embeddings, self.net.head_weight] if lora.embeddings else []:
            parameter.requires_grad_(True)
        assert all(parameter.requires_grad for parameter in adapters)

    def prompt_ids(self, prompt: str) -> list[int]:
        return self.conversation_ids([{"role": "user", "content": prompt}])

    def converse(self, conversations: Sequence[Messages]) -> TokenDecoder:
        return self.read_ids([self.conversation_ids(messages) for messages in conversations])

    def conversation_ids(self, messages: Messages) -> list[int]:
        """What the network reads before it answers a conversation.

        Raises:
            PromptError: it leaves no room for an answer; names both lengths.
        """
        ids, _ = self.template.encode(messages, self.tokenizer, answer=True)
        if len(ids) >= self.context:
            raise PromptError(
                f"the prompt {messages[-1]['content'][:40]!r}... has {len(ids)} tokens, and the "
                f"model reads less than {self.context}",
                hint="shorten it, or train with a larger data.context",
            )
        return ids

    @property
    def stop_ids(self) -> list[int]:
        return list(dict.fromkeys([self.end_id, *super().stop_ids]))

    def text_of(self, prompt: int, ids: Sequence[int]) -> str:
        return super().text_of(prompt, ids).strip()

    def read_rows(self, prompts: Sequence[Messages | Sequence[int]]) -> TokenDecoder:
        if prompts and isinstance(prompts[0][0], int):
            return self.read_ids(prompts)  # type: ignore[arg-type]
        return super().read_rows(prompts)

    def answered(self, tokens: Tensor, target: Tensor) -> Example:
        """What comes before the first learned token of a row (T,), and what is learned."""
        learned = target != IGNORE
        prompt = tokens[: int(learned.int().argmax()) + 1].tolist()
        answer = self.tokenizer.decode(target[learned].tolist()).strip()
        return Example(prompt, beside={"reference": answer})


class ComparedModule(TunedModule):
    """A policy beside the model it began as: that is the policy without its adapters, or a frozen
    copy, which the checkpoint keeps so that a resumed run compares with the same.

    There is no dropout: the two must differ by what was learned, not by chance.
    """

    reference: CausalLM | None

    def __init__(self, config: TunedConfig, spec: Spec, *, compared: bool = True) -> None:
        super().__init__(config, spec)
        self.reference = frozen_copy(self.net) if compared and not config.lora.rank else None

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> dict[str, Tensor]:
        found = super().initial(weights, spec)
        if self.reference is not None:
            found |= {f"reference.{name.removeprefix('net.')}": v for name, v in found.items()}
        return found

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    @torch.no_grad()
    def reference_nats(self, tokens: Tensor, target: Tensor) -> Tensor:
        """As `net(tokens, target=target)`, of the model as it began."""
        if self.reference is not None:
            losses: Tensor = self.reference(tokens, target=target)
            return losses
        with without_adapters(self.net):
            losses = self.net(tokens, target=target)
        return losses

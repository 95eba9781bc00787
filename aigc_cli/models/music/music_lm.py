"""Language model of music: pieces, and continuations of pieces, by a decoder-only Transformer.

The decoder, its cache and the ways of drawing are those of the texts (nn/causal_lm.py,
sampling/decoding.py). Events are those of media/events.py, and a grammar forbids what is no music,
so every row that is written is a piece. Huang and Yang, "Pop Music Transformer", 2020,
https://arxiv.org/abs/2002.00212.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.media.events import Events, Grammar, Music
from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.models.text._causal import CausalConfig, CausalDecoder, decoder_optimizer
from aigc_cli.models.text._network import build_network
from aigc_cli.nn.cached_lm import CachedLM
from aigc_cli.recipe.dial import Dial
from aigc_cli.sampling.decoding import Decoder, Decoding, Job, decode
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.music import MusicSpec
from aigc_cli.specs.text import IGNORE

DIAL = Dial(
    goals=("generate", "continue"),
    sizes=tuple(
        {
            "data.context": context, "model.dim": D, "model.num_layers": layers,
            "model.num_heads": D // 32,
        }
        for context, D, layers in ((128, 64, 2), (192, 128, 3), (256, 192, 4))
    ),
    steps=900,
    always={
        "model.qk_norm": True, "model.dropout": 0.1, "model.lr": 2e-3, "model.weight_decay": 0.1,
        "trainer.global_batch": 8, "trainer.clip_norm": 1.0, "trainer.precision": "fp32",
    },
    averaged=False,
)  # fmt: skip


class Config(CausalConfig):
    """The network and its training."""


class Options(Decoding):
    """How pieces are written and continued."""

    TINY: ClassVar[Mapping[str, Any]] = {"bars": 1, "max_tokens": 40}

    bars: int = Field(8, ge=0, le=1000)
    """Bars that are written, behind those of an input; 0 until the model ends the piece."""
    max_tokens: int = Field(4096, gt=0)
    """Most events of a piece; bars that do not fit stay empty."""
    temperature: float = Field(0.95, ge=0, le=100)
    """0 always takes the likeliest event; 1 draws from the model's probabilities."""
    top_p: float = Field(0.98, gt=0, le=1)
    """Draw from the fewest likeliest events that have this probability together."""


class Grammatical(Decoder):
    """A decoder that gives no probability to events which may not follow those of its row."""

    def __init__(self, inner: Decoder, grammars: Sequence[Grammar]) -> None:
        self.inner, self.grammars = inner, list(grammars)

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            for grammar, token in zip(self.grammars, tokens.tolist(), strict=True):
                grammar.read([token])
        logits = self.inner.step(tokens).clone()
        # After the last bar the piece ends where the next would begin.
        full = [row for row, grammar in enumerate(self.grammars) if grammar.left == 0]
        at = self.grammars[0].events.offsets
        ends = torch.logaddexp(logits[full, at["end"]], logits[full, at["bar"]])
        logits[full, at["end"]] = ends
        allowed = np.stack([grammar.allowed() for grammar in self.grammars])
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)

    def select(self, rows: Tensor) -> None:
        self.inner.select(rows)
        self.grammars = [self.grammars[row].copy() for row in rows.tolist()]


class Model(GenerativeModule):
    """events (B, T) -> logits (B, T, V) of the event after each."""

    accepts = (MusicSpec,)
    takes = "music"
    makes = "music"
    input_optional = True
    averaged = ("net",)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"loss": "min", "perplexity": "min"}
    counted = ("nats", "tokens")
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, MusicSpec)
        self.context = spec.context
        self.events = Events(spec.resolution, spec.beats_per_bar)
        self.net = build_network(config, self.events.offsets["size"], spec.context)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return decoder_optimizer(self, self.net, self.config)

    def weight(self, batch: Batch) -> Tensor:
        return (batch["target"] != IGNORE).sum()

    def loss(self, batch: Batch) -> Terms:
        nats: Tensor = self.net(batch["tokens"], target=batch["target"])
        return {"loss": nats.sum() / self.mean_weight}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        nats: Tensor = self.net(batch["tokens"], target=batch["target"])
        return {"nats": nats.double().sum(1), "tokens": (batch["target"] != IGNORE).sum(1)}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """loss (nats per event) and perplexity of an event."""
        loss = means["nats"] / max(means["tokens"], 1e-9)
        return {"loss": loss, "perplexity": exp(min(loss, 700))}

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Any] = (),
    ) -> list[Music]:
        """Pieces; with the events of one, `given` (T,), that piece and how it goes on.

        Raises:
            InputError: more answers than beams.
        """
        if 1 < options.beams < noise.count:
            raise InputError(
                f"-n {noise.count}: beam search with {options.beams} beams has no {noise.count} "
                "answers",
                hint=f"set beams={noise.count} or more",
            )
        at = self.events.offsets
        prime = [at["begin"]] if given is None else [*given.tolist(), at["bar"]]
        grammar = Grammar(self.events).read(prime)
        if options.bars:
            grammar.left = options.bars - (given is not None)
        decoder = Grammatical(CausalDecoder(CachedLM(self.net), [prime], at["begin"]), [grammar])
        job = Job(1, [at["end"]], lambda prompt, ids: "", count=noise.count)
        (answers,) = decode(decoder, options, job, noise)
        pieces = []
        for answer in answers:
            row = [*prime, *answer.ids]
            missing = options.bars + prime[:-1].count(at["bar"]) - row.count(at["bar"])
            pieces.append(self.events.decode([*row, *[at["bar"]] * missing]))
        return pieces

"""How pieces are learned and written event by event, under a grammar."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.media.events import DENSITIES, KEYS, TEMPOS, Grammar, Music
from aigc_cli.media.merges import Merges, merges_of
from aigc_cli.models._base import Batch
from aigc_cli.models.music._network import Config, build, decoder_of
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.decoding import Job, TokenDecoder, decode
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.music import MusicSpec
from aigc_cli.specs.text import IGNORE


class Grammatical(TokenDecoder):
    """A decoder that gives no probability to tokens that may not follow those of its row."""

    def __init__(self, inner: TokenDecoder, grammars: Sequence[Grammar], merges: Merges) -> None:
        self.inner, self.grammars, self.merges = inner, list(grammars), merges
        at = merges.events.offsets
        self.end = at["end"]
        self.ends = np.flatnonzero((merges.first == at["bar"]) | (merges.first == self.end))

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            for grammar, token in zip(self.grammars, tokens.tolist(), strict=True):
                grammar.read(self.merges.split([token]))
        logits = self.inner.step(tokens).clone()
        # After the last bar the piece ends where the next would begin.
        full = [row for row, grammar in enumerate(self.grammars) if grammar.left == 0]
        logits[full, self.end] = logits[full][:, self.ends].logsumexp(-1)
        allowed = np.stack([self.merges.allowed(grammar) for grammar in self.grammars])
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)

    def select(self, rows: Tensor) -> None:
        self.inner.select(rows)
        self.grammars = [self.grammars[row].copy() for row in rows.tolist()]


class Conditions(Section):
    """What is asked of pieces of events that begin from nothing."""

    key: Literal[("", *KEYS)] = ""  # type: ignore[valid-type]
    """events: key of the pieces, such as "C major" or "F# minor"."""
    tempo: int = Field(0, ge=0, le=TEMPOS[-1])
    """events: quarters a minute; the nearest tempo that the model knows."""
    density: float = Field(0, ge=0, le=100)
    """events: about so many notes a quarter."""
    label: str | None = None
    """events: a label of the training data, such as a genre."""

    def asked(self, labels: Sequence[str]) -> dict[str, int]:
        """Numbers of the events of a head that are asked for, by kind.

        Raises:
            InputError: the model has no such label.
        """
        found = {}
        if self.key:
            found["key"] = KEYS.index(self.key)
        if self.tempo:
            found["tempo"] = int(np.abs(np.array(TEMPOS) - self.tempo).argmin())
        if self.density:
            found["density"] = bisect_left(DENSITIES, self.density)
        if self.label is not None:
            if self.label not in labels:
                hint = did_you_mean(self.label, labels) if labels else "train with data.labels"
                raise InputError(f"label={self.label}: the model knows no such label", hint=hint)
            found["label"] = labels.index(self.label)
        return found


class EventWriter:
    """How pieces are learned and written event by event."""

    def __init__(self, config: Config, spec: MusicSpec) -> None:
        self.spec = spec
        self.merges = merges_of(spec)
        self.events = self.merges.events
        self.net = build(config, len(self.merges.spelled), spec.context)

    def nats(self, batch: Batch) -> Tensor:
        """(B, T) of each token, 0 where there is nothing to be learned."""
        found: Tensor = self.net(batch["tokens"], target=batch["target"])
        return found

    def counted(self, batch: Batch) -> Tensor:
        """(B, T): events that are to be learned with each token."""
        target = batch["target"]
        lengths = torch.from_numpy(self.merges.lengths).to(target.device)
        return torch.where(target != IGNORE, lengths[target.clamp(min=0)], 0)

    def baselines(self, batch: Batch) -> dict[str, Tensor]:
        """Nats (B, T) of each token by chains of events: how frequent these are, alone and after
        the two before.
        """
        return {name: batch[name] for name in ("unigram", "markov") if name in batch}

    def sample(self, noise: SampleNoise, options: Any, given: Tensor | None) -> list[Music]:
        """Pieces; with the tokens (T,) of one, that piece and how it goes on, or with its hole
        filled.

        Raises:
            InputError: more answers than beams; conditions on a piece that is given, or a label
                that the model does not know.
        """
        if 1 < options.beams < noise.count:
            raise InputError(
                f"-n {noise.count}: beam search with {options.beams} beams has no {noise.count} "
                "answers",
                hint=f"set beams={noise.count} or more",
            )
        at, asked = self.events.offsets, options.asked(self.spec.labels)
        if asked and given is not None:
            raise InputError(f"{next(iter(asked))}: a piece that is given has its own")
        prime = [at["begin"]] if given is None else given.tolist()
        holes = prime.count(at["hole"])
        grammar = Grammar(self.events, asked).read(self.merges.split(prime))
        grammar.left = holes or options.bars or None
        if given is not None:
            grammar.kind = "fill"  # what was read is whole, and goes on with a bar
        decoder = Grammatical(decoder_of(self.net, prime, at["begin"]), [grammar], self.merges)
        job = Job(1, [at["end"]], lambda prompt, ids: "", count=noise.count)
        (answers,) = decode(decoder, options, job, noise)
        return [self._piece(prime, list(answer.ids), holes, options.bars) for answer in answers]

    def _piece(self, prime: list[int], written: list[int], holes: int, bars: int) -> Music:
        """The piece of what was read and written; bars that did not fit are empty."""
        bar, read, events = self.events.offsets["bar"], *map(self.merges.split, (prime, written))
        if holes:
            return self.events.filled(read, events)
        return self.events.decode([*read, *events, *[bar] * (bars - events.count(bar))])

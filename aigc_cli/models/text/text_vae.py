"""Sentence VAE: texts from a normally distributed code, and the way from one text to another.

Bowman et al., "Generating Sentences from a Continuous Space", CoNLL 2016,
https://arxiv.org/abs/1511.06349, with word dropout. The weight of the KL divergence rises along a
line, their sigmoid, or in cycles (Fu et al., NAACL 2019, https://arxiv.org/abs/1903.10145); free
bits of Kingma et al., 2016, https://arxiv.org/abs/1606.04934, section C.8; importance weighted
likelihood of Burda et al., ICLR 2016; mutual information as He et al., ICLR 2019,
https://arxiv.org/abs/1901.05534. Where the KL divergence is near zero, the posterior has collapsed:
the decoder ignores the code, and all likeliest texts are one.

A row of data is one text, ended by eos (`data.packing: separate`). Nats of `reconstruction`, `kl`
and `nll` are those of a whole text.

Differs from the papers:
* GRU layers and sizes of timbmg's Sentence-VAE; the code sets the decoder's first state alone;
* free bits are counted for each dimension of the code, on the mean over the batch of a step;
* the loss is divided by tokens, not texts, which Adam does not notice;
* the aggregated posterior of the mutual information is that of one validation batch, so it is at
  most the logarithm of its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError, PromptError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._text import TextModule
from aigc_cli.nn import rnn
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.divergence import kl_to_standard_normal
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.decoding import Answer, Decoding, TokenDecoder
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.text import IGNORE, TextSpec
from aigc_cli.text.tokenizer import Tokenizer

COLLAPSED = 0.5  # nats of KL divergence
ACTIVE = 0.01  # variance of a posterior mean (Burda et al., section 5.2)
STEEP = 6.25  # the sigmoid is 0.002 at the first step: k = 0.0025 of 2500 steps
MOST_AT_ONCE = 2**26  # logits when integrating: 256 MB in fp32


class Config(Section):
    """The networks and the bound; the defaults are those of timbmg's Sentence-VAE."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "dim": 8,
        "hidden_dim": 8,
        "latent_dim": 3,
        "kl_schedule": "constant",
        "dropout": 0.0,
    }
    FEW: ClassVar[Mapping[str, Any]] = {"dim": 128, "hidden_dim": 128}

    dim: int = Field(300, gt=0)
    """Features of an embedded token."""
    hidden_dim: int = Field(256, gt=0)
    """Units of encoder and decoder."""
    latent_dim: int = Field(16, gt=0)
    """Size of the code z."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Part of the decoder's embeddings that is zeroed while training."""
    word_dropout: float = Field(0.0, ge=0, le=1)
    """Probability that a token the decoder is fed in training becomes the unknown one."""
    beta: float = Field(1.0, ge=0)
    """Final weight of the KL divergence."""
    kl_schedule: Literal["constant", "linear", "logistic", "cyclical"] = "logistic"
    """How the weight of the KL divergence comes to `beta`."""
    kl_steps: int = Field(2500, gt=0)
    """linear: steps to `beta`; logistic: to half of it; cyclical: of a cycle, half of which rises.
    """
    free_bits: float = Field(0.0, ge=0)
    """Nats of KL divergence that each dimension of the code has for free."""
    lr: float = Field(1e-3, gt=0, le=1)
    """Adam's learning rate before the schedule."""

    def kl_weight(self, step: int) -> float:
        """Weight of the KL divergence in training iteration `step`, counted from 0."""
        match self.kl_schedule:
            case "constant":
                part = 1.0
            case "linear":
                part = min(1.0, (step + 1) / self.kl_steps)
            case "logistic":
                part = 1 / (1 + math.exp(-STEEP * min(step / self.kl_steps - 1, 100)))
            case "cyclical":
                part = min(1.0, 2 * (step % self.kl_steps) / self.kl_steps)
        return self.beta * part


class Network(nn.Module):
    """Tokens to codes, and codes to tokens; both sides have one embedding."""

    def __init__(self, vocab_size: int, config: Config) -> None:
        super().__init__()
        E, H, Z = config.dim, config.hidden_dim, config.latent_dim
        self.embedding = nn.Embedding(vocab_size, E)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = rnn.Encoder("gru", E, H, state_dim=H)
        self.code = nn.Linear(H, 2 * Z)
        self.start = nn.Linear(Z, H)
        self.decoder = rnn.recurrent("gru", E, H)
        self.output = nn.Linear(H, vocab_size)
        rnn.init_recurrent(self, "orthogonal")

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar (B, Z) of texts (B, T)."""
        last = self.encoder(self.embedding(tokens), lengths).summary
        mu, logvar = self.code(last).float().chunk(2, dim=-1)
        return mu, logvar

    def begin(self, z: Tensor) -> Tensor:
        """The decoder's first state (1, R, H) for codes (R, Z)."""
        state: Tensor = self.start(z)[None]
        return state

    def decode(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Features (R, T, H) of what follows each token (R, T), and the state after the last."""
        made, (state,) = rnn.run(self.decoder, self.dropout(self.embedding(tokens)), (state,))
        return made, state


class Model(TextModule):
    """Maximizes the evidence lower bound, with Adam."""

    accepts = (TextSpec,)
    averaged = ("network",)
    input_optional = True
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        **TextModule.metrics,
        "reconstruction": "min",
        "kl": "max",
        "mutual_information": "max",
        "active_units": "max",
    }
    measures: ClassVar[dict[str, Literal["max", "min"]] | None] = {"nll": "min", **metrics}
    config: Config
    byte_lengths: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, TextSpec)
        self.context = spec.context
        self.tokenizer = Tokenizer.from_json(spec.tokenizer)
        pad, bos, unknown = (getattr(self.tokenizer, f"{r}_id") for r in ("pad", "bos", "unk"))
        if pad is None:
            raise InputError(
                "texts of several lengths need tokens for padding, begin and end",
                hint="leave data.tokenizer.specials at its default",
            )
        self.pad, self.bos, self.unknown = pad, bos, pad if unknown is None else unknown
        self.network = Network(self.tokenizer.vocab_size, config)
        sizes = torch.tensor(self.tokenizer.byte_lengths)
        self.register_buffer("byte_lengths", sizes, persistent=False)

    @property
    def counted(self) -> tuple[str, ...]:  # type: ignore[override]
        """Beside what every text counts: mean and square of each dimension of the code."""
        units = [f"{what}_{n}" for what in ("mu", "square") for n in range(self.config.latent_dim)]
        return ("nats", "tokens", "bytes", "kl", "mutual_information", *units)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return fused_adam(self.parameters(), self.config.lr)

    def weight(self, batch: Batch) -> Tensor:
        return (batch["target"] != IGNORE).sum()

    # The bound.

    @torch.no_grad()
    def expand(self, batch: Batch) -> Batch:
        """With free bits, adds `free` (B, Z): the dimensions that cost nothing, the same for every
        text. Kingma et al.'s mean of each dimension is over all texts of the step, so it is taken
        before these are spread over parts.
        """
        if not self.config.free_bits:
            return batch
        kl = self.all_gather(kl_to_standard_normal(*self.posterior(batch["target"])))
        mean = kl[self.all_gather(has_text(batch))].mean(0)
        free = ~(mean > self.config.free_bits)
        return {**batch, "free": free.expand(len(batch["target"]), -1)}

    def loss(self, batch: Batch) -> Terms:
        c = self.config
        target = batch["target"]
        mu, logvar = self.posterior(target)
        z = mu + (logvar / 2).exp() * self.randn(len(mu), c.latent_dim)
        tokens = batch["tokens"]
        if c.word_dropout:
            dropped = self.rand(len(mu), self.context)[:, : tokens.shape[1]] < c.word_dropout
            tokens = tokens.masked_fill(dropped & (tokens != self.bos), self.unknown)
        nats = self.nats(tokens, target, z).sum()
        kl = kl_to_standard_normal(mu, logvar)[has_text(batch)]  # (N, Z)
        texts = max(1, len(kl))
        weight = c.kl_weight(self.step)
        charged = kl.sum(0)
        if c.free_bits:
            charged = torch.where(batch["free"][0], c.free_bits * len(kl), charged)
        return {
            "loss": (nats + weight * charged.sum()) / self.mean_weight,
            "reconstruction": nats / texts,
            "kl": kl.sum() / texts,
            "kl_weight": torch.tensor(weight),
            "active_units": (self.all_gather(mu).var(0, correction=0) > ACTIVE).sum(),
        }

    def posterior(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar (B, Z) of the codes of texts, as the `target` of a batch."""
        learned = target != IGNORE
        return self.network.encode(
            target.masked_fill(~learned, self.pad), learned.sum(1).clamp(min=1)
        )

    def nats(self, tokens: Tensor, target: Tensor, z: Tensor) -> Tensor:
        """-log p(text | z) of each text, (B,)."""
        features, _ = self.network.decode(tokens, self.network.begin(z))
        learned = target != IGNORE
        logits = self.network.output(features[learned]).float()
        nats = F.cross_entropy(logits, target[learned], reduction="none")
        return nats.new_zeros(target.shape).masked_scatter(learned, nats).sum(1)

    def nll(self, batch: Batch, k: int, noise: SampleNoise) -> Tensor:
        """-log p(text) in nats, (B,), by k importance samples of each code: an upper bound in the
        mean, exact for k to infinity.
        """
        tokens, target = batch["tokens"], batch["target"]
        mu, logvar = self.posterior(target)
        at_once = max(1, MOST_AT_ONCE // (tokens.numel() * self.tokenizer.vocab_size))
        total = torch.full((len(mu),), -torch.inf, dtype=torch.float64, device=mu.device)
        for first in range(0, k, at_once):
            eps = noise.randn(min(at_once, k - first), self.config.latent_dim).to(mu)  # (B, n, Z)
            z = mu[:, None] + (logvar / 2).exp()[:, None] * eps
            n = z.shape[1]
            several, asked = tokens.repeat_interleave(n, 0), target.repeat_interleave(n, 0)
            log_p = -self.nats(several, asked, z.flatten(0, 1)).view(-1, n)
            ratio = 0.5 * (eps.square() - z.square() + logvar[:, None]).sum(
                -1
            )  # prior to posterior
            total = torch.logaddexp(total, (log_p + ratio).double().logsumexp(1))
        return math.log(k) - total

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        target = batch["target"]
        mu, logvar = self.posterior(target)
        z = mu + (logvar / 2).exp() * self.val_noise(len(mu)).randn(self.config.latent_dim).to(mu)
        kl = kl_to_standard_normal(mu, logvar).sum(1)
        learned = target != IGNORE
        units = {f"mu_{n}": value for n, value in enumerate(mu.T)}
        squares = {f"square_{n}": value.square() for n, value in enumerate(mu.T)}
        return {
            "nats": self.nats(batch["tokens"], target, z).double() + kl,
            "tokens": learned.sum(1),
            "bytes": (self.byte_lengths[target.clamp(min=0)] * learned).sum(1),
            "kl": kl,
            "mutual_information": mutual_information(z, mu, logvar),
            **units,
            **squares,
        }

    def measure(self, batch: Batch, options: Section) -> dict[str, Tensor]:
        assert isinstance(options, Options)
        noise = self.val_noise(len(batch["target"]))
        noise.randn(self.config.latent_dim)  # that of evaluate_batch
        nll = self.nll(batch, options.num_importance, noise)
        return {**self.evaluate_batch(batch), "nll": nll}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """Those of every text, of the bound; nats of a text; how much the code says."""
        found = super().summarize(means)
        variances = [
            means[f"square_{n}"] - means[f"mu_{n}"] ** 2 for n in range(self.config.latent_dim)
        ]
        found |= {
            "reconstruction": means["nats"] - means["kl"],
            "kl": means["kl"],
            "mutual_information": means["mutual_information"],
            "active_units": float(sum(variance > ACTIVE for variance in variances)),
        }
        return found | ({"nll": means["nll"]} if "nll" in means else {})

    def health(self, means: dict[str, float]) -> list[str]:
        annealed = means.get("kl_weight", 0.0) >= self.config.beta / 2 > 0
        return ["posterior collapse"] if annealed and means.get("kl", 1.0) < COLLAPSED else []

    # Texts.

    def read(self, prompts: Sequence[str]) -> TokenDecoder:
        """A decoder of the likeliest code of each text; of the middle of all codes for none."""
        return Writer(self, self.codes(prompts))

    def write(
        self,
        prompts: Sequence[str],
        options: Decoding,
        noise: SampleNoise,
        *,
        count: int = 1,
        watch: Callable[[int, Sequence[int]], None] | None = None,
    ) -> list[list[Answer]]:
        """Reconstructions of the prompts; for an empty one texts of codes that the noise draws."""
        drawn = noise.randn(self.config.latent_dim).to(self.device)  # (P count, Z)
        given = torch.tensor([bool(prompt) for prompt in prompts], device=self.device)
        codes = self.codes(prompts).repeat_interleave(count, 0)
        z = torch.where(given.repeat_interleave(count)[:, None], codes, drawn)
        answers = self._texts(z, options, noise, watch)
        return [answers[p * count : (p + 1) * count] for p in range(len(prompts))]

    def between(
        self, given: Sequence[str] | None, steps: int, options: Decoding, noise: SampleNoise
    ) -> list[Answer]:
        """The likeliest texts of codes on straight lines."""
        if given is None:
            ends = noise.randn(self.config.latent_dim).to(self.device)
        else:
            ends = self.codes(given)
        if len(ends) < 2 or steps < 2:
            raise InputError("--interpolate goes from one text to the next and needs two or more")
        t = torch.linspace(0, 1, steps, device=self.device)[:, None]
        ways = [(a + t * (b - a))[:-1] for a, b in pairwise(ends)]
        greedy = options.model_copy(update={"temperature": 0.0})
        return self._texts(torch.cat([*ways, ends[-1:]]), greedy, None)

    def codes(self, prompts: Sequence[str]) -> Tensor:
        """The likeliest codes (P, Z) of texts; zero for empty ones.

        Raises:
            PromptError: a text is longer than the model reads; names both lengths.
        """
        rows = self.tokenizer.encode_batch(prompts)
        eos = [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) + len(eos) > self.context:
                raise PromptError(
                    f"a text of {len(row)} tokens is longer than the model reads, "
                    f"{self.context - len(eos)}: {prompt[:60]!r}",
                    hint="shorten it, or train with a larger data.context",
                )
        width = max(map(len, rows)) + 1
        target = torch.tensor(
            [[*row, *eos, *[IGNORE] * (width - len(row) - len(eos))] for row in rows]
        )
        mu, _ = self.posterior(target.to(self.device))
        given = torch.tensor([bool(prompt) for prompt in prompts], device=self.device)
        return torch.where(given[:, None], mu, 0.0)

    def _texts(
        self,
        z: Tensor,
        options: Decoding,
        noise: SampleNoise | None,
        watch: Callable[[int, Sequence[int]], None] | None = None,
    ) -> list[Answer]:
        """One text for each code."""
        answers = self.answer(Writer(self, z), len(z), options, noise, 1, watch)
        return [answer[0] for answer in answers]


class Writer(TokenDecoder):
    """The state after a code and the tokens so far."""

    def __init__(self, model: Model, z: Tensor) -> None:
        self._network, self.longest = model.network, model.context
        self._state = self._network.begin(z)
        self._bos = torch.full((len(z),), model.bos, device=z.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        tokens = self._bos if tokens is None else tokens
        features, self._state = self._network.decode(tokens[:, None], self._state)
        logits: Tensor = self._network.output(features[:, 0]).float()
        return logits

    def select(self, rows: Tensor) -> None:
        self._state = self._state[:, rows]


class Options(Decoding):
    """What `aigc sample` and `aigc evaluate` may set."""

    temperature: float = Field(0.0, ge=0, le=100)
    """0 writes the likeliest text of a code, 1 draws one from the decoder's probabilities."""
    num_importance: int = Field(50, gt=0, le=100_000)
    """Importance samples for each text in the `nll` of `aigc evaluate`; papers use 500."""


def has_text(batch: Batch) -> Tensor:
    """Which rows (B,) have something to learn."""
    return (batch["target"] != IGNORE).any(1)


def mutual_information(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log q(z | x) - log q(z) of one code (B, Z) of each text, (B,); q(z) is the mean of the
    posteriors of these B texts. The mean is an estimate of I(x, z), at most log B.
    """
    gap = z[:, None] - mu  # (B, B, Z): code i under the posterior of text j
    log_q = -0.5 * (gap.square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(-1)
    return log_q.diagonal() - (log_q.logsumexp(1) - math.log(len(z)))

"""Base of the families that train a decoder-only network: how it is optimized, judged and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError, PromptError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._text import TextModule, require_tokenizer
from aigc_cli.models.text._network import NetworkConfig, build_network
from aigc_cli.nn.adam import fused_adamw
from aigc_cli.nn.cached_lm import CachedLM, Prefix
from aigc_cli.nn.causal_lm import CausalLM
from aigc_cli.nn.lora import merge_adapters
from aigc_cli.nn.muon import MuonAdamW
from aigc_cli.sampling.decoding import Decoding, TokenDecoder
from aigc_cli.specs import Spec
from aigc_cli.specs.text import IGNORE
from aigc_cli.text.tokenizer import Tokenizer

PREVIEW = 100  # tokens


class CausalConfig(NetworkConfig):
    """The network, and its optimizer."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: the matrices of the blocks by Muon, everything else by AdamW, at the same rate."""
    lr: float = Field(1e-3, gt=0, le=1)
    """Learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay of the first and second moment; 0.95 for the second suits large batches."""
    weight_decay: float = Field(0.1, ge=0)
    """Pull towards zero, of embeddings and matrices only."""


def decoder_optimizer(module: nn.Module, net: CausalLM, c: CausalConfig) -> torch.optim.Optimizer:
    """Of all that is trained in `module`, whose decoder is `net`: decay on matrices only."""
    params = [p for p in module.parameters() if p.requires_grad]
    blocks = set(net.blocks.parameters()) if c.optimizer == "muon" else set()
    hidden = [p for p in params if p in blocks and p.ndim == 2]
    others = [p for p in params if p not in blocks or p.ndim != 2]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": c.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if hidden:
        return MuonAdamW(hidden, groups, c.lr, c.betas, c.weight_decay)
    return fused_adamw(groups, c.lr, c.betas)


class CausalDecoding(Decoding):
    """How texts are written, and with which weights."""

    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Weights while writing. auto: bfloat16 where they are stored so and the processor multiplies
    it, otherwise float32. int8 is the fastest for few texts at once; both change some texts.
    """


class CausalModule(TextModule):
    """`net` is trained to give each token from those before it."""

    averaged = ("net",)
    continues = True
    input_optional = True
    config: CausalConfig
    byte_lengths: Tensor
    _at_rest: float | None = None
    """Loss of the first batch without dropout, until it was compared."""
    _writer: CachedLM | None = None
    """What writes, once the weights stay as they are."""

    def __init__(self, config: CausalConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        tokenizer: str = spec.tokenizer  # type: ignore[attr-defined]
        self.context: int = spec.context  # type: ignore[attr-defined]
        self.tokenizer = Tokenizer.from_json(tokenizer)
        self.net = build_network(config, self.tokenizer.vocab_size, self.context)
        sizes = torch.tensor(self.tokenizer.byte_lengths)
        self.register_buffer("byte_lengths", sizes, persistent=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return decoder_optimizer(self, self.net, self.config)

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> dict[str, Tensor]:
        """All of `net`, of which nothing may be missing there; the other model's adapters are
        merged into its weights. Positions of GPT-2 beyond the context of the data are left out.

        Raises:
            InputError: it has another tokenizer, or a network of another shape.
        """
        text = getattr(spec, "tokenizer", None)
        if text is None:
            raise InputError(f"init_from: a model of {spec.kind} does not continue texts")
        require_tokenizer("tokenizer", text, self.tokenizer)
        theirs = merge_adapters(weights)
        found = {}
        for name, own in self.net.state_dict(prefix="net.").items():
            if ".lora_" in name:
                continue
            value = theirs.get(name)
            if value is not None and name.endswith(".wpe.weight"):
                value = value[: len(own)]
            if value is None or value.shape != own.shape:
                shape = "absent" if value is None else tuple(value.shape)
                raise InputError(
                    f"init_from: '{name}' is {shape} there and {tuple(own.shape)} here"
                )
            found[name] = value
        return found

    def weight(self, batch: Batch) -> Tensor:
        return (batch["target"] != IGNORE).sum()

    def nats(self, batch: Batch) -> Tensor:
        """Cross-entropy (B, T) of each supervised token, 0 elsewhere."""
        losses: Tensor = self.net(
            batch["tokens"], target=batch["target"], document=batch.get("document")
        )
        return losses

    def loss(self, batch: Batch) -> Terms:
        loss = self.nats(batch).sum() / self.mean_weight
        if self.step == 0 and self.training and self.drops:
            self.net.eval()
            with torch.no_grad():
                self._at_rest = float(self.nats(batch).sum() / self.mean_weight)
            self.net.train()
        return {"loss": loss}

    @property
    def drops(self) -> bool:
        """Whether training zeroes anything by chance."""
        return self.config.dropout > 0

    def health(self, means: dict[str, float]) -> list[str]:
        """Whether dropout ruins weights that were trained without it."""
        rest, self._at_rest = self._at_rest, None
        if rest is None or means["loss"] < 1.5 * rest:
            return []
        return [f"dropout makes the loss {means['loss']:.2f}, which is {rest:.2f} without"]

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        supervised = batch["target"] != IGNORE
        sizes = self.byte_lengths[batch["target"].clamp(min=0)]
        return {
            "nats": self.nats(batch).double().sum(1),
            "tokens": supervised.sum(1),
            "bytes": (sizes * supervised).sum(1),
        }

    def read(self, prompts: Sequence[str]) -> TokenDecoder:
        return self.read_ids([self.prompt_ids(prompt) for prompt in prompts])

    def prompt_ids(self, prompt: str) -> list[int]:
        """What the network reads of a prompt.

        Raises:
            PromptError: it is longer than the context; names both lengths.
        """
        ids = self.tokenizer.encode(prompt)
        if self.tokenizer.bos_id is not None:
            ids = [self.tokenizer.bos_id, *ids]
        if len(ids) > self.context:
            raise PromptError(
                f"the prompt {prompt[:40]!r}... has {len(ids)} tokens, and the model reads at most "
                f"{self.context}",
                hint="shorten it, or train with a larger data.context",
            )
        return ids or [0]

    def read_ids(self, rows: Sequence[Sequence[int]]) -> CausalDecoder:
        """A decoder that has read rows of 1 to `context` tokens."""
        return CausalDecoder(self._writer or CachedLM(self.net), rows, self.tokenizer.bos_id)

    def prepare_to_write(self, options: Decoding, *, half: bool) -> str:
        assert isinstance(options, CausalDecoding)
        dtype = options.dtype
        if dtype == "auto":
            dtype = "bfloat16" if half else "float32"
        self._writer = CachedLM(self.net, dtype)
        return dtype


class CausalDecoder(TokenDecoder):
    """Continues rows of tokens with a cache. Rows may have several lengths: shorter ones are padded
    on the left, and each has positions of its own.

    A row that has filled the context goes on with its last half, read again behind `bos`, so texts
    may be longer than the context.
    """

    def __init__(self, net: CachedLM, rows: Sequence[Sequence[int]], bos: int | None) -> None:
        self.net, self.bos = net, bos
        self.lengths = [len(row) for row in rows]
        width = max(self.lengths)
        padded = [[0] * (width - len(row)) + list(row) for row in rows]
        self.tokens = torch.tensor(padded, device=net.device)  # (R, width)
        self.prefix = Prefix()

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is None:
            return self._read()
        self.tokens = torch.cat([self.tokens, tokens[:, None]], 1)
        context = self.net.context
        full = [row for row, n in enumerate(self.lengths) if n == context]
        self.lengths = [n + 1 if n < context else context // 2 + 1 for n in self.lengths]
        if full and self.bos is not None:
            self.tokens[full, -(context // 2 + 1)] = self.bos
        if self.prefix.length == context:
            return self._read()
        return self.net(tokens[:, None], self.prefix)

    def _read(self) -> Tensor:
        """Fill the cache with what each row still knows."""
        width = max(self.lengths)
        pad = width - torch.tensor(self.lengths, device=self.tokens.device)
        self.prefix = Prefix(pad)
        return self.net(self.tokens[:, -width:], self.prefix)

    def select(self, rows: Tensor) -> None:
        self.tokens = self.tokens[rows]
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        self.prefix.select(rows)

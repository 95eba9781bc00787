"""Classifier of texts: names the class of each, and rewards texts of a class in `grpo` and
`seq2seq`.

The encoder of Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, with normalization before
each layer, and the mean of its features over the tokens. Cross-entropy with label smoothing
(Szegedy et al., 2016, https://arxiv.org/abs/1512.00567), and weights of the classes as powers of
their rarity. Words that are hidden at random while training are those of Iyyer et al., 2015,
https://aclanthology.org/P15-1162.

Another classifier's weights, by `init_from`, give a new head the layers below it. With `arch: bert`
it is the network of Devlin et al., 2019, https://arxiv.org/abs/1810.04805 (nn/bert.py), for the
weights of MiniLM and its like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models._classifier import ClassifierModule
from aigc_cli.models._text import require_tokenizer
from aigc_cli.nn.adam import fused_adamw
from aigc_cli.nn.bert import Bert, BertConfig
from aigc_cli.nn.transformer import EncoderBlock, sinusoids
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec
from aigc_cli.specs.text import LabelledTextSpec, TextSpec
from aigc_cli.text.tokenizer import Tokenizer

DIAL = Dial(
    goals=("classify",),
    sizes=(
        {"model.dim": 64, "model.num_layers": 1, "model.hidden_dim": 128},
        {"model.dim": 96, "model.num_layers": 1, "model.hidden_dim": 192},
        {"model.dim": 128, "model.num_layers": 2, "model.hidden_dim": 512},
    ),
    steps=1500,
    always={
        "data.tokenizer": {"kind": "words", "min_count": 2, "lowercase": True},
        "model.dropout": 0.3, "model.word_dropout": 0.1, "model.label_smoothing": 0.1,
        "model.lr": 2e-3, "model.weight_decay": 0.05, "trainer.global_batch": 64,
        "trainer.clip_norm": 1.0, "trainer.precision": "fp32",
    },
    starts={
        "minilm": Dial(
            goals=("classify",),
            sizes=tuple({"data.max_length": length} for length in (32, 64, 128)),
            steps=64,
            always={
                "data.tokenizer": {"from": "minilm"}, "model.arch": "bert", "model.dim": 384,
                "model.num_layers": 6, "model.num_heads": 12, "model.hidden_dim": 1536,
                "model.dropout": 0.1, "model.lr": 2e-3, "model.encoder_lr": 0.1,
                "trainer.global_batch": 32, "trainer.clip_norm": 1.0,
            },
            averaged=False,
        ),
    },
)  # fmt: skip


class Config(Section):
    """The network, what is minimized, and the optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {"dim": 8, "num_heads": 2, "dropout": 0.0}
    FEW: ClassVar[Mapping[str, Any]] = {
        "dim": 96,
        "num_layers": 1,
        "hidden_dim": 192,
        "dropout": 0.3,
    }

    arch: Literal["transformer", "bert"] = "transformer"
    """bert: the layout of BERT, for the weights and tokens of `aigc model get minilm`."""
    dim: int = Field(128, gt=0)
    """Features of a token."""
    num_layers: int = Field(2, gt=0)
    """Blocks."""
    num_heads: int = Field(4, gt=0)
    """Attention heads of a block."""
    hidden_dim: int | None = Field(None, gt=0)
    """Features inside the feed-forward; 4 dim when not given."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Part of embeddings, attention, sums and features that is zeroed while training."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Part of the tokens that nothing looks at while training."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Part of the target that is spread evenly over all classes."""
    balance: float = Field(0.0, ge=0, le=1)
    """Weight of a class in the loss: its rarity to this power; 0 for all texts alike, 1 for all
    classes alike.
    """
    lr: float = Field(1e-3, gt=0, le=1)
    """AdamW's learning rate before the schedule."""
    encoder_lr: float = Field(1.0, ge=0, le=1)
    """bert: rate of all but the last layer, as part of `lr`."""
    weight_decay: float = Field(1e-2, ge=0, le=1)
    """AdamW's pull towards zero, of matrices only."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Config:
        if self.dim % self.num_heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of num_heads ({self.num_heads})")
        return self


class TextEncoder(nn.Module):
    """Tokens (B, T), padded at the end, -> logits (B, K)."""

    positions: Tensor

    def __init__(self, config: Config, vocab_size: int, length: int, pad: int, classes: int):
        super().__init__()
        c = config
        self.pad = pad
        self.embedding = nn.Embedding(vocab_size, c.dim)
        self.register_buffer("positions", sinusoids(length, c.dim), persistent=False)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                c.dim, c.num_heads, hidden_dim=c.hidden_dim or 4 * c.dim, norm="pre",
                activation="gelu", dropout=c.dropout,
            )
            for _ in range(c.num_layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(c.dim)
        self.dropout = nn.Dropout(c.dropout)
        self.logits = nn.Linear(c.dim, classes)
        nn.init.normal_(self.embedding.weight, 0.0, c.dim**-0.5)

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """`seen` (B, T) is false where a token is hidden; those of padding always are."""
        real = tokens != self.pad if seen is None else (tokens != self.pad) & seen
        T, D = tokens.shape[1], self.embedding.embedding_dim
        x = self.dropout(self.embedding(tokens) * D**0.5 + self.positions[:T])  # (B, T, D)
        for block in self.blocks:
            x = block(x, mask=real[:, None, None])
        mean = (self.norm(x) * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        logits: Tensor = self.logits(self.dropout(mean))
        return logits


class BertClassifier(nn.Module):
    """As TextEncoder, from BERT's features of `[CLS]`, the text and `[SEP]`."""

    def __init__(
        self, config: Config, vocab_size: int, length: int, pad: int, begin: int, classes: int
    ) -> None:
        super().__init__()
        c = config
        self.pad, self.begin = pad, begin
        sizes = BertConfig(
            vocab_size, c.dim, c.num_layers, c.num_heads, c.hidden_dim or 4 * c.dim, length + 1
        )
        self.bert = Bert(sizes, dropout=c.dropout)
        self.dropout = nn.Dropout(c.dropout)
        self.logits = nn.Linear(c.dim, classes)

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        real = tokens != self.pad if seen is None else (tokens != self.pad) & seen
        tokens, real = F.pad(tokens, (1, 0), value=self.begin), F.pad(real, (1, 0), value=True)
        x = self.bert(tokens, real)  # (B, 1 + T, D)
        mean = (x * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        logits: Tensor = self.logits(self.dropout(mean))
        return logits


class Model(ClassifierModule):
    """The moving average of the weights, where one is kept, names the classes."""

    accepts = (LabelledTextSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "accuracy": "max",
        "cross_entropy": "min",
    }
    averaged = ("net",)
    takes = "text"
    config: Config
    spec: LabelledTextSpec
    share: Tensor
    """(K,): of each class in the training texts."""
    class_weight: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, LabelledTextSpec)
        self.tokenizer = Tokenizer.from_json(spec.tokenizer)
        assert self.tokenizer.pad_id is not None
        assert self.tokenizer.eos_id is not None
        self.pad, self.eos = self.tokenizer.pad_id, self.tokenizer.eos_id
        classes = len(spec.labels)
        sizes = self.tokenizer.vocab_size, spec.max_length, self.pad
        self.net: TextEncoder | BertClassifier
        if config.arch == "bert":
            begin = self.tokenizer.bos_id
            assert begin is not None
            self.net = BertClassifier(config, *sizes, begin, classes)
        else:
            self.net = TextEncoder(config, *sizes, classes)
        counts = torch.tensor(spec.counts or (1,) * classes).float().clamp(min=1)
        self.register_buffer("share", counts / counts.sum(), persistent=False)
        self.register_buffer(
            "class_weight", (classes * self.share) ** -config.balance, persistent=False
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        groups: list[dict[str, Any]] = []
        below = set(self.net.bert.parameters()) if isinstance(self.net, BertClassifier) else set()
        for lr, part in ((c.lr * c.encoder_lr, below), (c.lr, set(self.parameters()) - below)):
            own = [p for p in self.parameters() if p in part]
            matrices, others = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
            groups += [
                {"params": matrices, "lr": lr, "weight_decay": c.weight_decay},
                {"params": others, "lr": lr, "weight_decay": 0.0},
            ]
        return fused_adamw([group for group in groups if group["params"]], c.lr)

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> Mapping[str, Tensor]:
        """
        Raises:
            InputError: its tokens are others.
        """
        if isinstance(spec, LabelledTextSpec | TextSpec):
            require_tokenizer("tokenizer", spec.tokenizer, self.tokenizer)
        positions = "net.bert.positions.weight"
        if positions in weights:
            weights = {**weights, positions: weights[positions][: self.spec.max_length + 1]}
        return weights

    def weight(self, batch: Batch) -> Tensor:
        return self.class_weight[batch["label"]].sum()

    def loss(self, batch: Batch) -> Terms:
        tokens, label = batch["tokens"], batch["label"]
        logits = self.net(tokens, self._seen(tokens))
        loss = F.cross_entropy(
            logits.float(), label, reduction="none", label_smoothing=self.config.label_smoothing
        )
        right = (logits.argmax(1) == label).float().mean()
        return {
            "loss": (self.class_weight[label] * loss).sum() / self.mean_weight,
            "accuracy": right,
        }

    def _seen(self, tokens: Tensor) -> Tensor | None:
        """Which tokens (B, T) are not hidden; never the one that ends a text."""
        if not self.config.word_dropout:
            return None
        B, T = tokens.shape
        drawn = self.rand(B, self.spec.max_length)[:, :T]  # whatever pads the other parts
        return (drawn >= self.config.word_dropout) | (tokens == self.eos)

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        logits, label = self.net(batch["tokens"]).float(), batch["label"]
        return {
            "accuracy": (logits.argmax(1) == label).float(),
            "cross_entropy": F.cross_entropy(logits, label, reduction="none"),
        }

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """What whoever does not read says: always the most frequent class, and the shares."""
        label = batch["label"]
        return {
            "majority": {
                "accuracy": (label == self.share.argmax()).float(),
                "cross_entropy": -self.share[label].log(),
            }
        }

    def example(self, batch: Batch, options: Options) -> Example:
        (text,) = self.tokenizer.decode_batch(batch["tokens"].tolist())
        return Example(text, beside={"class": self.spec.labels[int(batch["label"][0])]})

    def batch_of(self, things: Sequence[str]) -> Batch:
        """Of texts that are too long the beginning is read."""
        encoded = self.tokenizer.encode_batch(things)
        most = self.spec.max_length - 1
        rows = [torch.tensor([*ids[:most], self.eos]) for ids in encoded]
        return {"tokens": pad_sequence(rows, batch_first=True, padding_value=self.pad)}

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Probabilities (B, K) of the classes in `spec.labels` for tokens (B, T)."""
        logits: Tensor = self.net(batch["tokens"]).float()
        return logits.softmax(1)


class Options(Section):
    """What `aigc sample` may set: nothing."""

"""The encoder of BERT, and vectors of sentences by it.

Devlin et al., "BERT", NAACL 2019, https://arxiv.org/abs/1810.04805. Sentences are the mean of their
tokens, scaled to length 1, as Reimers and Gurevych, "Sentence-BERT", EMNLP 2019,
https://arxiv.org/abs/1908.10084, train them; MiniLM (Wang et al., NeurIPS 2020,
https://arxiv.org/abs/2002.10957) is a small BERT.

Differs from the published layout: the embedding of the first kind of segment is part of the
positions, since only one text is read at a time, and there is no pooler.

Letters: B texts, T tokens, D features.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Encoding
from tokenizers import Tokenizer as Engine
from torch import Tensor, nn

from aigc_cli.catalog.weights import find_model, is_model
from aigc_cli.errors import CheckpointError, InputError
from aigc_cli.nn.transformer import EncoderBlock
from aigc_cli.text.folder import read_json, read_text

BATCH = 64
_NAMES = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.o_proj",
    "attention.output.LayerNorm": "norm_1",
    "intermediate.dense": "feed_forward.0",
    "output.dense": "feed_forward.3",
    "output.LayerNorm": "norm_2",
}
"""Modules of a layer as published, and in EncoderBlock."""


@dataclass(frozen=True)
class BertConfig:
    """Sizes, named as in a config.json of transformers."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12


class Bert(nn.Module):
    """Tokens (B, T) -> features (B, T, D) of the last layer."""

    def __init__(self, config: BertConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = c = config
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.positions = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.norm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                c.hidden_size, c.num_attention_heads, hidden_dim=c.intermediate_size, norm="post",
                activation="gelu", dropout=dropout, eps=c.layer_norm_eps,
            )
            for _ in range(c.num_hidden_layers)
        )  # fmt: skip

    def forward(self, tokens: Tensor, real: Tensor, layer: int | None = None) -> Tensor:
        """`real` (B, T) is false at padding, which stands behind a text. `layer`: the features
        behind so many layers, 0 for the embeddings.
        """
        x = self.words(tokens) + self.positions.weight[: tokens.shape[1]]  # (B, T, D)
        x = self.dropout(self.norm(x))
        for block in self.blocks[:layer]:
            x = block(x, mask=real[:, None, None])
        return x


class Embedded(NamedTuple):
    """A text: features of its tokens (T, D), and which of them are its own (T,), not special."""

    features: Tensor
    own: Tensor


class SentenceEncoder:
    """A frozen network and its tokenizer."""

    def __init__(self, network: Bert, engine: Engine, max_length: int) -> None:
        self.network = network.eval().requires_grad_(False)
        engine.no_padding()
        engine.enable_truncation(max_length)
        self.engine, self.max_length = engine, max_length

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], layer: int | None = None) -> list[Embedded]:
        """Features of each token of each text; texts of more than `max_length` tokens are cut."""
        found: dict[int, Embedded] = {}
        for rows, encodings, x in self._batches(texts, layer):
            for i, encoding, features in zip(rows, encodings, x, strict=True):
                own = ~torch.tensor(encoding.special_tokens_mask, dtype=torch.bool)
                found[i] = Embedded(features[: len(own)].float().cpu(), own)
        return [found[i] for i in range(len(texts))]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """A vector of length 1 for each text, (N, D); their products are cosines."""
        made = torch.empty(len(texts), self.network.config.hidden_size)
        for rows, encodings, x in self._batches(texts, None):
            real = _real(encodings).to(x.device)
            mean = (x.float() * real[..., None]).sum(1) / real.sum(1, keepdim=True)  # (B, D)
            made[rows] = F.normalize(mean, dim=1).cpu()
        return made

    def _batches(
        self, texts: Sequence[str], layer: int | None
    ) -> Iterator[tuple[list[int], list[Encoding], Tensor]]:
        """Numbers of texts of like length, their tokens, and features (B, T, D)."""
        device = self.network.words.weight.device
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            encodings = self.engine.encode_batch([texts[i].strip() for i in rows])
            real = _real(encodings)
            tokens = torch.zeros(real.shape, dtype=torch.long)
            for row, encoding in zip(tokens, encodings, strict=True):
                row[: len(encoding.ids)] = torch.tensor(encoding.ids)
            yield rows, encodings, self.network(tokens.to(device), real.to(device), layer)


def _real(encodings: Sequence[Encoding]) -> Tensor:
    """(B, T), true where a token stands."""
    lengths = torch.tensor([len(encoding.ids) for encoding in encodings])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def near_duplicates(vectors: Tensor, least: float = 0.95) -> list[tuple[int, int, float]]:
    """Pairs (i, j, cosine) of rows of vectors (N, D) of length 1 that are at least so alike: for
    each j the most similar i before it, if any.
    """
    pairs = []
    for start in range(0, len(vectors), 1024):  # so many rows of cosines in memory
        some = vectors[start : start + 1024]
        cosines = some @ vectors[: start + len(some)].T
        before = torch.ones_like(cosines, dtype=torch.bool).tril(start - 1)
        best, nearest = cosines.masked_fill(~before, -2).max(1)
        for row in (best >= least).nonzero()[:, 0].tolist():
            pairs.append((int(nearest[row]), start + row, float(best[row])))
    return pairs


def open_encoder(text: str) -> SentenceEncoder:
    """The encoder that `text` names: `minilm`, of `aigc model get minilm`, or a folder of a BERT.

    Raises:
        MissingError: it was not got yet. InputError, CheckpointError: as `read_encoder`.
    """
    return read_encoder(find_model(text) if is_model(text) else Path(text))


# Folders of transformers.


def is_bert(folder: Path) -> bool:
    """Whether this is the folder of a BERT in the layout of transformers."""
    file = folder / "config.json"
    return file.is_file() and read_json(file).get("model_type") == "bert"


def read_encoder(folder: Path) -> SentenceEncoder:
    """The BERT of a folder with config.json, tokenizer.json and model.safetensors.

    Raises:
        InputError: a file is absent or says what cannot be. CheckpointError: other weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: there is no {name}",
                hint="a BERT of transformers has config.json, tokenizer.json, model.safetensors",
            )
    config = _read_config(folder / "config.json")
    try:
        engine = Engine.from_str(read_text(folder / "tokenizer.json"))
    except InputError:
        raise
    except Exception as error:  # the library raises nothing narrower
        reason = str(error)[:80]
        raise InputError(f"{folder / 'tokenizer.json'}: not a tokenizer: {reason}") from error
    if engine.get_vocab_size() > config.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has {engine.get_vocab_size():,} tokens, the network "
            f"{config.vocab_size:,}"
        )
    network = Bert(config)
    file = folder / "model.safetensors"
    try:
        weights = from_published(load_file(file))
        network.load_state_dict(weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged, or no safetensors") from error
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{file}: not the weights of this BERT ({reason})") from error
    said = read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    longest = config.max_position_embeddings
    if isinstance(said, int) and 0 < said < longest:
        longest = said
    return SentenceEncoder(network, engine, longest)


def _read_config(file: Path) -> BertConfig:
    found = read_json(file)
    if found.get("model_type") != "bert" or found.get("hidden_act", "gelu") != "gelu":
        raise InputError(
            f"{file}: model_type {found.get('model_type')!r} with {found.get('hidden_act')!r} is "
            "no BERT with gelu"
        )
    sizes = {name: found.get(name) for name in BertConfig.__dataclass_fields__}
    sizes.pop("layer_norm_eps")
    if wrong := next((name for name, value in sizes.items() if not _is_count(value)), None):
        raise InputError(f"{file}: {wrong} is {sizes[wrong]!r}, not a number from 1 to a million")
    if sizes["hidden_size"] % sizes["num_attention_heads"]:  # type: ignore[operator]
        raise InputError(f"{file}: hidden_size is no multiple of num_attention_heads")
    eps = found.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise InputError(f"{file}: layer_norm_eps is {eps!r}")
    return BertConfig(**sizes, layer_norm_eps=eps)  # type: ignore[arg-type]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1_000_000


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of transformers' BertModel, or of one inside another model, under our names.

    Raises:
        KeyError: an embedding is absent.
    """
    own = {name.removeprefix("bert."): value.float() for name, value in weights.items()}
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        own = {name.replace(old, new): value for name, value in own.items()}  # Google's first files
    kinds = own["embeddings.token_type_embeddings.weight"]
    made = {
        "words.weight": own["embeddings.word_embeddings.weight"],
        "positions.weight": own["embeddings.position_embeddings.weight"] + kinds[0],
        "norm.weight": own["embeddings.LayerNorm.weight"],
        "norm.bias": own["embeddings.LayerNorm.bias"],
    }
    for name, value in own.items():
        if match := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name):
            number, module, kind = match.groups()
            made[f"blocks.{number}.{_NAMES.get(module, module)}.{kind}"] = value
    return made

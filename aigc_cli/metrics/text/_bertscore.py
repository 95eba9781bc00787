"""BERTScore: Zhang et al., 2020, https://arxiv.org/abs/1904.09675, through MiniLM or a folder.

Each token takes the most similar token of the other text by the cosine of their vectors in one
layer. As in the package bert_score, the special tokens can be taken but do not take part in the
mean. Without inverse document frequencies and without rescaling. A BERT is read by nn/bert.py,
other transformers by their own library.
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.catalog.weights import find_model, is_model
from aigc_cli.errors import InputError, MissingError
from aigc_cli.metrics._corpus import Measured, count_references, mean_of
from aigc_cli.metrics.text._text import References, TextMetric, Texts
from aigc_cli.nn.bert import Embedded, is_bert, read_encoder
from aigc_cli.recipe.sections import Name, Section

LAYERS = {
    "bert-base-uncased": 9, "bert-large-uncased": 18, "bert-base-chinese": 8,
    "bert-base-multilingual-cased": 9, "distilbert-base-uncased": 5, "roberta-base": 10,
    "roberta-large": 17, "xlm-roberta-base": 9, "xlm-roberta-large": 17,
}  # fmt: skip
"""The layers that the package bert_score chose by human judgements; others use the last one."""
BATCH = 64


class Scores(NamedTuple):
    """Each at most 1, which is best."""

    precision: float
    recall: float
    f1: float


class Model(NamedTuple):
    embed: Callable[[Sequence[str]], list[Embedded]]
    stamp: str


def compare(hyp: Embedded, ref: Embedded) -> Scores:
    """Mean best cosines of the tokens of each text among those of the other, and their F1."""
    if not hyp.own.any() or not ref.own.any():
        return Scores(0.0, 0.0, 0.0)
    x, y = (F.normalize(text.features, dim=-1) for text in (hyp, ref))
    cosines = x @ y.T  # (T, T')
    precision = float(cosines.amax(1)[hyp.own].mean())
    recall = float(cosines.amax(0)[ref.own].mean())
    both = precision + recall
    return Scores(precision, recall, 2 * precision * recall / both if both else 0.0)


def open_model(given: str, device: str) -> Model:
    """The tokenizer and network of a name or folder, and the layer behind a colon.

    Raises:
        MissingError: transformers, the model, the folder or a file of it is absent.
        InputError: there is no such layer.
    """
    name, colon, layer = given.rpartition(":")
    folder, layer = (name, layer) if colon and layer.isdecimal() else (given, "")
    path = find_model(folder) if is_model(folder) else Path(folder)
    for file in ("config.json", "model.safetensors"):
        if not (path / file).is_file():
            raise MissingError(
                f"bertscore.model={folder}: there is no {file} in it",
                hint="bertscore reads the folder of a transformer and its tokenizer, or minilm",
            )
    title = folder if is_model(folder) else path.name
    return _open(path, title, int(layer) if layer else LAYERS.get(title), device)


@lru_cache(maxsize=1)
def _open(path: Path, title: str, layer: int | None, device: str) -> Model:
    if is_bert(path):
        encoder = read_encoder(path)
        encoder.network.to(device)
        count, network = encoder.network.config.num_hidden_layers, encoder.network
        number = _checked(path, layer, count)
        return Model(lambda texts: encoder.embed(texts, number), _stamp(title, number, network))
    if importlib.util.find_spec("transformers") is None:
        raise MissingError(
            f"bertscore needs the package transformers to read {path}, which is no BERT",
            hint="install it with pip install 'aigc-cli[transformers]', or take "
            "bertscore.model=minilm",
        )
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    other: Any = transformers.AutoModel.from_pretrained(
        path, local_files_only=True, use_safetensors=True
    )
    other = other.eval().to(device)
    number = _checked(path, layer, other.config.num_hidden_layers)
    stamp = f"{_stamp(title, number, other)}|transformers:{transformers.__version__}"
    return Model(lambda texts: _embed(texts, tokenizer, other, number), stamp)


def _checked(path: Path, layer: int | None, count: int) -> int:
    if layer is not None and layer > count:
        raise InputError(f"bertscore.model={path}:{layer}: its layers are 0 to {count}")
    return count if layer is None else layer


def _stamp(title: str, layer: int, network: nn.Module) -> str:
    state = hashlib.blake2b(digest_size=6)
    for name, tensor in sorted(network.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return f"{title}_L{layer}_no-idf|weights:{state.hexdigest()}"


@torch.inference_mode()
def _embed(texts: Sequence[str], tokenizer: Any, network: Any, layer: int) -> list[Embedded]:
    """As `SentenceEncoder.embed`, by transformers. A tokenizer without a limit says 1e30."""
    positions = getattr(network.config, "max_position_embeddings", 512)
    longest = int(min(tokenizer.model_max_length, positions))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding in a batch
    found: dict[int, Embedded] = {}
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        batch = tokenizer(
            [texts[i].strip() for i in some],
            padding=True, truncation=True, max_length=longest,
            return_special_tokens_mask=True, return_tensors="pt",
        ).to(network.device)  # fmt: skip
        special = batch.pop("special_tokens_mask").bool()
        states: Tensor = network(**batch, output_hidden_states=True).hidden_states[layer]
        for row, (i, kept) in enumerate(zip(some, batch["attention_mask"].bool(), strict=True)):
            found[i] = Embedded(states[row, kept].float().cpu(), ~special[row, kept].cpu())
    return [found[i] for i in range(len(texts))]


class BertScore(TextMetric):
    """Mean over the texts of one of `Scores`, of the best reference; an empty text has 0."""

    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    words = False

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        model: Name = "minilm"
        """What texts are seen through: minilm, the folder of a transformer, or FOLDER:LAYER."""

    _model: Model | None = None

    @abstractmethod
    def pick(self, scores: Scores) -> float:
        """The score that this metric is."""

    def prepare(self, device: str = "cpu") -> None:
        self._model = open_model(self.options.model, device)

    def compute(self, preds: Texts, refs: References) -> Measured:
        if self._model is None:
            self.prepare()
        model = self._model
        assert model is not None
        unique = list(dict.fromkeys([*preds, *(ref for several in refs for ref in several)]))
        found = dict(zip(unique, model.embed(unique), strict=True))
        items = [
            max(self.pick(compare(found[pred], found[ref])) for ref in several)
            for pred, several in zip(preds, refs, strict=True)
        ]
        return mean_of(items, f"{count_references(refs)}|{model.stamp}")

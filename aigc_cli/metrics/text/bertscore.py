"""BERTScore: Zhang et al., 2020, https://arxiv.org/abs/1904.09675, through a local folder.

Each token takes the most similar token of the other text by the cosine of their vectors in one
layer. As in the package bert_score, the special tokens can be taken but do not take part in the
mean. Without inverse document frequencies and without rescaling.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import InputError, MissingError
from aigc_cli.metrics._corpus import Measured, count_references, mean_of
from aigc_cli.metrics.text._text import References, TextMetric, Texts
from aigc_cli.recipe.sections import Name, Section

LAYERS = {
    "bert-base-uncased": 9, "bert-large-uncased": 18, "bert-base-chinese": 8,
    "bert-base-multilingual-cased": 9, "distilbert-base-uncased": 5, "roberta-base": 10,
    "roberta-large": 17, "xlm-roberta-base": 9, "xlm-roberta-large": 17,
}  # fmt: skip
"""The layers that the package bert_score chose by human judgements; others use the last one."""
BATCH = 64


class Embedded(NamedTuple):
    """A text: vectors of its tokens (T, D) of unit length, and which of them are its own (T,)."""

    vectors: Tensor
    own: Tensor


class Model(NamedTuple):
    tokenizer: Any
    network: Any
    layer: int
    stamp: str


def similarity(hyp: Embedded, ref: Embedded) -> float:
    """F1 of the mean best cosines of the tokens of both texts."""
    if not hyp.own.any() or not ref.own.any():
        return 0.0
    cosines = hyp.vectors @ ref.vectors.T  # (T, T')
    precision = float(cosines.amax(1)[hyp.own].mean())
    recall = float(cosines.amax(0)[ref.own].mean())
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0


@torch.inference_mode()
def embed(texts: Sequence[str], model: Model) -> list[Embedded]:
    """Longer texts than the model reads are cut."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding in a batch
    found: dict[int, Embedded] = {}
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        batch = model.tokenizer(
            [texts[i].strip() for i in some],
            padding=True, truncation=True, max_length=_longest(model),
            return_special_tokens_mask=True, return_tensors="pt",
        ).to(model.network.device)  # fmt: skip
        special = batch.pop("special_tokens_mask").bool()
        states = model.network(**batch, output_hidden_states=True).hidden_states[model.layer]
        vectors = F.normalize(states.float(), dim=-1)
        for row, (i, kept) in enumerate(zip(some, batch["attention_mask"].bool(), strict=True)):
            found[i] = Embedded(vectors[row, kept].cpu(), ~special[row, kept].cpu())
    return [found[i] for i in range(len(texts))]


def open_model(given: str | None, device: str) -> Model:
    """The tokenizer and network of a folder in the layout of transformers.

    Raises:
        MissingError: transformers, the folder or a file of it is absent. InputError: there is no
            such layer.
    """
    if given is None:
        raise MissingError(
            "bertscore looks through a transformer, and nothing is downloaded",
            hint="give a local one: bertscore.model=FOLDER, such as a copy of roberta-large",
        )
    if importlib.util.find_spec("transformers") is None:
        raise MissingError(
            "bertscore needs the package transformers",
            hint="install it with pip install 'aigc-cli[transformers]'",
        )
    folder, _, layer = given.partition(":")
    path = Path(folder)
    for file in ("config.json", "model.safetensors"):
        if not (path / file).is_file():
            raise MissingError(
                f"bertscore.model={folder}: there is no {file} in it",
                hint="bertscore reads the folder of a transformer and its tokenizer",
            )
    return _open(path, layer, device)


@lru_cache(maxsize=1)
def _open(path: Path, layer: str, device: str) -> Model:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    network = transformers.AutoModel.from_pretrained(
        path, local_files_only=True, use_safetensors=True
    )
    count = network.config.num_hidden_layers
    number = int(layer) if layer.isdecimal() else LAYERS.get(path.name, count)
    if (layer and not layer.isdecimal()) or number > count:
        raise InputError(f"bertscore.model={path}:{layer}: its layers are 0 to {count}")
    state = hashlib.blake2b(digest_size=6)
    for part in _parts(network):
        state.update(part)
    stamp = (
        f"{path.name}_L{number}_no-idf|weights:{state.hexdigest()}"
        f"|transformers:{transformers.__version__}"
    )
    return Model(tokenizer, network.eval().to(device), number, stamp)


def _parts(network: Any) -> Iterator[bytes]:
    for name, tensor in sorted(network.state_dict().items()):
        yield name.encode()
        yield tensor.float().contiguous().numpy().tobytes()


def _longest(model: Model) -> int:
    """A tokenizer without a limit of its own says 1e30."""
    positions = getattr(model.network.config, "max_position_embeddings", 512)
    return int(min(model.tokenizer.model_max_length, positions))


class Metric(TextMetric):
    """Mean F1 of the best reference, at most 1; an empty text has 0."""

    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean F1 of cosines in a layer of bertscore.model=FOLDER"
    words = False

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        model: Name | None = None
        """Folder of the transformer that texts are seen through, FOLDER or FOLDER:LAYER."""

    _model: Model | None = None

    def prepare(self, device: str = "cpu") -> None:
        self._model = open_model(self.options.model, device)

    def compute(self, preds: Texts, refs: References) -> Measured:
        if self._model is None:
            self.prepare()
        model = self._model
        assert model is not None
        unique = list(dict.fromkeys([*preds, *(ref for several in refs for ref in several)]))
        found = dict(zip(unique, embed(unique, model), strict=True))
        items = [
            max(similarity(found[pred], found[ref]) for ref in several)
            for pred, several in zip(preds, refs, strict=True)
        ]
        return mean_of(items, f"{count_references(refs)}|{model.stamp}")

"""BERTScore through a small random BERT, against the formula written token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from written import measure, scores

from aigc_cli.errors import InputError, MissingError

transformers = pytest.importorskip("transformers")
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on mat a dog 中 文"
VOCABULARY = WORDS.split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert") / "tiny"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=12,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    transformers.BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    return path


def written_out(folder: Path, hyp: str, ref: str, layer: int) -> float:
    """Zhang et al. 2020, equations of section 3, one pair of tokens at a time."""
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def vectors(text: str) -> list[torch.Tensor]:
        ids = tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            states = model(**ids, output_hidden_states=True).hidden_states[layer][0]
        return [state / state.norm() for state in states]

    x, y = vectors(hyp), vectors(ref)
    if len(x) == 2 or len(y) == 2:  # nothing but [CLS] and [SEP]
        return 0.0
    precision = sum(max(float(u @ v) for v in y) for u in x[1:-1]) / (len(x) - 2)
    recall = sum(max(float(u @ v) for v in x) for u in y[1:-1]) / (len(y) - 2)
    return 2 * precision * recall / (precision + recall)


PAIRS = [
    ("the cat sat on the mat", "a cat sat"),
    ("dog", "the cat sat on a mat the dog sat on the mat a dog"),
    ("中文", "中 cat"),
    ("", "the cat"),
    ("", ""),
    ("a dog sat", "a dog sat"),
]


@pytest.mark.parametrize("layer", [1, 2])
def test_scores_are_those_of_the_formula(folder: Path, layer: int) -> None:
    hyps, refs = zip(*PAIRS, strict=True)
    found = measure("bertscore", hyps, [[ref] for ref in refs], model=f"{folder}:{layer}")
    expected = [written_out(folder, hyp, ref, layer) for hyp, ref in PAIRS]
    assert found.items == pytest.approx(expected, abs=1e-5)
    assert found.signature.startswith(f"nrefs:1|tiny_L{layer}_no-idf|weights:")


def test_equal_texts_score_one_and_the_best_reference_counts(folder: Path) -> None:
    assert scores("bertscore", ["a dog"], [["the cat", "a dog"]], model=str(folder)) == [
        pytest.approx(1, abs=1e-5)
    ]


def test_a_model_that_is_absent_is_asked_for(folder: Path, tmp_path: Path) -> None:
    for model, sentence in {
        None: "bertscore looks through a transformer",
        str(tmp_path / "nowhere"): "there is no config.json in it",
    }.items():
        with pytest.raises(MissingError, match=sentence):
            scores("bertscore", ["a"], [["a"]], model=model)
    with pytest.raises(InputError, match="its layers are 0 to 2"):
        scores("bertscore", ["a"], [["a"]], model=f"{folder}:3")

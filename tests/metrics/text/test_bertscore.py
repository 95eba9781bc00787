"""BERTScore through a small random BERT, against the formula written token by token."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from written import measure, scores

from aigc_cli.errors import DataError, InputError, MissingError
from aigc_cli.metrics.text import _bertscore
from aigc_cli.nn.bert import read_encoder

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


def written_out(folder: Path, hyp: str, ref: str, layer: int) -> tuple[float, float, float]:
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
        return 0.0, 0.0, 0.0
    precision = sum(max(float(u @ v) for v in y) for u in x[1:-1]) / (len(x) - 2)
    recall = sum(max(float(u @ v) for v in x) for u in y[1:-1]) / (len(y) - 2)
    return 2 * precision * recall / (precision + recall), precision, recall


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
    expected = [written_out(folder, hyp, ref, layer) for hyp, ref in PAIRS]
    for number, name in enumerate(("bertscore", "bertscore_precision", "bertscore_recall")):
        found = measure(name, hyps, [[ref] for ref in refs], model=f"{folder}:{layer}")
        assert found.items == pytest.approx([row[number] for row in expected], abs=1e-5)
        assert found.signature.startswith(f"nrefs:1|tiny_L{layer}_no-idf|weights:")


def test_other_transformers_are_read_by_their_library(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyps, refs = zip(*PAIRS, strict=True)
    pairs = [[ref] for ref in refs]
    expected = measure("bertscore", hyps, pairs, model=f"{folder}:1").items
    monkeypatch.setattr(_bertscore, "is_bert", lambda path: False)
    other = shutil.copytree(folder, tmp_path / "other")
    found = measure("bertscore", hyps, pairs, model=f"{other}:1")
    assert found.items == pytest.approx(expected, abs=1e-5)
    assert "|transformers:" in found.signature


def test_sentences_are_compared_and_their_diversity_is_that_of_all_pairs(folder: Path) -> None:
    vectors = read_encoder(folder).encode(["the cat", "a dog sat", "the mat"])
    refs = [["a dog sat", "the mat"], ["the cat"]]
    found = scores("sentence_similarity", ["the cat", "the cat"], refs, encoder=str(folder))
    best = max(float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2]))
    assert found == pytest.approx([best, 1.0], abs=1e-6)

    texts = ["the cat", "a dog sat", "the mat"]
    value = measure("sentence_diversity", texts, [[]] * 3, encoder=str(folder)).value
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(3) for j in range(i)]
    assert value == pytest.approx(sum(pairs) / 3, abs=1e-6)
    with pytest.raises(DataError, match="compares texts with each other and got 1"):
        measure("sentence_diversity", ["the cat"], [[]], encoder=str(folder))


def test_equal_texts_score_one_and_the_best_reference_counts(folder: Path) -> None:
    assert scores("bertscore", ["a dog"], [["the cat", "a dog"]], model=str(folder)) == [
        pytest.approx(1, abs=1e-5)
    ]


def test_a_model_that_is_absent_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_MODELS", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        scores("bertscore", ["a"], [["a"]])
    assert caught.value.hint == "aigc model get minilm"
    with pytest.raises(MissingError, match=r"there is no config\.json in it"):
        scores("bertscore", ["a"], [["a"]], model=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="its layers are 0 to 2"):
        scores("bertscore", ["a"], [["a"]], model=f"{folder}:3")

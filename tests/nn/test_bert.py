"""BERT against transformers on small random weights, vectors of sentences, and bad folders."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from aigc_cli.errors import CheckpointError, InputError, MissingError
from aigc_cli.nn.bert import near_duplicates, open_encoder, read_encoder
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.build import build
from aigc_cli.run.convert import ENCODER_FILES, encoder
from aigc_cli.run.weights import load_initial

transformers = pytest.importorskip("transformers")
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIALS, "the", "cat", "sat", "on", "mat", "a", "dog", "中", "文"]
TEXTS = ["the cat sat on the mat", "a dog", "", "中文", "the cat " * 20, "unheard of"]


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


def test_features_and_sentences_are_those_of_transformers(folder: Path) -> None:
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = read_encoder(folder)
    sentences = ours.encode(TEXTS)
    for layer in (0, 1, 2):
        for text, found in zip(TEXTS, ours.embed(TEXTS, layer), strict=True):
            ids = tokenizer(text.strip(), truncation=True, max_length=12, return_tensors="pt")
            with torch.no_grad():
                states = model(**ids, output_hidden_states=True).hidden_states[layer][0]
            assert_close(found.features, states, rtol=0, atol=1e-5)
            assert found.own.tolist() == [False] + [True] * (len(states) - 2) + [False]
    for text, sentence in zip(TEXTS, sentences, strict=True):
        ids = tokenizer(text.strip(), truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            mean = model(**ids).last_hidden_state[0].mean(0)
        assert_close(sentence, mean / mean.norm(), rtol=0, atol=1e-5)


def test_names_of_other_files_of_bert_are_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "older")
    file = tmp_path / "older" / "model.safetensors"
    renamed = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma"): value
        for name, value in load_file(file).items()
    }
    save_file({**renamed, "cls.predictions.bias": torch.zeros(3)}, file)
    assert_close(read_encoder(tmp_path / "older").encode(TEXTS), read_encoder(folder).encode(TEXTS))


def test_a_classifier_of_texts_begins_as_the_encoder(folder: Path, tmp_path: Path) -> None:
    rows = [("the cat sat", "cat"), ("a dog", "dog"), ("the dog sat", "dog"), ("a cat", "cat")]
    (tmp_path / "texts.tsv").write_text("".join("\t".join(row) + "\n" for row in rows * 5))
    recipe = recipe_from_dict(
        {
            "family": "text_classifier",
            "init_from": str(folder),
            "data": {
                "kind": "labelled_texts", "train": str(tmp_path / "texts.tsv"), "max_length": 8,
                "tokenizer": {"from": str(folder)}, "cache": "off",
            },
            "model": {
                "arch": "bert", "dim": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 32,
                "encoder_lr": 0.1, "lr": 1e-3,
            },
            "trainer": {"max_steps": 1},
        }
    )  # fmt: skip
    _, model = build(recipe)
    said = load_initial(model, str(folder), ())
    assert said.endswith("from scratch: net.logits.bias, net.logits.weight")
    model.eval()
    seen: list[torch.Tensor] = []
    model.net.logits.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))  # type: ignore[union-attr,operator]
    for text in ("the cat sat on the mat", "a dog", "中文"):
        model.classify(model.batch_of([text, "a cat sat"]))  # type: ignore[operator]
        found = torch.nn.functional.normalize(seen[-1][:1], dim=1)
        assert_close(found, open_encoder(str(folder)).encode([text]), rtol=0, atol=1e-5)
    groups = model.configure_optimizers().param_groups  # type: ignore[union-attr]
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in model.net.bert.parameters()} == {1e-4}  # type: ignore[union-attr,operator]
    assert rates[id(model.net.logits.weight)] == 1e-3  # type: ignore[union-attr]
    assert len(rates) == len(list(model.parameters()))


def test_near_duplicates_are_found_by_the_most_similar_text_before() -> None:
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(2100, 8), dim=1)
    vectors[2050] = vectors[3]
    vectors[1024] = vectors[1023]
    found = near_duplicates(vectors, 0.999)
    cosines = (vectors @ vectors.T).tril(-1)
    best, nearest = cosines.max(1)
    expected = [(int(nearest[j]), j) for j in range(2100) if best[j] >= 0.999]
    assert [(i, j) for i, j, _ in found] == expected
    assert {(3, 2050), (1023, 1024)} <= set(expected)
    assert near_duplicates(vectors[:1]) == near_duplicates(vectors[:0]) == []


def test_an_encoder_that_cannot_be_read_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, **fields: object) -> Path:
        path = tmp_path / name
        shutil.copytree(folder, path)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, **fields}))
        return path

    for fields, sentence in (
        ({"model_type": "roberta"}, "model_type 'roberta' with 'gelu' is no BERT"),
        ({"hidden_size": -1}, "hidden_size is -1, not a number from 1"),
        ({"num_attention_heads": 3}, "hidden_size is no multiple of num_attention_heads"),
        ({"vocab_size": 9}, "the tokenizer has 14 tokens, the network 9"),
        ({"layer_norm_eps": "no"}, "layer_norm_eps is 'no'"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_encoder(broken(next(iter(fields)), **fields))
    with pytest.raises(CheckpointError, match="not the weights of this BERT"):
        read_encoder(broken("shape", hidden_size=8))
    damaged = broken("damaged")
    (damaged / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match="damaged, or no safetensors"):
        read_encoder(damaged)
    (damaged / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        read_encoder(damaged)
    with pytest.raises(InputError, match=r"there is no config\.json"):
        open_encoder(str(tmp_path / "nowhere"))
    monkeypatch.setenv("AIGC_MODELS", str(tmp_path / "none"))
    with pytest.raises(MissingError) as caught:
        open_encoder("minilm")
    assert caught.value.hint == "aigc model get minilm"


def test_a_published_zip_becomes_a_folder_that_is_whole_or_not_at_all(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in ENCODER_FILES:
            archive.write(folder / name, name)
    (tmp_path / "got").mkdir()
    encoder(tmp_path / "model.zip", tmp_path / "got")
    assert read_encoder(tmp_path / "got" / "model").max_length == 5
    (folder / "sentence_bert_config.json").unlink()

    (tmp_path / "not.zip").write_bytes(b"PK no zip")
    with zipfile.ZipFile(tmp_path / "part.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    for name in ("not.zip", "part.zip"):
        (tmp_path / name).with_suffix("").mkdir()
        with pytest.raises(CheckpointError, match="damaged, or no folder of a BERT in a zip"):
            encoder(tmp_path / name, (tmp_path / name).with_suffix(""))

"""A classifier of texts: its loss by hand, its weights of classes, and that padding is not seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.text.text_classifier import Config, Model
from aigc_cli.recipe.sections import Trainer
from aigc_cli.specs.text import LabelledTextSpec
from aigc_cli.text.tokenizer import Tokenizer

TEXTS = ["good dog", "bad cat and a bad owl", "a good day", "it rains , bad day"]
LABELS = [1, 0, 1, 0]
WORDS = Tokenizer.train(TEXTS, kind="words").to_json()


def model(counts: tuple[int, ...] = (30, 10), **config: Any) -> Model:
    torch.manual_seed(0)
    spec = LabelledTextSpec(WORDS, 10, ("bad", "good"), counts)
    settings = {"dim": 16, "num_heads": 2, "num_layers": 2, "dropout": 0.0, **config}
    built = Model(Config(**settings), spec)
    built.run = Run(Trainer(max_steps=1, global_batch=4), seed=0, max_steps=1)
    built._noise = _Noise(0, built.run, torch.device("cpu"))
    return built


def batch(built: Model, rows: slice = slice(None)) -> dict[str, Tensor]:
    ids = [[*row, built.eos] for row in built.tokenizer.encode_batch(TEXTS[rows])]
    width = max(map(len, ids))
    tokens = torch.tensor([row + [built.pad] * (width - len(row)) for row in ids])
    return {"tokens": tokens, "label": torch.tensor(LABELS[rows])}


def test_what_stands_beside_a_text_changes_nothing() -> None:
    built = model().eval()
    together = built.classify(batch(built))
    alone = torch.cat([built.classify(batch(built, slice(i, i + 1))) for i in range(4)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, built.classify_things(TEXTS))
    torch.testing.assert_close(together.sum(1), torch.ones(4))


def test_texts_too_long_are_read_from_their_beginning_and_empty_ones_at_all() -> None:
    built = model().eval()
    long, cut = "good " * 40, "good " * 9
    p = built.classify_things([long, cut, ""])
    torch.testing.assert_close(p[0], p[1])
    assert p.isfinite().all()


def test_classes_weigh_by_their_rarity() -> None:
    torch.testing.assert_close(model().class_weight, torch.ones(2))
    torch.testing.assert_close(model(balance=1.0).class_weight, torch.tensor([2 / 3, 2.0]))
    torch.testing.assert_close(model(balance=0.5).class_weight, torch.tensor([2 / 3, 2.0]).sqrt())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_torchs_weighted_mean(smoothing: float) -> None:
    """Without smoothing; torch weighs the classes of the smoothed target one by one."""
    built = model(balance=1.0 if not smoothing else 0.0, label_smoothing=smoothing)
    given = batch(built)
    built.mean_weight = built.weight(given)
    expected = F.cross_entropy(
        built.net(given["tokens"]), given["label"],
        weight=built.class_weight, label_smoothing=smoothing,
    )  # fmt: skip
    torch.testing.assert_close(built.loss(given)["loss"], expected)
    first, rest = batch(built, slice(0, 1)), batch(built, slice(1, 4))
    parts = built.loss(first)["loss"] + built.loss(rest)["loss"]
    torch.testing.assert_close(parts, expected)  # however a batch is cut


def test_hidden_words_are_not_seen() -> None:
    built = model().eval()
    given = batch(built, slice(0, 1))["tokens"]  # good dog <eos>
    seen = torch.tensor([[True, False, True]])
    other = given.clone()
    other[0, 1] = built.tokenizer.id_of("owl")
    torch.testing.assert_close(built.net(given, seen), built.net(other, seen))
    assert not torch.allclose(built.net(given), built.net(other))
    seen = model(word_dropout=0.9)._seen(batch(built)["tokens"])
    assert seen is not None
    ends = batch(built)["tokens"] == built.eos
    assert seen[ends].all()
    assert not seen[~ends].all()


def test_the_baseline_is_who_does_not_read() -> None:
    built = model()
    found = built.baselines(batch(built))["majority"]
    assert found["accuracy"].tolist() == [0.0, 1.0, 0.0, 1.0]
    torch.testing.assert_close(found["cross_entropy"].exp(), 1 / torch.tensor([0.25, 0.75] * 2))


def test_it_learns_which_words_matter() -> None:
    built = model(dim=32, lr=1e-2).train()
    optimizer = built.configure_optimizers()
    for _ in range(40):
        given = batch(built)
        built.mean_weight = built.weight(given)
        optimizer.zero_grad()
        built.loss(given)["loss"].backward()
        optimizer.step()
    p = built.eval().classify_things(["a good owl", "a bad dog"])
    assert p.argmax(1).tolist() == [1, 0]


def test_other_tokens_are_refused() -> None:
    built = model()
    other = Tokenizer.train(["other words"], kind="words")
    spec = LabelledTextSpec(other.to_json(), 10, ("a", "b"))
    with pytest.raises(InputError, match=f"its tokenizer is {other.digest[:12]}, that of the data"):
        built.initial({}, spec)


def test_heads_must_fit() -> None:
    with pytest.raises(ValueError, match=r"dim \(10\) must be a multiple of num_heads \(4\)"):
        Config(dim=10)

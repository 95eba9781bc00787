"""Self-critical training of seq2seq: its gradient by hand, and that it raises what it rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.metrics.find import open_metrics
from aigc_cli.metrics.report import corpus_report
from aigc_cli.models._base import Run
from aigc_cli.models.text._pairs import padded
from aigc_cli.models.text.seq2seq import Config, Model
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.decoding import Decoding
from aigc_cli.specs.text import TextPairSpec
from aigc_cli.text.tokenizer import Tokenizer

NOUNS = ["dog", "cat", "owl", "cow", "fox", "hen"]
SOURCES = [f"{a} {b}" for a in NOUNS for b in NOUNS if a != b]
TARGETS = [f"the {a} sees the {b}" for a, b in (source.split() for source in SOURCES)]


def model(**config: Any) -> Model:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train([*SOURCES, *TARGETS], kind="words").to_json()
    spec = TextPairSpec(tokenizer, tokenizer, max_source=8, max_target=10)
    settings = {"dim": 16, "hidden_dim": 24, "dropout": 0.1, "lr": 1e-2, **config}
    made = Model(Config(**settings), spec)
    made.run = Run(Trainer(max_steps=1, global_batch=3), seed=0, max_steps=1)
    return made


def batch(built: Model, rows: slice = slice(None)) -> dict[str, Tensor]:
    ids = built.tokenizer.encode_batch(TARGETS[rows])
    target = padded([[built.bos, *row, built.eos] for row in ids], built.pad)
    return {"source": built.source_ids(SOURCES[rows]), "target": target}


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_the_gradient_is_that_of_the_samples(baseline: str) -> None:
    built = model(rewards={"token_f1": 1.0}, samples=3, baseline=baseline).train()
    assert not built.network.training
    full = built.expand(batch(built, slice(0, 4)))
    reward, drawn = full["reward"], full["drawn"]
    if baseline == "others":
        expected = reward - (reward.sum(1, keepdim=True) - reward) / 2
    else:
        greedy = built.write(SOURCES[:4], Decoding(temperature=0.0, max_tokens=8), None)
        texts = [several[0].text for several in greedy]
        references = [[text] for text in TARGETS[:4]]
        expected = reward - built.judges["reward"](texts, references)[:, None]
    torch.testing.assert_close(full["advantage"], expected)
    total, tokens = torch.zeros(()), 0
    for b in range(4):
        for g in range(3):
            row = drawn[b, g]
            length = int((row != built.pad).sum())
            log_probs = built.log_probs(full["source"][b : b + 1], row[None, :length])
            total = total - expected[b, g] * log_probs.sum()
            tokens += length - 1
    built.mean_weight = built.weight(full).double()
    assert built.mean_weight == tokens
    torch.testing.assert_close(built.loss(full)["loss"].float(), total / tokens)


def test_without_rewards_nothing_is_drawn() -> None:
    built = model()
    plain = batch(built, slice(0, 4))
    assert built.expand(plain) is plain
    assert built.train().network.training
    assert "reward" not in built.metrics
    assert next(iter(model(rewards={"chrf": 1.0}).metrics)) == "reward"


def test_an_unknown_reward_is_said() -> None:
    with pytest.raises(InputError, match="unknown metric 'blue'"):
        model(rewards={"blue": 1.0})


def test_other_tokenizers_are_refused_by_digest() -> None:
    built = model()
    other = Tokenizer.train(["other words"], kind="words")
    spec = TextPairSpec(other.to_json(), built.spec.target_tokenizer, max_source=8, max_target=10)
    with pytest.raises(InputError, match=f"its source_tokenizer is {other.digest[:12]}, that of"):
        built.initial({}, spec)
    weights = built.state_dict()
    assert built.initial(weights, built.spec) is weights


def steps(built: Model, count: int) -> None:
    optimizer = built.configure_optimizers()
    for _ in range(count):
        full = built.expand(batch(built))
        built.mean_weight = built.weight(full).double()
        optimizer.zero_grad()
        built.loss(full)["loss"].backward()
        optimizer.step()
        built.step += 1


def test_it_raises_what_it_rewards() -> None:
    """After too little training by likelihood; significantly, and the other metric is logged."""
    likely = model().train()
    steps(likely, 19)
    built = model(rewards={"rouge_2": 1.0}, lr=4e-3)
    built.load_state_dict(likely.state_dict())
    steps(built.train(), 24)
    greedy = Decoding(temperature=0.0, max_tokens=8)
    before, after = (
        [several[0].text for several in made.eval().write(SOURCES, greedy, None)]
        for made in (likely, built)
    )
    references = [[text] for text in TARGETS]
    row = corpus_report(open_metrics(["rouge_2"]), after, references, baseline=before)["metrics"][
        "rouge_2"
    ]
    assert row["verdict"] == "better", row
    assert row["p"] < 0.05
    values = built.evaluate_batch(batch(built))
    assert values["reward"].mean() == pytest.approx(row["value"], abs=1e-3)
    assert values["unrewarded"].mean() > 0

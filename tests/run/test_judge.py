"""A classifier of texts as a reward: what it says, that it stays, and that it is obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aigc_cli.errors import CheckpointError, InputError
from aigc_cli.models.text.grpo import Config
from aigc_cli.run.judge import open_judge, restored
from aigc_cli.run.trained import load_trained
from tests.run.conftest import Ending, assert_same, load

Aigc = Callable[..., Ending]

CLASSIFIER = """
family: text_classifier
seed: 0
data: {kind: labelled_texts, train: said.csv, tokenizer: {kind: characters}, val: last 20%}
model: {dim: 16, num_heads: 2, num_layers: 1, dropout: 0.0, lr: 0.02}
trainer: {max_steps: 60, global_batch: 8, ema: 0.8, precision: fp32}
"""
GRPO = """
family: grpo
seed: 0
data:
  kind: prompts
  train: prompts.jsonl
  val: 20%
  tokenizer: {kind: characters, specials: chat}
  context: 24
model:
  dim: 16
  num_layers: 1
  num_heads: 2
  classifier: judge
  rewards: {"class:vowels": 1.0}
  unrewarded: class:consonants
  samples: 8
  max_tokens: 6
  lr: 0.02
trainer: {max_steps: 12, global_batch: 4, log_every: 1, validate_every: 12, checkpoint_every: 1,
          precision: fp32}
"""
PAIRS = """
family: seq2seq
seed: 0
data: {kind: text_pairs, train: pairs.tsv, val: 20%, tokenizer: {kind: characters}}
model: {dim: 8, hidden_dim: 8, dropout: 0.0, classifier: judge, rewards: {"class:vowels": 1.0}}
trainer: {max_steps: 2, global_batch: 4, log_every: 1, precision: fp32}
"""


@pytest.fixture
def judged(here: Path, aigc: Aigc) -> Path:
    """A classifier that knows vowels from consonants, prompts, and two recipes."""
    random = torch.Generator().manual_seed(0)

    def word(letters: str) -> str:
        return "".join(letters[int(i)] for i in torch.randint(len(letters), (5,), generator=random))

    rows = [f"{word('aeiou')},vowels\n{word('bdgkt')},consonants\n" for _ in range(40)]
    (here / "said.csv").write_text("text,label\n" + "".join(rows))
    prompts = [json.dumps({"prompt": word("aeioubdgkt"), "completion": ""}) for _ in range(20)]
    (here / "prompts.jsonl").write_text("\n".join(prompts))
    (here / "pairs.tsv").write_text("".join(f"{word('aeiou')}\t{word('bdgkt')}\n" * 20))
    for name, text in (("judge", CLASSIFIER), ("grpo", GRPO), ("pairs", PAIRS)):
        (here / f"{name}.yaml").write_text(text)
    ending = aigc("train", "judge.yaml", "--out", "judge", "--quiet")
    assert ending.code == 0, ending.err
    return here


def test_rewards_are_the_classifiers_probabilities(judged: Path) -> None:
    judge = open_judge("judge")
    texts = ["aeiou", "tkgdb", "", "  ", "aeiout"]
    alone = load_trained("judge", device="cpu").model.classify_things(texts)
    found = judge.probabilities("vowels", texts)
    expected = [
        0.0 if not t.strip() else p for t, p in zip(texts, alone[:, 1].tolist(), strict=True)
    ]
    assert found == expected
    assert found[0] > 0.9 > 0.1 > found[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert judge.probabilities("vowels", texts) == expected
    assert not any(p.requires_grad for p in judge.model.parameters())
    assert not judge.model.net.training  # type: ignore[union-attr]


def test_a_policy_learns_what_the_classifier_likes(aigc: Aigc, judged: Path) -> None:
    ending = aigc("train", "grpo.yaml", "--out", "run", "--quiet")
    assert ending.code == 0, ending.err
    rows = [json.loads(row) for row in (judged / "run/metrics.jsonl").read_text().splitlines()]
    rewards = [row["train/reward"] for row in rows if "train/reward" in row]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1
    report = aigc("evaluate", "run", "--json").json
    both = sum(report["metrics"][name]["value"] for name in ("reward", "unrewarded"))
    assert both == pytest.approx(1, abs=1e-4)  # two classes, and no answer is empty
    assert report["model"]["classifier"].startswith("judge best.ckpt ")


def test_it_is_kept_once_and_resumes_without_its_run(aigc: Aigc, judged: Path) -> None:
    whole = aigc("train", "grpo.yaml", "trainer.max_steps=3", "--out", "whole", "--quiet")
    assert whole.code == 0, whole.err
    assert aigc("train", "grpo.yaml", "trainer.max_steps=2", "--out", "cut", "--quiet").code == 0
    (judged / "judge").rename(judged / "away")
    resumed = aigc("train", "grpo.yaml", "trainer.max_steps=3", "--resume", "cut", "--quiet")
    assert resumed.code == 0, resumed.err
    states = [load(judged / f"{name}/checkpoints/last.ckpt") for name in ("whole", "cut")]
    for part in ("weights", "optimizers", "judge"):
        assert_same(states[0][part], states[1][part], part)
    assert not any("judge" in key for key in states[0]["weights"])
    averaged = load(judged / "away/checkpoints/best.ckpt")["ema"]
    assert_same({k: states[0]["judge"]["weights"][k] for k in averaged}, averaged, "judge")
    assert aigc("evaluate", "whole").code == 0
    gone = aigc("train", "grpo.yaml", "--out", "anew")
    assert gone.code == 2
    assert "judge" in gone.err


def test_self_critical_training_asks_it_too(aigc: Aigc, judged: Path) -> None:
    ending = aigc("train", "pairs.yaml", "--out", "run", "--quiet")
    assert ending.code == 0, ending.err
    assert 0 < aigc("evaluate", "run", "--json").json["metrics"]["reward"]["value"] < 1


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.unrewarded=class:vowel", "class:vowel: judge best.ckpt "),
        ("model.classifier=other", "model.classifier: "),
        ("model.classifier=absent", "absent"),
        ("model.classifier=none", "the reward class:vowels needs model.classifier"),
    ],
)
def test_mistakes_are_one_sentence(aigc: Aigc, judged: Path, override: str, message: str) -> None:
    assert aigc("train", "edsr.yaml", "trainer.max_steps=1", "--out", "other").code == 0
    made = aigc("train", "grpo.yaml", "--out", "run", override)
    assert made.code == 2, made.err
    assert message in made.err
    assert "Traceback" not in made.err
    assert not (judged / "run").exists()
    if override.endswith("vowel"):
        assert "did you mean 'vowels'?" in made.err


def test_a_classifier_that_nothing_asks_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="but no reward is class:NAME"):
        Config(classifier="judge")


def test_a_state_that_does_not_fit_is_said(judged: Path) -> None:
    state = open_judge("judge").state()
    with pytest.raises(CheckpointError, match="in the checkpoint does not fit"):
        restored({**state, "weights": {}})
    with pytest.raises(CheckpointError, match="in the checkpoint does not fit"):
        restored({"stamp": "?"})


def test_a_missing_judge_is_said() -> None:
    with pytest.raises(InputError, match="absent"):
        open_judge("absent")

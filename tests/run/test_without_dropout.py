"""Families that compare a policy with what it was train without dropout, from the first step on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.conftest import Ending

RECIPE = """
family: {family}
seed: 0
data:
  kind: {kind}
  train: rows.jsonl
  val: 20%
  tokenizer: {{kind: characters, specials: chat}}
  context: 32
model: {{dim: 16, num_layers: 2, num_heads: 2, dropout: 0.5, {model}}}
trainer: {{max_steps: 1, global_batch: 4, log_every: 1, precision: fp32}}
"""


@pytest.mark.parametrize(
    "family, kind, model, term, expected",
    [
        ("dpo", "preferences", "", "loss", math.log(2)),
        ("grpo", "prompts", "beta: 0.1, samples: 2, max_tokens: 6", "kl", 0.0),
    ],
)
def test_a_policy_begins_as_what_it_is_compared_with(
    aigc: Callable[..., Ending],
    here: Path,
    family: str,
    kind: str,
    model: str,
    term: str,
    expected: float,
) -> None:
    rows = [
        {"prompt": f"say {n}", "chosen": f"it is {n}", "rejected": f"no {n}"} for n in range(20)
    ]
    if kind == "prompts":
        rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    (here / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (here / "a.yaml").write_text(RECIPE.format(family=family, kind=kind, model=model))
    ending = aigc("train", "a.yaml", "--out", "run", "--quiet")
    assert ending.code == 0, ending.err
    first = json.loads((here / "run/metrics.jsonl").read_text().splitlines()[0])
    assert first[f"train/{term}"] == pytest.approx(expected, abs=1e-6)

"""`aigc data show` and `aigc data check` of recipes that train on texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aigc_cli.errors import InputError
from aigc_cli.recipe.load import load_recipe
from aigc_cli.recipe.new import new_recipe
from aigc_cli.run.data import check_text, inspect, show, show_text


@pytest.fixture
def recipe(tmp_path) -> Path:
    """Four pairs of words, of which one is long; of the words that validate all are unknown."""
    rows = [*(f"a b {i}" + " x" * 9 * (i == 3) + f"\tc {i}" for i in range(4)), "new\tword"]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows) + "\n")
    path = tmp_path / "small.yaml"
    path.write_text(
        "family: seq2seq\n"
        "data: {kind: text_pairs, train: pairs.tsv, val: last 20%, max_source: 8,\n"
        "       tokenizer: {kind: words}}\n"
        "trainer: {max_steps: 1, global_batch: 2}\n"
    )
    return path


def test_show_prints_counts_a_batch_and_examples(recipe):
    facts = show(str(recipe), n=2)
    json.dumps(facts)
    assert show_text(facts).splitlines() == [
        facts_line(facts),
        "data.train: pairs.tsv",
        "  pairs             4",
        "  tokens            29 for 58 bytes",
        "  source            3 to 12, half at most 3, 90 % 12, 99 % 12",
        "  target            2 to 2, half at most 2, 90 % 2, 99 % 2",
        "  truncated         1",
        "  truncated tokens  5",
        "data.val: pairs.tsv",
        "  pairs             1",
        "  tokens            2 for 12 bytes, 2 unknown (100.00%)",
        "  source            1 to 1, half at most 1, 90 % 1, 99 % 1",
        "  target            1 to 1, half at most 1, 90 % 1, 99 % 1",
        "first batch:",
        *show_text(facts).splitlines()[14:16],
        "",
        "a b 0 <eos>",
        "=> <bos> c 0 <eos>",
        "",
        "a b 1 <eos>",
        "=> <bos> c 1 <eos>",
    ]
    assert facts["batch"]["source"]["shape"][0] == 2


def facts_line(facts: dict[str, object]) -> str:
    return show_text(facts).splitlines()[0]


def test_check_warns_of_what_is_unknown_or_cut(recipe):
    text = check_text(inspect(str(recipe)))
    assert "warning: data.val: 100% of the tokens are unknown, raise" in text
    assert "warning: data.train: 1 of 4 pairs are truncated, raise their greatest length" in text
    quiet = inspect(str(recipe), ["data.max_source=20", "data.tokenizer.kind=bpe",
                                  "data.tokenizer.vocab_size=300"])  # fmt: skip
    assert not quiet.warnings
    assert check_text(quiet).endswith("no problems found")


def test_texts_have_no_sheet(recipe, tmp_path):
    with pytest.raises(InputError, match="a sheet holds images"):
        show(str(recipe), sheet=tmp_path / "sheet.png")


@pytest.mark.parametrize(
    "family, kind, row, key",
    [
        ("lm", "text", {"text": "some words of a text"}, "context"),
        ("seq2seq", "text_pairs", {"source": "some words", "target": "more"}, "max_source"),
        ("chat", "chat", {"prompt": "what?", "completion": "that"}, "context"),
        ("dpo", "preferences", {"prompt": "w", "chosen": "a", "rejected": "b"}, "context"),
        ("grpo", "prompts", {"prompt": "what?", "completion": "that"}, "context"),
    ],
)
def test_a_new_recipe_has_lengths_that_fit(tmp_path, family, kind, row, key):
    path = tmp_path / "own.jsonl"
    path.write_text((json.dumps(row) + "\n") * 20)
    text = new_recipe(family, str(path), kind=kind)
    (tmp_path / "own.yaml").write_text(text)
    data = load_recipe(tmp_path / "own.yaml").data
    assert data.kind == kind
    assert f"{key}:" in text

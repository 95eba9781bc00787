"""`aigc sample` where a model writes texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
LM = """
family: lm
seed: 3
data: {kind: text, train: words.txt, val: last 20%, context: 16,
       tokenizer: {kind: characters, specials: none}}
model: {dim: 16, num_layers: 1, num_heads: 2}
trainer: {max_steps: 2, global_batch: 2, precision: fp32}
sample: {max_tokens: 24}
"""


@pytest.fixture
def run(aigc: Aigc, here: Path) -> str:
    (here / "words.txt").write_text("the cat sat on the mat.\n" * 40)
    (here / "lm.yaml").write_text(LM)
    assert aigc("train", "lm.yaml", "--out", "run", "--quiet").code == 0
    return "run"


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_are_continued_on_the_terminal_and_in_files(
    aigc: Aigc, run: str, here: Path
) -> None:
    ending = aigc("sample", run, "--prompt", "the cat", "-p", "on", "-n", 2, "--out", "made")
    assert ending.code == 0, ending.err
    texts = rows(here / "made/samples.jsonl")
    assert [(row["prompt"], row["index"]) for row in texts] == [
        ("the cat", 0), ("the cat", 1), ("on", 0), ("on", 1),
    ]  # fmt: skip
    assert all(row["tokens"] == 24 and row["finished"] is False for row in texts)
    shown = "".join(f"{row['prompt']}{row['text']}\n" for row in texts)
    assert ending.out == shown
    assert "made/samples.jsonl" in ending.err
    assert "96 tokens, " in ending.err
    sheet = (here / "made/samples.txt").read_text()
    assert all(f"{row['prompt']}{row['text']}\n\n" in sheet for row in texts)
    record = json.loads((here / "made/samples.json").read_text())
    assert record["options"]["max_tokens"] == 24
    assert [item["texts"] for item in record["items"]] == [4, 4]


def test_a_text_depends_on_the_seed_and_its_number_alone(aigc: Aigc, run: str, here: Path) -> None:
    (here / "prompts.txt").write_text("the\ncat on\nmat\n")
    common = ("sample", run, "--input", "prompts.txt", "--seed", 5)
    for name, extra in {
        "a.jsonl": (), "b.jsonl": ("--batch-size", 1), "c.jsonl": ("-n", 2), "d.jsonl": ("x",),
    }.items():  # fmt: skip
        given = ["max_tokens=24"] if extra == ("x",) else extra
        ending = aigc(*common, *given, "--output", name)
        assert ending.code == 0, ending.err
        assert ending.out == f"{name}\n"
    first = rows(here / "a.jsonl")
    assert first == rows(here / "b.jsonl")
    assert first == rows(here / "d.jsonl")
    assert first == [row for row in rows(here / "c.jsonl") if row["index"] == 0]
    assert not (here / "samples").exists()
    (here / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": t}) + "\n" for t in ("the", "cat on", "mat"))
    )
    ending = aigc("sample", run, "--input", "rows.jsonl", "--seed", 5, "--output", "e.jsonl")
    assert first == rows(here / "e.jsonl")


def test_a_model_of_running_text_needs_no_prompt(aigc: Aigc, run: str) -> None:
    ending = aigc("sample", run, "--out", "made", "--json")
    assert ending.code == 0, ending.err
    assert ending.json["tokens"] == 24
    assert ending.json["tokens_per_s"] > 0


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8"])
def test_the_precision_that_wrote_is_on_record(
    aigc: Aigc, run: str, here: Path, dtype: str
) -> None:
    ending = aigc("sample", run, "--prompt", "the", f"dtype={dtype}", "--out", "made")
    assert ending.code == 0, ending.err
    record = json.loads((here / "made/samples.json").read_text())
    assert record["options"]["dtype"] == dtype
    assert record["model"]["dtype"] == ("float32" if dtype == "auto" else dtype)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prompt", "x" * 9], "the character 'x' is none of the tokenizer's"),
        (["--prompt", "the cat sat on the mat."], "has 23 tokens, and the model reads at most 16"),
        (["--prompt", "a", "--input", "words.txt"], "two ways to say the same"),
        (["--input", "none.txt"], "'none.txt' does not exist"),
        (["--input", "bad.jsonl"], "bad.jsonl:1: no text under any of prompt"),
        (["--output", "words.txt"], "words.txt: exists already"),
        (["--reference", "words.txt"], "--reference is not for family 'lm'"),
        (["--interpolate", "3"], "knows no way from one of its inputs to another"),
        (["-n", "4", "beams=2"], "beam search with 2 beams has no 4 answers"),
    ],
)
def test_bad_requests_are_one_sentence(
    aigc: Aigc, run: str, here: Path, arguments: list[str], sentence: str
) -> None:
    (here / "bad.jsonl").write_text('{"words": "a"}\n')
    ending = aigc("sample", run, "--out", "made", *arguments)
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert "Traceback" not in ending.err
    assert not (here / "made/samples.jsonl").exists()


def test_pictures_have_no_prompts(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "gan", "--quiet").code == 0
    ending = aigc("sample", "gan", "--prompt", "a cat")
    assert ending.code == 2
    assert "family 'tiny_gan' makes images" in ending.err


ANSWERS = {
    "seq2seq": """
data: {kind: text_pairs, train: pairs.tsv, val: 50%, languages: [de, en], max_source: 8,
       tokenizer: {kind: words}}
model: {arch: rnn, dim: 8, hidden_dim: 8}
""",
    "text_vae": """
data: {kind: text, train: lines.txt, val: 50%, documents: line, context: 8, packing: separate,
       tokenizer: {kind: words}}
model: {hidden_dim: 8, latent_dim: 4}
""",
    "chat": """
data: {kind: chat, train: chats.jsonl, val: 50%, context: 16, template: text,
       tokenizer: {kind: words}}
model: {dim: 8, num_layers: 1, num_heads: 2}
""",
}


@pytest.fixture(params=ANSWERS)
def answering(aigc: Aigc, here: Path, request: pytest.FixtureRequest) -> str:
    """A run of each base of families that answer texts instead of continuing them."""
    lines = ["es war kalt", "ein mann singt", "die katze schläft", "zwei hunde rennen"]
    (here / "lines.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (here / "pairs.tsv").write_text("".join(f"{line}\t{line}\n" for line in lines), "utf-8")
    chats = [{"instruction": line, "output": line} for line in lines]
    (here / "chats.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chats), "utf-8")
    (here / "recipe.yaml").write_text(
        f"family: {request.param}\nseed: 0\n{ANSWERS[request.param]}"
        "trainer: {max_steps: 1, global_batch: 2, precision: fp32}\n"
        "sample: {max_tokens: 6, min_tokens: 2, temperature: 0}\n"
    )
    ending = aigc("train", "recipe.yaml", "--out", "run", "--quiet")
    assert ending.code == 0, ending.err
    return "run"


def test_blank_lines_have_blank_answers_in_their_places(
    aigc: Aigc, answering: str, here: Path
) -> None:
    given = ["es war kalt", "", "ein mann", " \t ", "", "zwei hunde"]
    (here / "given.txt").write_text("\n".join(given) + "\n")
    ending = aigc("sample", answering, "--input", "given.txt", "-n", 2, "--output", "all.jsonl")
    assert ending.code == 0, ending.err
    made = rows(here / "all.jsonl")
    assert [(row["prompt"], row["index"]) for row in made] == [
        (line, index) for line in given for index in range(2)
    ]
    for row in made:
        assert bool(row["tokens"]) == bool(str(row["prompt"]).strip())
        assert row["text"] == "" or row["tokens"]
    (here / "some.txt").write_text("es war kalt\nein mann\nzwei hunde\n")
    assert aigc("sample", answering, "--input", "some.txt", "--output", "some.jsonl").code == 0
    texts = [row["text"] for row in made if row["index"] == 0 and row["tokens"]]
    assert texts == [row["text"] for row in rows(here / "some.jsonl")]


def test_a_prompt_that_cannot_be_read_leaves_the_others_their_answers(
    aigc: Aigc, answering: str, here: Path
) -> None:
    given = ["es war kalt", "ein " * 40, "", "ein mann"]
    (here / "given.txt").write_text("\n".join(given) + "\n")
    words = ("sample", answering, "--input", "given.txt")
    ending = aigc(*words, "--output", "made.jsonl")
    assert ending.code == 2
    assert "1 of 4 texts have no answer" in ending.err
    assert "error" in ending.err
    assert "made.jsonl" in ending.err
    made = rows(here / "made.jsonl")
    assert [row["prompt"] for row in made] == given
    assert [bool(row["text"]) for row in made][1:3] == [False, False]
    assert ["error" in row for row in made] == [False, True, False, False]
    assert "tokens" in str(made[1]["error"])
    ending = aigc(*words, "on_error=skip", "--output", "same.jsonl", "--json")
    assert ending.code == 0, ending.err
    assert ending.json["unread"] == 1
    assert rows(here / "same.jsonl") == made
    alone = aigc("sample", answering, "--prompt", "ein " * 40, "--out", "none")
    assert alone.code == 2
    assert not (here / "none/samples.jsonl").exists()

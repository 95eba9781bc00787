"""`aigc evaluate` of files with texts: scored, compared with a baseline, gated, refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
GOOD = ["The cat sat on the mat.", "Two dogs ran home quickly.", "", "It was 4.5 degrees."]
BAD = ["A cat.", "Dogs run at home", "something", "cold"]
TRUTH = ["The cat sat on a mat.", "Two dogs ran quickly home.", "Nothing at all.", "It was cold."]
PAIR = ("--generated", "good.txt", "--reference", "truth.txt")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, lines in {"good": GOOD, "bad": BAD, "truth": TRUTH}.items():
        text = "".join(f"{line}\n" for line in lines)
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def test_scores_are_those_of_the_packages(aigc: Aigc, here: Path) -> None:
    report = aigc("evaluate", *PAIR, "-m", "bleu,chrf,rouge", "--json").json
    scores = report["metrics"]
    bleu, chrf = BLEU(), CHRF()
    assert scores["bleu"]["value"] == pytest.approx(
        bleu.corpus_score(GOOD, [TRUTH]).score, abs=1e-6
    )
    assert scores["chrf"]["value"] == pytest.approx(
        chrf.corpus_score(GOOD, [TRUTH]).score, abs=1e-6
    )
    signature = str(bleu.get_signature()).replace("nrefs:1", "nrefs:1|bs:1000|seed:12345")
    assert scores["bleu"]["protocol"] == signature
    peer = RougeScorer(["rougeL"], use_stemmer=True)
    items = [peer.score(a, b)["rougeL"].fmeasure for a, b in zip(TRUTH, GOOD, strict=True)]
    assert [item["rouge_l"] for item in report["items"]] == pytest.approx(items, abs=1e-6)
    assert scores["rouge_l"]["value"] == pytest.approx(sum(items) / 4, abs=1e-6)
    assert report["reference"] == ["truth.txt"]


def test_text_files_are_known_by_their_ending(aigc: Aigc, here: Path) -> None:
    assert set(aigc("evaluate", *PAIR, "--json").json["metrics"]) == {"bleu", "chrf"}
    (here / "good.txt").rename(here / "good.en")
    words = ("--generated", "good.en", "--reference", "truth.txt", "-m", "ter", "--json")
    assert set(aigc("evaluate", *words).json["metrics"]) == {"ter"}


def test_a_baseline_is_compared_with_the_same_texts(aigc: Aigc, here: Path) -> None:
    ending = aigc("evaluate", *PAIR, "--baseline", "bad.txt", "-m", "chrf,rouge_1")
    assert ending.code == 0
    head, chrf, _ = ending.out.splitlines()
    columns = "metric value baseline ci95 difference p verdict unit n protocol"
    assert " ".join(head.split()) == columns
    assert " better " in chrf
    report = aigc("evaluate", *PAIR, "--baseline", "bad.txt", "-m", "chrf", "--json").json
    row = report["metrics"]["chrf"]
    assert row["baseline"] == pytest.approx(CHRF().corpus_score(BAD, [TRUTH]).score, abs=1e-6)
    assert row["difference"] == pytest.approx(row["value"] - row["baseline"], abs=2e-6)
    assert report["baseline"] == "bad.txt"


def test_several_references_come_from_several_files_or_one_of_json(aigc: Aigc, here: Path) -> None:
    files = aigc("evaluate", *PAIR, "--reference", "bad.txt", "-m", "bleu", "--json").json
    rows = [{"texts": list(pair)} for pair in zip(TRUTH, BAD, strict=True)]
    (here / "both.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = [{"prompt": "p", "text": text} for text in GOOD]
    with gzip.open(here / "made.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in made)
    words = ("--generated", "made.jsonl.gz", "--reference", "both.jsonl", "-m", "bleu")
    packed = aigc("evaluate", *words, "--json").json
    assert packed["metrics"] == files["metrics"]
    assert files["metrics"]["bleu"]["protocol"].startswith("nrefs:2|")


def test_a_language_chooses_the_tokens(aigc: Aigc, here: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (here / name).write_text("我今天去了北京大学。\n", encoding="utf-8")
    words = ("evaluate", "--generated", "a.txt", "--reference", "b.txt", "-m", "bleu,rouge_l")
    scores = aigc(*words, "lang=zh", "--json").json["metrics"]
    assert "tok:zh" in scores["bleu"]["protocol"]
    assert "tok:char" in scores["rouge_l"]["protocol"]
    assert scores["rouge_l"]["value"] == 1
    refused = aigc(*words)
    assert refused.code == 2
    assert "lang=zh" in refused.err
    forced = aigc(*words[:-1], "bleu", "bleu.tokenize=13a", "--json").json["metrics"]["bleu"]
    assert "tok:13a" in forced["protocol"]


def test_options_of_rouge_are_in_its_protocol(aigc: Aigc, here: Path) -> None:
    words = ("-m", "rouge_lsum", "rouge.stem=false", "split=sentence", "--json")
    row = aigc("evaluate", *PAIR, *words).json["metrics"]["rouge_lsum"]
    assert "stem:no|split:sentence" in row["protocol"]


def test_diversity_needs_no_reference(aigc: Aigc, here: Path) -> None:
    ending = aigc("evaluate", "--generated", "good.txt", "-m", "distinct,self_bleu", "--json")
    assert set(ending.json["metrics"]) == {"distinct_1", "distinct_2", "self_bleu"}


def test_conditions_gate_a_build(aigc: Aigc, here: Path) -> None:
    assert aigc("evaluate", *PAIR, "--require", "bleu>=20,rouge_l>=0.3").code == 0
    ending = aigc("evaluate", *PAIR, "--require", "bleu>=20,rouge_l>=0.99", "--json")
    assert ending.code == 4
    assert ending.json["failed"] == ["rouge_l>=0.99"]
    assert set(ending.json["metrics"]) == {"bleu", "chrf", "rouge_l"}


def test_the_first_lines_can_be_enough(aigc: Aigc, here: Path) -> None:
    report = aigc("evaluate", *PAIR, "--limit", 2, "--json").json
    assert report["metrics"]["bleu"]["n"] == 2


SEQ2SEQ = """
family: seq2seq
seed: 0
data:
  kind: text_pairs
  train: pairs.tsv
  val: pairs.tsv
  languages: [de, en]
  tokenizer: {kind: words}
model: {arch: rnn, dim: 16, hidden_dim: 32, dropout: 0.0, lr: 2e-2}
trainer: {max_steps: 60, global_batch: 4, precision: fp32}
sample: {max_tokens: 9}
"""


@pytest.fixture
def run(aigc: Aigc, here: Path) -> str:
    german = ["die katze schläft", "zwei hunde rennen nach haus", "es war kalt", "ein mann singt"]
    english = ["the cat is asleep", "two dogs run home", "it was cold", "a man sings a song"]
    rows = [f"{a}\t{b}\n" for a, b in zip(german, english, strict=True)]
    (here / "pairs.tsv").write_text("".join(rows), encoding="utf-8")
    (here / "seq2seq.yaml").write_text(SEQ2SEQ)
    ending = aigc("train", "seq2seq.yaml", "--out", "run")
    assert ending.code == 0, ending.err
    return "run"


def test_a_model_scores_what_the_file_of_its_answers_scores(
    aigc: Aigc, run: str, here: Path
) -> None:
    report = aigc("evaluate", run, "-m", "loss,bleu,rouge_l", "--save", "out", "--json").json
    scores = report["metrics"]
    assert list(scores) == ["loss", "bleu", "rouge_l"]
    assert scores["bleu"]["value"] > 50  # four pairs learned by heart
    assert report["lang"] == "en"
    answers = here / "out/answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in rows][2] == "es war kalt"
    words = ("--generated", answers, "--reference", answers, "-m", "bleu,rouge_l", "--json")
    files = aigc("evaluate", *words).json
    for name in ("bleu", "rouge_l"):
        assert files["metrics"][name] == scores[name]
    assert [item["bleu"] for item in files["items"]] == [item["bleu"] for item in report["items"]]
    kept = json.loads((here / "run/evaluations.jsonl").read_text())
    assert kept["metrics"]["bleu"] == scores["bleu"]


def test_a_model_is_compared_with_the_answers_of_another(aigc: Aigc, run: str, here: Path) -> None:
    (here / "other.txt").write_text("the cat\ntwo dogs\nit\na man\n")
    words = ("evaluate", run, "-m", "chrf", "lowercase=true", "--baseline", "other.txt")
    row = aigc(*words, "--json").json["metrics"]["chrf"]
    assert "case:lc" in row["protocol"]
    assert row["difference"] == pytest.approx(row["value"] - row["baseline"], abs=2e-6)
    short = aigc(*words, "--limit", 3)
    assert short.code == 2
    assert "3 items and 4 texts of other.txt do not pair" in short.err
    unused = aigc("evaluate", run, "--baseline", "other.txt")
    assert unused.code == 2
    assert "--baseline is for metrics of a corpus" in unused.err


MISTAKES = {
    "counts": (
        ["--generated", "good.txt", "--reference", "three.txt"],
        "good.txt has 4 texts and three.txt has 3: they do not pair",
    ),
    "counts of the baseline": (
        [*PAIR, "--baseline", "three.txt"],
        "good.txt has 4 texts and three.txt has 3: they do not pair",
    ),
    "empty": (["--generated", "empty.txt", "--reference", "truth.txt"], "empty.txt is empty"),
    "absent": (
        ["--generated", "no.txt", "--reference", "truth.txt"],
        "--generated: 'no.txt' does not exist",
    ),
    "bytes": (
        ["--generated", "good.txt", "--reference", "latin.txt"],
        "latin.txt:2: byte 0xe9 is not UTF-8\nhint: save the file as UTF-8",
    ),
    "key": (
        ["--generated", "keys.jsonl", "--reference", "truth.txt"],
        "keys.jsonl:1: no text under 'text'; its keys: reply",
    ),
    "texts": (
        ["--generated", "good.txt", "--reference", "texts.jsonl"],
        "texts.jsonl:1: 'texts' is not a list of texts",
    ),
    "language": ([*PAIR, "lang=english"], "bleu.lang: unknown language 'english'"),
    "tokenizer": ([*PAIR, "tokenize=moses"], "unknown tokenizer 'moses'"),
    "split": ([*PAIR, "-m", "rouge", "split=words"], "expected 'newline' or 'sentence', got"),
    "metric": ([*PAIR, "-m", "blue"], "unknown metric 'blue'\nhint: did you mean 'bleu'?"),
    "kinds": ([*PAIR, "-m", "bleu,psnr"], "psnr_y is of modality image, and bleu of text"),
    "no reference": (
        ["--generated", "good.txt"],
        "bleu compares with what should be there\nhint: add --reference PATH",
    ),
    "border": ([*PAIR, "border=2"], "border: unknown key"),
    "pictures": (
        ["--generated", "a.png", "--reference", "a.png", "lang=zh"],
        "lang: unknown key",
    ),
    "a group": ([*PAIR, "--require", "rouge>=1"], "choose from: rouge_1, rouge_2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(aigc: Aigc, here: Path, mistake: str) -> None:
    (here / "three.txt").write_text("a\nb\nc\n")
    (here / "a.png").write_bytes(b"")
    (here / "empty.txt").write_text("")
    (here / "latin.txt").write_bytes("ok\ncafé\nc\nd\n".encode("latin-1"))
    (here / "keys.jsonl").write_text('{"reply": "a"}\n')
    (here / "texts.jsonl").write_text('{"texts": "a"}\n' * 4)
    words, sentence = MISTAKES[mistake]
    ending = aigc("evaluate", *words)
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert "Traceback" not in ending.err
    assert ending.out == ""


def test_a_resource_that_is_absent_ends_with_5(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_MODELS", str(here / "none"))
    ending = aigc("evaluate", *PAIR, "-m", "bertscore")
    assert ending.code == 5
    assert "aigc model get minilm" in ending.err
    ending = aigc("evaluate", *PAIR, "-m", "bertscore", "bertscore.model=nowhere")
    assert ending.code == 5
    assert "nowhere: there is no config.json" in ending.err


def test_the_list_explains_each_metric_of_texts(aigc: Aigc, here: Path) -> None:
    rows = aigc("evaluate", "--metric", "list", "--json").json["metrics"]
    found = {row["metric"]: row for row in rows if row["modality"] == "text"}
    assert {"bleu", "rouge_lsum", "self_bleu"} <= found.keys()
    assert found["ter"]["better"] == "lower"
    assert found["bleu"]["unit"] == "0-100"

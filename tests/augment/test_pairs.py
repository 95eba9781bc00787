"""Pairs of texts: one side is edited or written by a model, and none leaks from the other files."""

from __future__ import annotations

from pathlib import Path

import pytest

from aigc_cli.augment.text_pairs import Pairs
from aigc_cli.data.text_pairs import Config, Data, Pair
from aigc_cli.errors import AigcError, InputError
from aigc_cli.recipe.example import example_recipe
from aigc_cli.run.augment import augment, usual_yardstick
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.train import train
from tests.augment.conftest import contents, killed_after, rows

RECIPE = """
family: seq2seq
data: {{kind: text_pairs, train: {0}/a.txt, train_target: {0}/b.txt, val: {0}/va.txt,
  val_target: {0}/vb.txt, cache: "off", tokenizer: {{kind: words}}}}
model: {{dim: 8}}
trainer: {{max_steps: 1}}
"""
NOUNS = (
    "hund", "katze", "mann", "frau", "kind", "vogel", "ball", "baum", "haus", "auto", "berg", "see",
    "brot", "buch", "tisch", "stuhl", "uhr",
)  # fmt: skip
WORDS = [" ".join(NOUNS[(n + k * (n // 17 + 1)) % 17] for k in range(5)) for n in range(68)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pairs.yaml` of 30 pairs, 20 texts `alone.txt`, and `run`, a model that writes anything."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, words in (
        ("a", WORDS[:30]), ("b", [w.upper() + " da" for w in WORDS[:30]]),
        ("va", WORDS[30:40]), ("vb", [w.upper() + " dort" for w in WORDS[30:40]]),
        ("alone", [w.upper() + " hier" for w in WORDS[40:60]]),
    ):  # fmt: skip
        (folder / f"{name}.txt").write_text("\n".join(words) + "\n")
    (folder / "pairs.yaml").write_text(RECIPE.format(folder))
    train(example_recipe("seq2seq", folder / "own", max_steps=1), out=folder / "run")
    return folder


def asked(place: Path, out: Path, *options: str, **more: object) -> Augmenting:
    sources = {"sources": (str(place / "run"),), "sampling": ("max_tokens=4", "temperature=1")}
    given = {"options": ("min_words=1", *options), "workers": 0, "device": "cpu", **sources, **more}
    return Augmenting(str(place / "pairs.yaml"), out, **given)  # type: ignore[arg-type]


def test_sources_are_edited_and_their_targets_stay(place: Path, tmp_path: Path) -> None:
    record = augment(asked(place, tmp_path / "o", sources=(), sampling=()))
    assert record["after"] == {"": 60}
    written, lines = rows(tmp_path / "o", "train.jsonl"), rows(tmp_path / "o")
    real = {line["source"]: row for line, row in zip(lines, written, strict=False)
            if line["made"] == "copied"}  # fmt: skip
    new = [line for line in lines if line["made"] == "varied"]
    for line, row in zip(new, written[30:], strict=True):
        assert row["target"] == real[line["source"]]["target"]
        assert row["source"] != real[line["source"]]["source"]
        assert line["operations"][0]["name"] in ("delete", "swap", "insert")
    keys = {key: None if text == "null" else text for key, text in record["data_keys"].items()}
    data = Data(Config(kind="text_pairs", cache="off", **keys), seed=0)  # type: ignore[arg-type]
    assert (len(data.train), len(data.val)) == (60, 10)


def test_texts_alone_get_the_side_that_a_model_writes(place: Path, tmp_path: Path) -> None:
    """Each once, as the target of its pair; nothing of the pairs is written anew."""
    alone = (place / "alone.txt").read_text().split("\n")[:-1]
    record = augment(asked(place, tmp_path / "o", f"alone={place / 'alone.txt'}"))
    made = [line for line in rows(tmp_path / "o") if line["made"] == "generated"]
    written = rows(tmp_path / "o", "train.jsonl")[30:]
    assert [row["target"] for row in written] == [alone[line["index"]] for line in made]
    assert len(made) + sum(record["dropped"].values()) == 20 >= len(made) > 10
    whole = Pairs("", [Pair("", [text]) for text in alone], halves=True)
    for line in made:
        assert line["source"] == f"{place / 'alone.txt'} #{line['index'] + 1}"
        assert line["origins"] == [whole.digest(whole.read(line["index"]))]
    few = augment(asked(place, tmp_path / "few", f"alone={place / 'alone.txt'}", factor=1.2))
    assert few["after"] == {"": 36}
    assert rows(tmp_path / "few", "train.jsonl")[30:] == written[:6]


def test_a_killed_call_writes_the_same_pairs(place: Path, tmp_path: Path) -> None:
    """Answers are written in batches, and one that was cut is made again as it was."""
    option = f"alone={place / 'alone.txt'}"
    augment(asked(place, tmp_path / "whole", option))
    killed_after(47, asked(place, tmp_path / "cut", option))
    augment(asked(place, tmp_path / "cut", option, go_on=True))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_model_writes_either_side_of_training_pairs(place: Path, tmp_path: Path) -> None:
    for side, other in (("source", "target"), ("target", "source")):
        out = tmp_path / side
        augment(asked(place, out, f"writes={side}"))
        written, lines = rows(out, "train.jsonl"), rows(out)
        real = {line["source"]: row for line, row in zip(lines, written, strict=False)
                if line["made"] == "copied"}  # fmt: skip
        made = [line for line in lines if line["made"] == "generated"]
        assert len(made) == 30
        for line, row in zip(made, written[30:], strict=True):
            assert row[other] == real[line["source"]][other]


def test_a_side_that_judges_is_no_text_alone(place: Path, tmp_path: Path) -> None:
    """A pair may share a side, as replies do; a text alone may not be one that judges."""
    leaking = tmp_path / "leaking.txt"
    judged = (place / "vb.txt").read_text().split("\n")[3]
    leaking.write_text(f"AUTO hund hier\n{judged.casefold().replace(' ', '  ')}\nhund vogel hier\n")
    with pytest.raises(AigcError, match=r"1 of 3 texts of .* are also in data that judges"):
        augment(asked(place, tmp_path / "o", f"alone={leaking}"))
    assert not (tmp_path / "o").exists()
    record = augment(asked(place, tmp_path / "p", f"alone={leaking}", on_leak="drop"))
    assert record["left_out"] == {f"of {leaking} also in other data": 1}
    sides = Pairs("", [Pair("ja", ["yes"]), Pair("gut", ["yes"]), Pair("yes", ["ja"])])
    digests = [sides.digest(pair) for pair in sides.items]
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]  # what a model of the other direction has learned


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        ("", {}, "is empty"),
        ("a b", {"sources": (), "sampling": ()}, "alone=FILE is for a model of --with"),
    ],
)
def test_texts_alone_that_help_nobody_are_refused(
    place: Path, tmp_path: Path, text: str, more: dict[str, object], sentence: str
) -> None:
    (tmp_path / "alone.txt").write_text(text)
    with pytest.raises(AigcError, match=sentence):
        augment(asked(place, tmp_path / "o", f"alone={tmp_path / 'alone.txt'}", **more))


def test_pairs_are_not_measured_by_classifiers(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trains classifiers and detectors"):
        usual_yardstick(asked(place, tmp_path / "o"))

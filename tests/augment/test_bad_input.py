"""Each mistake is one sentence with what to do, exit code 2, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.augment.conftest import Aigc, contents, paint

MISTAKES = [
    (("d", "--factor", "0"), "--factor 0: the set would lose items"),
    (("d", "--factor", "-1"), "--factor -1: the set would lose items"),
    (("d", "--factor", "nan"), "--factor nan: is no number"),
    (("d", "--factor", "inf"), "--factor inf: is no number"),
    (("d", "--factor", "1e12"), "--factor 1e+12: 12,999,999,999,987 new items, and at most"),
    (("d", "--balance", "999999999"), "--balance 999999999: 1,999,999,985 new items, and at most"),
    (("d", "--balance", "0"), "--balance 0: is neither 'classes' nor a size"),
    (("d", "--keep", "0"), "'0' is no part of 13 items"),
    (("d", "--keep", "nan%"), "'nan%' is no part of 13 items"),
    (("d", "--long-tail", "nan"), "'--long-tail'"),
    (("d", "model.width=3"), "model.width=3: is for training, and here nothing is trained"),
    (("d", "model.width=3"), "sample.width is for the model of --with, yardstick.model.width for"),
    (("d", "dat.labels=x"), "there is nothing to set by 'dat.'\nhint: did you mean 'data'?"),
    (("d", "nonsense"), "expected KEY=VALUE, got 'nonsense'"),
    (("d", "sample.steps=3"), "sample.steps=3: is for a model of --with, and there is none"),
    (("d", "yardstick.seed=3"), "yardstick.seed=3: is for --measure, which is not asked for"),
    (("d", "--yardstick", "yardstick_cnn"), "--yardstick yardstick_cnn: is for --measure"),
    (("d", "--judge", "run"), "--judge run: is for a model of --with, and there is none"),
    (("d", "--classes", "cat,dgo"), "--classes: unknown class 'dgo'"),
    (("d", "--balance", "many"), "--balance many: is neither 'classes' nor a size"),
    (("d", "--keep", "0%"), "'0%' is no part of 13 items"),
    (("d", "--keep", "99"), "'99' is no part of 13 items"),
    (("d", "rotation=900"), "error: command line: rotation: 900 is out of range"),
    (("d", "model=3"), "error: command line: model: unknown key, choose from: color, crop"),
    (("d", "rotatoin=9"), "did you mean 'rotation'?"),
    (("nothing",), "'nothing' is no folder or file here"),
    (("d", "--val", "d"), "15 of 15 training items are, or come from, items that judge"),
    (("d", "--val", "v", "--test", "d/dog"), "5 of 15 training items are, or come from"),
    (("d", "--val", "nowhere"), "--val: 'nowhere' does not exist"),
    (("flat",), "one item cannot both train and validate"),
    (("lonely", "--val", "v"), "class 'cat' has one item to train on"),
    (("d", "--val", "other"), "class 'owl' of the validation data has no training items"),
    (("flat2", "--balance", "classes"), "the items have no classes"),
    (("flat2", "--long-tail", "5"), "--long-tail needs items of several classes"),
    (("damaged",), "damaged: 1 of 12 items cannot be used: cat/000.png"),
    (("edsr_demo",), "data of kind 'super_resolution' is not augmented"),
]  # fmt: skip


@pytest.fixture
def sources(tmp_path: Path) -> None:
    paint(tmp_path / "d", {"cat": 10, "dog": 5})
    paint(tmp_path / "v", {"cat": 3, "dog": 3}, seed=9)
    paint(tmp_path / "other", {"cat": 3, "owl": 3}, seed=8)
    paint(tmp_path / "lonely", {"cat": 1, "dog": 4}, seed=7)
    paint(tmp_path / "flat", {".": 1}, seed=6)
    paint(tmp_path / "flat2", {".": 4}, seed=5)
    paint(tmp_path / "damaged", {"cat": 6, "dog": 6}, seed=4)
    (tmp_path / "damaged/cat/000.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")


@pytest.mark.parametrize(
    ("words", "sentence"), MISTAKES, ids=lambda v: v if isinstance(v, str) else None
)
def test_a_mistake_is_one_sentence(
    aigc: Aigc, sources: None, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, out, err = aigc("augment", *words, "--out", "o")
    assert code == 2
    assert sentence in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "o").exists() or not any((tmp_path / "o").iterdir())


def test_a_folder_in_use_is_refused_and_only_our_own_files_are_replaced(
    aigc: Aigc, sources: None, tmp_path: Path
) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o/notes.txt").write_text("mine")
    (tmp_path / "o/train.jsonl").write_text("mine too")
    code, _, err = aigc("augment", "d", "--out", "o")
    assert code == 2
    assert "o: already holds files" in err
    assert aigc("augment", "d", "--out", "o", "--overwrite", "--factor", "3")[0] == 0
    assert aigc("augment", "d", "--out", "o", "--overwrite", "--factor", "1")[0] == 0
    found = contents(tmp_path / "o")
    assert len([name for name in found if name.endswith(".png")]) == 15
    assert found["notes.txt"] == b"mine"
    assert found["train.jsonl"] == b"mine too"


@pytest.mark.parametrize("source", [("d",), ("v", "--val", "d"), ("v", "--test", "d")])
def test_a_set_is_never_written_into_what_it_is_made_of(
    aigc: Aigc, sources: None, tmp_path: Path, source: tuple[str, ...]
) -> None:
    before = contents(tmp_path / "d")
    code, _, err = aigc("augment", *source, "--out", "d/cat/more")
    assert code == 2
    assert "--out d/cat/more: lies in d" in err
    assert contents(tmp_path / "d") == before


def test_what_cannot_be_continued_is_said(aigc: Aigc, sources: None, tmp_path: Path) -> None:
    code, _, err = aigc("augment", "d", "--out", "o", "--continue")
    assert code == 2
    assert "there is no interrupted call to continue" in err


@pytest.mark.parametrize("ending", ["disk", "Ctrl-C"])
def test_what_ends_in_the_middle_says_how_to_go_on(
    aigc: Aigc, sources: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """And it goes on, to the set of an uninterrupted call."""
    from aigc_cli.errors import DiskFullError
    from aigc_cli.run.augment_journal import Journal

    add = Journal.add

    def until_ten(journal: Journal, line: dict[str, object], row: bytes | None = None) -> None:
        if journal.count == 10:
            raise DiskFullError("no space left") if ending == "disk" else KeyboardInterrupt
        add(journal, line, row)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", until_ten)
        code, _, err = aigc("augment", "d", "--out", "o")
    assert code == (3 if ending == "disk" else 130)
    assert err.splitlines()[-1].startswith("hint: what is in o stays; go on with: aigc ")
    assert err.endswith(" --continue\n")
    assert aigc("augment", "d", "--out", "o", "--continue")[0] == 0
    assert aigc("augment", "d", "--out", "whole")[0] == 0
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")


def test_unreadable_items_can_be_left_out(aigc: Aigc, sources: None) -> None:
    code, out, err = aigc("augment", "damaged", "--out", "o", "--on-error", "skip")
    assert code == 0
    assert "left out: 1 unreadable" in err
    assert "all" in out


def test_what_comes_from_validation_items_never_trains(
    aigc: Aigc, sources: None, tmp_path: Path
) -> None:
    """Also over two calls: a varied item remembers the real one it was made of."""
    assert aigc("augment", "d", "--val", "v", "--out", "one")[0] == 0
    code, _, err = aigc("augment", "one/train", "--out", "two")
    assert code == 2
    assert "was made by aigc augment, so its items are not independent" in err
    code, _, err = aigc("augment", "one/train", "--val", "d", "--out", "two")
    assert code == 2
    assert "30 of 30 training items are, or come from, items that judge" in err
    assert aigc("augment", "one/train", "--val", "one/val", "--out", "two")[0] == 0


def test_leaking_items_can_be_left_out(aigc: Aigc, sources: None, tmp_path: Path) -> None:
    paint(tmp_path / "part", {"cat": 4, "dog": 2}, seed=1)
    for name in ("000.png", "001.png"):
        (tmp_path / "d/cat" / name).write_bytes((tmp_path / "part/cat" / name).read_bytes())
    code, _, err = aigc("augment", "d", "--val", "part", "--out", "o", "--on-leak", "drop")
    assert code == 0
    assert "left out: 2 also in other data" in err
    assert len(list((tmp_path / "o/train").rglob("real-*"))) == 13

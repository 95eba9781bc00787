"""`aigc sample --continue`: a killed call is finished as if nothing had happened."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aigc_cli.modalities._output import Output
from aigc_cli.run.request import Request
from aigc_cli.run.sample import Told, sample
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]

LM = """
family: lm
seed: 3
data: {kind: text, train: words.txt, val: last 20%, context: 16,
       tokenizer: {kind: characters, specials: none}}
model: {dim: 16, num_layers: 1, num_heads: 2}
trainer: {max_steps: 1, global_batch: 2, precision: fp32}
sample: {max_tokens: 8}
"""


class Killed(BaseException):
    """As a signal would end the call."""


def killed_after(count: int, request: Request, run: str) -> None:
    """A call that ends before it hands out file (or text) number `count`."""
    left = [count]

    def told(_: object) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    with pytest.raises(Killed):
        sample(run, request, device="cpu", told=Told(told, told))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.fixture
def runs(aigc: Aigc, here: Path) -> None:
    (here / "words.txt").write_text("the cat sat on the mat.\n" * 40)
    (here / "prompts.txt").write_text("the\ncat\n\nmat\non\n")
    (here / "lm.yaml").write_text(LM)
    for recipe in ("tiny_gan.yaml", "edsr.yaml", "lm.yaml"):
        words = ("train", recipe, "--out", recipe.removesuffix(".yaml"), "trainer.max_steps=1")
        assert aigc(*words, "--quiet").code == 0


@pytest.mark.parametrize(
    ("run", "asked"),
    [
        ("tiny_gan", {"count": 20, "batch_size": 3}),
        ("tiny_gan", {"count": 9, "batch_size": 4, "writing": ("format=jpg",)}),
        ("edsr", {"input": Path("photos")}),
        ("lm", {"input": Path("prompts.txt"), "batch_size": 2}),
    ],
)
def test_the_files_are_those_of_an_uninterrupted_call(
    runs: None, here: Path, run: str, asked: dict[str, object]
) -> None:
    whole = sample(run, Request(Path("whole"), **asked), device="cpu")
    killed_after(3, Request(Path("cut"), **asked), run)
    done = {p.name: p.stat().st_mtime_ns for p in (here / "cut").iterdir()}
    made = sample(run, Request(Path("cut"), go_on=True, **asked), device="cpu")
    assert contents(here / "cut") == contents(here / "whole")
    assert made["items"] == whole["items"]
    if run == "edsr" or "writing" in asked:
        return  # answers and lossy files are made again, to show them on a sheet
    now = {p.name: p.stat().st_mtime_ns for p in (here / "cut").glob("sample-*")}
    assert run != "tiny_gan" or now.items() & done.items()


def test_a_file_that_was_changed_is_made_again(runs: None, here: Path) -> None:
    sample("tiny_gan", Request(Path("whole"), count=6, batch_size=2), device="cpu")
    killed_after(5, Request(Path("cut"), count=6, batch_size=2), "tiny_gan")
    (here / "cut/sample-00001.png").write_bytes(b"no image")
    sample("tiny_gan", Request(Path("cut"), count=6, batch_size=2, go_on=True), device="cpu")
    assert contents(here / "cut") == contents(here / "whole")


def test_an_interrupt_says_what_is_kept_and_how_to_go_on(
    aigc: Aigc, runs: None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 14's walk: Ctrl-C left no word of the journal."""
    words = ["sample", "tiny_gan", "-n", "6", "--batch-size", "2", "--quiet"]
    done, left = Output.done, [3]

    def until(*args: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        done(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "argv", ["aigc", *words])
    with monkeypatch.context() as patched:
        patched.setattr(Output, "done", until)
        ending = aigc(*words)
    (out,) = Path("samples").iterdir()
    command = f"aigc {' '.join(words)} --out {out} --continue"
    assert ending.code == 130
    assert ending.err == (
        f"stopped: Ctrl-C\nhint: 3 are done and kept in {out}; go on with: {command}\n"
    )
    assert aigc(*shlex.split(command)[1:]).code == 0
    assert len(list(out.glob("sample-*.png"))) == 6


def test_what_cannot_be_continued_is_said(aigc: Aigc, runs: None, here: Path) -> None:
    killed_after(3, Request(Path("cut"), count=6, batch_size=2), "tiny_gan")
    words = ("sample", "tiny_gan", "-n", 6, "--batch-size", 2, "--out", "cut")
    ending = aigc(*words)
    assert ending.code == 2
    assert "of an interrupted call" in ending.err
    assert "--continue" in ending.err
    other = aigc(*words, "--seed", 1, "--continue")
    assert other.code == 2
    assert "was asked for something else" in other.err
    assert aigc(*words, "--continue").code == 0
    again = aigc(*words, "--continue")
    assert again.code == 2
    assert "there is no interrupted call to continue" in again.err


def test_answers_never_get_the_names_of_our_own_files(aigc: Aigc, here: Path) -> None:
    """An input called grid.png had its answer written over by the sheet."""
    (here / "in").mkdir()
    for number, name in enumerate(("grid.png", "samples.png", "labels.png")):
        (here / "in" / name).write_bytes((here / f"photos/photo {number:02d}.png").read_bytes())
    data = ("data.train=photos", "data.train_b=photos", "data.image_size=20")
    words = (*data, "trainer.max_steps=1")
    small = ["model.num_features=2", "model.num_blocks=1", "model.discriminator_features=2"]
    ending = aigc("train", "cyclegan_emoji", *words, *small, "model.features=none", "--out", "run")
    assert ending.code == 0, ending.err
    assert aigc("sample", "run", "--input", "in", "--out", "out").code == 0
    record = json.loads((here / "out/samples.json").read_text())
    answers = {item["input"]: item["path"] for item in record["items"] if "input" in item}
    assert answers["grid.png"] == "grid-2.png"
    assert answers["samples.png"] == "samples.png"
    paths = [item["path"] for item in record["items"]]
    assert len(set(paths)) == len(paths) == 4
    assert {item["path"] for item in record["items"] if item.get("sample") is False} == {"grid.png"}

"""Nothing that this tool did not make is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.run.conftest import Ending

Aigc = Callable[..., Ending]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_the_user_is_refused_and_left_as_it_is(aigc: Aigc, here: Path) -> None:
    mine = here / "mine"
    (mine / "deep").mkdir(parents=True)
    for name in (".tmp-draft", ".notes.tmp", "deep/.tmp-x-last.ckpt", "thesis.txt"):
        (mine / name).write_text("mine")
    before = files_of(mine)
    for words in (["--resume", "auto"], []):
        ending = aigc("train", "edsr.yaml", "--out", "mine", *words)
        assert ending.code == 2
        assert "error: mine: " in ending.err
    assert files_of(mine) == before


def test_of_a_run_only_our_own_half_written_files_are_removed(aigc: Aigc, here: Path) -> None:
    short = ["trainer.max_steps=1", "trainer.preview_every=9"]
    assert aigc("train", "edsr.yaml", "--out", "run", *short).code == 0
    ours = [f".tmp-{'0f' * 16}-last.ckpt", f".tmp-{'0f' * 16}-best.ckpt", ".tmp-probe-7"]
    theirs = [".tmp-draft", ".notes.tmp", ".tmp-x-last.ckpt", "kept/.tmp-probe-7"]
    (run := here / "run/checkpoints").joinpath("kept").mkdir()
    for name in (*ours, *theirs):
        (run / name).write_text("half")
    (here / f"run/.{'0f' * 16}.tmp").write_text("half")
    assert aigc("train", "--resume", "run", "trainer.max_steps=2").code == 0
    left = files_of(here / "run")
    assert {f"checkpoints/{name}" for name in theirs} <= left.keys()
    assert not {f"checkpoints/{name}" for name in ours} & left.keys()
    assert f".{'0f' * 16}.tmp" not in left

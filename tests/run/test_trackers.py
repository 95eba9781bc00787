"""Trackers of trainer.loggers get what metrics.jsonl has, once, over any number of starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aigc_cli.recipe.load import Recipe
from aigc_cli.run import trackers
from aigc_cli.run.folder import RunFolder
from aigc_cli.run.trackers import Tracker, require_trackers
from tests.run.conftest import rows_of

Sent = tuple[int, str, float]


class Memory(Tracker):
    """One that keeps everything in this process, by its id."""

    sent: ClassVar[dict[str, list[Sent]]] = {}
    endings: ClassVar[list[str]] = []
    fails_at: ClassVar[int | None] = None

    def __init__(self, folder: RunFolder, recipe: Recipe, known: str | None) -> None:
        self.id = known or f"run {len(self.sent)}"
        self.sent.setdefault(self.id, [])

    def log(self, values: Mapping[str, float], step: int) -> None:
        if step == self.fails_at:
            raise OSError("the server is down")
        self.sent[self.id] += [(step, name, value) for name, value in values.items()]

    def end(self, status: str) -> None:
        self.endings.append(status)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> type[Memory]:
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Memory)
    monkeypatch.setattr(trackers, "_is_here", lambda name: True)
    Memory.sent, Memory.endings, Memory.fails_at = {}, [], None
    return Memory


def scalars(run: Path) -> list[Sent]:
    """What metrics.jsonl says, in its order."""
    return [
        (row["step"], name, value)
        for row in rows_of(run)
        for name, value in row.items()
        if name.startswith(("train/", "val/")) or name in ("lr", "samples_per_s", "data_wait")
    ]


def test_a_run_in_pieces_is_one_run_of_the_tracker_without_a_gap_or_a_double(
    aigc: Any, here: Path, memory: type[Memory]
) -> None:
    named = "trainer.loggers=[mlflow]"
    assert aigc("train", "edsr.yaml", "trainer.max_steps=3", "--out", "run").code == 0
    # named only now: it gets the rows before
    assert aigc("train", "--resume", "run", "trainer.max_steps=5", named).code == 0
    # from an older checkpoint, as after a kill: steps are done again, and not sent again
    (here / "run/checkpoints/last.ckpt").write_bytes(
        (here / "run/checkpoints/best.ckpt").read_bytes()
    )
    assert aigc("train", "--resume", "run", "trainer.max_steps=8").code == 0
    (sent,) = memory.sent.values()
    assert [(step, name) for step, name, _ in sent] == [
        (step, name) for step, name, _ in scalars(here / "run")
    ]
    losses = [value for step, name, value in sent if name == "train/loss"]
    assert losses == [row["train/loss"] for row in rows_of(here / "run") if "train/loss" in row]
    assert memory.endings == ["finished", "finished"]


def test_a_tracker_that_fails_is_left_out_and_gets_its_rows_at_the_next_start(
    aigc: Any, here: Path, memory: type[Memory]
) -> None:
    memory.fails_at = 2
    ending = aigc("train", "edsr.yaml", "trainer.max_steps=3", "trainer.loggers=[mlflow]",
                  "--out", "run")  # fmt: skip
    assert ending.code == 0
    assert "mlflow failed, and the run goes on without it: the server is down" in ending.err
    (sent,) = memory.sent.values()
    assert {step for step, *_ in sent} == {1}
    memory.fails_at = None
    assert aigc("train", "--resume", "run", "trainer.max_steps=4").code == 0
    assert len(memory.sent) == 1
    assert sent == scalars(here / "run")


def test_one_that_cannot_begin_is_one_sentence(
    aigc: Any, here: Path, memory: type[Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: object) -> None:
        raise ValueError("no API key")

    monkeypatch.setattr(Memory, "__init__", begin)
    ending = aigc("train", "edsr.yaml", "trainer.loggers=[mlflow]", "--out", "run", "--quiet")
    assert ending.code == 3
    assert "trainer.loggers: mlflow cannot begin: no API key" in ending.err


def test_what_is_not_installed_or_not_known_is_said_before_anything_is_written(
    aigc: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_is_here", lambda name: False)
    ending = aigc("train", "edsr.yaml", "trainer.loggers=[wandb]", "--out", "run", "--quiet")
    assert ending.code == 5
    assert "wandb is not installed" in ending.err
    assert 'pip install "aigc-cli[wandb]"' in ending.err
    ending = aigc("train", "edsr.yaml", "trainer.loggers=[wandbb]", "--out", "run", "--quiet")
    assert ending.code == 2
    assert "trainer.loggers" in ending.err
    assert "wandb" in ending.err
    assert not (here / "run").exists()


class TestInstalled:
    """Where the extras are: what their own readers find."""

    pytestmark = pytest.mark.filterwarnings("ignore")

    def test_mlflow_keeps_the_run_in_its_folder(
        self, aigc: Any, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("mlflow")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for words in (["edsr.yaml", "--out", "run"], ["--resume", "run"]):
            steps = "trainer.max_steps=3" if "--out" in words else "trainer.max_steps=4"
            assert aigc("train", *words, steps, "trainer.loggers=[mlflow]").code == 0
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{here / 'run/mlflow.db'}")
        (experiment,) = [e for e in client.search_experiments() if e.name == "edsr"]
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params["model.num_features"] == "4"
        found = [
            (m.step, name, m.value)
            for name in run.data.metrics
            for m in client.get_metric_history(run.info.run_id, name)
        ]
        assert sorted(found) == sorted(scalars(here / "run"))
        assert not (here / "mlruns").exists()

    def test_wandb_keeps_the_run_in_its_folder(
        self, aigc: Any, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("wandb")
        monkeypatch.delenv("WANDB_MODE", raising=False)
        for words in (["edsr.yaml", "--out", "run"], ["--resume", "run"]):
            steps = "trainer.max_steps=3" if "--out" in words else "trainer.max_steps=4"
            assert aigc("train", *words, steps, "trainer.loggers=[wandb]").code == 0
        name = json.loads((here / "run/trackers.json").read_text())["wandb"]["id"]
        files = sorted((here / "run/wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))
        assert len(files) == 2
        sent = [row for file in files for row in stored(file)]
        assert sorted(sent) == sorted(scalars(here / "run"))
        assert [step for step, *_ in sent] == sorted(step for step, *_ in sent)


def stored(file: Path) -> list[Sent]:
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for data in records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        values = {
            item.key or item.nested_key[0]: json.loads(item.value_json)
            for item in record.history.item
        }
        found += [(values["_step"], k, v) for k, v in values.items() if not k.startswith("_")]
    return found


def records(data: bytes, block: int = 1 << 15) -> Iterator[bytes]:
    """Of LevelDB's log format, after W&B's own 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # what is left of a block holds no head
            at += block - at % block
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += 7 + size
        whole += data[at - size : at]
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_nothing_is_asked_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from aigc_cli.recipe.sections import Trainer

    monkeypatch.setattr(trackers, "_is_here", lambda name: False)
    require_trackers(Trainer(max_steps=1))

"""Ray places the workers; what they learn is what torchrun's learn, also when one is killed."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from aigc_cli.errors import AigcError, InputError
from aigc_cli.run.engines import cluster
from aigc_cli.run.engines.training import _lost
from aigc_cli.run.engines.worker import Ended
from tests.run.conftest import Child, Ending, assert_same_run
from tests.run.test_devices import no_worker_left

Aigc = Callable[..., Ending]
needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")


def test_without_ray_it_says_how_to_get_it(aigc: Aigc, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "ray" else real(name, *a)
    )
    ending = aigc("train", "edsr.yaml", "--engine", "ray", "--workers", 2)
    assert (ending.code, 'pip install "aigc-cli[ray]"' in ending.err) == (5, True)


@needs_ray
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--address", "node0:6379"], "hint: add --engine ray"),
        (["--workers", 2], "or use --devices 2"),
        (["--engine", "ray"], "hint: add --workers 2"),
        (["--engine", "ray", "--workers", 2, "--devices", 2], "contradicts"),
        (["--engine", "ray", "--workers", 3], "cannot share evenly"),
        (["--engine", "ray", "--workers", 2, "--address", "node0"], "is not HOST:PORT"),
        (["--engine", "ray", "--workers", 2, "--address", "ray://a:1"], "is not HOST:PORT"),
    ],
)
def test_options_that_do_not_go_together(aigc: Aigc, words: list[object], told: str) -> None:
    ending = aigc("train", "edsr.yaml", *words, "--out", "run")
    assert (ending.code, told in ending.err) == (2, True), ending.err
    assert not Path("run").exists()


def test_a_cluster_that_is_not_there_is_one_sentence_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # bound, and nobody listens
        began = time.monotonic()
        with pytest.raises(InputError, match=f"--address {address}: no Ray cluster answers"):
            cluster._probe(address)
        assert time.monotonic() - began < cluster.PROBE_S + 1


ENDINGS = [
    ({0: Ended(3), 1: Ended(-9)}, "worker 1 was killed by SIGKILL"),
    ({0: Ended(3), 1: Ended(None)}, "worker 1 was lost with its machine"),
    ({0: Ended(143, [{"message": "saved"}]), 1: Ended(3)}, "worker 0 was stopped from outside"),
    ({1: Ended(3)}, "a worker was lost"),
]


@pytest.mark.parametrize(("ended", "told"), ENDINGS)
def test_a_lost_worker_is_told_from_one_that_failed(ended: dict[int, Ended], told: str) -> None:
    assert _lost(ended) == told


def test_what_a_worker_says_ends_the_run_with_its_code() -> None:
    said = {"message": "loss became NaN", "code": "run.diverged", "hint": "lower model.lr"}
    with pytest.raises(AigcError, match="loss became NaN") as caught:
        _lost({0: Ended(3), 1: Ended(3, [said])})
    assert (caught.value.code, caught.value.hint) == ("run.diverged", "lower model.lr")
    with pytest.raises(AigcError, match="worker 0 ended with exit code 1: No module named aigc"):
        _lost({0: Ended(1, words="No module named aigc")})


@needs_ray
@pytest.mark.slow
def test_a_killed_worker_changes_nothing_in_the_end(
    child: Callable[..., Child], here: Path
) -> None:
    steps = ["trainer.max_steps=120", "trainer.validate_every=60", "trainer.log_every=5"]
    words = ["train", "edsr.yaml", *steps, "--engine", "ray", "--workers", 2]
    whole = child(*words, "--out", "whole").end()
    assert whole.code == 0, whole.err
    run = child(*words, "--out", "cut")
    run.wait_for_step(here / "cut", 40)
    tree = psutil.Process(run.process.pid).children(recursive=True)
    assert all(
        c.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1")
        for process in tree
        if "ray" in process.name() or "gcs" in process.name()
        for c in process.net_connections()
        if c.status == "LISTEN"
    ), "nobody else reaches a cluster of our own"
    workers = [p for p in tree if "aigc_cli" in p.cmdline()]
    assert len(workers) == 2
    workers[1].kill()
    ending = run.end()
    assert ending.code == 0, ending.err
    assert "was killed by SIGKILL; all go on from the last checkpoint" in ending.err
    assert ending.out.strip() == "cut"
    assert_same_run(here / "whole", here / "cut")
    assert no_worker_left(here)


@needs_ray
@pytest.mark.slow
def test_sigterm_saves_and_leaves_nobody(child: Callable[..., Child], here: Path) -> None:
    import signal

    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000", "trainer.log_every=5"]
    run = child("train", "edsr.yaml", *steps, "--engine", "ray", "--workers", 2, "--out", "run")
    run.wait_for_step(here / "run", 10)
    run.signal(signal.SIGTERM)
    ending = run.end()
    assert ending.code == 143, ending.err
    assert "the workers have saved their state" in ending.err
    assert json.loads((here / "run/status.json").read_text())["state"] == "interrupted"
    assert no_worker_left(here, timeout_s=20)


@needs_ray
@pytest.mark.slow
def test_a_killed_head_is_one_sentence_within_seconds(
    child: Callable[..., Child], here: Path
) -> None:
    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000", "trainer.log_every=5"]
    run = child("train", "edsr.yaml", *steps, "--engine", "ray", "--workers", 2, "--out", "run")
    run.wait_for_step(here / "run", 10)
    tree = psutil.Process(run.process.pid).children(recursive=True)
    (head,) = (p for p in tree if p.name() == "gcs_server")
    head.kill()
    ending = run.end(timeout_s=50)
    assert ending.code == 3, ending.err
    assert "the head of the Ray cluster is gone" in ending.err
    assert "hint: continue from the last checkpoint with --resume" in ending.err
    assert no_worker_left(here, timeout_s=60)


def contents(folder: Path, *left_out: str) -> dict[str, bytes]:
    files = (f for f in folder.rglob("*") if f.is_file() and f.name not in left_out)
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


@needs_ray
@pytest.mark.slow
def test_files_are_those_of_one_process_also_after_a_kill(
    aigc: Aigc, child: Callable[..., Child], here: Path
) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run", "--quiet").code == 0
    ray = ["--engine", "ray", "--workers", 2]
    made = ["sample", "run", "-i", "photos", "--batch-size", 2]
    assert aigc(*made, "--out", "plain").code == 0
    cut = child(*made, "--out", "far", *ray)
    while not (here / "far/samples.part.jsonl").exists():
        time.sleep(0.01)
    cut.process.kill()
    cut.end()
    ending = child(*made, "--out", "far", *ray, "--continue").end()
    assert ending.code == 0, ending.err
    assert contents(here / "plain", "samples.json") == contents(here / "far", "samples.json")
    grown = ["augment", "photos", "--factor", 3, "--seed", 5]
    assert aigc(*grown, "--out", "larger").code == 0
    ending = child(*grown, "--out", "far-larger", *ray).end()
    assert ending.code == 0, ending.err
    assert contents(here / "larger", "augment.json") == contents(
        here / "far-larger", "augment.json"
    )


@needs_ray
@pytest.mark.slow
def test_a_search_in_a_cluster_has_the_trials_of_one_process(
    aigc: Aigc, child: Callable[..., Child], here: Path
) -> None:
    (here / "space.yaml").write_text("model.lr: {low: 1e-4, high: 1e-2, log: true}")
    words = ["tune", "edsr.yaml", "--search", "space.yaml", "--trials", 4, "--sampler", "random"]
    assert aigc(*words, "--pruner", "none", "--out", "plain").code == 0
    ending = child(
        *words, "--pruner", "none", "--out", "far", "--engine", "ray", "--workers", 2
    ).end()
    assert ending.code == 0, ending.err
    one, two = (json.loads((here / f / "result.json").read_text()) for f in ("plain", "far"))
    assert [t["set"] for t in one["trials"]] == [t["set"] for t in two["trials"]]
    values = [[t["value"] for t in found["trials"]] for found in (one, two)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)

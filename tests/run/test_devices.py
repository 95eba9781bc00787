"""Two processes on the CPU: the same results as one, the same endings, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from aigc_cli.errors import InputError
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.devices import World, find_world, share_of_batch
from tests.run.conftest import Child, Ending, assert_same_run, load, rows_of

FAMILIES = ("edsr", "tiny_gan")
Aigc = Callable[..., Ending]
Start = Callable[..., Child]
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_NAME": "train", "SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_NNODES": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "family"),
    [
        ("ddp", "edsr"),
        ("ddp", "tiny_gan"),
        pytest.param("fsdp", "edsr", marks=pytest.mark.slow),
        pytest.param("fsdp", "tiny_gan", marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_learns(
    aigc: Aigc, child: Start, here: Path, strategy: str, family: str
) -> None:
    options = [f"{family}.yaml", "trainer.clip_norm=1", f"trainer.strategy={strategy}"]
    alone = [*options[:2], "--out", "one"]
    assert aigc("train", *alone).code == 0
    ending = child("train", *options, "--devices", 2, "--out", "two").end()
    assert ending.code == 0, ending.err
    one, two = rows_of(here / "one"), rows_of(here / "two")
    assert len(one) == len(two) == 10, "only the first process writes"
    timing = {"samples_per_s", "data_wait", "eta_s", "event", "best"}
    for a, b in zip(one, two, strict=True):
        for key in a.keys() - timing:
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6), key
    a, b = load(here / "one/checkpoints/last.ckpt"), load(here / "two/checkpoints/last.ckpt")
    for part in ("weights", "ema"):
        for key, value in a[part].items():
            torch.testing.assert_close(value, b[part][key], rtol=1e-4, atol=1e-5, msg=key)
    # A checkpoint does not remember how many processes wrote it.
    more = aigc("train", *alone[:2], "--resume", "two", "trainer.max_steps=9")
    assert more.code == 0, more.err


def test_sigterm_reaches_the_workers_and_keeps_its_exit_code(child: Start, here: Path) -> None:
    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000", "trainer.log_every=5"]
    run = child("train", "tiny_gan.yaml", "--devices", 2, "--out", "run", *steps)
    run.wait_for_step(here / "run", 5)
    run.signal(signal.SIGTERM)
    ending = run.end()
    assert ending.code == 143, ending.err
    assert load(here / "run/checkpoints/last.ckpt")["step"] >= 5
    assert "the state is saved" in ending.err
    assert "Traceback" not in ending.err
    assert no_worker_left(here)


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_with_3(child: Start, here: Path) -> None:
    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000", "trainer.log_every=5"]
    run = child("train", "tiny_gan.yaml", "--devices", 2, "--out", "run", *steps)
    run.wait_for_step(here / "run", 5)
    workers = psutil.Process(run.process.pid).children()
    assert len(workers) == 2
    workers[1].kill()
    ending = run.end()
    assert ending.code == 3, ending.err
    assert "worker 1 was killed by SIGKILL" in ending.err
    assert ending.err.count("error:") == 1, "the cause alone, and not that its peers missed it"
    assert no_worker_left(here)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_launcher(child: Start, here: Path) -> None:
    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000", "trainer.log_every=5"]
    run = child("train", "tiny_gan.yaml", "--devices", 2, "--out", "run", *steps)
    run.wait_for_step(here / "run", 5)
    run.signal(signal.SIGKILL)
    assert run.end().code == -signal.SIGKILL
    assert no_worker_left(here, timeout_s=20)
    assert load(here / "run/checkpoints/last.ckpt")["step"] >= 5, "they saved before they ended"


@pytest.mark.slow
def test_ctrl_c_reaches_the_workers(child: Start, here: Path) -> None:
    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000", "trainer.log_every=5"]
    run = child("train", "tiny_gan.yaml", "--devices", 2, "--out", "run", *steps)
    run.wait_for_step(here / "run", 5)
    run.signal(signal.SIGINT)
    ending = run.end()
    assert ending.code == 130, ending.err
    assert "the state is saved" in ending.err


@pytest.mark.slow
def test_the_exit_code_of_a_worker_is_kept(child: Start, here: Path) -> None:
    run = child("train", "tiny_gan.yaml", "--devices", 2, "--out", "run", "model.lr=1e30")
    ending = run.end()
    assert ending.code == 3, ending.err
    assert "became NaN or Inf in step" in ending.err


@pytest.mark.slow
def test_torchrun_starts_workers_too(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "one").code == 0
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "aigc_cli"]
    done = subprocess.run(
        [sys.executable, *words, "train", "edsr.yaml", "--out", "run", "--resume", "auto"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    one, two = rows_of(here / "one")[-1], rows_of(here / "run")[-1]
    assert one["val/psnr_y"] == pytest.approx(two["val/psnr_y"], rel=1e-5)


@pytest.mark.slow
def test_two_launchers_that_meet_under_other_hosts_are_two_nodes(child: Start, here: Path) -> None:
    """Of one machine: what torch and Lightning do for several, but for the network."""
    assert child("train", "edsr.yaml", "--devices", 2, "--out", "one").end().code == 0
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    train = ["-m", "aigc_cli", "train", "edsr.yaml", "--out", "two", "--resume", "auto"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node",
             "1", "--node-rank", str(rank), "--master-addr", host, "--master-port", str(port),
             *train],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank, host in enumerate(("127.0.0.1", "127.0.0.2"))
    ]  # fmt: skip
    for node in nodes:
        _, err = node.communicate(timeout=300)
        assert node.returncode == 0, err
    assert_same_run(here / "one", here / "two")


def test_a_batch_that_cannot_be_shared_names_the_nearest(aigc: Aigc) -> None:
    ending = aigc("train", "edsr.yaml", "trainer.global_batch=5", "--devices", 2)
    assert ending.code == 2
    assert "trainer.global_batch is 5" in ending.err
    assert "hint: use 4 or 6" in ending.err
    with pytest.raises(InputError, match="cannot share evenly"):
        share_of_batch(Trainer(max_steps=1, global_batch=8, accumulate=3), 1)


@pytest.mark.parametrize(
    ("env", "world"),
    [
        ({}, World()),
        (TORCHRUN, World("torchrun", 5, 8, 4, 2)),
        (SLURM, World("slurm", 3, 8, 4, 2)),
        (SLURM | {"SLURM_JOB_NAME": "bash"}, World()),
        (SLURM | {"SLURM_JOB_NAME": "interactive"}, World()),
    ],
    ids=["alone", "torchrun", "srun", "srun --pty bash", "salloc"],
)
def test_the_world_is_read_from_the_environment(env: dict[str, str], world: World) -> None:
    assert find_world(env) == world


def no_worker_left(here: Path, timeout_s: float = 5) -> bool:
    """No process works in the folder of the test any more."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        working = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(here) and process.pid != os.getpid():
                    working.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        if not working:
            return True
        time.sleep(0.1)
    return False

"""Systems without the calls of POSIX are not shut out: nothing here is run on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aigc_cli.errors import InputError, MissingError
from aigc_cli.media import _positions
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.devices import choose_device, choose_devices, choose_precision

PACKAGE = Path(__file__).resolve().parents[1] / "aigc_cli"
IMPORT_ALL = """
import importlib, os, pkgutil, signal, sys
import torch, torchvision, torchmetrics, datasets, PIL, scipy.stats, filelock, psutil, sacrebleu
for name in ("fcntl", "resource", "termios", "pty", "tty", "pwd", "grp", "syslog", "readline"):
    sys.modules[name] = None  # importing it fails
for name in ("fork", "pread", "pwrite", "register_at_fork", "sched_getaffinity", "getuid",
             "setsid", "killpg", "getpgid", "mkfifo", "statvfs", "nice", "getloadavg"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE"):
    if hasattr(signal, name):
        delattr(signal, name)
import aigc_cli
failed = {}
for module in pkgutil.walk_packages(aigc_cli.__path__, "aigc_cli."):
    if module.name.endswith("__main__") or "._recipes" in module.name:
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        if "None in sys.modules" in str(error):
            failed[module.name] = str(error)
    except AttributeError as error:
        failed[module.name] = str(error)
sys.exit(str(failed) if failed else 0)
"""


def test_every_module_is_imported_where_posix_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("posix", [True, False])
def test_bytes_are_read_and_written_at_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, posix: bool
) -> None:
    if not posix:
        monkeypatch.delattr(os, "pread")
        monkeypatch.delattr(os, "pwrite")
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        _positions.write_at(file, b"0123456789", 0)
        _positions.write_at(file, memoryview(b"ab"), 4)
        assert _positions.read_at(file, 4, 3) == b"3ab6"
        assert _positions.read_at(file, 9, 8) == b"89"
    finally:
        os.close(file)


class TestAppleGpu:
    """Accepted where torch finds one; no machine of the project has one."""

    def test_absent_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        with pytest.raises(MissingError, match="torch finds no Apple GPU"):
            choose_device("mps")

    def test_is_one_device_in_fp32(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
        trainer = Trainer(max_steps=1, device="mps")
        assert (choose_device("mps"), choose_devices(trainer)) == ("mps", 1)
        assert choose_precision(trainer) == "fp32"
        with pytest.raises(MissingError, match="an Apple GPU is one device"):
            choose_devices(trainer.model_copy(update={"devices": 2}))
        with pytest.raises(InputError, match="fp16, which needs a GPU"):
            choose_precision(trainer.model_copy(update={"precision": "fp16"}))

"""Every ending from the first instruction on: signals at start-up, outputs that take nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = "from aigc_cli.cli import main; main(sys.argv[2:])"
AT_IMPORT = (
    "import os, sys; seen = 0\n"
    "def hook(event, args):\n"
    "    global seen\n"
    "    if event == 'import':\n"
    "        seen += 1\n"
    "        if seen == 200: os.kill(os.getpid(), int(sys.argv[1]))\n"
)
"""A program that sends itself a signal when it imports its 200th module."""
WORDS = {signal.SIGINT: "stopped: Ctrl-C\n", signal.SIGTERM: "stopped: SIGTERM\n"}


@pytest.mark.parametrize("number", WORDS, ids=lambda s: s.name)
@pytest.mark.parametrize("imports", [60, 200, 400, 1200])
def test_a_signal_while_it_imports_is_one_line(number: signal.Signals, imports: int) -> None:
    code = AT_IMPORT.replace("200", str(imports)) + "sys.addaudithook(hook)\n" + START
    command = [sys.executable, "-c", code, str(int(number)), "train", "blob_small", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == WORDS[number]


@pytest.mark.parametrize("number", WORDS, ids=lambda s: s.name)
@pytest.mark.parametrize("delay", [0.05, 0.15, 0.6, 1.5])
def test_a_signal_soon_after_the_start_is_one_line(number: signal.Signals, delay: float) -> None:
    code = (
        f"import sys\nfrom aigc_cli.cli import _endings\n_endings.end_at_once()\nprint(1)\n{START}"
    )
    command = [sys.executable, "-u", "-c", code, "", "train", "--dry-run", "vae_conv_64"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # Python itself has started
        time.sleep(delay)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    if errors.startswith("error: data.train: "):  # it was quicker: there is no such data
        assert delay > 0.1
        assert process.returncode in (2, -number)  # a Python that closes down has no handlers
    else:
        assert (process.returncode, errors) == (128 + number, WORDS[number])


def test_a_signal_is_an_object_with_json() -> None:
    code = AT_IMPORT + "sys.addaudithook(hook)\n" + START
    argv = [sys.executable, "-c", code, "15", "recipe", "check", "blob_small", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    errors = [{"message": "SIGTERM", "code": "interrupted"}]
    assert json.loads(done.stdout) == {"ok": False, "exit": 143, "errors": errors}


@pytest.mark.parametrize("args", [["--help"], ["recipe", "ls"], ["recipe", "ls", "--json"]])
@pytest.mark.parametrize(
    ("where", "code", "reason"),
    [(">&-", 2, "bad file descriptor"), ("> /dev/full", 3, "no space left on device")],
)
def test_an_output_that_takes_nothing_is_one_line(args, where: str, code: int, reason: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = f'exec "$0" -m aigc_cli {" ".join(args)} {where}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr == f"error: standard output: {reason}\n"


def test_without_stderr_the_output_is_whole() -> None:
    command = 'exec "$0" -m aigc_cli recipe show nothing --json 2>&- <&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout)["ok"] is False

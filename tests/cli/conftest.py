"""The command line as users call it: in this process for most tests, as a child for a few."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aigc_cli.cli import invoke

PLUGIN = Path(__file__).parents[1] / "recipe" / "plugin"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    cpu_s: float = 0.0

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        lines = self.stdout.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder, and a family of the tests' own found through AIGC_PATH."""
    monkeypatch.setenv("AIGC_PATH", str(PLUGIN))
    monkeypatch.chdir(tmp_path)
    return PLUGIN


@pytest.fixture
def aigc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line in this process."""

    def run(*args: str) -> Ended:
        capsys.readouterr()
        code = invoke(args)
        out = capsys.readouterr()
        return Ended(code, out.out, out.err)

    return run


@pytest.fixture
def child() -> Callable[..., Ended]:
    """Run a command line in a process of its own, as the console script does."""

    def run(*args: str, **variables: str) -> Ended:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "aigc_cli", *args],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Ended(done.returncode, done.stdout, done.stderr, used)

    return run

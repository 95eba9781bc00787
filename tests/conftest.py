"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported anywhere: tests share two cores, and colors or widths of the
# developer's terminal must not reach the text that tests compare.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
os.environ["TERMINAL_WIDTH"] = "100"
os.environ["COLUMNS"] = "100"
os.environ["NO_COLOR"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Folder of a real data set beside the project; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"shared data set {name} is not here")
        return SHARED / name

    return find


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the developer's prepared data nor those of workers beside this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIGC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def json_has_what_agents_are_promised() -> Iterator[None]:
    """Whatever a command prints with --json, in any test, has the keys of `aigc agent-docs`."""
    from aigc_cli.cli._agent import PRINTS
    from aigc_cli.cli._output import Output
    from aigc_cli.cli._tree import commands

    promised = {
        command.callback.__wrapped__.__code__: PRINTS[" ".join(words)]
        for words, command in commands()
        if " ".join(words) in PRINTS
    }
    real = Output.result

    def result(self: Output, data: Any, text: str | None = None) -> None:
        frame = sys._getframe(1)
        if frame.f_code is Output.table.__code__:
            frame = frame.f_back or frame
        keys = promised.get(frame.f_code, {})
        lacking = {k for k, v in keys.items() if not v.startswith(("with ", "if "))} - data.keys()
        assert not (self.json and lacking), f"promised in cli/_agent.py: {lacking}"
        real(self, data, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Output, "result", result)
        yield

"""A family and a data kind of the tests' own, found through AIGC_PATH like a user's."""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_PATH", str(PLUGIN))
    return PLUGIN

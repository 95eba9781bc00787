"""What previews put on TensorBoard."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigc_cli.run.log import Log


class Board:
    """Remembers what was added, by the name of the method."""

    def __init__(self) -> None:
        self.added: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: self.added.append((name, args))


def test_sounds_and_texts_of_a_preview_are_on_the_board(tmp_path: Path) -> None:
    samples = (np.sin(np.arange(800) / 10) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "sample-00000.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())
    (tmp_path / "sample.txt").write_text("a text")
    rows = object.__new__(Log)
    rows._board = board = Board()
    rows.previewed(tmp_path, step=3)
    (audio, (tag, sound, step, rate)), (text, _) = board.added
    assert (audio, tag, step, rate) == ("add_audio", "preview/sample-00000", 3, 8000)
    assert sound == pytest.approx(samples / 32767, abs=1e-4)
    assert text == "add_text"

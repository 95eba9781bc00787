"""Soundfonts of the user's: a sentence for each fault, and the right pitch where one is at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aigc_cli.errors import InputError, MissingError
from aigc_cli.media.soundfont import Soundfont
from aigc_cli.media.synth import PEAK, SAMPLE_RATE


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    with pytest.raises(MissingError, match="needs the package tinysoundfont") as caught:
        Soundfont(Path("any.sf2"))
    assert caught.value.hint is not None
    assert "pip install --no-deps tinysoundfont" in caught.value.hint


def test_what_is_no_soundfont_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tinysoundfont", SimpleNamespace())  # is not reached
    with pytest.raises(InputError, match=r"absent\.sf2: there is no such file"):
        Soundfont(tmp_path / "absent.sf2")
    (tmp_path / "text.sf2").write_text("RIFFabcdWAVE and no sounds")
    with pytest.raises(InputError, match=r"text\.sf2: is no soundfont"):
        Soundfont(tmp_path / "text.sf2")


def test_a4_is_440_hertz_and_nothing_clips() -> None:
    """Where tinysoundfont and the font of pretty_midi are installed."""
    pytest.importorskip("tinysoundfont")
    package = pytest.importorskip("pretty_midi")
    font = Soundfont(Path(package.__file__).with_name("TimGM6mb.sf2"))
    sound = font.render(np.array([[0, 960, 69, 0, 90]]), 60 / 120 / 480)
    spectrum = np.abs(np.fft.rfft(sound[4410:37178] * np.hanning(32768), 1 << 20))
    hertz = spectrum[: round(600 / SAMPLE_RATE * (1 << 20))].argmax() * SAMPLE_RATE / (1 << 20)
    assert abs(1200 * np.log2(hertz / 440)) < 3
    assert np.abs(sound).max() == pytest.approx(PEAK, abs=1e-6)

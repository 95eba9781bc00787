"""Style transfer: what is kept, whole pieces by windows, and a judge that teaches nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.data.rolls import balanced
from aigc_cli.errors import InputError
from aigc_cli.media.events import Music, settle
from aigc_cli.media.roll import from_roll, to_roll
from aigc_cli.models._classifier import Judge
from aigc_cli.models.music import music_style
from aigc_cli.models.music._style import SLOPE, binary, content
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.rolls import RollSpec

SPEC = RollSpec(1, 4, 4, ("classical", "pop"), (0.5, 0.5))
NOTES = st.lists(
    st.tuples(st.integers(0, 63), st.integers(1, 8), st.integers(21, 108), st.just(0)),
    min_size=1, max_size=40,
)  # fmt: skip


def model() -> music_style.Model:
    torch.manual_seed(0)
    return music_style.Model(music_style.Config.tiny(), SPEC).eval()


@given(NOTES)
@settings(deadline=None, max_examples=40)
def test_pieces_of_a_piano_go_around_exactly_through_rolls(notes: list[tuple[int, ...]]) -> None:
    rows = settle(np.array(notes, np.int64))
    rows[:, 1] = np.minimum(rows[:, 1], 64 - rows[:, 0])  # a roll ends with its last bar
    music = Music(rows, 4, 4, 4, 120, 0)
    np.testing.assert_array_equal(from_roll(to_roll(music), 4, 4).notes, rows)


@given(NOTES)
@settings(deadline=None, max_examples=10)
def test_a_fresh_generator_leaves_pieces_as_they_are(notes: list[tuple[int, ...]]) -> None:
    """Whole ones too, whose windows overlap and do not fill the last bar."""
    rows = settle(np.array(notes, np.int64))
    rows[:, 1] = np.minimum(rows[:, 1], 16 * (rows[:, 0].max() // 16 + 1) - rows[:, 0])
    made = model().sample(SampleNoise(0, 0, 2), music_style.Options(), torch.from_numpy(rows))
    for music in made:
        np.testing.assert_array_equal(music.notes, rows)


def test_windows_that_agree_are_joined_without_a_trace() -> None:
    whole = torch.rand(2, 88, 40).round()
    net = model()
    net.generator.forward = lambda roll, style: 4 * roll - 2  # type: ignore[method-assign]
    expected = (4 * whole - 2).sigmoid()
    torch.testing.assert_close(net.transferred(whole, 1), expected)


def test_content_is_one_for_the_same_and_counts_what_moved() -> None:
    roll = torch.zeros(1, 2, 88, 16)
    roll[0, :, 40, 0] = roll[0, :, 44, 8] = 1
    assert [float(v) for v in content(roll, roll).values()] == pytest.approx([1, 1])
    octave = roll.roll(12, 2)
    assert [float(v) for v in content(octave, roll).values()] == pytest.approx([1, 0])
    half = roll.clone()
    half[..., 8:] = 0
    found = content(half, roll)
    assert float(found["chroma"]) == pytest.approx(0.5)  # one of two sounding quarters
    assert float(found["onsets"]) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    silence = torch.zeros_like(roll)
    assert [float(v) for v in content(silence, silence).values()] == [1, 1]


def test_cells_are_binary_and_sure_ones_have_a_gradient_too() -> None:
    logits = torch.tensor([-1.0, 0.5, 8.0], requires_grad=True)
    cells = binary(logits)
    assert cells.tolist() == [0, 1, 1]
    cells.sum().backward()
    p = (logits.detach() / SLOPE).sigmoid()
    torch.testing.assert_close(logits.grad, p * (1 - p) / SLOPE)
    assert logits.grad is not None
    assert float(logits.grad[2]) > 0.02  # of a plain sigmoid 0.0003


def test_strength_is_the_mean_drop_of_both_directions() -> None:
    """The example of Brunner et al., 2018: 88.09 to 20.62 and back to 88.18, and 92.53 to 20.71."""
    torch.manual_seed(0)
    config = music_style.Config.tiny(classifier="judge")
    net = music_style.Model(config, SPEC).eval()
    says = {1.0: (0.8809, 0.9253), 2.0: (0.2062, 0.2071), 3.0: (0.8818, 0.9253)}

    class Fixed:
        """Says what the paper's classifier said of rolls that are marked 1, 2 and 3."""

        spec = SimpleNamespace(labels=("pop", "classical"))

        def to(self, device: object) -> Fixed:
            return self

        def classify(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            marks = batch["roll"][:, 0, 0, 0].tolist()
            own = [says[mark][row] for row, mark in enumerate(marks)]
            rows = [[1 - p, p] if row == 0 else [p, 1 - p] for row, p in enumerate(own)]
            return torch.tensor(rows)

    net.judge = Judge(Fixed(), {"stamp": "paper"})  # type: ignore[arg-type]
    batch = {"roll": torch.full((2, 2, 88, 16), 1.0), "label": torch.tensor([0, 1])}
    made, back = torch.full_like(batch["roll"], 2.0), torch.full_like(batch["roll"], 3.0)
    values = net._judged(batch, made, back)
    assert set(values) == set(net.counted)
    means = net.summarize({name: float(v.double().mean()) for name, v in values.items()})
    a = (0.8809 - 0.2062 + 0.8818 - 0.2062) / 2
    assert means["strength"] == pytest.approx((a + 0.9253 - 0.2071) / 2, abs=1e-4)
    assert means["strength"] == pytest.approx(0.697, abs=2e-3)


def test_a_judge_that_does_not_know_the_styles_is_refused() -> None:
    judge = Judge(SimpleNamespace(spec=SimpleNamespace(labels=("jazz", "pop"))), {"stamp": "x"})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="x knows no class 'classical'"):
        model().judge = judge


def test_rarer_classes_are_drawn_as_often() -> None:
    assert balanced("abcde", [0, 0, 0, 0, 1]) == ["a", "b", "c", "d", "e", "e", "e", "e"]

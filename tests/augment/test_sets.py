"""What holds for every set, whatever its sizes: counts, origins, order, no leak."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aigc_cli.augment._plan import Plan, kept, long_tailed, sizes_after
from aigc_cli.modalities._output import digest_of
from aigc_cli.run.augment import augment
from aigc_cli.run.augmenting import Augmenting
from tests.augment.conftest import contents, killed_after, paint, rows

SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(2, 9), min_size=1, max_size=4)
FEW = settings(max_examples=6, deadline=None)


@FEW
@given(SIZES, st.floats(1, 3), st.booleans(), st.integers(0, 9))
def test_sizes_are_those_asked_for_and_every_item_has_its_origin(
    sizes: dict[str, int], factor: float, balanced: bool, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        data, val = paint(Path(place) / "d", sizes), paint(Path(place) / "v", sizes, seed=1)
        record = augment(
            Augmenting(str(data), Path(place) / "o", val=str(val), factor=factor, seed=seed,
                       balance="classes" if balanced and len(sizes) > 1 else None, workers=0)
        )  # fmt: skip
        if len(sizes) == 1:  # one folder is no class
            assert record["after"] == {"": round(sum(sizes.values()) * factor)}
            return
        most = max(sizes.values())
        wanted = {c: round((most if balanced else n) * factor) for c, n in sizes.items()}
        wanted = {c: max(n, sizes[c]) for c, n in wanted.items()}
        out = Path(place) / "o"
        found = Counter(p.parent.name for p in (out / "train").rglob("*.png"))
        assert record["before"] == dict(sorted(sizes.items()))
        assert record["after"] == dict(found) == wanted
        assert Counter(p.parent.name for p in (out / "val").rglob("*.png")) == sizes

        # The list names every file once, with what it is and what it comes from.
        lines = rows(out)
        assert {line["path"] for line in lines} == {p for p in contents(out) if p.endswith("png")}
        assert len({line["path"] for line in lines}) == len(lines)
        real = {line["digest"] for line in lines if line["made"] == "copied"}
        for line in lines:
            assert line["sha256"] == digest_of(out / line["path"])
            assert line["path"].split("/")[1] == line["label"] == line["source"].split("/")[0]
            assert set(line["origins"]) <= real
            assert line["origins"]
            assert line["made"] == "copied" or (line["operations"] and "seed" in line)

        # Nothing that validates, and nothing that comes from it, trains.
        judged = {line["digest"] for line in lines if line["split"] == "val"}
        trained = [line for line in lines if line["split"] == "train"]
        assert judged.isdisjoint(o for line in trained for o in [*line["origins"], line["digest"]])


def test_the_set_does_not_depend_on_workers_and_differs_with_the_seed(tmp_path: Path) -> None:
    data = str(paint(tmp_path / "d", {"a": 20, "b": 7}))
    asked = [("one", 1, 0), ("two", 2, 0), ("none", 0, 0), ("other", 0, 1)]
    for name, workers, seed in asked:
        augment(Augmenting(data, tmp_path / name, ("mix=0.3",), workers=workers, seed=seed))
    one, two, none, other = (contents(tmp_path / name) for name, _, _ in asked)
    assert one == two == none
    assert one.keys() == other.keys()
    assert all(one[p] == other[p] for p in one if "real-" in p)
    assert all(one[p] != other[p] for p in one if "new-" in p)


@FEW
@given(st.integers(0, 24), st.booleans())
def test_a_killed_call_goes_on_as_if_nothing_had_happened(count: int, half_line: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        data = str(paint(Path(place) / "d", {"a": 6, "b": 8}))
        whole, cut = Path(place) / "whole", Path(place) / "cut"
        augment(Augmenting(data, whole, workers=0))
        if count:
            killed_after(count, Augmenting(data, cut, workers=0))
            if half_line:
                with (cut / "augment.part.jsonl").open("a") as file:
                    file.write('{"path": "train/a/ne')
            augment(Augmenting(data, cut, workers=0, go_on=True))
        else:
            augment(Augmenting(data, cut, workers=0))
        assert contents(cut) == contents(whole)


def test_a_file_that_was_changed_meanwhile_is_made_again(tmp_path: Path) -> None:
    data = str(paint(tmp_path / "d", {"a": 6, "b": 8}))
    augment(Augmenting(data, tmp_path / "whole", workers=0))
    killed_after(18, Augmenting(data, tmp_path / "cut", workers=0))
    (tmp_path / "cut/train/a/real-0000001.png").write_bytes(b"no image")
    augment(Augmenting(data, tmp_path / "cut", workers=0, go_on=True))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@given(SIZES, st.integers(0, 5))
def test_a_plan_uses_the_items_of_a_class_in_turn(sizes: dict[str, int], seed: int) -> None:
    first, members = 0, {}
    for label, count in sizes.items():
        members[label] = list(range(first, first + count))
        first += count
    plan = Plan(members, sizes_after(members, 2.5, "classes", ()), seed)
    jobs = [plan.job(number) for number in range(len(plan))]
    assert Counter(label for label, _ in jobs) == +Counter(plan.new)
    for label, items in members.items():
        used = Counter(item for c, item in jobs if c == label)
        assert set(used) <= set(items)
        counts = [used[item] for item in items]
        assert max(counts) - min(counts) <= 1


def test_long_tail_falls_by_the_ratio() -> None:
    members = {str(c): list(range(100 * c, 100 * c + 100)) for c in range(5)}
    sizes = [len(items) for items in long_tailed(members, 50, seed=3).values()]
    assert sizes == [100, 38, 14, 5, 2]
    assert long_tailed(members, 50, 3) == long_tailed(members, 50, 3)
    assert long_tailed(members, 50, 3) != long_tailed(members, 50, 4)


@given(SIZES, st.floats(0.1, 1), st.integers(0, 5))
def test_keeping_a_share_keeps_that_of_each_class(
    sizes: dict[str, int], share: float, seed: int
) -> None:
    members = {label: list(range(count)) for label, count in sizes.items()}
    found = {label: len(items) for label, items in kept(members, share, seed).items()}
    assert sum(found.values()) == round(share * sum(sizes.values()))
    assert all(abs(found[c] - share * n) < 1 + 1e-9 for c, n in sizes.items())


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16"])
def test_bits_color_and_transparency_are_kept(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    for n in range(2):
        channels = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2, "I;16": 1}[mode]
        top, kind = (65536, np.uint16) if mode == "I;16" else (256, np.uint8)
        pixels = rng.integers(0, top, (9, 12, channels)).astype(kind)
        (tmp_path / "d").mkdir(exist_ok=True)
        Image.fromarray(pixels.squeeze()).save(tmp_path / f"d/{n}.png")
    augment(Augmenting(str(tmp_path / "d"), tmp_path / "o", workers=0))
    with Image.open(tmp_path / "o/train/new-0000002.png") as image:
        assert image.mode == mode
        assert image.size == (12, 9)

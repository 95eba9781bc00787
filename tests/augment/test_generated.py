"""New items that a model makes: filtered, traced, the same after a kill; and their worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aigc_cli.errors import AigcError, InputError
from aigc_cli.recipe.load import recipe_from_text
from aigc_cli.run.augment import augment, augment_and_measure
from aigc_cli.run.augment_measure import Yardstick
from aigc_cli.run.augment_verdict import compared, mean_interval, verdict
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.train import train
from tests.augment.conftest import contents, killed_after, paint, rows

# An untrained flow gives its noise nearly as it is, so that no two samples are alike.
FLOW = """
family: flow
data: {{kind: images, train: {train}, val: {val}, channels: 1, image_size: 8, cache: "off"}}
model: {{num_features: 8, multipliers: [1, 2], num_blocks: 1, {more}}}
sample: {{steps: 1, solver: euler}}
trainer: {{max_steps: 1, global_batch: 4, precision: fp32, preview_every: 9}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets `d` and `v`, and runs: `flow` of classes, `plain` without, `seen` that saw `v`."""
    folder = tmp_path_factory.mktemp("generated")
    paint(folder / "d", {"a": 6, "b": 3})
    paint(folder / "v", {"a": 4, "b": 4}, seed=1)
    for name, data, more in (
        ("flow", "d", "conditional: true"), ("plain", "d", "conditional: false"),
        ("seen", "v", "conditional: true"),
    ):  # fmt: skip
        text = FLOW.format(train=folder / data, val=folder / "v", more=more)
        train(recipe_from_text(text), out=folder / name)
    return folder


def asked(place: Path, out: Path, model: str = "flow") -> Augmenting:
    return Augmenting(
        str(place / "d"), out, val=str(place / "v"), sources=(str(place / model),), workers=0,
        balance="classes", device="cpu",
    )  # fmt: skip


def test_made_items_name_their_checkpoint_and_score(place: Path, tmp_path: Path) -> None:
    record = augment(asked(place, tmp_path / "o"))
    assert record["after"] == {"a": 6, "b": 6}
    made = [line for line in rows(tmp_path / "o") if line["made"] == "generated"]
    assert [line["label"] for line in made] == ["b"] * 3
    for line in made:
        assert line["checkpoint"]
        assert line["score"]["nearest"] > line["score"]["threshold"] > 0
        assert line["origins"] == []
        assert (tmp_path / "o" / line["path"]).parent.name == "b"


def test_a_killed_call_makes_the_same_items(place: Path, tmp_path: Path) -> None:
    augment(asked(place, tmp_path / "whole"))
    request = asked(place, tmp_path / "cut")
    killed_after(19, request)
    augment(Augmenting(**{**vars(request), "go_on": True}))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("plain", "was not trained with classes, so its items have none"),
        ("seen", "was trained on 8 items that judge here"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    place: Path, tmp_path: Path, model: str, sentence: str
) -> None:
    with pytest.raises(AigcError, match=sentence) as caught:
        augment(asked(place, tmp_path / "o", model))
    assert caught.value.hint, "says what to do instead"


def test_classes_that_grow_are_all_that_a_model_must_know(place: Path, tmp_path: Path) -> None:
    paint(tmp_path / "d", {"a": 6, "b": 3, "c": 2})
    request = replace(asked(place, tmp_path / "o"), data=str(tmp_path / "d"))
    with pytest.raises(AigcError, match="knows no class 'c'") as caught:
        augment(request)
    assert caught.value.hint == "let those grow that it knows: --classes a,b"
    record = augment(replace(request, classes=("a", "b")))
    assert record["after"] == {"a": 6, "b": 6, "c": 2}


def test_copies_of_training_items_are_dropped_and_counted(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that gives back what it learned from is found out."""
    from aigc_cli.augment.image import Augmentation
    from aigc_cli.media.image import read_image

    original, calls = Augmentation.thing_of_made, []

    def memorized(self: Augmentation, made: object) -> object:
        calls.append(made)
        if len(calls) % 2:
            return read_image(place / "d/b/000.png")
        return original(self, made)  # type: ignore[arg-type]

    monkeypatch.setattr(Augmentation, "thing_of_made", memorized)
    record = augment(asked(place, tmp_path / "o"))
    assert record["dropped"] == {"copies of training items": 3}
    assert record["after"] == {"a": 6, "b": 6}


CLASSIFIER = """
family: classifier
data: {kind: images, train: d, channels: 1, image_size: 8, cache: "off"}
model: {arch: mlp, widths: [8]}
trainer: {max_steps: 3, global_batch: 4, precision: fp32}
"""


def test_measuring_compares_every_arm_and_goes_on(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mlp.yaml").write_text(CLASSIFIER)
    yardstick = Yardstick(str(tmp_path / "mlp.yaml"), seeds=2, device="cpu")
    request = asked(place, tmp_path / "o")
    found = augment_and_measure(request, yardstick)["measured"]
    assert list(found["arms"]) == ["real", "real + varied", "real + generated"]
    assert found["n"] == 8
    for arm, sizes in (("real", 9), ("real + varied", 12), ("real + generated", 12)):
        assert found["arms"][arm]["trained_on"] == sizes
    page = (tmp_path / "o/report.html").read_text()
    assert "real + generated" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    told: list[str] = []
    again = augment_and_measure(
        Augmenting(**{**vars(request), "go_on": True}), yardstick, told=told.append
    )
    assert again["measured"] == found
    assert told == []
    assert (
        json.loads((tmp_path / "o/measure.json").read_text())["arms"].keys() == found["arms"].keys()
    )


def test_measuring_needs_classes(tmp_path: Path) -> None:
    data = str(paint(tmp_path / "d", {"a": 4}))
    with pytest.raises(InputError, match="needs items with classes"):
        augment_and_measure(
            Augmenting(data, tmp_path / "o", workers=0), Yardstick("classifier_demo")
        )


def test_intervals_are_those_of_students_t() -> None:
    """Against the table: t(0.975, 4) = 2.776, of 1 to 5 with standard deviation 1.5811."""
    found = mean_interval([1, 2, 3, 4, 5])
    assert found["mean"] == 3
    assert found["high"] - 3 == pytest.approx(2.776 * 1.5811 / 5**0.5, abs=1e-3)
    assert 3 - found["low"] == pytest.approx(found["high"] - 3)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([0.02, 0.03, 0.025], "better"),
        ([-0.02, -0.03, -0.025], "worse"),
        ([0.02, -0.03, 0.025], "no significant gain"),
        ([0.0, 0.0, 0.0], "no significant gain"),
    ],
)
def test_the_verdict_is_that_of_paired_seeds(gains: list[float], words: str) -> None:
    base = [0.5, 0.7, 0.9]  # seeds differ far more than the two sets do
    more = [b + g for b, g in zip(base, gains, strict=True)]
    measured = [
        {"arm": arm, "seed": seed, "trained_on": 1, "steps": 1, "n": 1, "classes": {},
         "scores": {"map": value}}
        for arm, values in (("real", base), ("more", more))
        for seed, value in enumerate(values)
    ]  # fmt: skip
    assert (
        compared(measured, ["real", "more"], {"map": "mAP"}, "map")["arms"]["more"]["verdict"]
        == words
    )
    assert verdict(mean_interval(gains)) == words

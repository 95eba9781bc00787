"""Every family through the command line: train, resume exactly, sample, evaluate; by itself and by
two processes. A new family is covered at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from aigc_cli.registry import load_family
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec, PairSpec, PictureSpec, SuperResolutionSpec, UnpairedSpec
from aigc_cli.specs.text import (
    ChatSpec,
    LabelledTextSpec,
    PreferenceSpec,
    PromptSpec,
    TextPairSpec,
    TextSpec,
)
from tests.models.test_families import FAMILIES, SMALL, TRAINED, build
from tests.run.conftest import Child, Ending, assert_same, load, paint, rows_of

Aigc = Callable[..., Ending]
Start = Callable[..., Child]

LETTERS = {"kind": "characters", "specials": "chat"}
DATA: dict[type[Spec], dict[str, Any]] = {
    ImageSpec: {"kind": "images", "train": "classes", "image_size": 32},
    SuperResolutionSpec: {"kind": "super_resolution", "train": "photos", "patch_size": 16},
    PairSpec: {"kind": "image_pairs", "train": "left", "train_b": "right", "image_size": 32},
    UnpairedSpec: {"kind": "unpaired_images", "train": "left", "train_b": "photos",
                   "image_size": 32},
    TextSpec: {"kind": "text", "train": "words.txt", "val": "last 20%", "context": 16},
    ChatSpec: {"kind": "chat", "train": "chat.jsonl", "val": "20%", "tokenizer": LETTERS,
               "context": 32},
    PreferenceSpec: {"kind": "preferences", "train": "preferences.jsonl", "val": "20%",
                     "tokenizer": LETTERS, "context": 32},
    PromptSpec: {"kind": "prompts", "train": "prompts.jsonl", "val": "20%", "tokenizer": LETTERS,
                 "context": 32},
    TextPairSpec: {"kind": "text_pairs", "train": "pairs.tsv", "val": "20%", "copying": True,
                   "tokenizer": {"kind": "words"}},
    LabelledTextSpec: {"kind": "labelled_texts", "train": "labelled.csv", "val": "20%",
                       "tokenizer": {"kind": "words"}},
}  # fmt: skip
TEXTS = [name for name in TRAINED if load_family(name).Model.makes == "texts"]
QUICK = {
    "deepdream": {"layers": ["relu2_1"], "octaves": 1, "steps": 2},
    "style_optim": {"size": 40, "coarsest": 32, "steps": 2},
}


@pytest.fixture
def recipe(here: Path) -> Callable[[str], str]:
    """Write the smallest recipe of a family and say where."""
    for name in ("cat", "dog", "owl"):
        paint(here / "classes" / name, 4)
    paint(here / "left", 11)
    paint(here / "right", 11)
    say(here)

    def write(family: str) -> str:
        module = load_family(family)
        config: dict[str, Any] = {"family": family, "seed": 3, "model": SMALL.get(family, {})}
        config["sample"] = QUICK.get(family, {})
        if not module.Model.training_free:
            config["data"] = DATA[module.Model.accepts[0]]
            config["trainer"] = {
                "max_steps": 3, "global_batch": 2, "ema": 0.9, "log_every": 1,
                "validate_every": 3, "checkpoint_every": 1, "preview_every": 3,
                "precision": "fp32",
            }  # fmt: skip
        path = here / f"{family}.yaml"
        path.write_text(yaml.safe_dump(_plain(config)))
        return path.name

    return write


def say(here: Path) -> None:
    """A few short texts of every kind."""
    animals = ["cat", "wolf", "owl", "ox", "fox", "hen", "bat", "ant", "bee", "pig"]
    texts = [f"the {animal} sat on the {other}" for animal, other in permutations(animals, 2)][:30]
    rows: dict[str, list[dict[str, Any]]] = {
        "prompts": [{"prompt": t[:7], "reference": t[8:]} for t in texts],
        "preferences": [{"prompt": t[:7], "chosen": t[8:], "rejected": t[:3]} for t in texts],
        "chat": [
            {"messages": [{"role": "user", "content": t[:7]},
                          {"role": "assistant", "content": t[8:]}]}
            for t in texts
        ],
    }  # fmt: skip
    for name, lines in rows.items():
        (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (here / "pairs.tsv").write_text("".join(f"{t}\t{t[4:7]} sat\n" for t in texts))
    (here / "labelled.csv").write_text(
        "text,label\n" + "".join(f"{t},{n % 3}\n" for n, t in enumerate(texts))
    )
    (here / "words.txt").write_text("\n".join(texts))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("family", TRAINED)
def test_train_resume_sample_evaluate(
    aigc: Aigc, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    name = recipe(family)
    whole = aigc("train", name, "--out", "whole", "--quiet")
    assert whole.code == 0, whole.err
    assert aigc("train", name, "--out", "cut", "trainer.max_steps=2", "--quiet").code == 0
    (here / "cut/checkpoints/best.ckpt").unlink(missing_ok=True)  # from its end, step 2
    resumed = aigc("train", name, "--resume", "cut", "--quiet")
    assert resumed.code == 0, resumed.err
    whole_state, state = (load(here / f"{n}/checkpoints/last.ckpt") for n in ("whole", "cut"))
    for part in ("weights", "ema", "optimizers"):
        assert_same(whole_state[part], state[part], part)
    assert len(list((here / "whole/previews").iterdir())) == 1

    made = aigc("sample", "whole", "--out", "made", "--json", *_input(family))
    assert made.code == 0, made.err
    again = aigc("sample", "whole", "--out", "again", "--json", *_input(family))
    digests = [[item["sha256"] for item in ending.json["items"]] for ending in (made, again)]
    assert digests[0] == digests[1]
    assert digests[0]
    for item in made.json["items"]:
        if item["path"].endswith(".png"):
            with Image.open(here / "made" / item["path"]) as picture:
                picture.load()

    report = aigc("evaluate", "whole", "--json")
    assert report.code == 0, report.err
    if load_family(family).Model.makes != "enlargements":  # those are compared picture by picture
        assert set(build(load_family(family)).metrics) <= set(report.json["metrics"])
    for measured in report.json["metrics"].values():
        assert measured["protocol"]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(TRAINED)))
def test_what_needs_no_training_is_sampled_from_its_recipe(
    aigc: Aigc, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    name = recipe(family)
    made = aigc("sample", name, "--out", "made", "--json", *_input(family))
    assert made.code == 0, made.err
    assert (here / "made" / made.json["items"][0]["path"]).is_file()
    ending = aigc("train", name)
    assert ending.code == 2
    assert "without training" in ending.err


@pytest.mark.slow
@pytest.mark.parametrize("family", TRAINED)
def test_two_processes_learn_what_one_learns(
    aigc: Aigc, child: Start, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    """Within rounding; batch normalisation sees half of the batch and is left out, as is what
    compares a batch as a whole. Adam makes a whole step of a gradient that is nothing but rounding,
    so a few weights may differ.
    """
    name = recipe(family)
    assert aigc("train", name, "--out", "one", "--quiet").code == 0
    ending = child("train", name, "--devices", 2, "--out", "two").end()
    assert ending.code == 0, ending.err
    one, two = rows_of(here / "one"), rows_of(here / "two")
    assert [row["event"] for row in one] == [row["event"] for row in two]
    if _has_batch_norm(family):
        pytest.skip("batch statistics differ")
    for row, other in zip(one, two, strict=True):
        for key, value in row.items():
            of_batches = "block_" in key or "mutual_information" in key
            if key.startswith(("train/", "val/")) and not of_batches:
                assert other[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    a, b = (load(here / f"{n}/checkpoints/last.ckpt")["weights"] for n in ("one", "two"))
    far = [~torch.isclose(value, b[key], rtol=1e-3, atol=1e-4) for key, value in a.items()]
    assert torch.cat([x.flatten() for x in far]).double().mean() < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("family", TEXTS)
def test_texts_over_processes_and_parts_have_the_gradient_of_the_whole_batch(
    aigc: Aigc, child: Start, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    """8 x 1 = 2 processes of 2 x 2, where texts differ in length."""
    steps = ["trainer.global_batch=8", "trainer.max_steps=1", "trainer.clip_norm=1000"]
    name = recipe(family)
    assert aigc("train", name, "--out", "one", "--quiet", *steps).code == 0
    spread = [*steps, "trainer.accumulate=2", "--devices", 2]
    ending = child("train", name, "--out", "two", *spread).end()
    assert ending.code == 0, ending.err
    one, two = rows_of(here / "one")[0], rows_of(here / "two")[0]
    for key in ("train/loss", "train/grad_norm"):
        assert two[key] == pytest.approx(one[key], rel=1e-5), key


def test_every_kind_of_data_has_a_small_set() -> None:
    kinds = {spec for name in TRAINED for spec in load_family(name).Model.accepts}
    assert kinds <= DATA.keys() | {PictureSpec}


def _input(family: str) -> list[str]:
    model = build(load_family(family))
    if model.makes == "texts":
        return ["--prompt", "the cat", "-n", "2", "max_tokens=6"]
    if model.makes == "samples":
        return ["-n", "3"]
    if LabelledTextSpec in model.accepts:
        return ["--prompt", "the cat", "--prompt", "a dog"]
    references = ["--reference", "photos/photo 01.png"] * model.reference_count[0]
    return ["--input", "photos/photo 00.png", *references]


def _has_batch_norm(family: str) -> bool:
    return any(isinstance(m, torch.nn.BatchNorm2d) for m in build(load_family(family)).modules())

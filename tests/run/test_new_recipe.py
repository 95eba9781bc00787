"""What `aigc recipe new` writes is what `aigc train` takes; what it refuses, it says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aigc_cli.recipe.load import load_recipe
from aigc_cli.registry import data_kinds, load_data_kind
from tests.run.conftest import Ending, paint

Aigc = Callable[..., Ending]
FAMILY = {
    "images": "classifier",
    "image_pairs": "pix2pix",
    "unpaired_images": "cyclegan",
    "super_resolution": "edsr",
    "text": "lm",
    "chat": "chat",
    "preferences": "dpo",
    "prompts": "grpo",
    "text_pairs": "seq2seq",
    "labelled_texts": "text_classifier",
}


def new(aigc: Aigc, kind: str, source: str, *more: str) -> Ending:
    rewards = ["model.rewards={'length:3': 1.0}"] if kind == "prompts" else []
    return aigc("recipe", "new", "--family", FAMILY[kind], "--kind", kind, "--data", source,
                "-o", "new.yaml", *rewards, *more)  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(data_kinds()) & FAMILY.keys()))
def test_what_new_writes_is_what_train_takes(aigc: Aigc, here: Path, kind: str) -> None:
    config = load_data_kind(kind).example(here / "data")
    more = [f"data.{key}={config[key]}" for key in ("train_b",) if key in config]
    ending = new(aigc, kind, config["train"], *more)
    assert ending.code == 0, ending.err
    assert "train with: aigc train new.yaml" in ending.err
    checked = aigc("train", "new.yaml", "--dry-run")
    assert checked.code == 0, checked.err
    trainer = load_recipe("new.yaml").trainer
    assert trainer.max_steps is not None
    assert trainer.validate_every * 20 == trainer.max_steps


def texts(*lines: str) -> Callable[[Path], str]:
    def write(here: Path) -> str:
        (here / "t.txt").write_text("\n".join(lines))
        return "t.txt"

    return write


def rows(*objects: dict[str, Any], name: str = "t.jsonl") -> Callable[[Path], str]:
    def write(here: Path) -> str:
        (here / name).write_text("".join(json.dumps(one) + "\n" for one in objects))
        return name

    return write


def images(*places: str, size: int = 40) -> Callable[[Path], str]:
    def write(here: Path) -> str:
        paint(here / "one", 1, size)
        for number, place in enumerate(places):
            file = here / "many" / place
            file.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(here / "one/photo 00.png") as image:
                image.rotate(10 * number).save(file)
        shutil.rmtree(here / "one")
        return "many"

    return write


CAT, DOG = [f"cat/{n}.png" for n in range(4)], [f"dog/{n}.png" for n in range(4)]
WORSE: list[tuple[str, Callable[[Path], str], str]] = [
    ("text", texts(" ", "\t", "  "), "t.txt"),
    ("text", texts("word"), ""),
    ("text", texts("a"), "t.txt"),
    ("chat", rows({"messages": [{"role": "user", "content": "a"}]}), "t.jsonl"),
    ("chat", rows({"prompt": " ", "completion": " "}, {"prompt": " ", "completion": ""}), ""),
    ("preferences", rows({"prompt": "a", "chosen": "", "rejected": ""}), "t.jsonl"),
    ("prompts", rows({"prompt": " "}, {"prompt": ""}, {"prompt": " "}), "t.jsonl"),
    ("text_pairs", rows({"source": " ", "target": " "}, {"source": "", "target": ""}), "t.jsonl"),
    ("text_pairs", texts("one", "two"), "t.txt:1"),
    ("labelled_texts", rows({"text": " ", "label": "a"}), "t.jsonl:1"),
    ("labelled_texts", rows(*({"text": "a", "label": "b"} for _ in range(9))), "'b'"),
    ("labelled_texts", rows({"text": "word", "label": "a"}), "t.jsonl"),
    ("images", images(*CAT, *DOG, "loose.png"), "loose.png"),
    ("images", images(*CAT, *DOG, "x.png", "y.png"), "move x.png and 1 more"),
    ("images", images(*CAT), "a classifier needs classes"),
    ("images", images("cat/0.png"), "many"),
    ("super_resolution", images("0.png"), "many"),
    ("super_resolution", images("0.png", "1.png", size=9), "0.png"),
    ("image_pairs", images("0.png"), "many"),
    ("unpaired_images", images("0.png", "1.png"), "train_b"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "write", "named"), WORSE)
def test_what_train_refuses_new_refuses_with_the_reason(
    aigc: Aigc, here: Path, kind: str, write: Callable[[Path], str], named: str
) -> None:
    """In one sentence that names the file; or it is taken by both."""
    ending = new(aigc, kind, write(here))
    if ending.code == 0:
        assert named == "", "should be refused"
        checked = aigc("train", "new.yaml", "--dry-run")
        assert checked.code == 0, checked.err
    else:
        assert ending.code == 2, ending.err
        assert named in ending.err
        assert not (here / "new.yaml").exists()


def test_few_texts_get_a_small_vocabulary_a_short_run_and_a_narrow_network(
    aigc: Aigc, here: Path
) -> None:
    """54,000 characters got 20,000 steps and 4,248 tokens."""
    words = [f"{a}{b}" for a in ("wind", "rain", "snow", "sun") for b in ("s", "y", "ing", "ed")]
    text = " ".join(words[n * n % 13 + n % 3] for n in range(10_000))[:54_000]
    (here / "t.txt").write_text(text)
    assert new(aigc, "text", "t.txt").code == 0
    recipe = load_recipe("new.yaml")
    assert recipe.data.tokenizer.vocab_size == 512
    assert recipe.data.context <= 64
    assert 1_000 <= recipe.trainer.max_steps <= 4_000
    assert recipe.model.dim == 128
    given = ("data.tokenizer.vocab_size=300", "trainer.max_steps=7", "model.dim=32")
    (here / "new.yaml").unlink()
    assert new(aigc, "text", "t.txt", *given).code == 0
    recipe = load_recipe("new.yaml")
    assert (recipe.data.tokenizer.vocab_size, recipe.trainer.max_steps, recipe.model.dim) == (
        300,
        7,
        32,
    )

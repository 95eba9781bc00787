"""What goes wrong ends with one sentence, the right exit code, and nothing lost or half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.run.conftest import Child, Ending, paint

Aigc = Callable[..., Ending]
Start = Callable[..., Child]

RECIPE_MISTAKES = {
    "unknown key": (
        ["trainer.max_stps=3"],
        "error: command line: trainer.max_stps: unknown key, did you mean 'max_steps'?",
    ),
    "wrong type": (
        ["model.lr=fast"],
        'model.lr: expected a number, got "fast" (default 0.0001, 0 < lr <= 1)',
    ),
    "out of range": (["model.num_blocks=0"], "model.num_blocks: "),
    "unknown family": (["family=edsrr"], "unknown family 'edsrr', did you mean 'edsr'?"),
    "unknown data kind": (["data.kind=super_resolutin"], "did you mean 'super_resolution'?"),
    "kind that does not fit": (
        ["data.kind=images", "data.image_size=8", "data.patch_size=null"],
        "data.patch_size: unknown key",
    ),
    "two budgets": (["trainer.max_epochs=3"], "give exactly one of max_steps and max_epochs"),
    "unknown monitor": (
        ["trainer.monitor=psnr_x"],
        "family 'edsr' has no validation metric 'psnr_x', did you mean 'psnr_",
    ),
    "dashes": (["--model.lr=1e-4"], "overrides have no dashes: model.lr=1e-4"),
    "no such file": (["data.train=nowhere"], "data.train: 'nowhere' does not exist; looked in"),
    "patch too large": (["data.patch_size=24"], "photo 01.png  41 x 40, smaller than 48 x 48"),
    "fp16 on a CPU": (["trainer.device=cpu", "trainer.precision=fp16"], "needs a GPU"),
    "nothing to start from": (["init_from=nothing"], "there is no such run or checkpoint"),
    "no such time": (["--max-time", "soon"], "--max-time: 'soon' is no duration"),
    "empty time": (["--max-time", ""], "--max-time: '' is no duration"),
    "negative time": (["--max-time=-5"], "--max-time: '-5' is no duration"),
    "days": (["--max-time", "1d"], "'1d' is no duration\nhint: write 2h30m, 45m or 90s"),
    "uneven batch": (
        ["trainer.global_batch=5", "trainer.accumulate=2"],
        "trainer.global_batch is 5, which 1 device(s) with 2 accumulated part(s) cannot share "
        "evenly\nhint: use 4 or 6",
    ),
    "batch below its parts": (["trainer.global_batch=1", "trainer.accumulate=2"], "hint: use 2"),
    "fsdp alone": (["trainer.strategy=fsdp"], "fsdp, which needs several devices"),
    "start from a recipe": (
        ["init_from=edsr.yaml"],
        "edsr.yaml: truncated or not a checkpoint (280 bytes)",
    ),
    "start from images": (["init_from=photos"], "photos: no checkpoint in this folder"),
    "resume images": (["--resume", "photos"], "photos: no checkpoint to continue from"),
    "resume a recipe": (["--resume", "edsr.yaml"], "edsr.yaml: truncated or not a checkpoint"),
    "resume and overwrite": (
        ["--resume", "auto", "--overwrite"],
        "--overwrite and --resume contradict each other",
    ),
    "long folder": (["--out", 300 * "x"], f"error: {300 * 'x'}: file name too long"),
    "long data": ([f"data.train={300 * 'x'}"], "does not exist; looked in"),
    "long checkpoint": (["--resume", 300 * "x"], f"error: {300 * 'x'}: file name too long"),
    "out is a file": (["--out", "edsr.yaml"], "edsr.yaml: already exists and is not empty"),
    "out is the parent": (["--out", ".."], "..: already exists and is not empty"),
    "overwrite all": (["--out", ".", "--overwrite"], ".: is not a run folder, so --overwrite will"),
    "no such checkpoint": (["--resume", "nowhere"], "nowhere: no checkpoint to continue from"),
}


@pytest.mark.parametrize("mistake", RECIPE_MISTAKES)
def test_a_mistake_is_one_sentence_before_anything_is_written(
    aigc: Aigc, here: Path, mistake: str
) -> None:
    words, sentence = RECIPE_MISTAKES[mistake]
    before = {p.name for p in here.iterdir()}
    ending = aigc("train", "edsr.yaml", *words)
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert ending.err.count("error: ") == 1
    assert ending.out == ""
    assert {p.name for p in here.iterdir()} <= before | {"cache"}


TINY = ["trainer.max_steps=1", "trainer.global_batch=2", "model.num_features=4"]
CYCLEGAN = ["data.image_size=16", "model.num_blocks=1", "model.discriminator_features=4", *TINY]
PAINT = ["sample", "style_optim", "model.features=random:cnn", "--input", "one"]

PICTURE_MISTAKES = {
    "pairs of other names": (
        ["train", "pix2pix_facades", "data.train=photos", "data.train_b=two", "data.val=null"],
        "photo 02.png  no image of this name in two",
    ),
    "pairs of other sizes": (
        ["train", "pix2pix_facades", "data.train=photos", "data.train_b=wide", "data.val=null"],
        "photo 03.png  43 x 40, but 53 x 50 in wide",
    ),
    "a single pair": (
        ["train", "pix2pix_facades", "data.train=pair", "data.val=null"],
        "data.train: the one pair of 'pair' cannot both train and validate",
    ),
    "an empty domain": (
        ["train", "cyclegan_emoji", "data.train=photos", "data.train_b=nothing"],
        "data.train_b: no images in",
    ),
    "a single image": (
        ["train", "dcgan_64", "data.train=one"],
        "data.train: the one image of 'one' cannot both train and validate",
    ),
    "a domain of a single image": (
        ["train", "cyclegan_emoji", "data.train=photos", "data.train_b=one", *CYCLEGAN],
        "data.train_b: the one image of 'one' cannot both train and validate",
    ),
    "as many classes as images": (
        ["train", "classifier_small", "data.train=classes"],
        "has no training images\nhint: give each class two images or more",
    ),
    "gray images to learn colors": (
        ["train", "colorize_small", "data.train=gray"],
        "data.train: gray images for a color recipe\nhint: name photographs in color",
    ),
    "gray images in three channels": (
        ["train", "colorize_small", "data.train=gray-rgb"],
        "data.train: gray images for a color recipe\nhint: name photographs in color",
    ),
    "a style of 20 pixels": (
        [*PAINT, "--reference", "small.png"],
        "a style image of 20 x 20 pixels shows no style, it needs 32 on each side",
    ),
    "a style of 20 pixels to train with": (
        [
            "train",
            "style_fast",
            "data.train=photos",
            *(f"data.{key}=small.png" for key in ("train_b", "val_b")),
        ],
        "small.png  20 x 20, smaller than 32 x 32",
    ),
    "a feature network that is none": (
        ["sample", "deepdream", "model.features=photos/photo 00.png", "--input", "one"],
        "photos/photo 00.png: truncated or not a checkpoint",
    ),
}


@pytest.mark.parametrize("mistake", PICTURE_MISTAKES)
def test_pictures_that_do_not_suit_a_family(aigc: Aigc, here: Path, mistake: str) -> None:
    words, sentence = PICTURE_MISTAKES[mistake]
    for folder, count, size in (("two", 2, 40), ("wide", 11, 50), ("one", 1, 40), ("pair", 1, 40)):
        paint(here / folder, count, size)
    for number in range(5):
        paint(here / f"classes/class {number}", 1)
    (here / "nothing").mkdir()
    (here / "gray").mkdir()
    (here / "gray-rgb").mkdir()
    for photo in (here / "photos").iterdir():
        with Image.open(photo) as picture:
            picture.convert("L").save(here / "gray" / photo.name)
            picture.convert("L").convert("RGB").save(here / "gray-rgb" / f"{photo.stem}.jpg")
    with Image.open(here / "photos/photo 00.png") as picture:
        picture.resize((20, 20)).save(here / "small.png")
    ending = aigc(*words, "--out", "made")
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert ending.err.count("error: ") == 1
    assert not (here / "made/checkpoints").exists()
    assert not list((here / "made").glob("*.png"))


def test_a_class_that_the_model_does_not_know(aigc: Aigc, here: Path) -> None:
    for name in ("cat", "dog"):
        paint(here / "classes" / name, 4)
    words = ["data.train=classes", "data.image_size=8", *TINY]
    for conditional in ("false", "true"):
        more = [f"model.conditional={conditional}", "--out", conditional]
        assert aigc("train", "dcgan_64", *words, *more).code == 0
    ending = aigc("sample", "true", "label=dgo", "--out", "made")
    assert ending.code == 2
    assert "label=dgo: the model knows no such class\nhint: did you mean 'dog'?" in ending.err
    ending = aigc("sample", "false", "label=dog", "--out", "made")
    assert ending.code == 2
    assert "label=dog: the model was trained without classes" in ending.err
    assert not list((here / "made").glob("*"))


def test_all_mistakes_come_at_once_with_their_lines(aigc: Aigc, here: Path) -> None:
    text = (here / "edsr.yaml").read_text()
    bad = text.replace("num_blocks: 1", "num_block: 1").replace("max_steps: 8", "max_steps: many")
    (here / "bad.yaml").write_text(bad)
    ending = aigc("train", "bad.yaml", "seed=-1")
    assert ending.code == 2
    assert "error: 3 problems in this recipe" in ending.err
    assert "bad.yaml:5: model.num_block: unknown key, did you mean 'num_blocks'?" in ending.err
    assert "bad.yaml:7: trainer.max_steps: expected a" in ending.err
    assert 'got "many"' in ending.err
    assert "command line: seed: " in ending.err


def test_a_missing_recipe_names_near_ones(aigc: Aigc) -> None:
    ending = aigc("train", "edsr_smal_x2")
    assert ending.code == 2
    assert "did you mean 'edsr_small_x2'?" in ending.err


@pytest.mark.parametrize("recipe", ["", 300 * "x"])
def test_what_is_no_recipe(aigc: Aigc, recipe: str) -> None:
    ending = aigc("train", recipe)
    assert ending.code == 2
    assert ending.err.startswith(
        f"error: there is no recipe '{recipe}': neither a file nor the name"
    )


@pytest.mark.parametrize("folder", [".", "photos"])
def test_data_in_the_place_of_a_recipe(aigc: Aigc, folder: str) -> None:
    ending = aigc("train", folder)
    assert ending.code == 2
    assert ending.err.startswith(f"error: {folder!r} is data and no recipe\n")
    assert f"aigc train {folder} --budget 20m" in ending.err


def test_weights_in_the_place_of_a_recipe(aigc: Aigc, here: Path) -> None:
    (here / "model.pth").write_bytes(b"weights")
    ending = aigc("train", "model.pth")
    assert ending.code == 2
    assert ending.err.startswith("error: 'model.pth' is a file of weights and no recipe\n")
    assert "aigc train RECIPE init_from=model.pth" in ending.err


def test_a_folder_does_not_hide_the_recipe_of_its_name(aigc: Aigc, here: Path) -> None:
    """As after `aigc train NAME --out NAME`."""
    (here / "photographs").mkdir()
    (here / "edsr_small_x2").mkdir()
    assert aigc("train", "edsr_small_x2", "--dry-run").code == 0
    assert "is data and no recipe" in aigc("train", "photographs", "--dry-run").err


@pytest.mark.parametrize(
    "text", ["", "- a\n- b", "\x89PNG", "family: [", "\0", "a: 1\na: 2", "--- 1\n--- 2"]
)
def test_a_file_that_is_no_recipe(aigc: Aigc, here: Path, text: str) -> None:
    (here / "odd.yaml").write_text(text)
    ending = aigc("train", "odd.yaml")
    assert ending.code == 2
    assert ending.err.startswith("error: ")
    assert "odd.yaml" in ending.err
    assert "bug" not in ending.err


@pytest.mark.parametrize("what", ["empty", "folder of text"])
def test_a_folder_without_pictures(aigc: Aigc, here: Path, what: str) -> None:
    (here / "other").mkdir()
    if what != "empty":
        (here / "other/readme.txt").write_text("hello")
    ending = aigc("train", "edsr.yaml", "data.train=other")
    assert ending.code == 2
    assert "no images" in ending.err
    assert "other" in ending.err


def test_corrupt_pictures_among_good_ones_stop_or_are_left_out(aigc: Aigc, here: Path) -> None:
    good = (here / "photos/photo 00.png").read_bytes()
    (here / "photos/cut.png").write_bytes(good[: len(good) // 2])
    (here / "photos/zero.jpg").write_bytes(b"")
    (here / "photos/text.png").write_text("not an image")
    ending = aigc("train", "edsr.yaml", "--out", "run")
    assert ending.code == 2
    for name in ("cut.png", "zero.jpg", "text.png"):
        assert name in ending.err
    assert "data.on_error=skip" in ending.err
    assert not (here / "run").exists()
    ending = aigc("train", "edsr.yaml", "--out", "run", "data.on_error=skip")
    assert ending.code == 0, ending.err
    assert "10 training and 1 validation items" in ending.err


def test_a_decompression_bomb_is_not_decoded(aigc: Aigc, here: Path) -> None:
    from PIL import Image

    Image.new("1", (9000, 9000)).save(here / "photos/bomb.png")
    assert (here / "photos/bomb.png").stat().st_size < 50_000
    ending = aigc("train", "edsr.yaml")
    assert ending.code == 2
    assert "bomb.png" in ending.err
    assert "9000 x 9000 pixels, the limit is 40,000,000" in ending.err


def test_an_output_folder_in_use_is_refused_and_kept(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run").code == 0
    before = (here / "run/checkpoints/last.ckpt").read_bytes()
    ending = aigc("train", "edsr.yaml", "--out", "run")
    assert ending.code == 2
    assert "run: already exists and is not empty" in ending.err
    assert (here / "run/checkpoints/last.ckpt").read_bytes() == before
    assert aigc("train", "edsr.yaml", "--out", "run", "--overwrite", "seed=9").code == 0


def test_overwrite_deletes_nothing_but_runs(aigc: Aigc, here: Path) -> None:
    ending = aigc("train", "edsr.yaml", "--out", "photos", "--overwrite")
    assert ending.code == 2
    assert "photos: is not a run folder, so --overwrite will not delete it" in ending.err
    assert len(list((here / "photos").iterdir())) == 11


def test_overwriting_through_a_link_keeps_the_link(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=1").code == 0
    (here / "link").symlink_to("run")
    words = ("train", "edsr.yaml", "--out", "link", "--overwrite", "trainer.max_steps=2")
    ending = aigc(*words)
    assert ending.code == 0, ending.err
    assert (here / "link").is_symlink()
    assert '"step": 2' in (here / "run/status.json").read_text()


@pytest.fixture
def read_only(here: Path) -> Any:
    """A file system that is mounted read-only, where mounting is permitted."""
    (here / "fixed").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "fixed"]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield here / "fixed"
    subprocess.run(["umount", "-l", "fixed"], check=True, cwd=here)


def test_a_read_only_file_system_is_told_before_the_first_step(
    aigc: Aigc, here: Path, read_only: Path
) -> None:
    ending = aigc("train", "edsr.yaml", "--out", "fixed/run")
    assert ending.code == 2
    assert ending.err == (
        "error: fixed/run: cannot be written: Read-only file system\n"
        "hint: choose another folder with --out\n"
    )
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=1").code == 0
    ending = aigc("sample", "run", "--input", "photos", "--out", "fixed/out")
    assert ending.code == 2
    assert ending.err == "error: fixed/out: cannot be written: Read-only file system\n"


def test_a_run_on_a_read_only_file_system_is_no_less_useful(
    aigc: Aigc, here: Path, read_only: Path
) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=1").code == 0
    subprocess.run(["mount", "-o", "remount,rw", "fixed"], check=True)
    shutil.copytree(here / "run", read_only / "run")
    subprocess.run(["mount", "-o", "remount,ro", "fixed"], check=True)
    for words in (("evaluate", "fixed/run"), ("sample", "fixed/run", "-i", "photos", "-o", "out")):
        ending = aigc(*words)
        assert ending.code == 0, ending.err
    ending = aigc("train", "--resume", "fixed/run", "trainer.max_steps=2")
    assert ending.code == 2
    assert ending.err.startswith("error: fixed/run: cannot be written: Read-only file system")


@pytest.mark.parametrize("place", ["edsr.yaml/run", "/proc/run"], ids=["under a file", "read-only"])
def test_a_folder_that_cannot_be_written_ends_before_the_first_step(
    aigc: Aigc, here: Path, place: str
) -> None:
    ending = aigc("train", "edsr.yaml", "--out", place)
    assert ending.code == 2
    assert "cannot be written" in ending.err
    assert "step" not in ending.err


def test_two_runs_do_not_share_a_folder(aigc: Aigc, child: Start, here: Path) -> None:
    steps = ["trainer.max_steps=100000", "trainer.validate_every=100000"]
    first = child("train", "tiny_gan.yaml", "--out", "run", *steps)
    first.wait_for_step(here / "run", 3)
    ending = aigc("train", "tiny_gan.yaml", "--out", "run", "--resume", "auto")
    assert ending.code == 2, ending.err
    assert f"run: another run is training here (pid {first.process.pid} on" in ending.err
    first.signal(signal.SIGKILL)
    first.end()
    ending = aigc("train", "tiny_gan.yaml", "--out", "run", "--resume", "auto")
    assert ending.code == 0, "the lock of a dead process holds nobody up"


def test_a_device_that_is_not_there(aigc: Aigc) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    ending = aigc("train", "edsr.yaml", "--device", "cuda")
    assert ending.code == 5
    assert "trainer.device is cuda, but torch finds no CUDA device on this machine" in ending.err
    assert "hint: use --device cpu" in ending.err


def test_an_alias_bomb_is_refused_at_once(aigc: Aigc, here: Path) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [
        f"{b}: &{b} [{','.join(9 * [f'*{a}'])}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    (here / "bomb.yaml").write_text("\n".join(lines))
    ending = aigc("train", "bomb.yaml")
    assert ending.code == 2
    assert "bomb.yaml:1: " in ending.err
    assert "anchors" in ending.err


@pytest.mark.parametrize("name", ["ünï cödé", 'it\'s "quoted"', "介绍", "a=b", "a,b#c"])
def test_unusual_names_work(aigc: Aigc, here: Path, name: str) -> None:
    shutil.move(here / "photos", here / name)
    recipe = (here / "edsr.yaml").read_text().replace("train: photos", "train: here/x")
    (here / f"{name}.yaml").write_text(recipe)
    ending = aigc("train", f"./{name}.yaml", f"data.train={name}", "--out", f"runs of {name}")
    assert ending.code == 0, ending.err
    photo = next((here / name).iterdir())
    out = f"made by {name}"
    ending = aigc("sample", f"runs of {name}", "--input", photo, "--out", out)
    assert ending.code == 0, ending.err
    assert (here / out / f"{photo.stem}_x2.png").is_file()


def test_names_that_begin_with_a_dash_work(aigc: Aigc, here: Path) -> None:
    shutil.move(here / "photos", here / "-photos")
    out = ["--out=-run", "data.train=-photos", "trainer.max_steps=1"]
    assert aigc("train", "edsr.yaml", *out).code == 0
    ending = aigc("sample", "./-run", "--input=-photos", "--out=-made")
    assert ending.code == 0, ending.err
    assert len(list((here / "-made").glob("*.png"))) == 11


def test_data_that_vanishes_between_two_starts_is_named(aigc: Aigc, here: Path) -> None:
    paint(here / "gone", 5)
    words = ["data.train=gone", "data.val=photos", "data.cache=off", "--out", "run"]
    assert aigc("train", "edsr.yaml", *words, "trainer.max_steps=1").code == 0
    for photo in (here / "gone").iterdir():
        photo.unlink()
    ending = aigc("train", "edsr.yaml", *words[:-2], "--resume", "run")
    assert ending.code == 2
    assert "no images" in ending.err


def test_a_reader_that_leaves_is_no_error(here: Path) -> None:
    words = f"'{sys.executable}' -m aigc_cli recipe ls | true; test ${{PIPESTATUS[0]}} != 1"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, env=os.environ.copy(), timeout=60
    )
    assert done.returncode == 0, "1 is for bugs"
    assert done.stderr == ""


def test_json_carries_every_mistake_with_its_code(aigc: Aigc) -> None:
    ending = aigc("train", "edsr.yaml", "model.lr=fast", "trainer.max_stps=3", "--json")
    assert ending.code == 2
    assert ending.json["ok"] is False
    assert ending.json["exit"] == 2
    keys = [error["key"] for error in ending.json["errors"]]
    assert sorted(keys) == ["model.lr", "trainer.max_stps"]
    assert all(error["code"].startswith("recipe.") for error in ending.json["errors"])


def test_a_failed_run_says_so_in_its_status(aigc: Aigc, here: Path) -> None:
    ending = aigc("train", "tiny_gan.yaml", "--out", "run", "model.lr=1e30")
    assert ending.code == 3
    assert '"state": "failed"' in (here / "run/status.json").read_text()
    assert "became NaN or Inf" in ending.err

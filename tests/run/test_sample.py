"""`aigc sample`: files keep what they were, and the same seed makes the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from aigc_cli.media.image import Raster, read_image, write_image
from aigc_cli.media.record import read_record
from aigc_cli.modalities.image import answer_to as answer_of
from aigc_cli.modalities.image import over_white
from aigc_cli.run.checkpoint import file_digest
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
EXIF_ROTATED = Image.Exif()
EXIF_ROTATED[0x0112] = 6  # turn by 90 degrees to look at it
EXIF_ROTATED[0x010F] = "a camera"


@pytest.fixture
def run(aigc: Aigc, here: Path) -> str:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=2").code == 0
    return "run"


def ramp(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return (np.linspace(0, top, int(np.prod(shape)))).reshape(shape).astype(dtype)


def test_every_kind_of_picture_keeps_what_it_is(aigc: Aigc, run: str, here: Path) -> None:
    folder = here / "in"
    (folder / "deep").mkdir(parents=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb, gray = ramp(14, 20, 3), ramp(14, 20)
    Image.fromarray(rgb).save(folder / "rgb.jpg", exif=EXIF_ROTATED, icc_profile=profile)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(np.dstack([rgb, gray])).save(folder / "alpha.png")
    Image.fromarray(rgb).convert("P").save(folder / "deep/palette.png")
    Image.fromarray(rgb).convert("CMYK").save(folder / "cmyk.tif")
    write_image(folder / "deep/bits.png", Raster(ramp(14, 20, 3, dtype=np.uint16)))
    Image.fromarray(rgb[:1, :1]).save(folder / "pixel.bmp")
    ending = aigc("sample", run, "--input", folder, "--out", "out")
    assert ending.code == 0, ending.err
    made = {p.relative_to(here / "out").as_posix() for p in (here / "out").rglob("*.png")}
    assert made == {
        "rgb_x2.png", "gray_x2.png", "alpha_x2.png", "cmyk_x2.png", "pixel_x2.png",
        "deep/palette_x2.png", "deep/bits_x2.png",
    }  # fmt: skip
    assert sorted(ending.out.splitlines()) == sorted(f"out/{name}" for name in made)

    def read(name: str) -> Raster:
        return read_image(here / "out" / name)

    turned = read("rgb_x2.png")
    assert turned.pixels.shape == (40, 28, 3), "upright, as a person sees it"
    assert turned.icc == profile
    with Image.open(here / "out/rgb_x2.png") as file:
        exif = file.getexif()
    assert exif[0x010F] == "a camera"
    assert exif.get(0x0112, 1) == 1, "not turned twice"
    assert read("gray_x2.png").channels == 1
    alpha = read("alpha_x2.png").alpha
    assert alpha is not None
    assert alpha.shape == (28, 40)
    assert read("deep/bits_x2.png").bits == 16
    assert len(np.unique(read("deep/bits_x2.png").pixels)) > 300, "16 bits in use, not 8 stretched"
    assert read("pixel_x2.png").pixels.shape == (2, 2, 3)


def test_transparent_pictures_do_not_bleed(aigc: Aigc, run: str, here: Path) -> None:
    colors, alpha = ramp(14, 20, 3), np.zeros((14, 20), np.uint8)
    alpha[3:11, 4:15], alpha[4:10, 5:14] = 100, 255
    (here / "in").mkdir()
    for hidden in (0, 200):
        pixels = np.where(alpha[..., None] > 0, colors, np.uint8(hidden))
        Image.fromarray(np.dstack([pixels, alpha])).save(here / f"in/{hidden}.png")
    opaque = np.dstack([colors, np.full_like(alpha, 255)])
    Image.fromarray(opaque).save(here / "in/opaque.png")
    Image.fromarray(colors).save(here / "in/rgb.png")
    assert aigc("sample", run, "--input", "in", "--out", "out").code == 0
    made = {name: read_image(here / f"out/{name}_x2.png") for name in ("0", "200")}
    assert np.array_equal(made["0"].pixels, made["200"].pixels), "what is hidden does not count"
    solid, rgb = (read_image(here / f"out/{name}_x2.png") for name in ("opaque", "rgb"))
    assert np.abs(solid.pixels.astype(int) - rgb.pixels).max() <= 1


def test_transparency_of_a_translation_is_blended_once() -> None:
    pixels, alpha = ramp(9, 14, 3), np.linspace(20, 255, 126).reshape(9, 14).astype(np.uint8)
    pixels[0, 0], alpha[0, 0] = 0, 128  # which became (125, 128, 121, 128)
    picture = Raster(pixels, alpha)
    same = answer_of(picture, over_white(picture, 3))
    assert np.array_equal(same.pixels, pixels)
    assert same.alpha is not None
    assert np.array_equal(same.alpha, alpha)


def test_names_that_would_collide_stay_apart(aigc: Aigc, run: str, here: Path) -> None:
    (here / "in").mkdir()
    Image.fromarray(ramp(8, 8, 3)).save(here / "in/photo.jpg")
    Image.fromarray(ramp(8, 8, 3)).save(here / "in/photo.png")
    assert aigc("sample", run, "--input", "in", "--out", "out").code == 0
    names = {p.name for p in (here / "out").glob("photo*")}
    assert names == {"photo_jpg_x2.png", "photo_png_x2.png"}


def test_the_record_says_how_it_was_made(aigc: Aigc, run: str, here: Path) -> None:
    photo = here / "photos/photo 00.png"
    ending = aigc("sample", run, "--input", photo, "--out", "out", "tile=64", "--json")
    record = json.loads((here / "out/samples.json").read_text())
    assert record["options"]["tile"] == 64
    assert record["model"]["sha256"] == file_digest(here / "run/checkpoints/best.ckpt")
    assert record["model"]["ema"] is True
    (item,) = record["items"]
    assert item["sha256"] == file_digest(here / "out" / item["path"])
    assert ending.json["items"] == record["items"]


@pytest.mark.parametrize("option", ["tile=24", "overlap=4"])
def test_tiles_make_the_same_picture(aigc: Aigc, run: str, here: Path, option: str) -> None:
    photo = here / "photos/photo 10.png"
    small = ["tile=24", "overlap=8"] if option == "tile=24" else ["tile=32", option]
    assert aigc("sample", run, "--input", photo, "--out", "whole", "tile=0").code == 0
    assert aigc("sample", run, "--input", photo, "--out", "tiled", *small).code == 0
    whole = read_image(here / "whole/photo 10_x2.png").pixels.astype(int)
    tiled = read_image(here / "tiled/photo 10_x2.png").pixels.astype(int)
    assert np.abs(whole - tiled).max() <= 1


def test_ema_and_self_ensemble_change_the_result(aigc: Aigc, run: str, here: Path) -> None:
    photo = here / "photos/photo 00.png"
    made = []
    for number, extra in enumerate(([], ["--no-ema"], ["self_ensemble=true"], [])):
        words = ["sample", run, "--input", photo, "--out", f"out{number}", *extra]
        assert aigc(*words).code == 0
        made.append(read_image(here / f"out{number}/photo 00_x2.png").pixels)
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert np.array_equal(made[0], made[3])


def test_the_seed_decides_and_the_batch_size_does_not(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "gan", "trainer.max_steps=2").code == 0
    for out, words in {
        "a": ["--seed", 5], "b": ["--seed", 5, "--batch-size", 2], "c": ["--seed", 6],
    }.items():  # fmt: skip
        assert aigc("sample", "gan", "-n", 5, "--out", out, *words).code == 0
    bytes_of = [[(here / o / f"sample-{i:05d}.png").read_bytes() for i in range(5)] for o in "abc"]
    assert bytes_of[0] == bytes_of[1]
    assert bytes_of[0] != bytes_of[2]
    assert len(set(bytes_of[0])) == 5
    assert (here / "a/grid.png").is_file()


MISTAKES = {
    "missing": (["--input", "nowhere"], "--input: 'nowhere' does not exist"),
    "option": (["--input", "photos", "tyle=3"], "unknown key, did you mean 'tile'?"),
    "format": (["--input", "photos", "--format", "bmp"], "write.format"),
    "device": (["--input", "photos", "--device", "gpu"], "choose from: auto, cpu, cuda, mps"),
    "text": (["--input", "edsr.yaml"], "edsr.yaml"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(aigc: Aigc, run: str, here: Path, mistake: str) -> None:
    words, sentence = MISTAKES[mistake]
    ending = aigc("sample", run, "--out", "out", *words)
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert "Traceback" not in ending.err
    assert not (here / "out").exists()


def test_files_in_the_way_are_not_overwritten_silently(aigc: Aigc, run: str, here: Path) -> None:
    words = ("sample", run, "--input", "photos/photo 00.png", "--out", "out")
    assert aigc(*words).code == 0
    ending = aigc(*words)
    assert ending.code == 2
    assert "out: already holds files" in ending.err
    assert aigc(*words, "--overwrite").code == 0


def test_one_damaged_picture_stops_before_anything_is_made(
    aigc: Aigc, run: str, here: Path
) -> None:
    whole = (here / "photos/photo 03.png").read_bytes()
    (here / "photos/sub").mkdir()
    (here / "photos/sub/cut.png").write_bytes(whole[: len(whole) // 2])
    (here / "photos/zz.jpg").write_bytes(b"")
    ending = aigc("sample", run, "--input", "photos", "--out", "out")
    assert ending.code == 2
    assert ending.out == ""
    first, *table, hint = ending.err.splitlines()
    assert first == "error: 2 of 13 images cannot be used"
    assert [line.split()[1] for line in table] == ["sub/cut.png", "zz.jpg"]
    assert hint == "hint: repair or remove them, or leave them out with read.on_error=skip"
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("mode", "format", "note"),
    [
        ("RGBA", "jpg", "1 image has lost transparency, which lies over white now: .jpg"),
        ("I;16", "jpg", "1 image has lost 8 of 16 bits: .jpg"),
        ("I;16", "webp", "1 image has lost 8 of 16 bits: .webp"),
    ],
)
def test_what_a_format_cannot_hold_is_flattened_with_a_note(
    aigc: Aigc, run: str, here: Path, mode: str, format: str, note: str
) -> None:
    Image.new(mode, (9, 9)).save(here / "special.png")
    words = ("--input", "special.png", "--out", "out", "--format", format, "--json")
    ending = aigc("sample", run, *words)
    assert ending.code == 0, ending.err
    assert any(note in said for said in ending.json["notes"])
    made = read_image(here / f"out/special_x2.{format}")
    assert (made.alpha, made.bits) == (None, 8)
    if mode == "RGBA":
        assert made.pixels.min() > 250, "hidden black lies over white"


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff"])
def test_each_file_says_how_it_was_made(aigc: Aigc, run: str, here: Path, format: str) -> None:
    words = ("--input", "photos/photo 01.png", "--out", "out", "--format", format, "--json")
    item = aigc("sample", run, *words).json["items"][0]
    record = read_record(here / f"out/photo 01_x2.{format}")
    assert record is not None
    assert {key: record[key] for key in item if key in record} == {
        key: item[key] for key in item if key in record
    }
    assert record["input"] == "photo 01.png"
    assert record["precision"] == item["precision"]


@pytest.mark.parametrize("format", ["jpg", "webp", "tiff"])
def test_every_format_holds_the_picture(aigc: Aigc, run: str, here: Path, format: str) -> None:
    words = ("--input", "photos/photo 01.png", "--out", "out", "--format", format)
    assert aigc("sample", run, *words).code == 0
    assert read_image(here / f"out/photo 01_x2.{format}").pixels.shape == (80, 82, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 2), (33, 31)])
def test_any_size_is_enlarged_exactly(
    aigc: Aigc, run: str, here: Path, size: tuple[int, int]
) -> None:
    Image.fromarray(ramp(size[1], size[0], 3)).save(here / "odd.png")
    assert (
        aigc("sample", run, "--input", "odd.png", "--out", "out", "tile=24", "overlap=6").code == 0
    )
    with Image.open(here / "out/odd_x2.png") as made:
        assert made.size == (2 * size[0], 2 * size[1])


def test_self_ensemble_is_equivariant(aigc: Aigc, run: str, here: Path) -> None:
    pixels = read_image(here / "photos/photo 02.png").pixels
    turned = [pixels, np.rot90(pixels), pixels[:, ::-1]]
    made = []
    for number, view in enumerate(turned):
        Image.fromarray(np.ascontiguousarray(view)).save(here / "view.png")
        words = ("--input", "view.png", "--out", f"out{number}", "self_ensemble=true")
        assert aigc("sample", run, *words).code == 0
        made.append(read_image(here / f"out{number}/view_x2.png").pixels.astype(int))
    assert np.abs(np.rot90(made[0]) - made[1]).max() <= 1
    assert np.abs(made[0][:, ::-1] - made[2]).max() <= 1


def test_an_overlap_that_leaves_nothing_of_a_tile_is_refused(aigc: Aigc, run: str) -> None:
    ending = aigc("sample", run, "--input", "photos", "tile=8")
    assert ending.code == 2
    assert "an overlap of 16 needs a tile of 41 or more, or 0" in ending.err
    assert "bug" not in ending.err


def test_a_zip_is_an_input_like_its_folder(aigc: Aigc, run: str, here: Path) -> None:
    import shutil

    shutil.make_archive(str(here / "all"), "zip", here / "photos")
    for source in ("photos", "all.zip"):
        assert aigc("sample", run, "--input", source, "--out", f"of {source}").code == 0
    for file in (here / "of photos").glob("*.png"):
        assert file.read_bytes() == (here / "of all.zip" / file.name).read_bytes()


def test_without_an_input_validation_items_are_shown(aigc: Aigc, run: str, here: Path) -> None:
    assert aigc("sample", run, "--out", "out").code == 0
    assert sorted(p.name for p in (here / "out").iterdir()) == [
        "grid.png", "samples.json", "val-00000_x2.png", "val-00001_x2.png",
    ]  # fmt: skip
    (here / "photos").rename(here / "elsewhere")
    ending = aigc("sample", run, "--out", "none")
    assert ending.code == 2
    assert "family 'edsr' works on images and needs some" in ending.err
    assert not (here / "none").exists()


def test_a_gray_model_takes_no_color(aigc: Aigc, here: Path) -> None:
    quick = ["data.channels=1", "trainer.max_steps=1", "--out", "gray"]
    assert aigc("train", "edsr.yaml", *quick).code == 0
    ending = aigc("sample", "gray", "--input", "photos/photo 00.png")
    assert ending.code == 2
    assert "has color, and the model is for gray images" in ending.err
    Image.fromarray(ramp(9, 9)).save(here / "gray.png")
    assert aigc("sample", "gray", "--input", "gray.png", "--out", "out").code == 0
    assert read_image(here / "out/gray_x2.png").channels == 1


def test_without_a_name_the_folder_is_called_after_the_recipe(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "trainer.max_steps=1").code == 0
    ckpt = next(here.glob("runs/edsr/2*/checkpoints/last.ckpt"))
    for source in ("runs/edsr/latest", "runs/edsr", ckpt.relative_to(here)):
        ending = aigc("sample", source, "--input", "photos/photo 00.png", "--json", "--overwrite")
        assert ending.code == 0, ending.err
        assert ending.json["out"].startswith("samples/edsr-2"), source


def test_a_sheet_shows_the_first_samples_only(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "gan", "trainer.max_steps=1").code == 0
    for out, count in {"few": 64, "many": 66}.items():
        words = ("-n", count, "--out", out, "--json")
        assert len(aigc("sample", "gan", *words).json["items"]) == count + 1
    assert (here / "few/grid.png").read_bytes() == (here / "many/grid.png").read_bytes()


def test_pictures_from_noise_take_no_input(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "gan", "trainer.max_steps=1").code == 0
    ending = aigc("sample", "gan", "--input", "photos", "--out", "out")
    assert ending.code == 2
    assert "family 'tiny_gan' takes no --input" in ending.err
    assert not (here / "out").exists()


def test_pictures_far_larger_than_those_of_training_are_noted(aigc: Aigc, here: Path) -> None:
    photos = len(list(here.glob("photos/*.png")))
    smallest = ["model.num_features=2", "model.num_blocks=1", "model.discriminator_features=2"]
    data = ["data.train=photos", "data.train_b=photos", "data.image_size=20"]
    quick = ["trainer.max_steps=1", "model.features=none", "--out", "run"]
    ending = aigc("train", "cyclegan_emoji", *data, *smallest, *quick)
    assert ending.code == 0, ending.err
    for options, noted in {(): True, ("short_side=20",): False, ("short_side=10",): False}.items():
        words = ("--input", "photos", "-n", "2", "--overwrite", "--out", "out", *options)
        ending = aigc("sample", "run", *words)
        assert ("short_side=20 reduces them" in ending.err) is noted, options
        assert (f"{photos} of {photos} images" in ending.err) is noted, options
        assert bool(aigc("sample", "run", *words, "--json").json["notes"]) is noted


def test_images_that_cannot_be_used_are_named_or_left_out(aigc: Aigc, run: str, here: Path) -> None:
    (here / "photos/broken.png").write_bytes((here / "photos/photo 00.png").read_bytes()[:90])
    stopped = aigc("sample", run, "--input", "photos", "--out", "out")
    assert stopped.code == 2
    assert "broken.png" in stopped.err
    assert "read.on_error=skip" in stopped.err
    assert not (here / "out").exists()
    skipped = aigc("sample", run, "--input", "photos", "--out", "out", "read.on_error=skip")
    assert skipped.code == 0, skipped.err
    assert "skipped broken.png: " in skipped.err
    assert len(list((here / "out").glob("*_x2.png"))) == 11
    large = aigc("sample", run, "--input", "photos", "--out", "few", "read.max_pixels=1700",
                 "read.on_error=skip", "--json")  # fmt: skip
    assert large.code == 0, large.err
    assert len(large.json["items"]) + len(large.json["skipped"]) == 12
    assert 0 < len(large.json["items"]) < 11


def test_what_holds_several_frames_is_noted(aigc: Aigc, run: str, here: Path) -> None:
    first, second = (Image.fromarray(ramp(8, 8, 3)).rotate(90 * n) for n in range(2))
    first.save(here / "film.gif", save_all=True, append_images=[second])
    ending = aigc("sample", run, "--input", "film.gif", "--out", "out", "--json")
    note = "1 input holds several frames or pages; only the first was used"
    assert ending.json["notes"] == [note]

"""`aigc data show` and `aigc data check`, through their functions and through the command line."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from painted import pixels
from PIL import Image, ImageEnhance

from aigc_cli.cli import invoke
from aigc_cli.errors import InputError, OutputError
from aigc_cli.media.image import read_image
from aigc_cli.modalities._image_data import fingerprint, near_duplicates
from aigc_cli.run.data import check_text, inspect, show, show_text


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def recipe(tmp_path, photos):
    """Recipe of a data kind that needs no more than a few small images."""
    photos(4, "set one/train")
    photos(2, "set one/val")
    path = tmp_path / "set one" / "small.yaml"
    path.write_text(
        "family: edsr\nseed: 3\n"
        "data: {kind: super_resolution, train: train, val: val, patch_size: 8}\n"
        "trainer: {max_steps: 1, global_batch: 3}\n"
    )
    return path


class TestShow:
    def test_folder_in_numbers(self, photos, tmp_path):
        folder = photos(3)
        save(folder / "z.png", pixels(50, 60, 1)[:, :, 0])
        (folder / "bad.png").write_bytes(b"")
        facts = show(str(folder))["parts"]["data"]
        assert facts["pictures"] == 4
        assert facts["sizes"] == {"min": [40, 32], "median": [40, 32], "max": [60, 50]}
        assert facts["modes"] == {"RGB": 3, "gray": 1}
        assert facts["bad"] == [{"name": "bad.png", "reason": "empty (0 bytes)"}]
        assert facts["classes"] is None
        assert show_text(show(str(folder))).splitlines() == [
            f"data: {folder}",
            "  images  4, 1 cannot be used",
            "  size      40 x 32 to 60 x 50, median 40 x 32",
            "  modes     RGB 3, gray 1",
            "  unusable  bad.png: empty (0 bytes)",
        ]

    def test_classes_are_counted(self, tmp_path):
        for i in range(5):
            save(tmp_path / "set" / ("cat" if i else "dog") / f"{i}.png", pixels(8, 8, seed=i))
        assert show(str(tmp_path / "set"))["parts"]["data"]["classes"] == {"cat": 4, "dog": 1}

    def test_recipe_shows_a_real_batch(self, recipe):
        facts = show(str(recipe))
        assert facts["spec"] == {"kind": "super_resolution", "channels": 3, "scale": 2}
        assert [p["pictures"] for p in facts["parts"].values()] == [4, 2]
        assert facts["batch"]["low"]["shape"] == [3, 3, 8, 8]
        assert facts["batch"]["high"]["shape"] == [3, 3, 16, 16]
        assert -1 <= facts["batch"]["low"]["min"] < facts["batch"]["low"]["max"] <= 1
        assert "small: super_resolution, channels 3, scale 2" in show_text(facts)

    def test_overrides_change_the_recipe(self, recipe):
        facts = show(str(recipe), ["data.scale=3", "data.patch_size=9"])
        assert facts["batch"]["high"]["shape"] == [3, 3, 27, 27]

    def test_sheet_shows_pairs_side_by_side(self, recipe, tmp_path):
        sheet = tmp_path / "sheet.png"
        show(str(recipe), sheet=sheet)
        picture = read_image(sheet)
        assert picture.width >= 32
        assert picture.pixels.std() > 10

    def test_sheet_is_never_overwritten(self, photos, tmp_path):
        (tmp_path / "sheet.png").write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            show(str(photos(2)), sheet=tmp_path / "sheet.png")
        assert (tmp_path / "sheet.png").read_text() == "mine"

    @pytest.mark.parametrize("n", [1, 2, 3, 50])
    def test_sheet_of_any_number(self, photos, tmp_path, n):
        show(str(photos(3)), n=n, sheet=tmp_path / "sheet.png")
        assert read_image(tmp_path / "sheet.png").height > 32


class TestCheck:
    def codes(self, text, overrides=()):
        findings = inspect(str(text), overrides)
        return [warning.code for warning in findings.warnings], findings

    def test_clean_folder(self, photos):
        codes, findings = self.codes(photos(5))
        assert codes == []
        assert findings.bad is None
        assert check_text(findings).splitlines()[-1] == "no problems found"

    def test_bad_pictures_are_an_error(self, photos):
        folder = photos(2)
        (folder / "bad.png").write_bytes(b"")
        _, findings = self.codes(folder)
        assert [p.file for p in findings.bad.problems] == ["bad.png"]

    def test_equal_pictures_in_different_files(self, photos):
        folder = photos(3)
        image = Image.open(folder / "p01.png")
        image.save(folder / "copy.bmp")
        codes, findings = self.codes(folder)
        assert codes == ["data.duplicate"]
        assert findings.warnings[0].message == "equal: copy.bmp, p01.png"

    def test_overlap_of_training_and_validation(self, recipe):
        folder = recipe.parent
        Image.open(folder / "train/p02.png").save(folder / "val/same.webp", lossless=True)
        codes, findings = self.codes(recipe)
        assert codes == ["data.overlap_duplicate"]
        assert findings.warnings[0].message == (
            "equal in training and validation: data.train: p02.png, data.val: same.webp"
        )

    def test_recipe_errors_are_those_of_training(self, recipe):
        save(recipe.parent / "val/tiny.png", pixels(9, 9))
        _, findings = self.codes(recipe)
        assert findings.bad.problems[0].message == "9 x 9, smaller than 15 x 15"
        _, findings = self.codes(recipe, ["data.on_error=skip"])
        assert findings.bad is None
        assert findings.parts["data.val"]["bad"][0]["name"] == "tiny.png"

    def test_tiny_class(self, tmp_path):
        for i in range(25):
            name = "rare" if i < 3 else "common"
            save(tmp_path / "set" / name / f"{i}.png", pixels(16, 16, seed=i))
        codes, findings = self.codes(tmp_path / "set")
        assert codes == ["data.tiny_class"]
        assert findings.warnings[0].message == "class 'rare' has 3 of 25 images"

    def test_few_images_of_each_class_are_no_imbalance(self, tmp_path):
        for i in range(6):
            save(tmp_path / "set" / "abc"[i % 3] / f"{i}.png", pixels(16, 16, seed=i))
        codes, findings = self.codes(tmp_path / "set")
        assert codes == ["data.few_images"]
        message = "each of 3 classes has fewer than 10 images, at most 2"
        assert findings.warnings[0].message == message

    def test_mixed_sizes_and_modes(self, photos):
        folder = photos(2)
        save(folder / "gray.png", pixels(30, 30, 1, seed=5)[:, :, 0])
        assert self.codes(folder)[0] == ["data.mixed_sizes", "data.mixed_modes"]

    def test_many_warnings_are_cut_in_text_only(self, photos):
        folder = photos(25)
        for path in sorted(folder.iterdir()):
            Image.open(path).save(path.with_suffix(".bmp"))
        codes, findings = self.codes(folder)
        assert codes == ["data.duplicate"] * 25
        assert check_text(findings).splitlines()[-1] == "warning: and 5 more of data.duplicate"


def jpeg(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=50)
    return np.array(Image.open(buffer))


@pytest.mark.parametrize(
    "copy",
    [
        jpeg,
        lambda a: np.array(Image.fromarray(a).reduce(2)),
        lambda a: np.array(ImageEnhance.Brightness(Image.fromarray(a)).enhance(1.1)),
        lambda a: np.repeat(np.array(Image.fromarray(a).convert("L"))[:, :, None], 3, axis=2),
    ],
    ids=["jpeg", "half", "brighter", "gray"],
)
def test_near_duplicates_are_found_and_nothing_else(copy, shared_data):
    files = sorted(shared_data("bsds500_train").iterdir())[:40]
    originals = [np.array(Image.open(path)) for path in files]
    arrays = [*originals, *map(copy, originals[:10])]
    _, hashes, thumbnails = zip(*map(fingerprint, arrays), strict=True)
    pairs = set(near_duplicates(np.array(hashes), np.stack(thumbnails)))
    assert pairs == {(i, 40 + i) for i in range(10)}


def test_flat_pictures_are_not_near_duplicates_of_each_other():
    flats = [np.full((20, 20, 3), level, np.uint8) for level in (0, 10, 200)]
    _, hashes, thumbnails = zip(*map(fingerprint, flats), strict=True)
    assert list(near_duplicates(np.array(hashes), np.stack(thumbnails))) == []


@pytest.mark.parametrize("run", [show, inspect])
class TestSubject:
    def test_neither_folder_nor_recipe(self, run):
        with pytest.raises(InputError, match="'no such' is no folder or file here, and no recipe"):
            run("no such")

    def test_overrides_of_a_folder(self, run, photos):
        with pytest.raises(InputError, match=r"'data.scale=3' changes a recipe, but"):
            run(str(photos(2)), ["data.scale=3"])

    def test_builtin(self, run):
        run("builtin:photos:validation")


def test_command_line_reports_bad_pictures_with_exit_code_2(photos, capsys):
    folder = photos(2, "Bilder und 写真")
    (folder / "böse datei.png").write_bytes(b"")
    assert invoke(["data", "check", str(folder)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: 1 of 3 images cannot be used",
        "  data: böse datei.png  empty (0 bytes)",
        "hint: repair or remove them",
    ]
    assert invoke(["data", "check", str(folder), "--json"]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] is False
    assert facts["errors"][0]["file"] == "böse datei.png"
    assert facts["parts"]["data"]["pictures"] == 2


def test_command_line_shows_a_folder(photos, tmp_path, capsys):
    sheet = str(tmp_path / "sheet.png")
    assert invoke(["data", "show", str(photos(2)), "-n", "2", "-o", sheet, "--json"]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out)["sheet"] == sheet
    assert done.err == ""


def test_command_line_warnings_are_no_failure(recipe, capsys):
    assert invoke(["data", "check", str(recipe), "data.val=train"]) == 0
    assert "equal in training and validation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [("shakespeare", "characters"), ("pop909", "pieces   40"), ("emoji", "images  224"),
     ("tasks:train", "texts             160")],
)  # fmt: skip
def test_every_built_in_set_is_shown_as_what_it_says_it_is(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["data", "show", f"builtin:{name}"]) == 0
    assert said in capsys.readouterr().out

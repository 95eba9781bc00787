"""`aigc evaluate`: equal to an independent path, gated by conditions, honest about protocols."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aigc_cli import registry
from aigc_cli.media.image import Raster, read_image, to_tensor, write_image
from aigc_cli.media.resize import modcrop, resize_bicubic
from aigc_cli.nn.features import perceptual_distance, random_features
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]


@pytest.fixture
def run(aigc: Aigc, here: Path) -> str:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=2").code == 0
    return "run"


def test_a_model_scores_what_its_files_score(aigc: Aigc, run: str, here: Path) -> None:
    report = aigc("evaluate", run, "--data", "photos", "-m", "psnr,ssim", "--json").json
    for photo in (here / "photos").iterdir():
        truth = modcrop(read_image(photo).pixels, 2)
        for folder, pixels in {"low": resize_bicubic(truth, scale=0.5), "truth": truth}.items():
            (here / folder).mkdir(exist_ok=True)
            write_image(here / folder / photo.name, Raster(pixels))
    assert aigc("sample", run, "--input", "low", "--out", "made").code == 0
    (here / "made/samples.json").unlink()
    for file in (here / "made").iterdir():
        file.rename(file.with_name(file.name.replace("_x2", "")))
    words = ["--generated", "made", "--reference", "truth", "-m", "psnr,ssim", "border=2"]
    files = aigc("evaluate", *words, "--json").json
    for name in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"):
        assert report["metrics"][name]["value"] == pytest.approx(files["metrics"][name]["value"])
        assert report["metrics"][name]["n"] == 11
        assert report["metrics"][name]["protocol"] == files["metrics"][name]["protocol"]


def test_perceptual_looks_through_the_extractor(aigc: Aigc, run: str, here: Path) -> None:
    words = ["-m", "perceptual", "extractor=random:cnn", "--json"]
    score = aigc("evaluate", run, "--data", "photos", *words).json["metrics"]["perceptual"]
    assert 0 < score["bicubic"] < score["value"]  # of two steps of training
    assert "cnn random seed 0" in score["protocol"]
    photo = next((here / "photos").iterdir())
    noisy = read_image(photo).pixels.copy()
    noisy[::2] ^= 31
    write_image(here / "noisy.png", Raster(noisy))
    words = ["--generated", "noisy.png", "--reference", photo, *words]
    value = aigc("evaluate", *words).json["metrics"]["perceptual"]["value"]
    images = [to_tensor(read_image(file).pixels)[None] for file in (here / "noisy.png", photo)]
    expected = perceptual_distance(random_features("cnn"), *images)
    assert value == pytest.approx(float(expected), rel=1e-4)


def test_psnr_and_ssim_agree_with_scikit_image(aigc: Aigc, here: Path) -> None:
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    b = np.clip(a + random.normal(0, 9, a.shape), 0, 255).astype(np.uint8)
    for name, pixels in {"a": a, "b": b}.items():
        Image.fromarray(pixels).save(here / f"{name}.png")
    report = aigc("evaluate", "--generated", "b.png", "--reference", "a.png", "--json").json
    psnr = peak_signal_noise_ratio(a, b)
    ssim = structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert report["metrics"]["psnr_rgb"]["value"] == pytest.approx(psnr, abs=1e-5)
    assert report["metrics"]["ssim_rgb"]["value"] == pytest.approx(ssim, abs=1e-4)


@pytest.mark.parametrize(("scale", "published"), [(2, 33.65), (3, 30.39), (4, 28.42)])
def test_bicubic_of_set5_is_the_golden_value(
    aigc: Aigc, here: Path, shared_data: Callable[[str], Path], scale: int, published: float
) -> None:
    set5 = shared_data("set5")
    words = [f"data.scale={scale}", "trainer.max_steps=1", "--out", "run"]
    assert aigc("train", "edsr.yaml", *words).code == 0
    report = aigc("evaluate", "run", "--data", set5, "--metric", "psnr_y", "--json").json
    assert report["metrics"]["psnr_y"]["bicubic"] == pytest.approx(published, abs=0.01)
    assert report["metrics"]["psnr_y"]["n"] == 5
    assert f"border {scale}" in report["metrics"]["psnr_y"]["protocol"]


def test_conditions_gate_a_build(aigc: Aigc, run: str, here: Path) -> None:
    assert aigc("eval", run, "--require", "psnr_y>=1", "--require", "ssim_y<=1").code == 0
    ending = aigc("eval", run, "--require", "psnr_y>=99,ssim_y<=1", "--json")
    assert ending.code == 4
    report = json.loads(ending.out)
    assert report["ok"] is False
    assert "psnr_y" in json.dumps(report)
    assert report["failed"] == ["psnr_y>=99"]
    assert "psnr_y>=99 is not met: psnr_y is " in report["errors"][0]["message"]
    rows = (here / "run/evaluations.jsonl").read_text().splitlines()
    assert len(rows) == 2
    assert json.loads(rows[0])["metrics"]["psnr_y"]["n"] == 2


def test_equal_pictures_give_valid_json(aigc: Aigc, here: Path) -> None:
    shutil.copytree(here / "photos", here / "same")
    words = ["--generated", "same", "--reference", "photos", "--require", "psnr_y>=100"]
    ending = aigc("evaluate", *words, "--json")
    assert ending.code == 0, ending.err
    assert ending.json["metrics"]["psnr_y"]["value"] == "inf"
    assert ending.json["metrics"]["ssim_y"]["value"] == pytest.approx(1)


def test_what_is_compared_can_be_saved(aigc: Aigc, run: str, here: Path) -> None:
    assert aigc("evaluate", run, "--save", "seen").code == 0
    names = {p.name for p in (here / "seen").iterdir()}
    assert names == {f"photo {n}{c}.png" for n in ("00", "10") for c in ("", "-compare")}


def test_an_adversarial_family_is_scored_by_its_validation(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "tiny_gan.yaml", "--out", "gan").code == 0
    report = aigc("evaluate", "gan", "--json").json
    rows = [json.loads(r) for r in (here / "gan/metrics.jsonl").read_text().splitlines()]
    (trained,) = [r["val/distance"] for r in rows if r["event"] == "val" and r["step"] == 8]
    best = min(r["val/distance"] for r in rows if r["event"] == "val")
    assert report["metrics"]["distance"]["value"] in (
        pytest.approx(trained, rel=1e-4),
        pytest.approx(best, rel=1e-4),
    )


def test_data_may_be_a_set_by_name(
    aigc: Aigc, here: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_DATA", str(here / "sets"))
    ending = aigc("evaluate", run, "--data", "set5", "--json")
    assert ending.code == 2
    assert "is not here: get it with aigc data get set5" in ending.err
    shutil.copytree(here / "photos", here / "sets/set5")
    named, path = (
        aigc("evaluate", run, "--data", data, "--json").json["metrics"]
        for data in ("set5", "photos")
    )
    assert named["psnr_y"]["value"] == path["psnr_y"]["value"]


def test_lpips_without_weights_says_what_to_put_where(
    aigc: Aigc, here: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "weights").mkdir()
    monkeypatch.setenv("AIGC_WEIGHTS", str(here / "weights"))
    ending = aigc("evaluate", run, "--metric", "lpips")
    assert ending.code == 5
    assert "alexnet" in ending.err
    assert "weights" in ending.err


MISTAKES = {
    "metric": (["run", "--metric", "psnrr"], "did you mean 'psnr' or 'psnr_rgb'?"),
    "condition": (["run", "--require", "psnr_y>>3"], "psnr_y>>3"),
    "unmeasured": (["run", "--require", "psnrr>=3"], "did you mean 'psnr"),
    "half": (["--generated", "photos"], "psnr_y compares with what should be there"),
    "nothing": ([], "nothing to evaluate"),
    "no pair": (["--generated", "photos", "--reference", "fewer"], "'photo 10' has no reference"),
    "sizes": (["--generated", "photos/photo 00.png", "--reference", "photos/photo 01.png"], "40"),
    "no data": (["run", "--data", "nowhere"], "--data: 'nowhere' does not exist"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(aigc: Aigc, run: str, here: Path, mistake: str) -> None:
    shutil.copytree(here / "photos", here / "fewer")
    (here / "fewer/photo 10.png").unlink()
    words, sentence = MISTAKES[mistake]
    ending = aigc("evaluate", *words)
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert "Traceback" not in ending.err


def test_the_list_explains_each_metric(aigc: Aigc) -> None:
    rows = aigc("evaluate", "--metric", "list", "--json").json["metrics"]
    found = {row["metric"]: row for row in rows}
    assert set(found) == {name for name, file in registry.metrics().items() if not file.group}
    for name, row in found.items():  # read from the file as it is when imported
        metric = registry.load_metric(name).Metric
        assert (row["of"], row["unit"]) == (metric.of, metric.unit), name
        assert row["better"] == ("higher" if metric.higher_is_better else "lower"), name
        assert row["modality"] == registry.metrics()[name].modality
    assert found["psnr_y"]["protocol"].endswith("border N, peak 255")
    assert all(row["protocol"] for row in rows)


MISUSES = {
    "option of no metric": (
        ["run", "-m", "psnr", "psnr.bordr=2"],
        "psnr.bordr: no metric of psnr_y, psnr_rgb has such an option, did you mean",
    ),
    "data without a model": (
        ["--generated", "photos", "--reference", "photos", "--data", "photos"],
        "--generated and --reference are for files, RUN and --data for a model",
    ),
    "condition on a group": (
        ["run", "--require", "psnr>=3"],
        "--require psnr>=3: which one is meant?\nhint: choose from: psnr_y, psnr_rgb",
    ),
    "too small": (
        ["run", "--data", "small"],
        "small.png: 12 x 12 pixels, ssim_y needs 15 x 15 or more",
    ),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misuse_is_not_passed_over(aigc: Aigc, run: str, here: Path, misuse: str) -> None:
    (here / "small").mkdir()
    Image.new("RGB", (12, 12)).save(here / "small/small.png")
    words, sentence = MISUSES[misuse]
    ending = aigc("evaluate", *words)
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert not (here / "run/evaluations.jsonl").exists()


def test_weights_that_are_absent_are_told_before_any_picture(
    aigc: Aigc, here: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "weights").mkdir()
    monkeypatch.setenv("AIGC_WEIGHTS", str(here / "weights"))
    words = ("-m", "psnr,dists", "--save", "seen")
    ending = aigc("evaluate", run, *words)
    assert ending.code == 5
    assert "photo" not in ending.err
    assert not (here / "seen").exists()


def test_pictures_pair_by_their_place_in_sub_folders(aigc: Aigc, here: Path) -> None:
    for folder, ending in {"made": "png", "truth": "bmp"}.items():
        for number, sub in enumerate(("a", "b")):
            (here / folder / sub).mkdir(parents=True)
            picture = Image.new("RGB", (20, 20), (100 * number, 0, 0))
            picture.save(here / folder / sub / f"same.{ending}")
    report = aigc("evaluate", "--generated", "made", "--reference", "truth", "--json").json
    assert [item["name"] for item in report["items"]] == ["a/same", "b/same"]
    assert report["metrics"]["psnr_rgb"]["value"] == "inf"


def test_equal_stems_with_different_endings_pair_by_whole_names(aigc: Aigc, here: Path) -> None:
    for folder in ("made", "truth"):
        (here / folder).mkdir()
        for level, name in enumerate(("photo.png", "photo.bmp", "other.png")):
            Image.new("RGB", (20, 20), (100 * level, 0, 0)).save(here / folder / name)
    report = aigc("evaluate", "--generated", "made", "--reference", "truth", "--json").json
    assert [item["name"] for item in report["items"]] == ["other", "photo.bmp", "photo.png"]
    assert report["metrics"]["psnr_rgb"]["value"] == "inf"


def test_names_of_our_own_pair_with_those_of_the_input(aigc: Aigc, run: str, here: Path) -> None:
    """By what samples.json says, by the suffix that aigc gives, or by the one that is named."""
    (here / "low").mkdir()
    (here / "truth").mkdir()
    for photo in (here / "photos").iterdir():
        low = resize_bicubic(modcrop(read_image(photo).pixels, 2), scale=0.5)
        write_image(here / "low" / photo.name, Raster(low))
        write_image(here / "truth" / photo.name, Raster(modcrop(read_image(photo).pixels, 2)))
    assert aigc("sample", run, "--input", "low", "--out", "made").code == 0
    words = ("--generated", "made", "--reference", "truth", "-m", "psnr_y", "--json")
    recorded = aigc("evaluate", *words)
    assert recorded.code == 0, recorded.err
    (here / "made/samples.json").unlink()
    assert aigc("evaluate", *words).json["items"] == recorded.json["items"]
    for file in (here / "made").iterdir():
        file.rename(file.with_name(file.name.replace("_x2", "-big")))
    assert aigc("evaluate", *words).code == 2
    assert aigc("evaluate", *words, "suffix=-big").json["items"] == recorded.json["items"]


def test_what_cannot_be_read_is_named_or_left_out(aigc: Aigc, here: Path) -> None:
    shutil.copytree(here / "photos", here / "made")
    (here / "made/photo 03.png").write_bytes((here / "made/photo 03.png").read_bytes()[:99])
    words = ("--generated", "made", "--reference", "photos", "-m", "psnr_y")
    stopped = aigc("evaluate", *words)
    assert stopped.code == 2
    assert "1 of 11 images cannot be used\n  --generated: photo 03.png" in stopped.err
    assert "on_error=skip" in stopped.err
    skipped = aigc("evaluate", *words, "on_error=skip", "--json")
    assert skipped.json["metrics"]["psnr_y"]["n"] == 10
    assert skipped.json["skipped"][0].startswith("photo 03.png: ")
    large = aigc("evaluate", *words, "on_error=skip", "max_pixels=1950")
    assert "left out" in large.out
    assert "the limit is 1,950" in large.out


def test_transparency_is_left_out_and_said(aigc: Aigc, here: Path) -> None:
    for name, alpha in {"a": 0, "b": 200}.items():
        Image.new("RGBA", (20, 20), (9, 8, 7, alpha)).save(here / f"{name}.png")
    report = aigc("evaluate", "--generated", "a.png", "--reference", "b.png", "--json").json
    assert report["metrics"]["psnr_rgb"]["value"] == "inf"
    assert report["notes"] == ["2 images are transparent: their colors are compared, not alpha"]


def test_a_result_that_cannot_be_kept_is_still_a_result(
    aigc: Aigc, run: str, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "run/evaluations.jsonl").mkdir()
    ending = aigc("evaluate", run, "--json")
    assert ending.code == 0
    assert ending.json["metrics"]["psnr_y"]["n"] == 2
    assert "run/evaluations.jsonl is not continued: Is a directory" in caplog.text


def test_a_checkpoint_by_its_bare_name_knows_its_run(
    aigc: Aigc, run: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here / "run/checkpoints")
    assert aigc("evaluate", "last.ckpt", "--data", here / "photos").code == 0
    assert (here / "run/evaluations.jsonl").exists()


def test_more_than_one_result_is_appended(aigc: Aigc, run: str, here: Path) -> None:
    for limit in (1, 2):
        assert aigc("evaluate", run, "--data", "photos", "--limit", limit).code == 0
    rows = [json.loads(r) for r in (here / "run/evaluations.jsonl").read_text().splitlines()]
    assert [row["metrics"]["psnr_y"]["n"] for row in rows] == [1, 2]
    assert {row["data"] for row in rows} == {"photos"}

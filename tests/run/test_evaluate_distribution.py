"""FID and its kin from the command line: the protocol, the floor, the cache, several processes."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_cli.data._sources import open_source
from aigc_cli.errors import InputError
from aigc_cli.metrics._frechet import fid
from aigc_cli.metrics._things import Features, Sets
from aigc_cli.metrics.find import open_metrics
from aigc_cli.metrics.image.kid import kid
from aigc_cli.modalities._image_things import DataPart, FileThings
from aigc_cli.modalities._judging import Trial, find_judging
from aigc_cli.modalities._judging_image import Drawn
from aigc_cli.nn.fid_inception import FILES, FIDInception
from aigc_cli.run import extract as extracting
from aigc_cli.run.extract import extract, open_extractor
from aigc_cli.run.sets import compare_sets
from aigc_cli.run.trained import load_trained
from tests.run.conftest import Child, Ending, paint

Aigc = Callable[..., Ending]
Start = Callable[..., Child]
SETS = ("-m", "fid,kid,prdc,copies,feature_diversity", "extractor=random:cnn")

CLASSIFIER = """
family: classifier
data: {kind: images, train: shapes, image_size: 8, channels: 1}
model: {arch: mlp, widths: [12, 6], depths: [1, 1], lr: 0.03}
trainer: {max_steps: 30, global_batch: 16, precision: fp32}
"""


@pytest.fixture
def gan(aigc: Aigc, here: Path) -> str:
    """A run whose data are 80 images, 8 of them held out."""
    paint(here / "many", 80, size=10)
    words = ("data.train=many", "trainer.max_steps=2", "--out", "gan")
    assert aigc("train", "tiny_gan.yaml", *words).code == 0
    return "gan"


@pytest.fixture
def judge(aigc: Aigc, here: Path) -> str:
    """A classifier of dark and of bright images."""
    random = np.random.default_rng(0)
    for name, level in {"bright": 200, "dark": 20}.items():
        (here / "shapes" / name).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(level, level + 50, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "shapes" / name / f"{number:02d}.png")
    (here / "judge.yaml").write_text(CLASSIFIER)
    ending = aigc("train", "judge.yaml", "--out", "judge")
    assert ending.code == 0, ending.err
    return "judge"


def test_a_model_is_compared_with_held_out_pictures(aigc: Aigc, gan: str, here: Path) -> None:
    words = ("evaluate", gan, *SETS, "--count", 20, "--seed", 3, "--save", "seen")
    report = aigc(*words, "--json").json
    extractor = open_extractor("random:cnn", "cpu")
    trained = load_trained(gan, device="cpu")
    real = DataPart(_data(gan).val, "")
    trial = Trial(trained.model, trained.recipe, lambda: None, seed=3)
    made = extract(extractor, Drawn(find_judging("image"), trial, 20)).pooled
    held_out = extract(extractor, real).pooled
    assert report["metrics"]["fid"]["value"] == pytest.approx(fid(held_out, made), rel=1e-3)
    assert report["metrics"]["kid"]["value"] == pytest.approx(
        kid(held_out, made).mean, rel=1e-3, abs=1e-5
    )
    assert report["metrics"]["kid"]["std"] > 0
    assert report["metrics"]["fid"]["real"] < report["metrics"]["fid"]["value"]
    assert report["metrics"]["feature_diversity"]["real"] > 0
    assert {row["n"] for row in report["metrics"].values()} == {20}
    protocol = report["protocol"]
    assert protocol["extractor"] == "cnn random seed 0"
    assert protocol["generated"] == "20: 20 samples of seed 3"
    assert protocol["reference"] == "8: many, validation part"
    assert protocol["real"] == "20: many, training part"
    assert "fewer than the 256 features" in report["notes"][0]
    assert {p.name for p in (here / "seen").iterdir()} == {
        "generated.png", "reference.png", "neighbors.png",
    }  # fmt: skip
    text = aigc("evaluate", gan, *SETS, "--count", 20, "--seed", 3).out
    assert "generated: 20: 20 samples of seed 3" in text
    assert text.splitlines()[0].split()[:3] == ["metric", "value", "real"]


def test_samples_are_those_of_aigc_sample(aigc: Aigc, gan: str, here: Path) -> None:
    assert aigc("sample", gan, "-n", 10, "--seed", 4, "--out", "made").code == 0
    assert (here / "made/grid.png").exists()  # a sheet, which samples.json tells from samples
    words = ("-m", "fid", "extractor=random:cnn", "--json")
    files = aigc("evaluate", "--generated", "made", "--reference", "many", *words).json
    assert files["protocol"]["generated"] == "10: made"
    direct = aigc("evaluate", gan, "--reference", "many", "--count", 10, "--seed", 4, *words).json
    value = direct["metrics"]["fid"]["value"]
    assert files["metrics"]["fid"]["value"] == pytest.approx(value, rel=1e-4)
    assert direct["protocol"]["reference"] == "80: many"


def test_the_training_part_can_be_the_reference(aigc: Aigc, gan: str) -> None:
    words = ("-m", "fid", "extractor=random:cnn", "--count", 9)
    report = aigc("evaluate", gan, "--reference", "train", *words, "--json").json
    assert report["protocol"]["reference"] == "72: many, training part"
    assert report["protocol"]["real"] == "8: many, validation part"


def test_copies_of_training_pictures_are_told(aigc: Aigc, here: Path) -> None:
    paint(here / "real", 60, size=16)
    for name in ("copied", "fresh"):
        (here / name).mkdir()
    for number, file in enumerate(sorted((here / "real").iterdir())[:20]):
        pixels = np.asarray(Image.open(file)).copy()
        pixels[0, 0] ^= 1
        Image.fromarray(pixels).save(here / "copied" / f"{number}.png")
        random = np.random.default_rng(1000 + number)
        small = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        small.resize((16 + number, 16), Image.Resampling.BICUBIC).save(
            here / "fresh" / f"{number}.png"
        )

    def share(name: str) -> float:
        words = ("--generated", name, "--reference", "real", "-m", "copies")
        found: float = aigc("evaluate", *words, "extractor=random:cnn", "--json").json["metrics"][
            "copies"
        ]["value"]
        return found

    assert share("copied") == 1
    assert share("fresh") <= 0.2


def test_a_classifier_of_the_toolkit_judges(aigc: Aigc, judge: str, here: Path) -> None:
    words = (f"extractor={judge}", "--json")
    ending = aigc(
        "evaluate", "--generated", "shapes/dark", "--reference", "shapes", "-m", "fid,is", *words
    )
    assert ending.code == 0, ending.err
    report = ending.json
    assert report["metrics"]["is"]["value"] == pytest.approx(1, abs=0.05)
    both = aigc(
        "evaluate", "--generated", "shapes", "--reference", "shapes", "-m", "fid,is", *words
    ).json
    assert 1.7 < both["metrics"]["is"]["value"] <= 2
    assert both["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-4)
    assert report["protocol"]["extractor"].startswith("classifier judge")
    assert report["protocol"]["layer"] == "pooled"


class Asked(FileThings):
    """Images of a folder that were asked to be of given classes."""

    asked: torch.Tensor

    def labels(self, numbers: Sequence[int]) -> torch.Tensor:
        return self.asked[list(numbers)]


def test_label_accuracy_goes_by_the_names_of_the_classes(judge: str, here: Path) -> None:
    extractor, pictures = open_extractor(judge, "cpu"), Asked(open_source("shapes"))
    assert extractor.labels == ("dark", "bright")
    pictures.asked = torch.tensor([0] * 30 + [1] * 30)  # bright images, then dark ones
    [metric] = open_metrics(["label_accuracy"])
    metric.extractor = extractor

    def accuracy(classes: tuple[str, ...]) -> float:
        found = compare_sets([metric], Sets(pictures, pictures, classes=classes))
        assert found is not None
        value: float = found["metrics"]["label_accuracy"]["value"]
        return value

    assert accuracy(("bright", "dark")) > 0.95
    assert accuracy(("dark", "bright")) < 0.05
    with pytest.raises(InputError, match="does not know the class 'gray'"):
        accuracy(("dark", "gray"))
    with pytest.raises(InputError, match="told which class"):
        compare_sets([metric], Sets(FileThings(open_source("shapes")), pictures))


def test_features_of_real_pictures_are_kept(
    gan: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, pictures = open_extractor("random:cnn", "cpu"), DataPart(_data(gan).val, "")
    first = extract(extractor, pictures)
    (kept,) = (here / "cache/features").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(extracting.Network, "__call__", None)
        again = extract(extractor, pictures)
        assert torch.equal(first.pooled, again.pooled)
    extract(open_extractor("random:cnn:1", "cpu"), pictures)
    extract(extractor, DataPart(_data(gan).val, "", numbers=range(5)))
    assert len(list((here / "cache/features").iterdir())) == 3, "other weights, other images"
    kept.write_bytes(kept.read_bytes()[:100])
    assert torch.equal(extract(extractor, pictures).pooled, first.pooled)
    changed = FileThings(open_source(str(here / "many")))
    extract(extractor, changed)
    Image.new("RGB", (9, 9)).save(here / "many/photo 00.png")
    assert not torch.equal(
        extract(extractor, FileThings(open_source(str(here / "many")))).pooled,
        extract(extractor, changed).pooled[:0],
    )


def test_inception_reads_its_weights_from_a_local_file(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(here / "hub"))
    monkeypatch.setenv("AIGC_WEIGHTS", str(here / "weights"))
    words = ("evaluate", "--generated", "photos", "--reference", "photos", "-m", "fid", "--json")
    absent = aigc(*words, "--limit", 2)
    assert absent.code == 5
    assert FILES[0] in absent.out
    assert "extractor=RUN" in absent.out
    (here / "weights").mkdir()
    torch.manual_seed(0)
    torch.save(FIDInception().state_dict(), here / "weights" / FILES[0])
    ending = aigc(*words, "--limit", 2)
    assert ending.code == 0, ending.err
    assert ending.json["protocol"]["resize"].startswith("bilinear to 299 as TensorFlow 1")
    assert ending.json["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-3)


def test_conditions_hold_for_sets_too(aigc: Aigc, gan: str, here: Path) -> None:
    words = ("extractor=random:cnn", "--count", 9)
    ending = aigc("evaluate", gan, "--require", "kid<=-1", *words, "--json")
    assert ending.code == 4
    assert json.loads(ending.out)["failed"] == ["kid<=-1"]
    assert {"kid", "distance"} <= json.loads(ending.out)["metrics"].keys()
    row = json.loads((here / "gan/evaluations.jsonl").read_text())
    assert row["protocol"]["generated"].startswith("9: ")


def test_other_data_of_the_same_kind_can_be_measured(aigc: Aigc, gan: str, here: Path) -> None:
    report = aigc("evaluate", gan, "--data", "photos", "--json").json
    assert report["metrics"]["distance"]["n"] == 11
    assert report["data"] == "photos"
    shutil.rmtree(here / "many")  # the training images are not on this machine
    again = aigc("evaluate", gan, "--data", "photos", "--limit", 3, "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"]["distance"]["n"] == 3


MISTAKES = {
    "metric": (["gan", "-m", "fidd"], "did you mean 'fid'?"),
    "group": (["gan", "--require", "prdc>=1"], "which one is meant?"),
    "pair metric": (["gan", "-m", "psnr"], "compares with references, and there are none"),
    "foreign run": (["gan", "-m", "fid", "extractor=gan"], "family tiny_gan"),
    "not a network": (["gan", "-m", "fid", "extractor=photos/photo 00.png"], "photo 00.png"),
    "near": (["gan", "-m", "fid", "extractor=inception:cleen"], "inception:clean"),
    "no classes": (["gan", "-m", "is", "extractor=random:cnn"], "an extractor with classes"),
    "too few": (["gan", "-m", "prdc", "extractor=random:cnn", "--count", 5], "6 or more"),
    "limit": (["gan", "-m", "kid", "--limit", 3], "take --count instead"),
    "reference": (["gan", "-m", "kid", "extractor=random:cnn", "--reference", "nowhere"],
                  "--reference: 'nowhere' does not exist"),
    "one image": (["--generated", "photos/photo 00.png", "--reference", "photos", "-m", "fid",
                     "extractor=random:cnn"], "not 1: photos/photo 00.png\nhint: give more"),
    "no data": (["gan", "--data", "nowhere"], "--data: 'nowhere' does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(aigc: Aigc, gan: str, here: Path, mistake: str) -> None:
    words, sentence = MISTAKES[mistake]
    ending = aigc("evaluate", *words, "--save", "seen")
    assert ending.code == 2, ending.err
    assert sentence in ending.err
    assert "Traceback" not in ending.err
    assert not (here / "seen").exists()


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(
    aigc: Aigc, child: Start, gan: str, here: Path
) -> None:
    words = ("evaluate", gan, *SETS, "--count", 21, "--json")
    one = aigc(*words).json["metrics"]
    shutil.rmtree(here / "cache/features")
    ending = child(*words, "--devices", 2).end()
    assert ending.code == 0, ending.err
    two = json.loads(ending.out)["metrics"]
    for name, row in one.items():
        assert two[name]["value"] == pytest.approx(row["value"], rel=1e-3, abs=1e-5), name
        assert two[name]["real"] == pytest.approx(row["real"], rel=1e-3, abs=1e-5), name
    failing = child("evaluate", gan, "-m", "kid", "extractor=random:cnn", "--count", 9,
                    "--require", "kid<=-1", "--devices", 2).end()  # fmt: skip
    assert failing.code == 4
    assert len((here / "gan/evaluations.jsonl").read_text().splitlines()) == 3


def test_real_training_and_held_out_pictures_are_near(
    shared_data: Callable[[str], Path], here: Path
) -> None:
    file = shared_data("fashion_mnist") / "train-images-idx3-ubyte.gz"
    with gzip.open(file) as stream:
        pixels = np.frombuffer(stream.read(16 + 28 * 28 * 400), np.uint8, offset=16)
    images = torch.tensor(pixels).view(400, 1, 28, 28).float() / 127.5 - 1
    extractor = open_extractor("random:cnn", "cpu")
    real, other = extractor(images[:200]).pooled, extractor(images[200:]).pooled
    noisy = extractor((images[200:] + 0.2 * torch.randn(200, 1, 28, 28)).clamp(-1, 1)).pooled
    assert fid(real, other) < fid(real, noisy)
    assert kid(real, other).mean < kid(real, noisy).mean / 2


def test_features_are_numbered_as_the_pictures(here: Path) -> None:
    paint(here / "mixed", 6)
    extractor, pictures = open_extractor("random:cnn", "cpu"), FileThings(open_source("mixed"))
    together = extract(extractor, pictures, batch_size=4)
    for number in range(6):
        (image,) = pictures.read([number])
        assert extractor(image[None]).pooled[0].allclose(together.pooled[number], atol=1e-5)
    assert isinstance(together, Features)
    assert together.logits is None
    with pytest.raises(InputError):
        open_extractor("random:cnnn")


def _data(run: str) -> object:
    trained = load_trained(run, device="cpu")
    from aigc_cli.registry import load_data_kind

    recipe = trained.recipe
    return load_data_kind(recipe.kind).Data(recipe.data, seed=recipe.seed, bases=recipe.bases)


UNPAIRED = """
family: cyclegan
data: {kind: unpaired_images, train: photos, train_b: other, image_size: 16, load_size: 18}
model: {num_features: 2, num_blocks: 1, discriminator_features: 2, pool_size: 2}
trainer: {max_steps: 1, global_batch: 1, precision: fp32}
"""


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_translations_are_compared_with_the_other_domain(
    aigc: Aigc, here: Path, direction: str
) -> None:
    paint(here / "other", 25, size=24)
    (here / "unpaired.yaml").write_text(UNPAIRED)
    ending = aigc("train", "unpaired.yaml", "--out", "cycle")
    assert ending.code == 0, ending.err
    words = ("-m", "kid,fid", "extractor=random:cnn", f"direction={direction}")
    ending = aigc("evaluate", "cycle", *words, "--json")
    assert ending.code == 0, ending.err
    (row, _), protocol = ending.json["metrics"].values(), ending.json["protocol"]
    counts = {"a2b": ("2", "3", "domain B"), "b2a": ("3", "2", "domain A")}[direction]
    assert protocol["generated"].startswith(counts[0])
    assert protocol["reference"].startswith(counts[1])
    assert counts[2] in protocol["reference"]
    assert {"value", "real", "identity"} <= row.keys()

"""Features of networks in tables: of which items, how they are joined, selected and judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aigc_cli.run.encoders import words_of
from aigc_cli.run.feature_table import Table, join, read_table
from aigc_cli.run.judged_features import probe, select
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]

GAN = """
family: dcgan
seed: 0
data: {kind: images, train: d, channels: 1, image_size: 16, resize: stretch, cache: "off"}
model: {conditional: true, num_features: 4, latent_dim: 4}
trainer: {max_steps: 1, global_batch: 4}
"""


@pytest.fixture
def images(here: Path) -> Path:
    """Two classes of gray noise: one is lighter."""
    rng = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 90)):
        (here / "d" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(low, low + 160, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(here / f"d/{label}/{number:02d}.png")
    return here / "d"


def test_features_stand_side_by_side_and_are_judged(aigc: Aigc, here: Path, images: Path) -> None:
    ending = aigc(
        "augment", "features", "d", "--with", "raw", "--with", "random:cnn", "--out", "f.parquet",
        "--probe", "--keep", "5", "--json",
    )  # fmt: skip
    assert ending.code == 0, ending.err
    rows = ending.json["probe"]
    assert [row["features"] for row in rows] == [
        "raw", "random:cnn", "raw + random:cnn", "best 5 by mutual_information",
    ]  # fmt: skip
    assert [row["dims"] for row in rows] == [256, 256, 512, 5]
    assert rows[0]["accuracy"] >= 0.75
    table = pq.read_table(here / "f.parquet")
    assert table.column_names == ["name", "part", "label", "features"]
    assert table["part"].to_pylist().count("train") == 36
    assert np.asarray(table["features"].to_pylist()).shape == (40, 5)
    assert {n.split("/")[0] for n in table["name"].to_pylist()} == {"dark", "light"}


def test_networks_of_models_give_features(aigc: Aigc, here: Path, images: Path) -> None:
    (here / "gan.yaml").write_text(GAN)
    assert aigc("train", "gan.yaml", "--out", "gan", "--quiet").code == 0
    ending = aigc("augment", "features", "d", "--with", "gan", "--out", "f.parquet", "--json")
    assert ending.code == 0, ending.err
    features = np.asarray(pq.read_table(here / "f.parquet")["features"].to_pylist())
    assert features.shape[0] == 40
    assert np.isfinite(features).all()
    assert features.std(0).max() > 0
    ending = aigc("augment", "features", "d", "--with", "gan:decoder", "--out", "g.parquet")
    assert ending.code == 2
    assert "has no network 'decoder'" in ending.err


def test_tables_of_the_same_items_are_fused(aigc: Aigc, here: Path, images: Path) -> None:
    for source in ("raw", "names"):
        out = f"{source}.parquet"
        assert aigc("augment", "features", "d", "--with", source, "--out", out).code == 0
    ending = aigc(
        "augment", "features", "raw.parquet", "--with", "names.parquet", "--out", "both.parquet",
        "--json",
    )  # fmt: skip
    assert ending.code == 0, ending.err
    assert ending.json["sources"] == {"raw": 256, "names": 512}
    both = read_table(here / "both.parquet", "x")
    assert both.joined().shape == (40, 768)


def test_tables_are_joined_by_name() -> None:
    one = Table(["a", "b"], ["train"] * 2, None, {"x": np.array([[1.0], [2.0]], np.float32)})
    two = Table(["b", "a"], ["train"] * 2, None, {"x": np.array([[20.0], [10.0]], np.float32)})
    join(one, two)
    assert one.joined().tolist() == [[1, 10], [2, 20]]
    with pytest.raises(Exception, match="1 of 2 items are not in the other table: first 'b'"):
        join(one, Table(["a"], ["train"], None, {"y": np.zeros((1, 1), np.float32)}))


@pytest.mark.parametrize("by", ["mutual_information", "trees"])
def test_what_tells_classes_apart_is_selected(by: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 100)
    values = rng.normal(size=(200, 8)).astype(np.float32)
    values[:, 3] += 3 * (labels == "b")
    values[:, 6] -= 2 * (labels == "b")
    assert select(values, labels.tolist(), 2, by) == [3, 6]  # type: ignore[arg-type]
    both = labels.tolist()
    found = probe(values[:100], both[:100], values[100:], both[100:])
    assert found["accuracy"] > 0.9
    assert found["macro_f1"] > 0.9


def test_code_points_become_their_names() -> None:
    assert words_of("faces/1f600.png") == ["grinning", "face"]
    assert words_of("x/red_car-2.jpg") == ["red", "car", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("d", "--out", "f.parquet"), "no features are asked for"),
        (("d", "--with", "raw", "--out", "f.csv"), "must end in .parquet"),
        (("d", "--with", "minilm", "--out", "f.parquet"), "is for texts"),
        (("d", "--with", "raw", "--keep", "999", "--out", "f.parquet"), "there are 256 features"),
        (("d", "--with", "nothing", "--out", "f.parquet"), "nothing"),
        (("d", "--with", "x.parquet", "--out", "f.parquet"), "is no table of features"),
        (("gone.parquet", "--out", "f.parquet"), "'gone.parquet' does not exist"),
        (("d", "rotation=3", "--with", "raw", "--out", "f.parquet"), "only data.KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_sentence(
    aigc: Aigc, here: Path, images: Path, words: tuple[str, ...], said: str
) -> None:
    ending = aigc("augment", "features", *words)
    assert ending.code == 2
    assert said in ending.err
    assert "Traceback" not in ending.err
    assert not (here / "f.parquet").exists()

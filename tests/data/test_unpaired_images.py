"""Two domains: the image of B and both windows follow from the seed; folders, one painting."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from painted import pixels
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import DataLoader

from aigc_cli.data._check import BadImagesError
from aigc_cli.data._stream import StepSampler
from aigc_cli.data.unpaired_images import Config, Data, suggest
from aigc_cli.errors import DataError
from aigc_cli.media.image import to_tensor
from aigc_cli.run.data import inspect, show


def flat(path: Path, *levels: int, size: int = 20) -> Path:
    """Folder of gray images of one level each, by which they can be told in a batch."""
    path.mkdir(parents=True, exist_ok=True)
    for i, level in enumerate(levels):
        array = np.full((size, size, 3), level, np.uint8)
        Image.fromarray(array).save(path / f"{path.name}{i:02d}.png")
    return path


def levels(images: torch.Tensor) -> list[int]:
    """The level of each image (B, C, S, S) that `flat` painted."""
    return [round(float(image.mean() + 1) * 127.5) for image in images]


def made(train: Path, *, seed: int = 0, **options) -> Data:
    texts = {key: str(v) if isinstance(v, Path) else v for key, v in options.items()}
    return Data(Config(train=str(train), **{"image_size": 16, **texts}), seed=seed)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def horses(tmp_path) -> Path:
    """6 images of A, levels 10 to 60, and 3 of B, levels 110 to 130, as CycleGAN stores them."""
    flat(tmp_path / "h2z" / "trainA", 10, 20, 30, 40, 50, 60)
    flat(tmp_path / "h2z" / "trainB", 110, 120, 130)
    flat(tmp_path / "h2z" / "testA", 15, 25, 35)
    flat(tmp_path / "h2z" / "testB", 115, 125)
    return tmp_path / "h2z"


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_has_the_shape_and_range_of_its_spec(photos, channels):
    data = made(photos(6), train_b=photos(4, "b"), channels=channels)
    batch = data.train.__getitems__([(0, 1), (4, 2), (2, 3)])
    assert data.spec.as_dict() == {
        "kind": "unpaired_images",
        "channels": channels,
        "image_size": 16,
    }
    for key in ("a", "b"):
        assert batch[key].shape == (3, channels, 16, 16)
        assert batch[key].dtype == torch.float32
        assert data.val[0][key].shape == (channels, 16, 16)
        assert -1 <= batch[key].min() < 0 < batch[key].max() <= 1


def test_an_epoch_shows_the_larger_domain_once(horses, tmp_path):
    data = made(horses)
    assert len(data.train) == 6
    batch = data.train.__getitems__([(i, i) for i in range(6)])
    assert levels(batch["a"]) == [10, 20, 30, 40, 50, 60]
    swapped = made(horses / "trainB", train_b=horses / "trainA")
    assert len(swapped.train) == len(swapped.train.b) == 5
    numbers = levels(swapped.train.__getitems__([(i, i) for i in range(5)])["a"])
    assert numbers == [120, 130, 120, 130, 120]


def test_each_picture_of_b_comes_about_equally_often(horses):
    data = made(horses)
    seen = levels(data.train.__getitems__([(0, seed * 2654435761) for seed in range(600)])["b"])
    assert set(seen) == {110, 120, 130}
    assert all(150 < seen.count(level) < 250 for level in set(seen))


def test_everything_random_follows_from_the_seed(photos):
    a, b = photos(6), photos(5, "b")
    one, other = (made(a, train_b=b, load_size=(18, 30), flip=True) for _ in range(2))
    assert all(same(one.train[(i, 7 * i)], other.train[(i, 7 * i)]) for i in range(5))
    assert not same(one.train[(0, 1)], one.train[(0, 2)])


def test_windows_of_both_domains_have_nothing_in_common(photos):
    folder = photos(2)
    data = made(folder, train_b=folder, val=folder, val_b=folder, resize="none", flip=True)
    batch = data.train.__getitems__([(0, seed) for seed in range(50)])
    equal = [torch.equal(a, b) for a, b in zip(batch["a"], batch["b"], strict=True)]
    assert sum(equal) < 5


def test_windows_at_a_range_of_sizes_show_more_and_less(tmp_path):
    slopes = ramps(tmp_path, load_size=(16, 64))["a"]
    # 4 levels a pixel at 64, 16 at 16: each load size L gives 4 * 64 / L
    assert slopes.min() < 4.4
    assert slopes.max() > 13
    assert ((slopes > 3.8) & (slopes < 16.5)).all()


def test_each_domain_may_be_loaded_at_sizes_of_its_own(tmp_path):
    slopes = ramps(tmp_path, load_size=64, load_size_b=(16, 32))
    assert ((slopes["a"] > 3.8) & (slopes["a"] < 4.2)).all()
    assert slopes["b"].min() < 9
    assert slopes["b"].max() > 13
    with pytest.raises(ValidationError, match=r"load_size_b \(15\) must be at least image_size"):
        made(tmp_path / "ramp", load_size_b=15)


def ramps(tmp_path, **keys):
    """Levels a pixel, (200,) by domain, of windows of a ramp from left to right of 4 levels a
    pixel: how steep it is tells the size it was loaded at.
    """
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None], (64, 1, 3))
    folder = tmp_path / "ramp"
    folder.mkdir()
    Image.fromarray(ramp).save(folder / "1.png")
    data = made(folder, train_b=folder, val=folder, val_b=folder, resize="crop", **keys)
    batch = data.train.__getitems__([(0, seed * 2654435761) for seed in range(200)])
    rows = {name: images[:, 0, :, 4:12] * 127.5 for name, images in batch.items()}
    return {name: (x[..., -1] - x[..., 0]).mean(1).abs() / 7 for name, x in rows.items()}


def test_batches_do_not_depend_on_the_number_of_processes(photos):
    data = made(photos(6), train_b=photos(5, "b"), load_size=20, flip=True)

    def batches(rank: int, world: int) -> list[dict[str, torch.Tensor]]:
        sampler = StepSampler(
            len(data.train), global_batch=4, rank=rank, world=world, seed=3, stop=4
        )
        collate = data.train.collate
        return list(DataLoader(data.train, batch_sampler=sampler, collate_fn=collate))

    for whole, first, second in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        assert same(whole, {key: torch.cat([first[key], second[key]]) for key in whole})


def test_validation_pairs_a_with_b_in_turn(horses):
    data = made(horses)
    items = [data.val[i] for i in range(len(data.val))]
    assert levels(torch.stack([item["a"] for item in items])) == [15, 25, 35]
    assert levels(torch.stack([item["b"] for item in items])) == [115, 125, 115]
    assert data.val.name(1) == "testA01.png"
    with pytest.raises(IndexError):
        data.val[3]


def test_without_test_folders_each_domain_holds_some_back(horses):
    data = made(horses / "trainA", train_b=horses / "trainB")
    assert len(data.train.a) == 5
    assert len(data.train.b) == 2
    assert levels(data.val[0]["a"][None]) == [10]
    assert levels(data.val[0]["b"][None]) == [110]


def test_validation_shows_the_middle(photos):
    folder = photos(3)
    data = made(folder, train_b=folder, val=folder, val_b=folder, resize="none")
    whole = to_tensor(np.array(Image.open(folder / "p01.png")))
    assert torch.equal(data.val[1]["a"], whole[:, 8:24, 12:28])


def test_folders_of_a_zip_are_domains(horses, tmp_path):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(horses.rglob("*.png")):
            file.write(path, str(path.relative_to(horses)))
    for data in (
        made(archive),
        made(
            f"{archive}/trainA",
            train_b=f"{archive}/trainB",
            val=f"{archive}/testA",
            val_b=f"{archive}/testB",
        ),
        made(horses, val=horses),
    ):
        assert len(data.train) == 6
        assert same(data.val[1], made(horses).val[1])
        assert same(data.train[(3, 4)], made(horses).train[(3, 4)])


def test_one_painting_may_be_all_of_b(photos):
    painting = photos(1, "art", size=(60, 90))
    data = made(photos(5), train_b=painting, val_b=painting, load_size=(16, 60))
    assert len(data.train) == 4
    assert len(data.val) == 1
    pieces = {data.train[(0, seed)]["b"].numpy().tobytes() for seed in range(20)}
    assert len(pieces) == 20


class TestUnusable:
    def test_one_painting_cannot_be_held_out(self, photos):
        with pytest.raises(DataError, match=r"^data.train_b: the one image of .* cannot both") as e:
            made(photos(5), train_b=photos(1, "art"))
        assert e.value.hint == "name other images with data.val_b"

    def test_no_second_domain(self, photos):
        with pytest.raises(DataError, match=r"^data.train_b: missing, and data.train holds no"):
            made(photos(5))

    def test_an_empty_domain(self, photos, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match=r"^data.train_b: no images in"):
            made(photos(5), train_b=tmp_path / "none")

    def test_bad_pictures_are_named_or_left_out(self, horses):
        (horses / "trainB" / "trainB01.png").write_bytes(b"")
        with pytest.raises(BadImagesError, match=r"data.train_b: trainB01.png  empty \(0 bytes\)"):
            made(horses)
        data = made(horses, on_error="skip")
        seen = data.train.__getitems__([(0, seed) for seed in range(40)])["b"]
        assert set(levels(seen)) == {110, 130}

    def test_too_small_to_cut(self, horses):
        with pytest.raises(BadImagesError, match="20 x 20, smaller than 21 x 21"):
            made(horses, image_size=21, resize="none")

    def test_a_folder_that_is_not_in_the_zip(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
            file.write(flat(tmp_path / "x", 3) / "x00.png", "shoes/1.png")
        with pytest.raises(DataError, match=r"^data.train: all.zip has no images in a folder") as e:
            made(f"{tmp_path}/all.zip/shoe", train_b=f"{tmp_path}/all.zip/shoes")
        assert e.value.hint == "did you mean 'shoes'?"


class TestCommands:
    @pytest.fixture
    def recipe(self, horses) -> Path:
        path = horses.parent / "unpaired.yaml"
        path.write_text(
            "family: edsr\n"
            "data: {kind: unpaired_images, train: h2z, image_size: 16}\n"
            "trainer: {max_steps: 1, global_batch: 3}\n"
        )
        return path

    def test_show(self, recipe, tmp_path):
        facts = show(str(recipe), sheet=tmp_path / "sheet.png")
        assert facts["batch"]["a"]["shape"] == [3, 3, 16, 16]
        counts = {key: part["pictures"] for key, part in facts["parts"].items()}
        assert counts == {"data.train": 6, "data.val": 3, "data.train_b": 3, "data.val_b": 2}
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width >= 32

    def test_show_of_a_folder_in_a_zip(self, horses, tmp_path):
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
            for path in sorted(horses.rglob("*.png")):
                file.write(path, str(path.relative_to(horses)))
        assert show(f"{tmp_path}/all.zip/trainB")["parts"]["data"]["pictures"] == 3

    def test_duplicates_are_looked_for_in_each_domain(self, recipe, horses):
        picture = pixels(20, 20)
        Image.fromarray(picture).save(horses / "trainA" / "x.png")
        Image.fromarray(picture).save(horses / "trainB" / "x.png")
        assert not inspect(str(recipe)).warnings
        Image.fromarray(picture).save(horses / "testB" / "y.png")
        (warning,) = inspect(str(recipe)).warnings
        assert warning.code == "data.overlap_duplicate"
        assert "data.train_b: x.png, data.val_b: y.png" in warning.message

    def test_fit(self, horses):
        found = suggest(Config(train=str(horses)))
        assert found["image_size"][0] == 20
        assert found["train"][1].startswith("6 images of A and 3 of B train: 20 to 20 pixels")
        assert found["channels"] == (1, "All images are gray.")

"""Images of one size: the right pixels, the right class, the same for the same seed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from painted import pixels
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.data.images import Config, Data, fitted
from aigc_cli.errors import DataError
from aigc_cli.media.image import to_tensor


def made(train: Path, *, seed: int = 0, **options) -> Data:
    return Data(Config(train=str(train), **{"image_size": 16, **options}), seed=seed)


@pytest.fixture
def animals(tmp_path):
    """Folder of 8 cats, 4 dogs and 2 emus, each 24 x 20 pixels."""
    for count, name in ((8, "cat"), (4, "dog"), (2, "emu")):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for i in range(count):
            picture = Image.fromarray(pixels(20, 24, seed=100 * count + i))
            picture.save(tmp_path / "animals" / name / f"{i}.png")
    return tmp_path / "animals"


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_has_the_shape_and_range_of_its_spec(animals, channels):
    data = made(animals, channels=channels)
    batch = data.train.__getitems__([(0, 1), (5, 2), (11, 3)])
    assert data.spec.as_dict() == {
        "kind": "images",
        "channels": channels,
        "image_size": 16,
        "labels": ("cat", "dog", "emu"),
    }
    assert batch["image"].shape == (3, channels, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert -1 <= batch["image"].min() < 0 < batch["image"].max() <= 1
    assert batch["label"].dtype == torch.int64
    assert data.val_batch_size is None


def test_labels_are_those_of_the_folders(animals):
    data = made(animals, val=str(animals))
    for i in range(len(data.train)):
        folder = data.train.images.name(i).split("/")[0]
        assert data.spec.labels[data.train[(i, 0)]["label"]] == folder
        assert data.spec.labels[data.val[i]["label"]] == folder


def test_labels_can_be_left_out(animals):
    data = made(animals, labels="none")
    assert data.spec.labels is None
    assert set(data.train[(0, 0)]) == {"image"}


def test_pictures_without_folders_have_no_labels(photos):
    data = made(photos(3))
    assert data.spec.labels is None
    assert set(data.val[0]) == {"image"}


def test_validation_without_classes(animals, photos):
    with pytest.raises(DataError, match="its images have no classes") as caught:
        made(animals, val=str(photos(2)))
    assert "data.labels=none" in caught.value.hint


def test_validation_with_an_unknown_class(animals, tmp_path):
    for name in ("cat", "yak"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.fromarray(pixels(20, 20)).save(tmp_path / "val" / name / "1.png")
    with pytest.raises(DataError, match=r"^data.val: class 'yak' has no training images"):
        made(animals, val=str(tmp_path / "val"))


def test_batch_is_its_items_stacked(animals):
    data = made(animals, flip=True)
    keys = [(i % 12, 77 + i) for i in range(20)]
    batch = data.train.__getitems__(keys)
    for name, values in batch.items():
        assert torch.equal(values, torch.stack([data.train[key][name] for key in keys]))


def test_flip_mirrors_half_of_the_pictures(photos):
    data = made(photos(2), flip=True, val=str(photos(2)))
    plain = data.val[0]["image"]
    mirrored = 0
    for seed in range(200):
        image = data.train[(0, seed * 2654435761 + 12345)]["image"]
        assert torch.equal(image, plain) or torch.equal(image, plain.flip(-1))
        mirrored += not torch.equal(image, plain)
    assert 70 < mirrored < 130


def test_without_flip_training_shows_the_pictures(photos):
    folder = photos(2)
    data = made(folder, val=str(folder))
    assert all(torch.equal(data.train[(1, s)]["image"], data.val[1]["image"]) for s in range(9))


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_batches(animals, workers):
    data = made(animals)
    sampler = StepSampler(len(data.train), global_batch=5, seed=0, stop=3)
    loader = DataLoader(
        data.train, batch_sampler=sampler, collate_fn=data.train.collate, num_workers=workers
    )
    for batch, keys in zip(loader, sampler, strict=True):
        assert torch.equal(batch["image"], data.train.__getitems__(keys)["image"])


class TestFitted:
    """Compared with what Pillow makes of the cropped image, and with flat areas."""

    def test_crop_keeps_the_middle(self):
        picture = pixels(40, 100)
        whole = Image.fromarray(picture).resize((40, 16), Image.Resampling.BICUBIC)
        middle = np.array(whole)[:, 12:28].astype(int)
        assert abs(fitted(picture, 16, "crop") - middle).max() <= 1

    def test_stretch_uses_the_whole_picture(self):
        picture = pixels(40, 100)
        whole = Image.fromarray(picture).resize((16, 16), Image.Resampling.BICUBIC)
        assert np.array_equal(fitted(picture, 16, "stretch"), np.array(whole))

    @pytest.mark.parametrize("how", ["crop", "stretch", "none"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_right_size_is_left_alone(self, how, channels):
        picture = pixels(16, 16, channels)
        assert np.array_equal(fitted(picture, 16, how), picture)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 90), (3, 2), (500, 333)])
    def test_every_size_comes_out_right_and_flat_stays_flat(self, shape):
        for how in ("crop", "stretch"):
            out = fitted(np.full((*shape, 1), 93, np.uint8), 16, how)
            assert out.shape == (16, 16, 1)
            assert (out == 93).all()

    def test_fine_stripes_become_gray_and_no_false_pattern(self):
        stripes = np.zeros((256, 256, 1), np.uint8)
        stripes[:, ::2] = 255
        inside = fitted(stripes, 16, "stretch")[2:-2, 2:-2].astype(int)
        assert abs(inside - 127.5).max() <= 1


def test_resize_none_names_pictures_of_other_sizes(photos):
    folder = photos(2, size=(16, 16))
    Image.fromarray(pixels(16, 17)).save(folder / "wide.png")
    with pytest.raises(DataError, match=r"17 x 16, not 16 x 16 as data.resize=none needs"):
        made(folder, resize="none")
    data = made(folder, resize="none", on_error="skip", val=str(folder))
    assert len(data.train) == 2
    original = np.array(Image.open(folder / "p01.png"))
    assert torch.equal(data.val[1]["image"], to_tensor(original))


def test_idx_digits_have_numbers_as_classes(tmp_path):
    def write(name, values):
        head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
        (tmp_path / name).write_bytes(gzip.compress(head + values.tobytes()))

    digits = np.random.default_rng(0).integers(0, 256, (24, 16, 16), np.uint8)
    write("t-images-idx3-ubyte.gz", digits)
    write("t-labels-idx1-ubyte.gz", np.arange(24, dtype=np.uint8) % 12)
    path = tmp_path / "t-images-idx3-ubyte.gz"
    data = made(path, channels=1, resize="none", val=str(path))
    assert data.spec.labels == tuple(map(str, range(12)))  # 10 and 11 behind 9
    for i in range(24):
        assert torch.equal(data.val[i]["image"], to_tensor(digits[i, :, :, None]))
        assert data.val[i]["label"] == i % 12


def test_cached_pictures_are_the_same(animals, tmp_path):
    keys = [(i, i) for i in range(12)]
    first = made(animals).train.__getitems__(keys)["image"]
    assert torch.equal(made(animals).train.__getitems__(keys)["image"], first)
    assert torch.equal(made(animals, cache="off").train.__getitems__(keys)["image"], first)
    other = made(animals, resize="stretch").train.__getitems__(keys)["image"]
    assert not torch.equal(other, first)


@pytest.mark.parametrize(
    "option", [{"image_size": 3}, {"resize": "pad"}, {"channels": 4}, {"labels": "all"}]
)
def test_impossible_settings_are_refused(option):
    with pytest.raises(ValidationError):
        Config(**{"train": "x", **option})

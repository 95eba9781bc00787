"""Pairs of patches: aligned, reproducible, exact, and quick from the cache."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time

import numpy as np
import pytest
import torch
from painted import pixels
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.data.super_resolution import Config, Data, turned
from aigc_cli.errors import DataError, RunError
from aigc_cli.media.image import read_image, to_tensor
from aigc_cli.media.resize import modcrop, resize_bicubic


def made(folder, *, seed=0, bases=(), **options) -> Data:
    options = {"patch_size": 8, "val": str(folder), **options}
    return Data(Config(train=str(folder), **options), seed=seed, bases=bases)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_validation_pairs_are_whole_pictures_and_their_bicubic_reduction(photos, scale, channels):
    folder = photos(2, size=(41, 50))
    data = made(folder, scale=scale, channels=channels)
    assert (data.spec.scale, data.spec.channels) == (scale, channels)
    for i, path in enumerate(sorted(folder.iterdir())):
        whole = modcrop(read_image(path).as_channels(channels).pixels, scale)
        assert torch.equal(data.val[i]["high"], to_tensor(whole))
        assert torch.equal(data.val[i]["low"], to_tensor(resize_bicubic(whole, scale=1 / scale)))
        assert data.val.name(i) == path.name


def places(patch, whole):
    """Where (C, p, p) lies in (C, H, W), in any of its 8 ways."""
    p = patch.shape[-1]
    windows = whole.unfold(1, p, 1).unfold(2, p, 1)  # (C, y, x, p, p)
    found = []
    for way in range(8):
        same = windows == torch.from_numpy(turned(patch.numpy(), way).copy())[:, None, None]
        found += [(way, *place) for place in same.all(-1).all(-1).all(0).nonzero().tolist()]
    return found


@pytest.mark.parametrize("scale", [2, 3])
def test_patches_are_cut_at_the_same_place_and_turned_the_same_way(photos, scale):
    data = made(photos(1, size=(40, 44)), scale=scale)
    low, high = data.val[0]["low"], data.val[0]["high"]
    ways = set()
    for seed in range(30):
        item = data.train[(0, seed)]
        ((way, y, x),) = places(item["low"], low)
        assert places(item["high"], high) == [(way, scale * y, scale * x)]
        ways.add(way)
    assert ways == set(range(8))


def test_without_augmentation_patches_stand_upright(photos):
    data = made(photos(1), augment=False)
    ways = {places(data.train[(0, seed)]["low"], data.val[0]["low"])[0][0] for seed in range(9)}
    assert ways == {0}


def test_patches_reach_every_corner(photos):
    data = made(photos(1, size=(18, 20)), augment=False)
    found = {places(data.train[(0, s)]["low"], data.val[0]["low"])[0][1:] for s in range(60)}
    assert found == {(y, x) for y in range(2) for x in range(3)}


def test_batch_is_its_items_stacked(photos):
    data = made(photos(4))
    keys = [(i % 4, 1000 + i) for i in range(6)]
    batch = data.train.__getitems__(keys)
    for name in ("low", "high"):
        assert torch.equal(batch[name], torch.stack([data.train[key][name] for key in keys]))
        assert batch[name].dtype == torch.float32
        assert batch[name].is_contiguous()
    assert batch["low"].shape == (6, 3, 8, 8)
    assert batch["high"].shape == (6, 3, 16, 16)


def test_range_is_that_of_pictures(photos):
    folder = photos(1)
    Image.fromarray(np.arange(256, dtype=np.uint8).repeat(9).reshape(48, 48)).save(folder / "b.png")
    high = made(folder).val[0]["high"]
    assert torch.equal(high, to_tensor(np.array(Image.open(folder / "b.png").convert("RGB"))))
    assert (high.min(), high.max()) == (-1, 1)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_the_same_batches(photos, start):
    data = made(photos(5))
    sampler = StepSampler(5, global_batch=4, seed=1, stop=3)
    options = {"batch_sampler": sampler, "collate_fn": data.train.collate}
    alone = list(DataLoader(data.train, **options))
    context = multiprocessing.get_context(start)
    workers = DataLoader(data.train, num_workers=1, multiprocessing_context=context, **options)
    for expected, batch in zip(alone, workers, strict=True):
        assert torch.equal(expected["low"], batch["low"])
        assert torch.equal(expected["high"], batch["high"])


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_cache_changes_no_number(photos, cache, tmp_path):
    folder = photos(3, size=(33, 47))
    keys = [(i % 3, i) for i in range(9)]
    fresh = made(folder, cache=str(tmp_path / "fresh")).train.__getitems__(keys)
    for _ in range(2):
        batch = made(folder, cache=cache).train.__getitems__(keys)
        assert all(torch.equal(batch[name], fresh[name]) for name in fresh)


def test_second_epoch_reads_no_file(photos):
    folder = photos(3)
    data = made(folder)
    first = [data.train[(i, 7)]["low"] for i in range(3)]
    shutil.rmtree(folder)
    assert all(torch.equal(data.train[(i, 7)]["low"], first[i]) for i in range(3))


def test_background_prepares_every_picture(photos):
    folder = photos(5)
    data = made(folder)
    data.start_background()
    deadline = time.monotonic() + 10
    while data._background._thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    data.stop_background()
    shutil.rmtree(folder)
    assert len([data.train[(i, 0)] for i in range(5)]) == 5


@pytest.mark.parametrize("change", [os.unlink, lambda p: p.write_bytes(b"x"), "replaced"])
def test_file_that_changes_during_the_run_is_named(photos, change):
    folder = photos(2)
    data = made(folder)
    if change == "replaced":
        Image.fromarray(pixels(32, 40, seed=9)).save(folder / "p01.png")
    else:
        change(folder / "p01.png")
    with pytest.raises(RunError, match=r"^image changed during the run: p01.png"):
        data.train[(1, 0)]


def test_error_of_a_worker_is_the_same_sentence(photos):
    folder = photos(1)
    data = made(folder)
    (folder / "p00.png").unlink()
    sampler = StepSampler(1, global_batch=1, seed=0, stop=1)
    loader = DataLoader(data.train, batch_sampler=sampler, num_workers=1)
    with pytest.raises(RunError) as caught:
        list(loader)
    assert caught.value.message == "image changed during the run: p00.png: no such file"
    assert caught.value.exit_code == 3


def test_every_tenth_picture_is_held_out(photos):
    data = made(photos(21), val=None)
    assert [data.val.name(i) for i in range(len(data.val))] == ["p00.png", "p10.png", "p20.png"]
    assert len(data.train) == 18
    names = {data.train.pairs.name(i) for i in range(18)}
    assert not names & {"p00.png", "p10.png", "p20.png"}


def test_one_picture_cannot_be_held_out(photos):
    with pytest.raises(DataError, match="cannot both train and validate") as caught:
        made(photos(1), val=None)
    assert caught.value.hint == "name other images with data.val"


def test_bad_pictures_of_both_parts_are_in_one_table(photos):
    train, val = photos(3, "train"), photos(2, "val")
    (train / "bad.png").write_bytes(b"")
    Image.fromarray(pixels(12, 90)).save(val / "low.png")
    with pytest.raises(DataError) as caught:
        made(train, val=str(val))
    assert caught.value.message.splitlines() == [
        "2 of 7 images cannot be used",
        "  data.train: bad.png  empty (0 bytes)",
        "  data.val: low.png    90 x 12, smaller than 15 x 15",
    ]
    data = made(train, val=str(val), on_error="skip")
    assert (len(data.train), len(data.val)) == (3, 2)
    assert data.report["data.train"].bad == [("bad.png", "empty (0 bytes)")]


def test_picture_smaller_than_the_patch(photos):
    with pytest.raises(DataError, match="40 x 32, smaller than 34 x 34"):
        made(photos(1), patch_size=17)
    made(photos(1), patch_size=16)


def test_skip_with_nothing_left(photos):
    with pytest.raises(DataError, match="1 of 2 images cannot be used") as caught:
        made(photos(1), patch_size=17, on_error="skip")
    assert caught.value.hint == "no image is left in data.train"


def test_several_sources_and_both_bases(photos, tmp_path):
    photos(2, "here/a")
    photos(3, "recipe/b c")
    config = Config(train=("a", "b c"), val="a", patch_size=8)
    data = Data(config, seed=0, bases=[tmp_path / "here", tmp_path / "recipe"])
    assert len(data.train) == 5
    assert data.train.pairs.name(4) == "b c/p02.png"


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.full((32, 32), 40000, np.uint16), round(40000 / 257)),
        (np.dstack([np.full((32, 32, 3), 0, np.uint8), np.full((32, 32), 0, np.uint8)]), 255),
        (np.dstack([np.full((32, 32, 3), 9, np.uint8), np.full((32, 32), 51, np.uint8)]), 206),
        (np.full((32, 32), 7, np.uint8), 7),
    ],
)
def test_every_kind_of_pixels_becomes_8_bit_rgb_over_white(photos, array, expected):
    folder = photos(0)
    Image.fromarray(array).save(folder / "a.png")
    high = made(folder).val[0]["high"]
    assert high.shape == (3, 32, 32)
    assert torch.equal(high, to_tensor(np.full((32, 32, 3), expected, np.uint8)))


@pytest.mark.parametrize(
    "option",
    [{"scale": 5}, {"patch_size": 7}, {"channels": 2}, {"train": ""}, {"train": ()}, {"typo": 1}],
)
def test_impossible_settings_are_refused(option):
    with pytest.raises(ValidationError):
        Config(**{"train": "x", **option})


@pytest.mark.slow
def test_warm_batch_takes_less_than_two_milliseconds(shared_data):
    data = made(shared_data("bsds500_train"), patch_size=48)
    sampler = StepSampler(len(data.train), global_batch=16, seed=0, stop=40)
    torch.set_num_threads(1)
    times = []
    for keys in sampler:
        begin = time.perf_counter()
        data.train.__getitems__(keys)
        times.append(time.perf_counter() - begin)
    assert np.median(times[-10:]) < 0.002

"""Pairs: both sides show the same place, pairs are found by name, and what is no pair is named."""

from __future__ import annotations

import re
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
from aigc_cli.data.image_pairs import Config, Data, suggest
from aigc_cli.errors import DataError
from aigc_cli.media.image import to_tensor
from aigc_cli.run.data import inspect, show


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def left(i: int, height: int = 24, width: int = 20) -> np.ndarray:
    return pixels(height, width, seed=i)


def right(i: int, height: int = 24, width: int = 20) -> np.ndarray:
    """The negative of `left`, so that what belongs together can be told."""
    return 255 - left(i, height, width)


@pytest.fixture
def wide(tmp_path) -> Path:
    """12 images with A left and B right."""
    for i in range(12):
        save(tmp_path / "wide" / f"{i:02d}.png", np.concatenate([left(i), right(i)], axis=1))
    return tmp_path / "wide"


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """The same pairs in two folders, the second with another ending."""
    for i in range(12):
        save(tmp_path / "two" / "A" / f"{i:02d}.png", left(i))
        save(tmp_path / "two" / "B" / f"{i:02d}.bmp", right(i))
    return tmp_path / "two" / "A", tmp_path / "two" / "B"


def made(train: Path, *, seed: int = 0, **options) -> Data:
    texts = {key: str(v) if isinstance(v, Path) else v for key, v in options.items()}
    return Data(Config(train=str(train), **{"image_size": 16, **texts}), seed=seed)


def negative(batch: dict[str, torch.Tensor]) -> bool:
    """Whether the target is the negative of the source, as `right` is of `left`."""
    return torch.allclose(batch["source"], -batch["target"], atol=1e-6)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (1, 1), (3, 3)])
def test_batch_has_the_shape_and_range_of_its_spec(wide, channels):
    data = made(wide, source_channels=channels[0], target_channels=channels[1])
    batch = data.train.__getitems__([(0, 1), (5, 2), (9, 3)])
    assert data.spec.as_dict() == {
        "kind": "image_pairs",
        "source_channels": channels[0],
        "target_channels": channels[1],
        "image_size": 16,
    }
    for key, count in zip(("source", "target"), channels, strict=True):
        assert batch[key].shape == (3, count, 16, 16)
        assert batch[key].dtype == torch.float32
        assert data.val[0][key].shape == (count, 16, 16)
        assert -1 <= batch[key].min() < 0 < batch[key].max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"load_size": 19},
        {"load_size": (16, 30)},
        {"resize": "stretch", "load_size": 21},
        {"resize": "none"},
        {},
    ],
)
def test_both_sides_show_the_same_place(wide, options):
    data = made(wide, flip=True, **options)
    batch = data.train.__getitems__([(i % 10, 1000 + i) for i in range(40)])
    # The negative stays one through resizing, up to its rounding to 8 bits.
    assert (batch["source"] + batch["target"]).abs().max() <= 2.1 / 127.5
    assert len({item.numpy().tobytes() for item in batch["source"]}) > 30


def test_windows_without_resizing_are_pieces_of_the_picture(wide):
    data = made(wide, val=wide, resize="none", flip=True)
    whole = to_tensor(left(3))
    seen = set()
    for seed in range(300):
        source = data.train[(3, seed * 2654435761)]["source"]
        for mirrored in (False, True):
            piece = source.flip(-1) if mirrored else source
            for y in range(24 - 16 + 1):
                for x in range(20 - 16 + 1):
                    if torch.equal(whole[:, y : y + 16, x : x + 16], piece):
                        seen.add((y, x, mirrored))
    assert len(seen) > 80  # of the 90 there are, and every item is one
    middle = data.val[3]["source"]
    assert torch.equal(middle, whole[:, 4:20, 2:18])


def test_everything_random_follows_from_the_seed(wide):
    one, other = made(wide, load_size=20, flip=True), made(wide, load_size=20, flip=True)
    assert all(same(one.train[(i, 7 * i)], other.train[(i, 7 * i)]) for i in range(10))
    assert not same(one.train[(0, 1)], one.train[(0, 2)])


def test_validation_has_no_randomness_and_stays_out_of_training(wide):
    data = made(wide, load_size=20, flip=True)
    assert same(data.val[0], data.val[0])
    assert [data.val.name(i) for i in range(len(data.val))] == ["00.png", "10.png"]
    assert len(data.train) == 10
    with pytest.raises(IndexError):
        data.val[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_number_of_processes(wide, workers):
    data = made(wide, load_size=20, flip=True)

    def batches(rank: int, world: int) -> list[dict[str, torch.Tensor]]:
        sampler = StepSampler(
            len(data.train), global_batch=4, rank=rank, world=world, seed=3, stop=4
        )
        collate = data.train.collate
        return list(DataLoader(data.train, batch_sampler=sampler, collate_fn=collate))

    loader = DataLoader(
        data.train,
        batch_sampler=StepSampler(len(data.train), global_batch=4, seed=3, stop=4),
        collate_fn=data.train.collate,
        num_workers=workers,
    )
    for whole, first, second in zip(loader, batches(0, 2), batches(1, 2), strict=True):
        joined = {key: torch.cat([first[key], second[key]]) for key in whole}
        assert same(whole, joined)


class TestSides:
    def test_a2b_reads_from_left_to_right(self, wide):
        data = made(wide, val=wide, image_size=20, resize="none")
        assert torch.equal(data.val[4]["source"], to_tensor(left(4)[2:22]))
        assert torch.equal(data.val[4]["target"], to_tensor(right(4)[2:22]))

    def test_b2a_exchanges_the_sides(self, wide, folders):
        for source in (wide, folders[0].parent):
            forth = made(source, source_channels=1, load_size=18)
            back = made(source, source_channels=3, target_channels=1, direction="b2a", load_size=18)
            for key in ((0, 5), (3, 99)):
                there, here = forth.train[key], back.train[key]
                assert torch.equal(there["source"], here["target"])
                assert torch.equal(there["target"], here["source"])

    def test_all_ways_to_name_pairs_give_the_same(self, wide, folders, tmp_path):
        a, b = folders
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            for path in sorted(a.parent.rglob("*.*")):
                archive.write(path, f"set/{path.relative_to(a.parent)}")
        listed = tmp_path / "list.txt"
        listed.write_text("\n".join(str(path) for path in sorted(wide.iterdir())))
        archived = str(tmp_path / "z.zip")
        expected = made(wide, load_size=18, flip=True)
        for data in (
            made(a, train_b=b, load_size=18, flip=True),
            made(a.parent, load_size=18, flip=True),
            made(f"{archived}/set", load_size=18, flip=True),
            made(f"{archived}/set/A", train_b=f"{archived}/set/B/", load_size=18, flip=True),
            made(listed, load_size=18, flip=True),
        ):
            assert len(data.train) == 10
            assert len(data.val) == 2
            assert all(same(data.train[(i, i)], expected.train[(i, i)]) for i in range(10))
            assert all(same(data.val[i], expected.val[i]) for i in range(2))

    def test_lists_of_sources_match_part_by_part(self, tmp_path):
        for part in "xy":
            for i in range(3):
                save(tmp_path / part / "photo" / f"{i}.png", left(i + ord(part)))
                save(tmp_path / part / "label" / f"{i}.png", right(i + ord(part)))
        train, train_b = (
            tuple(str(tmp_path / part / side) for part in "xy") for side in ("photo", "label")
        )
        data = Data(Config(train=train, train_b=train_b, image_size=16, resize="none"), seed=0)
        batch = data.train.__getitems__([(i, i) for i in range(5)])
        assert negative(batch)

    @pytest.mark.parametrize("names", [("trainA", "trainB"), ("source", "target"), ("A", "B")])
    def test_folders_of_usual_names_are_the_domains(self, tmp_path, names):
        for i in range(4):
            for name, draw in zip(names, (left, right), strict=True):
                save(tmp_path / "set" / name / f"{i}.png", draw(i))
            save(tmp_path / "set" / "testA" / f"t{i}.png", left(i + 50))
            save(tmp_path / "set" / "testB" / f"t{i}.png", right(i + 50))
        data = made(tmp_path / "set", resize="none")
        assert len(data.train) == 4
        assert data.val.name(1) == "t1.png"
        item = data.train[(2, 4)]
        assert negative(item)

    def test_transparency_lies_over_white(self, tmp_path):
        rgba = np.zeros((16, 16, 4), np.uint8)
        for i in range(2):
            save(tmp_path / "A" / f"{i}.png", rgba)
            save(tmp_path / "B" / f"{i}.png", left(i, 16, 16))
        assert (made(tmp_path).val[0]["source"] == 1).all()


class TestUnusable:
    def test_names_without_a_partner_are_listed(self, folders):
        a, b = folders
        (a / "03.png").unlink()
        (b / "07.bmp").rename(b / "7.bmp")
        with pytest.raises(BadImagesError) as caught:
            made(a, train_b=b)
        assert str(caught.value).startswith("3 of 23 images cannot be used")
        for key, name, other in (
            ("train", "07.png", b),
            ("train_b", "03.bmp", a),
            ("train_b", "7.bmp", a),
        ):
            line = f"data.{key}: {name}"
            assert line in str(caught.value)
            assert f"no image of this name in {other}" in str(caught.value)

    def test_pairs_without_a_partner_are_left_out(self, folders):
        a, b = folders
        (a / "03.png").unlink()
        (b / "07.bmp").unlink()
        data = made(a, train_b=b, on_error="skip", resize="none")
        assert len(data.train) + len(data.val) == 10
        assert [name for name, _ in data.report["data.train"].bad] == ["07.png"]
        assert [name for name, _ in data.report["data.train_b"].bad] == ["03.bmp"]
        batch = data.train.__getitems__([(i, i) for i in range(len(data.train))])
        assert negative(batch)

    def test_no_name_fits(self, tmp_path):
        for i in range(3):
            save(tmp_path / "A" / f"a{i}.png", left(i))
            save(tmp_path / "B" / f"b{i}.png", left(i))
        with pytest.raises(BadImagesError) as caught:
            made(tmp_path, on_error="skip")
        assert "no image is left in data.train" in caught.value.hint

    def test_a_name_that_two_pictures_have(self, folders):
        a, b = folders
        save(a / "05.bmp", left(5))
        with pytest.raises(BadImagesError) as caught:
            made(a, train_b=b)
        for line in (
            "train: 05.png +2 images have this name",
            "train: 05.bmp +2 images have this name",
            "train_b: 05.bmp +2 images of this name in",
        ):
            assert re.search(line, str(caught.value))

    def test_sides_of_different_sizes(self, folders):
        a, b = folders
        save(b / "04.bmp", right(4, 30, 20))
        with pytest.raises(BadImagesError, match=r"04.png +20 x 24, but 20 x 30 in"):
            made(a, train_b=b)
        data = made(a, train_b=b, on_error="skip")
        assert len(data.train) + len(data.val) == 11

    def test_a_damaged_side_takes_the_pair_with_it(self, folders):
        a, b = folders
        (b / "04.bmp").write_bytes(b"BM nothing")
        data = made(a, train_b=b, on_error="skip", resize="none")
        assert [name for name, _ in data.report["data.train_b"].bad] == ["04.bmp"]
        names = [data.train.pairs.name(i) for i in range(len(data.train))]
        assert "04.png" not in names
        batch = data.train.__getitems__([(i, i) for i in range(len(data.train))])
        assert negative(batch)

    def test_an_odd_width_has_no_middle(self, wide):
        save(wide / "odd.png", pixels(24, 41))
        with pytest.raises(BadImagesError, match=r"odd.png +41 x 24, and an odd width"):
            made(wide)

    def test_a_shape_unlike_the_others(self, wide):
        save(wide / "single.png", left(99))
        with pytest.raises(BadImagesError) as caught:
            made(wide)
        assert "single.png  20 x 24, where most are 1.67 times as wide as high" in str(caught.value)
        skipped = made(wide, on_error="skip")
        assert [name for name, _ in skipped.report["data.train"].bad] == ["single.png"]
        assert len(skipped.train) == len(made(wide, aspect="any").train) - 1

    def test_the_shape_of_validation_is_that_of_training(self, wide, tmp_path):
        save(tmp_path / "val" / "1.png", left(1))
        with pytest.raises(BadImagesError, match=r"data.val: 1.png +20 x 24, where most"):
            made(wide, val=tmp_path / "val")

    def test_pictures_of_many_shapes_are_all_usable(self, tmp_path):
        for i in range(8):
            save(tmp_path / "mixed" / f"{i}.png", pixels(24, 40 + 6 * i, seed=i))
        assert len(made(tmp_path / "mixed").train) == 7

    def test_too_small_to_cut(self, wide):
        with pytest.raises(BadImagesError, match="each side is 20 x 24, smaller than 21 x 21"):
            made(wide, image_size=21, resize="none")

    def test_an_empty_side(self, folders, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match=r"^data.train_b: no images in .*none"):
            made(folders[0], train_b=tmp_path / "none")

    def test_a_single_pair(self, tmp_path):
        save(tmp_path / "one" / "1.png", pixels(24, 40))
        with pytest.raises(DataError, match=r"^data.train: the one pair of .* cannot both"):
            made(tmp_path / "one")
        assert len(made(tmp_path / "one", val=tmp_path / "one").train) == 1

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (("train", "train_b", "val"), "data.val_b: missing where data.train_b"),
            (("train", "val", "val_b"), "data.train_b: missing where data.val_b"),
            (("train", "train_b", "val_b"), "data.val_b: given without data.val"),
        ],
    )
    def test_half_of_the_sides_named(self, folders, keys, message):
        with pytest.raises(DataError, match=message):
            Data(Config(**dict.fromkeys(keys, str(folders[0])), image_size=16), seed=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"load_size": 15}, r"load_size \(15\) must be at least image_size \(16\)"),
            ({"load_size": (30, 20)}, r"load_size is \[least, most\], not \[30, 20\]"),
            ({"load_size": 20, "resize": "none"}, "load_size has no meaning with resize=none"),
            ({"source_channels": 2}, "source_channels"),
        ],
    )
    def test_settings_that_contradict(self, options, message):
        with pytest.raises(ValidationError, match=message):
            Config(train="x", image_size=16, **options)


class TestCommands:
    @pytest.fixture
    def recipe(self, wide) -> Path:
        path = wide.parent / "pairs.yaml"
        path.write_text(
            "family: edsr\n"
            "data: {kind: image_pairs, train: wide, image_size: 16, target_channels: 1}\n"
            "trainer: {max_steps: 1, global_batch: 3}\n"
        )
        return path

    def test_show_draws_pairs(self, recipe, tmp_path):
        facts = show(str(recipe), sheet=tmp_path / "sheet.png")
        assert facts["batch"]["source"]["shape"] == [3, 3, 16, 16]
        assert facts["batch"]["target"]["shape"] == [3, 1, 16, 16]
        assert [part["pictures"] for part in facts["parts"].values()] == [10, 2]
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width >= 32

    def test_check_names_what_training_would(self, recipe, wide):
        assert inspect(str(recipe)).bad is None
        save(wide / "odd.png", pixels(24, 41))
        assert "odd.png" in str(inspect(str(recipe)).bad)

    def test_sides_that_look_alike_are_no_duplicates(self, folders, recipe):
        for i in range(12):
            save(folders[1] / f"{i:02d}.bmp", left(i))
        overrides = [f"data.train={folders[0]}", f"data.train_b={folders[1]}"]
        assert not inspect(str(recipe), overrides).warnings

    def test_fit(self, wide, folders):
        found = suggest(Config(train=str(wide)))
        assert found["image_size"][0] == 20
        assert found["load_size"][0] == 22
        assert found["train"][1].startswith("10 pairs train: 20 to 20 pixels")
        assert "source_channels" not in found
        for i in range(12):
            save(folders[0] / f"{i:02d}.png", left(i)[:, :, 0])
        assert suggest(Config(train=str(folders[0].parent)))["source_channels"][0] == 1
        turned = suggest(Config(train=str(folders[0].parent), direction="b2a"))
        assert "source_channels" not in turned
        assert turned["target_channels"][0] == 1

    @pytest.mark.parametrize(
        ("options", "suggested"),
        [
            ({"image_size": 32}, {"load_size": 35}),
            ({"resize": "none", "image_size": 16}, {}),
            ({"resize": "none"}, {"image_size": 20}),
            ({"load_size": 300}, {"image_size": 20}),
        ],
    )
    def test_fit_agrees_with_what_is_given(self, wide, options, suggested):
        found = suggest(Config(train=str(wide), **options))
        values = {key: value for key, (value, _) in found.items() if key != "train"}
        assert values == suggested
        Config(train=str(wide), **options | values)

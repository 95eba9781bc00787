"""What a source text means, and what becomes of files that are no images."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from painted import pixels
from PIL import Image

from aigc_cli.data._sources import PHOTOS, clean_name, folder_labels, open_source
from aigc_cli.errors import DataError, MissingError


def names(source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(9, 12, seed=seed)).save(path)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_folder_is_searched_in_the_order_of_names(tmp_path):
    for name in ("b.PNG", "a/z.jpg", "a/b/c.webp", "t10.bmp", "t2.TIFF", "日本 語.jpeg"):
        save(tmp_path / name)
    for name in (".hidden.png", "__MACOSX/a.png", ".git/a.png", "._a.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert names(source) == ["a/b/c.webp", "a/z.jpg", "b.PNG", "t10.bmp", "t2.TIFF", "日本 語.jpeg"]
    assert all(source.read(i).pixels.shape == (9, 12, 3) for i in range(len(source)))


def test_loops_of_links_end(tmp_path):
    save(tmp_path / "a/one.png")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(open_source(str(tmp_path))) == ["a/one.png"]


def test_linked_folders_are_followed(tmp_path):
    save(tmp_path / "elsewhere/one.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")
    assert names(open_source(str(tmp_path / "photos"))) == ["link/one.png"]


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("text"), "not a PNG"),
        (lambda path: path.symlink_to("nowhere.png"), "link to a file that is not there"),
        (lambda path: os.mkfifo(path), "pipe"),
    ],
)
def test_what_is_no_picture_is_named_and_never_waited_for(tmp_path, make, reason):
    make(tmp_path / "bad one.png")
    source = open_source(str(tmp_path))
    with pytest.raises(DataError, match=f"^bad one.png: .*{reason}"):
        source.read(0)


def test_single_picture(tmp_path):
    assert names(open_source(str(save(tmp_path / "one.png")))) == ["one.png"]


def test_relative_path_is_tried_against_each_base(tmp_path):
    here, recipe = tmp_path / "here", tmp_path / "recipe"
    here.mkdir()
    save(recipe / "photos/a.png")
    source = open_source("photos", bases=[here, recipe])
    assert source.read(0).width == 12
    save(here / "photos/b.png")
    assert names(open_source("photos", bases=[here, recipe])) == ["b.png"]


def test_absent_path_says_where_it_was_looked_for(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError) as caught:
        open_source("photo", bases=[tmp_path, tmp_path / "recipe"], key="data.train")
    assert caught.value.message == (
        f"data.train: 'photo' does not exist; looked in {tmp_path} and in {tmp_path / 'recipe'}"
    )
    assert caught.value.hint == "did you mean 'photos'?"


@pytest.mark.parametrize("text", ["a\nb", "a\0b", ""])
def test_control_characters_are_no_path(text):
    with pytest.raises(DataError, match="is no path"):
        open_source(text)


@pytest.mark.parametrize(
    "files, hint",
    [
        ({}, "the folder is empty"),
        ({"train.zip": b""}, "did you mean .*train.zip"),
        ({"a-images-idx3-ubyte.gz": b""}, "did you mean .*a-images-idx3-ubyte.gz"),
        ({"data.parquet": b""}, "write hf:"),
        ({"song.mid": b""}, "known suffixes are .apng, .bmp"),
    ],
)
def test_folder_without_pictures_says_what_to_do(tmp_path, files, hint):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"^data: no images in") as caught:
        open_source(str(tmp_path))
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint)


def test_unknown_kind_of_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match="is no folder, image, zip"):
        open_source(str(tmp_path / "a.mp4"))


def test_list_file_is_relative_to_itself_with_comments(tmp_path):
    save(tmp_path / "set/a.png")
    save(tmp_path / "b c.png")
    text = "\ufeff# two images\nset/a.png\n\n  b c.png\nmissing.png\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    source = open_source("list.txt", bases=[tmp_path])
    assert names(source) == ["set/a.png", "b c.png", "missing.png"]
    assert source.read(1).width == 12
    with pytest.raises(DataError, match=r"^missing.png: no such file"):
        source.read(2)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"# nothing\n", "no images are named"),
        (b"a.png\nb\xff.png\n", "not UTF-8 text at byte 7"),
        (b"a\x00b.png\n", "is no path"),
    ],
)
def test_bad_list_files(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "list.txt"))


def test_zip_is_read_without_unpacking(tmp_path):
    content = save(tmp_path / "a.png").read_bytes()
    members = ("b/日本.PNG", "a.png", "__MACOSX/._a.png", ".hidden.png", "notes.txt")
    archive = zipped(tmp_path / "set.zip", dict.fromkeys(members, content))
    before = sorted(tmp_path.rglob("*"))
    source = open_source(str(archive))
    assert names(source) == ["a.png", "b/日本.PNG"]
    assert np.array_equal(source.read(1).pixels, pixels(9, 12))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("inner", "expected"),
    [("cat", ["1.png", "old/1.png"]), ("cat/old/", ["1.png"]), ("/dog", ["1.png"])],
)
def test_a_folder_in_a_zip(tmp_path, inner, expected):
    content = save(tmp_path / "a.png").read_bytes()
    members = ("cat/1.png", "cat/old/1.png", "catfish/1.png", "dog/1.png")
    zipped(tmp_path / "Set.ZIP", dict.fromkeys(members, content))
    source = open_source(f"Set.ZIP/{inner}", bases=[tmp_path / "nowhere", tmp_path])
    assert names(source) == expected
    assert source.read(0).width == 12
    assert source.text == f"Set.ZIP/{inner}"


@pytest.mark.parametrize("inner", ["cats", "..", "1.png", "cat/1.png"])
def test_a_folder_that_a_zip_does_not_have(tmp_path, inner):
    archive = zipped(tmp_path / "set.zip", {"cats.txt": b"", "cat/1.png": b"", "1.png": b""})
    with pytest.raises(DataError, match=r"^data: set.zip has no images in a folder") as caught:
        open_source(f"{archive}/{inner}")
    if inner == "cats":
        assert caught.value.hint == "did you mean 'cat'?"


def test_a_folder_that_is_called_like_a_zip(tmp_path):
    save(tmp_path / "set.zip" / "cat" / "1.png")
    assert names(open_source(f"{tmp_path}/set.zip/cat")) == ["1.png"]


def test_names_in_a_zip_lead_nowhere(tmp_path):
    content = save(tmp_path / "a.png").read_bytes()
    archive = zipped(
        tmp_path / "evil.zip",
        {"../../evil.png": content, "/etc/x.png": content, "C:\\w\\y.png": content},
    )
    source = open_source(str(archive))
    assert names(source) == ["etc/x.png", "evil.png", "w/y.png"]
    assert source.read(1).width == 12


def test_zip_bomb_is_refused_by_its_declared_size(tmp_path):
    archive = zipped(tmp_path / "bomb.zip", {"a.png": bytes(20_000_000)})
    assert archive.stat().st_size < 50_000
    source = open_source(str(archive), max_pixels=1_000_000)
    with pytest.raises(DataError, match=r"^a.png: unpacks to 20 MB"):
        source.read(0)


def test_damaged_zip_members_are_named(tmp_path):
    content = save(tmp_path / "a.png").read_bytes()
    archive = zipped(tmp_path / "set.zip", {"a.png": content, "b.png": content})
    data = bytearray(archive.read_bytes())
    data[60:80] = bytes(20)
    archive.write_bytes(data)
    source = open_source(str(archive))
    with pytest.raises(DataError, match=r"^a.png: damaged in the zip"):
        source.read(0)
    assert source.read(1).width == 12


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"text"])
def test_broken_zip(tmp_path, content):
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"^data: set.zip: not a readable zip file"):
        open_source(str(tmp_path / "set.zip"))


def test_zip_survives_pickling_and_fork(tmp_path):
    content = save(tmp_path / "a.png").read_bytes()
    source = open_source(str(zipped(tmp_path / "set.zip", {"a.png": content})))
    source.read(0)
    assert pickle.loads(pickle.dumps(source)).read(0).width == 12
    child = os.fork()
    if child == 0:
        os._exit(0 if source.read(0).width == 12 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert source.read(0).width == 12


def idx(path: Path, values: np.ndarray) -> Path:
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes()))
    return path


def test_idx_with_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)
    path = idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(12, dtype=np.uint8) % 3)
    source = open_source(str(path))
    assert names(source)[-1] == "train-images/11"
    assert np.array_equal(source.read(7).pixels, images[7, :, :, None])
    assert source.labels() == list("012012012012")
    assert np.array_equal(pickle.loads(pickle.dumps(source)).read(3).pixels[:, :, 0], images[3])


@pytest.mark.parametrize(
    "content, message",
    [
        (gzip.compress(b"\0\0\x08\x03" + bytes((0, 0, 0, 9)) * 3 + b"short"), "header says 729"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + b"short"), "the limit is 4,096 MB"),
        (gzip.compress(b"something else"), "not an IDX file"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(bytes(99))[:30], "cannot be read|not an IDX"),
        (b"", "not an IDX|cannot be read"),
    ],
    ids=["short", "huge", "no IDX", "no gzip", "cut", "empty"],  # gzip keeps the time
)
def test_bad_idx_files(tmp_path, content, message):
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "x-images-idx3-ubyte.gz"))


def test_builtin_photographs_are_in_color_and_held_out():
    train, validation = (open_source(f"builtin:photos:{split}") for split in PHOTOS)
    assert not set(names(train)) & set(names(validation))
    assert names(open_source("builtin:photos")) == sorted(names(train) + names(validation))
    assert all(s.read(i).channels == 3 for s in (train, validation) for i in range(len(s)))


@pytest.mark.parametrize(
    "text, message, hint",
    [
        ("builtin:fotos", "unknown builtin data 'fotos'", "did you mean 'photos'?"),
        ("builtin:photos:val", "unknown split 'val'", "did you mean 'validation'?"),
    ],
)
def test_unknown_builtin(text, message, hint):
    with pytest.raises(DataError, match=message) as caught:
        open_source(text)
    assert caught.value.hint == hint


def test_several_sources_are_read_one_after_the_other(tmp_path):
    save(tmp_path / "a/1.png", seed=1)
    save(tmp_path / "b/1.png", seed=2)
    (tmp_path / "b/2.png").write_text("no image")
    source = open_source(["a", "b"], bases=[tmp_path])
    assert names(source) == ["a/1.png", "b/1.png", "b/2.png"]
    assert np.array_equal(source.read(1).pixels, pixels(9, 12, seed=2))
    assert len({source.fingerprint(i) for i in range(3)}) == 3
    with pytest.raises(DataError, match=r"^b/2.png: "):
        source.read(2)


def test_fingerprint_follows_the_file(tmp_path):
    source = open_source(str(save(tmp_path / "a.png")))
    before = source.fingerprint(0)
    assert source.fingerprint(0) == before
    save(tmp_path / "a.png", seed=1)
    assert source.fingerprint(0) != before


@pytest.mark.parametrize(
    "paths, labels",
    [
        (["cat/1.png", "dog/2.png", "cat/3.png"], ["cat", "dog", "cat"]),
        (["train/cat/1.png", "train/dog/x/2.png"], ["cat", "dog"]),
        (["1.png", "dog/2.png"], None),
        (["photos/cat/1.png", "photos/2.png"], None),
        (["cat/1.png", "cat/2.png"], None),
        ([], None),
    ],
)
def test_classes_are_the_folders_in_which_names_differ(paths, labels):
    assert folder_labels(paths) == labels


@given(st.text())
def test_clean_names_are_harmless(name):
    clean = clean_name(name)
    assert not clean.startswith("/")
    assert not {"..", ".", ""} & set(clean.split("/")[:-1])
    assert clean.isprintable()
    assert clean_name(clean) == clean


class TestHuggingFace:
    """Local data sets that `datasets` writes itself; nothing is fetched."""

    @pytest.fixture(autouse=True)
    def _offline(self, tmp_path, monkeypatch):
        pytest.importorskip("datasets")
        import datasets

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")

    @pytest.fixture
    def made(self, tmp_path):
        import datasets

        files = [str(save(tmp_path / f"pictures/{i}.png", seed=i)) for i in range(6)]
        return datasets.Dataset.from_dict(
            {"photo": files, "label": [0, 1, 0, 1, 0, 1]},
            features=datasets.Features(
                photo=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])
            ),
        )

    def check(self, text, bases=()):
        source = open_source(text, bases=bases)
        assert len(source) == 6
        assert np.array_equal(source.read(4).pixels, pixels(9, 12, seed=4))
        assert source.labels() == ["cat", "dog"] * 3
        assert len({source.fingerprint(i) for i in range(6)}) == 6
        assert np.array_equal(
            pickle.loads(pickle.dumps(source)).read(1).pixels, pixels(9, 12, seed=1)
        )

    def test_parquet_file_and_folder(self, made, tmp_path):
        (tmp_path / "table").mkdir()
        made.to_parquet(str(tmp_path / "table/train.parquet"))
        self.check("hf:table/train.parquet", [tmp_path])
        self.check(f"hf:{tmp_path / 'table'}")

    def test_saved_split_and_saved_splits(self, made, tmp_path):
        import datasets

        made.save_to_disk(str(tmp_path / "one"))
        self.check("hf:one", [tmp_path])
        datasets.DatasetDict({"first": made, "second": made}).save_to_disk(str(tmp_path / "both"))
        self.check("hf:both:second", [tmp_path])
        with pytest.raises(DataError, match="has no split 'train'") as caught:
            open_source("hf:both", bases=[tmp_path])
        assert caught.value.hint == "choose from: first, second"

    def test_imagefolder(self, tmp_path):
        for i in range(6):
            save(tmp_path / f"set/{'cat' if i % 2 == 0 else 'dog'}/{i}.png", seed=i)
        source = open_source("hf:set:train", bases=[tmp_path])
        assert sorted(source.labels()) == ["cat"] * 3 + ["dog"] * 3

    def test_bad_rows_are_named(self, tmp_path):
        import datasets

        rows = {"image": [{"bytes": b"no image", "path": None}, None]}
        data = datasets.Dataset.from_dict(
            rows, features=datasets.Features(image=datasets.Image(decode=False))
        )
        data.save_to_disk(str(tmp_path / "bad"))
        source = open_source(f"hf:{tmp_path / 'bad'}")
        for index, reason in enumerate(["not a", "no image"]):
            with pytest.raises(DataError, match=f"^row-{index}: {reason}"):
                source.read(index)

    def test_table_without_pictures(self, tmp_path):
        import datasets

        datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "words"))
        with pytest.raises(DataError, match="has no column of images") as caught:
            open_source("hf:words", bases=[tmp_path])
        assert caught.value.hint == "columns: text"

    @pytest.mark.parametrize("text", ["hf:./nowhere", "hf:/nowhere/at/all"])
    def test_absent_folder(self, tmp_path, text):
        with pytest.raises(DataError, match="does not exist"):
            open_source(text, bases=[tmp_path])

    def test_hub_name_without_network_is_one_sentence(self):
        with pytest.raises(
            DataError, match=r"^data: cannot load the data set 'someone/nothing': "
        ) as e:
            open_source("hf:someone/nothing")
        assert "\n" not in e.value.message


def test_hugging_face_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingError) as caught:
        open_source("hf:user/name")
    assert caught.value.hint == "pip install datasets"
    assert caught.value.exit_code == 5


def test_a_packed_idx_that_grows_too_much_is_refused_before_it_is_unpacked(tmp_path):
    """1.5 MB that unpacked to 1.5 GB took that much memory and a minute."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    count = (200 << 20) // 784
    head = bytes((0, 0, 8, 3)) + np.array([count, 28, 28], ">u4").tobytes()
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        open_source(str(path))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert "unpacks from 0.9 to 210 MB, more than 50 times its size" in caught.value.message
    with gzip.open(path, "wb") as file:
        file.write(bytes((0, 0, 8, 3)) + np.array([1 << 23, 1 << 10, 1 << 10], ">u4").tobytes())
    with pytest.raises(DataError, match="MB of pixels, the limit is 4,096 MB"):
        open_source(str(path))


@pytest.mark.parametrize("content", ["png", "zeros"])
def test_a_zip_member_is_unpacked_only_when_its_pixels_can_need_it(tmp_path, content):
    """Eight of 300 MB, decoded in threads, took 570 MB."""
    begin = save(tmp_path / "a.png").read_bytes() if content == "png" else b""
    packed = zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed, packed.open("bomb.png", "w") as member:
        member.write(begin)
        for _ in range(100):
            member.write(bytes(1 << 20))
    source = open_source(str(tmp_path / "a.zip"))
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        source.read(0)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    reason = "more than an image of" if content == "png" else "not a PNG"
    assert reason in caught.value.message


def test_files_without_an_ending_are_known_by_their_content_and_others_counted(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "camera").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "README").write_text("BM and P5 are no images here")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.txt").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    source = open_source(str(tmp_path))
    assert names(source) == ["a.png", "camera"]
    assert source.skipped == {".txt": 2, "no ending": 2}
    assert open_source(str(tmp_path / "camera")).read(0).pixels.shape[2] == 3


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
CLASSES = np.array([[0], [1], [0], [1], [1], [0]])


@pytest.mark.parametrize(
    "arrays, text",
    [
        ({"images": PIXELS, "labels": CLASSES}, "a.npz"),
        ({"train_images": PIXELS, "train_labels": CLASSES}, "a.npz"),
        (
            {"train_images": PIXELS, "train_labels": CLASSES, "val_images": PIXELS[:2]},
            "a.npz:train",
        ),
        ({"x_train": PIXELS, "y_train": CLASSES[:, 0], "x_test": PIXELS[:1]}, "a.npz:train"),
        ({"x_train": np.stack([PIXELS] * 3, -1), "y_train": CLASSES[:, 0]}, "a.npz"),
    ],
    ids=["plain", "one part", "MedMNIST", "Keras", "color"],
)
def test_npz_with_labels(tmp_path, arrays, text):
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    source = open_source(str(tmp_path / text))
    assert len(source) == 6
    assert np.array_equal(source.read(3).pixels[:, :, 0], PIXELS[3])
    assert source.labels() == list("010110")
    assert np.array_equal(pickle.loads(pickle.dumps(source)).read(5).pixels[:, :, 0], PIXELS[5])


@pytest.mark.parametrize(
    "arrays, text, message",
    [
        ({"train_images": PIXELS, "val_images": PIXELS}, "a.npz", "several parts"),
        ({"train_images": PIXELS, "val_images": PIXELS}, "a.npz:test", "no part 'test'"),
        ({"weights": PIXELS}, "a.npz", "no images among its arrays weights"),
        ({"images": PIXELS.astype(float)}, "a.npz", r"images is float64 \(6, 5, 4\)"),
        ({"images": PIXELS, "labels": CLASSES[:4]}, "a.npz", "4 labels for 6 images"),
        ({"images": np.array([{}, []], dtype=object)}, "a.npz", "holds objects of Python"),
        ({"images": np.zeros((1 << 17, 32, 32), np.uint8)}, "a.npz", "more than 50 times its size"),
    ],
)  # fmt: skip
def test_bad_npz_files(tmp_path, arrays, text, message):
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / text))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04cut"])
def test_npz_files_that_are_none(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="is no"):
        open_source(str(tmp_path / "a.npz"))

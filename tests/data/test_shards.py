"""Shards are the files of their source: the same numbers for every kind of data, from anywhere, and
a sentence about each shard that is not what was stored.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted import pixels
from PIL import Image
from shard_server import serving

from aigc_cli.cli import invoke
from aigc_cli.data import _check
from aigc_cli.data._data import data_digest
from aigc_cli.data._shards import Item, Shards, ShardWriter, _store
from aigc_cli.data._sources import open_source, subfolders
from aigc_cli.data._stream import StepSampler
from aigc_cli.errors import DataError, InputError, MissingError, OutputError
from aigc_cli.modalities import recognized
from aigc_cli.registry import data_kinds, load_data_kind
from aigc_cli.run.data import show
from aigc_cli.run.shard import shard, size_of

KINDS = sorted(data_kinds())
NO_FILES_ALONE = {
    "boxes": "an annotation file names its images by their paths",
    "drums": "its tracks are one file of a form of its own",
    "melodies": "its tracks are one file of a form of its own",
}


def store(source: Path | str, out: Path, size: int = 20_000) -> Path:
    shard(str(source), out, size, lambda count: None)
    return out


def flat(value: Any) -> list[Any]:
    """The numbers of an item."""
    if isinstance(value, dict):
        return [part for key in sorted(value) for part in (key, *flat(value[key]))]
    return [value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)]


def stored_config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config with each of its sources of files in shards."""
    moved = dict(config)
    for key, value in config.items():
        if isinstance(value, str) and Path(value).is_absolute() and Path(value).exists():
            moved[key] = str(store(value, folder / f"{key} shards"))
    return moved


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in NO_FILES_ALONE])
def test_every_kind_of_data_reads_the_same_of_shards(kind: str, tmp_path: Path) -> None:
    room = load_data_kind(kind)
    (tmp_path / "files").mkdir()
    values = room.example(tmp_path / "files")
    moved = stored_config(values, tmp_path)
    assert moved != values
    folder, shards = (room.Data(room.Config(**v), seed=3) for v in (values, moved))
    assert shards.spec == folder.spec
    assert (len(shards.train), len(shards.val)) == (len(folder.train), len(folder.val))
    for number in range(len(folder.train)):
        assert flat(shards.train[(number, 5)]) == flat(folder.train[(number, 5)])
    for number in range(len(folder.val)):
        assert flat(shards.val[number]) == flat(folder.val[number])
    assert data_digest(shards) == data_digest(folder)  # so a run may go from one to the other


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Twelve images of three classes, in several formats, with a file that is none."""
    for number in range(12):
        path = tmp_path / "set" / ("owl", "cat", "dog")[number % 3] / f"{number:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = (".png", ".jpg", ".webp", ".bmp")[number % 4]
        Image.fromarray(pixels(20, 24, seed=number)).save(path.with_suffix(ending))
    (tmp_path / "set/notes.txt").write_text("nothing")
    return tmp_path / "set"


@pytest.fixture
def shards(classes: Path, tmp_path: Path) -> Path:
    """Those in three shards or more."""
    out = store(classes, tmp_path / "shards", 8_000)
    assert len(list(out.glob("*.tar"))) >= 3
    return out


class TestFormat:
    def test_tar_has_the_files_unchanged_and_in_order(self, classes: Path, shards: Path) -> None:
        found = {}
        for path in sorted(shards.glob("*.tar")):
            with tarfile.open(path) as tar:
                found |= {m.name: tar.extractfile(m).read() for m in tar}
        files = sorted(p for p in classes.rglob("*") if p.suffix != ".txt" and p.is_file())
        assert list(found) == [file.relative_to(classes).as_posix() for file in files]
        assert list(found.values()) == [file.read_bytes() for file in files]

    def test_index_is_what_sha256sum_says(self, shards: Path) -> None:
        index = json.loads((shards / "index.json").read_text())
        for file in (*index["shards"], index["table"]):
            data = (shards / file["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
            assert len(data) <= 8_000
        assert index["items"] == 12
        assert index["skipped"] == {".txt": 1}

    def test_same_files_make_the_same_bytes(self, classes: Path, shards: Path) -> None:
        again = store(classes, shards.with_name("again"), 8_000)
        for file in shards.iterdir():
            if file.name != "index.json" or file.read_bytes():
                assert (again / file.name).read_bytes() == file.read_bytes()

    def test_a_file_larger_than_a_shard_has_one_of_its_own(self, tmp_path: Path) -> None:
        with ShardWriter(tmp_path, 4_000) as writer:
            for name, size in (("a", 100), ("b", 9_000), ("c", 100), ("ü" * 200, 0)):
                writer.add(Item(name, bytes([len(name)]) * size))
            index = writer.finish("text", "here", {})
        assert [shard.items for shard in index.shards] == [1, 1, 2]
        read = Shards(str(tmp_path / "index.json"))
        assert [len(read.read(n)) for n in range(4)] == [100, 9_000, 100, 0]
        assert read.name(3) == "ü" * 200

    def test_two_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        with ShardWriter(tmp_path, 4_000) as writer:
            for _ in range(2):
                writer.add(Item("a", b"1"))
            with pytest.raises(DataError, match="two files are called 'a'"):
                writer.finish("text", "here", {})

    def test_names_that_lead_out_are_made_harmless(self, tmp_path: Path) -> None:
        with ShardWriter(tmp_path, 4_000) as writer:
            writer.add(Item("../../etc/passwd", b"1"))
            writer.finish("text", "here", {})
        assert Shards(str(tmp_path / "index.json")).name(0) == "etc/passwd"


class TestReading:
    def test_nothing_is_decoded_before_the_first_item(
        self, shards: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_check, "_decode", lambda *_: pytest.fail("decoded"))
        room = load_data_kind("images")
        data = room.Data(room.Config(train=str(shards), image_size=16), seed=0)
        assert data.spec.labels == ("cat", "dog", "owl")
        assert data.report["data.train"].as_dict()["sizes"]["min"] == [24, 20]

    def test_smaller_pixel_limit_is_still_kept(self, shards: Path) -> None:
        room = load_data_kind("images")
        with pytest.raises(DataError, match="12 of 12 images cannot be used"):
            room.Data(room.Config(train=str(shards), image_size=16, max_pixels=100), seed=0)

    @pytest.mark.parametrize("text", ["shards", "shards/index.json", "shards/", "./shards"])
    def test_named_by_folder_or_index_or_a_folder_within(self, shards: Path, text: str) -> None:
        bases = (shards.parent,)
        assert len(open_source(text, bases=bases)) == 12
        assert subfolders(text, bases) == ["cat", "dog", "owl"]
        within = open_source(f"{text.rstrip('/')}/owl", bases=bases)
        assert [within.name(n) for n in range(2)] == ["00.png", "03.bmp"]
        assert within.labels() is None
        with pytest.raises(DataError, match="holds no folder 'owll'"):
            open_source(f"{text.rstrip('/')}/owll", bases=bases)

    def test_ranks_and_a_resume_read_each_item_once(self, shards: Path) -> None:
        room = load_data_kind("images")
        data = room.Data(room.Config(train=str(shards), val=str(shards), image_size=16), seed=0)
        whole = [data.train[key] for step in _keys(range(6), 4, 0, 1) for key in step]
        parts = [_keys(steps, 4, rank, 2) for rank in (0, 1) for steps in (range(2), range(2, 6))]
        first, after, second, behind = ([data.train[k] for s in p for k in s] for p in parts)
        together = [
            item
            for step in range(6)
            for rank in (first + after, second + behind)
            for item in rank[2 * step : 2 * step + 2]
        ]
        assert list(map(flat, together)) == list(map(flat, whole))

    def test_travels_to_other_processes(self, shards: Path) -> None:
        source = open_source(str(shards))
        again = pickle.loads(pickle.dumps(source))
        assert np.array_equal(again.read(3).pixels, source.read(3).pixels)

    def test_modality_is_that_of_the_index(self, shards: Path, tmp_path: Path) -> None:
        assert recognized(str(shards)).name == "image"
        (tmp_path / "book.txt").write_text("a line\nanother\n")
        texts = store(tmp_path / "book.txt", tmp_path / "texts")
        assert recognized(str(texts)).name == "text"
        assert show(str(texts))["parts"]["data"]["records"] == 2
        with pytest.raises(DataError, match="holds 1 files of text, no images"):
            open_source(str(texts))

    def test_images_of_arrays_become_files_of_classes(self, tmp_path: Path) -> None:
        images = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
        head = [bytes((0, 0, 8, 3)), *(n.to_bytes(4, "big") for n in images.shape)]
        (tmp_path / "train-images-idx3-ubyte").write_bytes(b"".join(head) + images.tobytes())
        labels = bytes((0, 0, 8, 1)) + (4).to_bytes(4, "big") + bytes((7, 3, 7, 3))
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
        arrays = open_source(str(tmp_path / "train-images-idx3-ubyte"))
        files = open_source(str(store(tmp_path / "train-images-idx3-ubyte", tmp_path / "out")))
        assert files.labels() == arrays.labels() == ["7", "3", "7", "3"]
        for number in range(4):
            assert np.array_equal(files.read(number).pixels, arrays.read(number).pixels)


def _keys(steps: range, batch: int, rank: int, world: int) -> Iterator[Any]:
    start, stop = steps.start, steps.stop
    return iter(
        StepSampler(
            12, global_batch=batch, rank=rank, world=world, seed=1, start=start, stop=stop
        )
    )  # fmt: skip


def read_all(place: Path | str) -> None:
    source = open_source(str(place))
    for number in range(len(source)):
        source.read(number)


def flip(path: Path) -> None:
    """Change one bit of the first file in a shard, or of a table."""
    at = 700
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            at = tar.getmembers()[0].offset_data + 5
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


RECIPE = """
family: dcgan
data: {{kind: images, train: {}, image_size: 16, cache: "off"}}
model: {{latent_dim: 4, num_features: 4}}
trainer: {{max_steps: 3, global_batch: 4, validate_every: 3, checkpoint_every: 3}}
"""

DAMAGES = {
    "a missing shard": (lambda f: (f / "00001.tar").unlink(), "00001.tar is missing"),
    "a cut shard": (
        lambda f: (f / "00001.tar").write_bytes((f / "00001.tar").read_bytes()[:3000]),
        r"00001.tar (has 3,000 bytes and not [\d,]+: it was|ends within '.*': it was) cut short",
    ),
    "a changed byte": (lambda f: flip(f / "00001.tar"), "00001.tar was changed or damaged"),
    "another shard": (
        lambda f: shutil.copy(f / "00000.tar", f / "00001.tar"),
        r"00001.tar (has [\d,]+ bytes and not|was changed|ends within)",
    ),
    "a changed table": (lambda f: flip(f / "index.arrow"), "index.arrow: is not what index"),
    "a cut table": (
        lambda f: (f / "index.arrow").write_bytes(b"ARROW1"),
        r"index.arrow(: is not what| has 6 bytes)",
    ),
    "a later version": (
        lambda f: (f / "index.json").write_text(
            (f / "index.json").read_text().replace('"version": 1', '"version": 9')
        ),
        "index.json is no index of shards: version: Input should be 1",
    ),
}  # fmt: skip


class TestDamage:
    """Each is one sentence that names the shard, wherever it lies; nothing is read of it."""

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_here(self, shards: Path, damage: str) -> None:
        change, message = DAMAGES[damage]
        change(shards)
        with pytest.raises(DataError, match=message):
            read_all(shards)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_behind_an_address(self, shards: Path, damage: str) -> None:
        change, message = DAMAGES[damage]
        change(shards)
        with serving(shards) as (address, _), pytest.raises(DataError, match=message):
            read_all(f"{address}/index.json")

    def test_found_while_training_says_so(self, shards: Path, tmp_path: Path, capfd: Any) -> None:
        """Sizes are right, so it is the first read of the image that finds out."""
        flip(shards / "00001.tar")
        (tmp_path / "r.yaml").write_text(RECIPE.format(shards))
        recipe, out = str(tmp_path / "r.yaml"), str(tmp_path / "run")
        assert invoke(["train", recipe, "--out", out, "--quiet"]) == 3
        err = capfd.readouterr().err
        assert "image changed during the run: " in err
        assert "00001.tar was changed or damaged: '" in err
        assert "Traceback" not in err


class TestAddresses:
    def test_http_by_ranges_reads_what_is_asked_for(self, shards: Path) -> None:
        here = open_source(str(shards))
        with serving(shards) as (address, behavior):
            there = open_source(f"{address}/index.json")
            behavior.asked.clear()
            assert np.array_equal(there.read(7).pixels, here.read(7).pixels)
            ((path, _, size),) = behavior.asked
            assert path.endswith(".tar")
            assert size == len(here.content(7))
            assert there.labels() == here.labels()
            assert open_source(f"{address}/index.json/owl").read(0).width == 24

    def test_table_is_fetched_once(self, shards: Path) -> None:
        with serving(shards) as (address, behavior):
            for _ in range(2):
                open_source(f"{address}/index.json")
            assert [path for path, *_ in behavior.asked].count("/index.arrow") == 1

    def test_cut_connections_are_tried_again(
        self, shards: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_store, "WAIT_S", 0.01)
        with serving(shards) as (address, behavior):
            there = open_source(f"{address}/index.json")
            behavior.cuts = 2
            assert there.read(0).width == 24
            behavior.cuts = 99
            with pytest.raises(DataError, match=r"00000.tar cannot be read"):
                there.read(0)

    def test_server_without_ranges_is_named(self, shards: Path) -> None:
        with serving(shards) as (address, behavior):
            there = open_source(f"{address}/index.json")
            behavior.ranges = False
            with pytest.raises(DataError, match="it knows no ranges"):
                there.read(0)

    def test_nobody_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_store, "WAIT_S", 0.01)
        with pytest.raises(DataError, match=r"http://127.0.0.1:1/x/index.json cannot be read"):
            open_source("http://127.0.0.1:1/x/index.json")

    def test_address_of_no_index(self) -> None:
        with pytest.raises(DataError, match="an address is that of shards"):
            open_source("https://example.org/photos.zip")

    def test_buckets_through_fsspec(self, shards: Path) -> None:
        import fsspec

        memory = fsspec.filesystem("memory")
        memory.put(f"{shards}/", "/bucket/set/", recursive=True)
        try:
            there, here = open_source("memory://bucket/set/index.json"), open_source(str(shards))
            for number in range(12):
                assert np.array_equal(there.read(number).pixels, here.read(number).pixels)
            memory.pipe("/bucket/set/00001.tar", b"short")
            with pytest.raises(DataError, match=r"00001.tar ends within '"):
                read_all("memory://bucket/set/index.json")
            memory.rm("/bucket/set/00001.tar")
            with pytest.raises(DataError, match=r"00001.tar is missing"):
                read_all("memory://bucket/set/index.json")
        finally:
            memory.rm("/bucket", recursive=True)

    def test_a_bucket_of_s3_is_the_folder(
        self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_store, "WAIT_S", 0.01)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.delenv("AWS_REGION", raising=False)
        shutil.copytree(shards, tmp_path / "served/bucket/set")
        with serving(tmp_path / "served") as (address, behavior):
            behavior.keys = True
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            there, here = open_source("s3://bucket/set/index.json"), open_source(str(shards))
            assert there.labels() == here.labels()
            behavior.asked.clear()
            for number in range(12):
                assert np.array_equal(there.read(number).pixels, here.read(number).pixels)
            sizes = [size for path, _, size in behavior.asked if path.endswith(".tar")]
            assert sizes == [there.shards.size(number) for number in range(12)]  # and no more
            (tmp_path / "served/bucket/set/00000.tar").unlink()
            with pytest.raises(DataError, match=r"s3://bucket/set/00000.tar is missing"):
                read_all("s3://bucket/set/index.json")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
            with pytest.raises(DataError, match=r"s3://bucket/set/index.json cannot be read"):
                open_source("s3://bucket/set/index.json")

    def test_an_absent_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(MissingError, match=r"gs://bucket/set needs a package"):
            open_source("gs://bucket/set/index.json")

    def test_training_on_an_address_is_training_on_the_folder(
        self, classes: Path, shards: Path, tmp_path: Path
    ) -> None:
        rows: list[Any] = []
        recipe = tmp_path / "r.yaml"
        with serving(shards) as (address, _):
            for place in (classes, f"{address}/index.json"):
                out = tmp_path / f"run {len(rows)}"
                recipe.write_text(RECIPE.format(place))
                assert invoke(["train", str(recipe), "--out", str(out), "--quiet"]) == 0
                kept = torch.load(out / "checkpoints/last.ckpt", weights_only=True)["weights"]
                rows.append({name: value.tolist() for name, value in kept.items()})
        assert rows[0] == rows[1]


class TestCommand:
    def test_tells_what_it_made(self, classes: Path, tmp_path: Path, capfd: Any) -> None:
        (classes / "owl/bad.png").write_bytes(b"no image")
        out = tmp_path / "out"
        assert invoke(["data", "shard", str(classes), "--out", str(out), "--size", "8kB"]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert lines[0] == "images: 12"
        assert lines[1].startswith("shards: ")
        assert lines[2] == "skipped: .txt 1"
        assert lines[3].startswith("unusable: owl/bad.png: ")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set"]

    def test_full_folder_is_refused(self, classes: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").write_text("kept")
        with pytest.raises(OutputError, match="out exists and is not empty"):
            store(classes, tmp_path / "out")
        assert (tmp_path / "out/mine").read_text() == "kept"

    def test_after_a_kill_it_begins_anew(self, classes: Path, tmp_path: Path) -> None:
        (tmp_path / ".out.part/ready").mkdir(parents=True)
        (tmp_path / ".out.part/ready/00000.tar").write_bytes(b"half")
        read_all(store(classes, tmp_path / "out"))
        assert not (tmp_path / ".out.part").exists()

    def test_failure_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": \n')
        with pytest.raises(DataError, match=r"a.jsonl:2: no JSON"):
            store(tmp_path / "a.jsonl", tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]

    def test_two_at_once(self, classes: Path, tmp_path: Path) -> None:
        from filelock import FileLock

        (tmp_path / ".out.part").mkdir()
        with (
            FileLock(tmp_path / ".out.part/lock"),
            pytest.raises(OutputError, match="another process is making shards in"),
        ):
            store(classes, tmp_path / "out")

    @pytest.mark.parametrize("text", ["0", "lots", "-3MB", "12", "5 parsec"])
    def test_size_that_is_none(self, text: str) -> None:
        with pytest.raises(InputError, match="is no size of a shard"):
            size_of(text)

    def test_nothing_to_store(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set/a.png").write_bytes(b"no image")
        with pytest.raises(DataError, match="1 of 1 images cannot be used"):
            store(tmp_path / "set", tmp_path / "out")

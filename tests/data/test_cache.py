"""Prepared images are made once, read from the file, and never trusted when it is damaged."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from aigc_cli.data import _cache
from aigc_cli.data._cache import Background, Pack, cache_folder
from aigc_cli.errors import DataError

SHAPES = [(3, 5, 7), (1, 1, 1), (3, 64, 64)]


def row(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, SHAPES[index], np.uint8)


class Maker:
    """Makes rows and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def fill(self, pack: Pack) -> None:
        for index in range(len(SHAPES)):
            assert np.array_equal(pack.get(index, lambda i=index: self.make(i)), row(index))

    def make(self, index: int) -> np.ndarray:
        self.calls += 1
        return row(index)


def the_file(folder):
    (path,) = folder.rglob("*.pack")
    return path


@pytest.mark.parametrize("kept", [True, False])
def test_rows_are_made_once(tmp_path, kept):
    maker, pack = Maker(), Pack(tmp_path if kept else None, ["key"], SHAPES)
    maker.fill(pack)
    maker.fill(pack)
    assert maker.calls == 3
    assert len(list(tmp_path.rglob("*.pack"))) == kept


def test_the_name_is_of_every_part_however_often_it_repeats():
    shape = (3, 16, 16)
    parts = [1, True, 1.0, *[shape] * 10_000, (3, 16, 16), "a", "a"]
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(str(part)).to_bytes(8, "little") + str(part).encode())
    assert _cache.digest(iter(parts)) == state.hexdigest()
    assert _cache.digest([1, True]) != _cache.digest([1, 1])


def test_rows_of_many_sizes_do_not_meet(tmp_path):
    pack = Pack(tmp_path, ["key"], [(3, 2, 2)] * 300 + SHAPES * 2)
    for index, shape in enumerate(pack.shapes):
        pack.get(index, lambda i=index, s=shape: np.full(s, i % 251, np.uint8))
    assert all((pack.get(i, Maker) == i % 251).all() for i in range(len(pack)))


def test_second_process_finds_the_rows(tmp_path):
    Maker().fill(Pack(tmp_path, ["key"], SHAPES))
    again = Maker()
    again.fill(Pack(tmp_path, ["key"], SHAPES))
    assert again.calls == 0


def test_rows_cannot_be_written_to(tmp_path):
    pack = Pack(tmp_path, ["key"], SHAPES)
    with pytest.raises(ValueError):
        pack.get(0, lambda: row(0))[0] = 1


@pytest.mark.parametrize("change", [["other"], ["ke", "y"], ["key", ""]])
def test_another_key_is_another_file(tmp_path, change):
    for key in (["key"], change):
        Pack(tmp_path, key, SHAPES)
    assert len(list(tmp_path.rglob("*.pack"))) == 2


@pytest.mark.parametrize(
    "damage, remade",
    [
        (lambda data: data[:-5000], 1),  # cut off
        (lambda data: data[:100], 3),
        (lambda data: b"", 3),
        (lambda data: bytes(len(data)), 3),  # lost in a power failure
        (lambda data: data[:-100] + b"\1" + data[-99:], 1),  # one wrong byte in the last row
        (lambda data: b"\7" + data[1:], 1),  # one wrong byte in the first checksum
        (lambda data: data + b"more", 0),
        (lambda data: os.urandom(len(data)), 3),
    ],
)
def test_damaged_rows_are_made_again(tmp_path, damage, remade):
    Maker().fill(Pack(tmp_path, ["key"], SHAPES))
    path = the_file(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    maker = Maker()
    maker.fill(Pack(tmp_path, ["key"], SHAPES))
    assert maker.calls == remade
    maker.fill(Pack(tmp_path, ["key"], SHAPES))
    assert maker.calls == remade


def test_new_version_forgets(tmp_path, monkeypatch):
    Maker().fill(Pack(tmp_path, ["key"], SHAPES))
    monkeypatch.setattr(_cache, "VERSION", _cache.VERSION + 1)
    maker = Maker()
    maker.fill(Pack(tmp_path, ["key"], SHAPES))
    assert maker.calls == 3


@pytest.mark.parametrize("kept", [True, False])
def test_pickled_and_forked_packs_agree(tmp_path, kept):
    pack = Pack(tmp_path if kept else None, ["key"], SHAPES)
    Maker().fill(pack)
    copy = Maker()
    copy.fill(pickle.loads(pickle.dumps(pack)))
    assert copy.calls == (0 if kept else 3)
    child = os.fork()
    if child == 0:
        maker = Maker()
        maker.fill(pack)
        os._exit(maker.calls)
    assert os.waitpid(child, 0)[1] == 0


def test_many_threads_and_processes_write_the_same_rows(tmp_path):
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            Maker().fill(Pack(tmp_path, ["key"], SHAPES))
            os._exit(0)
        children.append(child)
    pack = Pack(tmp_path, ["key"], SHAPES)
    threads = [threading.Thread(target=Maker().fill, args=[pack]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    last = Maker()
    last.fill(Pack(tmp_path, ["key"], SHAPES))
    assert last.calls == 0


def test_worker_forked_while_a_thread_makes_a_row_does_not_wait_for_it(tmp_path):
    pack, begun, end = Pack(tmp_path, ["key"], SHAPES), threading.Event(), threading.Event()

    def slow():
        begun.set()
        end.wait()
        return row(0)

    thread = threading.Thread(target=pack.get, args=[0, slow])
    thread.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        Maker().fill(pack)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    end.set()
    thread.join()


def test_full_disk_is_said_once_and_costs_only_time(tmp_path, caplog, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    pack, maker = Pack(tmp_path, ["key"], SHAPES), Maker()
    monkeypatch.setattr(os, "pwrite", full)
    pack._map = None  # to look into a hole of a full tmpfs is SIGBUS
    maker.fill(pack)
    maker.fill(pack)
    assert maker.calls == 6
    assert [r.message for r in caplog.records] == [
        "no space for prepared images, so they are made again: [Errno 28] No space left on device"
    ]


def test_wrong_row_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="row 0 is uint8"):
        Pack(tmp_path, ["key"], SHAPES).get(0, lambda: row(1))


def test_oldest_packs_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "LIMIT", 40_000)
    shapes = [(1, 100, 100)]
    for number in range(4):
        pack = Pack(tmp_path, [number], shapes)
        pack.get(0, lambda: np.ones(shapes[0], np.uint8))
        path = max(tmp_path.rglob("*.pack"), key=lambda p: p.stat().st_mtime_ns)
        os.utime(path, (number, number))
    Pack(tmp_path, ["new"], shapes)
    assert sorted(int(p.stat().st_mtime) for p in tmp_path.rglob("*.pack"))[:3] == [1, 2, 3]


class TestFolder:
    def test_variables_in_order(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "a"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
        monkeypatch.setenv("HOME", str(tmp_path / "c"))
        found = []
        for variable in ("AIGC_CACHE", "XDG_CACHE_HOME", "HOME"):
            found.append(str(cache_folder("auto").relative_to(tmp_path)))
            monkeypatch.delenv(variable)
        assert found == ["a", "b/aigc", "c/.cache/aigc"]

    def test_off(self):
        assert cache_folder("off") is None

    def test_unwritable_automatic_folder_is_no_error(self, tmp_path, monkeypatch, caplog):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "file" / "below"))
        assert cache_folder("auto") is None
        assert "not kept after this run" in caplog.text

    def test_no_home_is_no_error(self, monkeypatch, caplog):
        monkeypatch.delenv("AIGC_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(
            "pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("none"))
        )
        assert cache_folder("auto") is None

    def test_unwritable_named_folder_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"^data.cache: cannot write in '.*below'"):
            cache_folder(str(tmp_path / "file" / "below"))


def test_background_prepares_in_order_and_stops():
    done = []
    background = Background(lambda i: (time.sleep(0.005), done.append(i)), range(10_000))
    background.stop()  # before any start: nothing happens
    background = Background(lambda i: (time.sleep(0.005), done.append(i)), range(10_000))
    background.start()
    background.start()
    while len(done) < 3:
        time.sleep(0.001)
    background.stop()
    count = len(done)
    time.sleep(0.02)
    assert done == list(range(count))
    assert count < 100


def test_background_error_ends_only_the_thread(caplog):
    background = Background(lambda i: 1 // 0, range(3))
    background.start()
    background.stop()


def test_background_never_holds_up_the_exit():
    code = """
import time
from aigc_cli.data._cache import Background
Background(lambda i: time.sleep(60), range(9)).start()
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=20, check=True, capture_output=True)
    assert done.stderr == b""

"""Bad images are found before the first step, all of them, by name."""

from __future__ import annotations

import json
import os
import zlib

import numpy as np
import pytest
from painted import pixels
from PIL import Image

from aigc_cli.data import _check
from aigc_cli.data._check import BadImagesError, at_least, check, require_good
from aigc_cli.data._sources import open_source


@pytest.fixture
def hostile(tmp_path):
    """One good image among everything that goes wrong with files."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    Image.fromarray(pixels(40, 30)).save(folder / "good.png")
    jpeg = folder / "half.jpg"
    Image.fromarray(pixels(200, 200)).save(jpeg, quality=95)
    jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size // 2])
    png = bytearray((folder / "good.png").read_bytes())
    png[len(png) // 2] ^= 0xFF
    (folder / "flipped.png").write_bytes(png)
    (folder / "zero.webp").write_bytes(b"")
    (folder / "text.png").write_text("text")
    (folder / "dangling.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    Image.fromarray(pixels(1, 1)).save(folder / "one.png")
    row = zlib.compress(bytes(9000 // 8 + 1) * 9000, 9)
    chunks = b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in (
            (b"IHDR", (9000).to_bytes(4, "big") * 2 + b"\1\0\0\0\0"),
            (b"IDAT", row),
            (b"IEND", b""),
        )
    )
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return folder


def test_every_bad_picture_is_found_with_its_reason(hostile):
    source = open_source(str(hostile))
    report = check(source, range(len(source)), unfit=at_least(8))
    reasons = dict(report.bad)
    assert list(reasons) == [
        "bomb.png", "dangling.png", "flipped.png", "folder.png", "half.jpg", "one.png",
        "pipe.png", "text.png", "zero.webp",
    ]  # fmt: skip
    assert [source.name(i) for i in report.seen] == ["good.png"]
    assert "9000 x 9000" in reasons["bomb.png"]
    assert reasons["one.png"] == "1 x 1, smaller than 8 x 8"
    assert all("\n" not in reason and str(hostile) not in reason for reason in reasons.values())


def test_stop_names_every_bad_picture_and_skip_leaves_them_out(hostile, caplog):
    source = open_source(str(hostile))
    reports = {"data.train": check(source, range(len(source)), unfit=at_least(8))}
    with pytest.raises(BadImagesError) as caught:
        require_good(reports, "stop")
    error = caught.value
    assert error.exit_code == 2
    assert error.message.startswith("9 of 10 images cannot be used\n  data.train: bomb.png      ")
    assert len(error.message.splitlines()) == 10
    assert error.hint == "repair or remove them, or set data.on_error=skip"
    assert [p.file for p in error.problems] == [name for name, _ in reports["data.train"].bad]
    require_good(reports, "skip")
    assert "half.jpg" in caplog.text


def test_skip_needs_something_to_be_left(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    source = open_source(str(tmp_path))
    with pytest.raises(BadImagesError, match="1 of 1 images") as caught:
        require_good({"data.val": check(source, [0])}, "skip")
    assert caught.value.hint == "no image is left in data.val"


def test_long_tables_are_cut_but_problems_are_not(tmp_path):
    for i in range(50):
        (tmp_path / f"{i:02d}.png").write_bytes(b"")
    source = open_source(str(tmp_path))
    error = BadImagesError({"data.train": check(source, range(50))}, hint="")
    assert error.message.splitlines()[-1] == "  and 30 more"
    assert len(error.problems) == 50
    json.dumps([p.as_dict() for p in error.problems])


@pytest.mark.parametrize(
    "mode, array",
    [
        ("gray", pixels(9, 9, 1)[:, :, 0]),
        ("gray", np.repeat(pixels(9, 9, 1), 3, axis=2)),
        ("RGB", pixels(9, 9)),
        ("RGBA", pixels(9, 9, 4)),
        ("gray 16-bit", pixels(9, 9, 1)[:, :, 0].astype(np.uint16) * 257),
    ],
)
def test_report_knows_the_modes(tmp_path, mode, array):
    Image.fromarray(array).save(tmp_path / "a.png")
    source = open_source(str(tmp_path))
    assert check(source, [0]).as_dict() == {
        "source": str(tmp_path),
        "pictures": 1,
        "sizes": {"min": [9, 9], "median": [9, 9], "max": [9, 9]},
        "modes": {mode: 1},
        "other_files": {},
        "bad": [],
    }


class TestMemory:
    """The second check of the same files decodes nothing."""

    @pytest.fixture
    def decoded(self, monkeypatch):
        calls, decode = [], _check._decode

        def counted(source, number):
            calls.append(source.name(number))
            return decode(source, number)

        monkeypatch.setattr(_check, "_decode", counted)
        return calls

    def look(self, folder, cache, **options):
        source = open_source(str(folder), **options)
        return check(source, range(len(source)), cache=cache)

    def test_unchanged_files_are_known(self, photos, cache, decoded):
        folder = photos(3)
        first = self.look(folder, cache)
        assert self.look(folder, cache) == first
        assert len(decoded) == 3

    def test_changed_and_new_files_are_decoded(self, photos, cache, decoded):
        folder = photos(3)
        self.look(folder, cache)
        Image.fromarray(pixels(50, 50)).save(folder / "p01.png")
        Image.fromarray(pixels(50, 50)).save(folder / "p99.png")
        report = self.look(folder, cache)
        assert decoded[3:] == ["p01.png", "p99.png"]
        assert report.sizes["max"] == [50, 50]

    def test_failures_are_not_remembered(self, photos, cache, decoded):
        folder = photos(1)
        (folder / "bad.png").write_bytes(b"x")
        for _ in range(2):
            assert len(self.look(folder, cache).bad) == 1
        assert decoded == ["bad.png", "p00.png", "bad.png"]

    def test_lower_limit_finds_known_pictures_too_large(self, photos, cache):
        folder = photos(1)
        assert not self.look(folder, cache).bad
        assert self.look(folder, cache, max_pixels=100).bad

    @pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": 1}', b"\xff", b'{"a": [1, 2]}'])
    def test_damaged_memory_is_ignored(self, photos, cache, decoded, content):
        folder = photos(2)
        self.look(folder, cache)
        (memory,) = (cache / "checks").iterdir()
        memory.write_bytes(content)
        assert len(self.look(folder, cache).seen) == 2
        assert len(decoded) == 4

    def test_nothing_is_written_without_a_cache(self, photos, cache):
        self.look(photos(1), None)
        assert not list(cache.iterdir())


def test_processes_see_what_threads_see(tmp_path, monkeypatch):
    for number in range(150):
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(tmp_path / f"{number:03}.png")
    (tmp_path / "077.png").write_bytes(b"no image")
    source = open_source(str(tmp_path))
    by_threads = check(source, range(len(source)))
    monkeypatch.setattr(_check, "_MANY", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    by_processes = check(source, range(len(source)))
    assert by_processes == by_threads
    assert [name for name, _ in by_processes.bad] == ["077.png"]
    assert list(by_processes.seen) == [n for n in range(150) if n != 77]

"""`aigc data` knows texts from images by what is in a file, and messages fit on a screen."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from aigc_cli.catalog.builtin import find_builtin
from aigc_cli.cli._output import bounded, error_text
from aigc_cli.data._sources import open_source
from aigc_cli.errors import DataError
from aigc_cli.modalities import recognized
from tests.run.conftest import Ending, paint

Aigc = Callable[..., Ending]
BOOK = "It was the best of times,\nit was the worst of times,\n\nit was the age of wisdom\n"
FILES = {
    "book.txt": (BOOK, 4),
    "train.de": (BOOK, 4),
    "README": (BOOK, 4),
    "mails.jsonl": ('{"text": "a"}\n{"text": "a", "label": "b"}\n', 2),
    "table.csv": ("text,label\none,a\ntwo,b\n", 2),
    "pairs.tsv": ("one\teins\ntwo\tzwei\n", 2),
    "list.json": ('[{"text": "a"}]', 1),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["check", "show"])
def test_every_file_of_texts_is_known_by_ending_and_content(
    aigc: Aigc,
    here: Path,
    command: str,
    name: str,
) -> None:
    content, items = FILES[name]
    (here / name).write_text(content)
    ending = aigc("data", command, name, "--json")
    assert ending.code == 0, ending.err
    assert ending.json["parts"]["data"]["records"] == items
    told = aigc("data", command, name)
    assert f"texts             {items}" in told.out
    assert len(told.out) < 900


def test_a_list_of_images_is_still_one(aigc: Aigc, here: Path) -> None:
    (here / "list.txt").write_text("# mine\nphotos/photo 00.png\nphotos/photo 01.png\n")
    assert recognized("list.txt").name == "image"
    assert aigc("data", "check", "list.txt", "--json").json["parts"]["data"]["pictures"] == 2


@pytest.mark.parametrize(
    ("name", "modality"), [("a.mid", "music"), ("in/a.wav", "audio"), ("in/a.PNG", "image")]
)
def test_a_zip_is_known_by_the_names_in_it(tmp_path: Path, name: str, modality: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "content")
    assert recognized(str(tmp_path / "a.zip")).name == modality


def test_folders_are_known_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "a/__MACOSX").mkdir(parents=True)
    (tmp_path / "a/one.txt").write_text("one\n")
    (tmp_path / "a/.two.txt").write_text("two\n")
    (tmp_path / "a/__MACOSX/one.txt").write_text("three\n")
    paint(tmp_path / "b", 1)
    (tmp_path / "b/readme.txt").write_text("photos")
    assert recognized(str(tmp_path / "b")).name == "image"
    text = recognized(str(tmp_path / "a"))
    assert text.name == "text"
    assert text.source_part(str(tmp_path / "a"))["records"] == 1


def test_the_keys_of_objects_are_counted(aigc: Aigc, here: Path) -> None:
    rows = [{"text": "a"}, {"text": "a"}, {"text": "b", "label": "x"}]
    (here / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "text 3, label 1" in aigc("data", "check", "t.jsonl").out


def test_no_message_is_longer_than_a_screen(aigc: Aigc, here: Path) -> None:
    (here / "broken.jsonl").write_text("x" * 100_000)
    (here / "list.txt").write_text("photos/photo 00.png\n" + "word\x01 " * 20_000)
    for name in ("broken.jsonl", "list.txt"):
        ending = aigc("data", "check", name)
        assert ending.code == 2
        assert name in ending.err
        assert len(ending.err) < 2_500
    message = error_text(DataError("\n".join(["x" * 5_000] * 500), hint="y" * 9_000))
    assert len(message) < 35_000
    assert message.count("\n") < 40
    assert "and 480 more lines" in message
    assert bounded("short\ntext") == "short\ntext"


def test_traps_of_archives_are_skipped_and_counted(tmp_path: Path) -> None:
    import warnings
    import zipfile

    paint(tmp_path / "p", 2)
    (tmp_path / "p/__MACOSX").mkdir()
    (tmp_path / "p/__MACOSX/._photo 00.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "p/._photo 01.png").write_bytes(b"\0\5\x16\7")
    folder = open_source(str(tmp_path / "p"))
    assert (len(folder), dict(folder.skipped)) == (2, {"hidden": 2})
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the name that is there twice
        for source, name in [(1, "a/0.png"), (0, "a/0.png"), (1, "a/1.png")]:
            archive.write(tmp_path / f"p/photo 0{source}.png", name)
        archive.writestr("__MACOSX/a/._0.png", b"\0\5\x16\7")
    packed = open_source(str(tmp_path / "p.zip"))
    assert [packed.name(i) for i in range(len(packed))] == ["a/0.png", "a/1.png"]
    assert dict(packed.skipped) == {"twice": 1, "hidden": 1}
    assert packed.read(0).width == 40  # the later of the two, as unpacking would leave


def test_images_of_one_bit_are_gray(tmp_path: Path) -> None:
    with Image.new("L", (20, 20), 0) as image:
        image.paste(255, (0, 0, 10, 20))
        image.convert("1").save(tmp_path / "a.png")
    pixels = open_source(str(tmp_path / "a.png")).read(0).pixels
    assert pixels.shape == (20, 20, 1)
    assert sorted(set(pixels.ravel().tolist())) == [0, 255]


def test_packed_images_of_the_package_are_no_text() -> None:
    assert recognized(str(find_builtin("builtin:fashion:validation"))).name == "image"

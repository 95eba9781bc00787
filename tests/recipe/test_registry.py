"""Families, data kinds and recipes are found by their file names, in AIGC_PATH too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aigc_cli import registry
from aigc_cli.errors import InputError, MissingError

CLASSES = """\
from aigc_cli.recipe.sections import Section
class Config(Section): pass
class Options(Section): pass
class Model: pass
"""


def family(folder: Path, name: str, text: str = CLASSES, room: str = "toy") -> Path:
    path = folder / "models" / room / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_name_is_a_file_name(plugin: Path) -> None:
    found = registry.families()["blob"]
    assert (found.name, found.room, found.path) == ("blob", "toy", plugin / "models/toy/blob.py")
    assert found.summary == "Blobs of one color, a family that only the tests know."
    assert registry.data_kinds()["blobs"] == plugin / "data/blobs.py"
    assert registry.recipes()["blob_small"].room == "toy"


def test_shipped_names_are_found_without_aigc_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIGC_PATH")
    assert registry.families()["edsr"].room == "image"
    assert "super_resolution" in registry.data_kinds()
    assert registry.find_recipe("image/edsr_small_x2").is_file()
    assert "blob" not in registry.families()


def test_listing_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PATH", str(tmp_path))
    family(tmp_path, "broken", "raise RuntimeError")
    assert registry.families()["broken"].summary == ""


def test_private_files_are_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PATH", str(tmp_path))
    family(tmp_path, "_base")
    family(tmp_path, "hidden", room="__pycache__")
    family(tmp_path, ".#lock")
    assert not {"_base", "hidden", ".#lock"} & set(registry.families())


def test_loading_gives_the_module_once() -> None:
    module = registry.load_family("blob")
    assert module.Config().width == 8
    assert registry.load_family("blob") is module
    assert registry.load_data_kind("blobs").Data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_this", ":1 cannot be imported: ModuleNotFoundError: "
         "No module named 'nothing_like_this'"),
        ("x = 1\n\ny = x / 0", ":3 cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:\n", ":1 cannot be imported: SyntaxError: invalid syntax"),
        ("class Config: pass", " defines no class Options and no class Model"),
        (CLASSES + "Model = 3", " defines no class Model"),
        (CLASSES + "class Config: pass",
         ": Config is no subclass of aigc_cli.recipe.sections.Section"),
        ("raise ValueError('first\\nsecond')", ":1 cannot be imported: ValueError: first"),
    ],
)  # fmt: skip
def test_a_broken_file_of_the_users_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setenv("AIGC_PATH", str(tmp_path))
    path = family(tmp_path, "mine", text)
    with pytest.raises(InputError) as caught:
        registry.load_family("mine")
    assert caught.value.message.startswith(f"{path}{message}")
    assert "\n" not in caught.value.message


def test_a_family_may_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PATH", str(tmp_path))
    text = "from aigc_cli.errors import MissingError\nraise MissingError('no torchaudio here')"
    family(tmp_path, "mine", text)
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(MissingError, match="no torchaudio here"):
            registry.load_family("mine")


def test_files_of_one_name_in_two_folders_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, number in (("a", 1), ("b", 2)):
        family(tmp_path / folder, "mine", f"{CLASSES}which = {number}")
        monkeypatch.setenv("AIGC_PATH", str(tmp_path / folder))
        module = registry.load_family("mine")
        assert module.which == number


@pytest.mark.parametrize("name", ["blob", "edsr"])
def test_two_files_of_one_name_are_an_error(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AIGC_PATH", os.pathsep.join([str(plugin), str(tmp_path)]))
    first, second = registry.families()[name].path, family(tmp_path, name)
    with pytest.raises(InputError) as caught:
        registry.families()
    assert caught.value.message == f"two files are named family '{name}': {first} and {second}"


def test_a_folder_of_aigc_path_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PATH", "/no/such/folder")
    with pytest.raises(
        InputError, match="AIGC_PATH names '/no/such/folder', which is not a folder"
    ):
        registry.families()


@pytest.mark.parametrize("load", [registry.load_family, registry.load_data_kind])
def test_unknown_names_get_the_nearest(load: object) -> None:
    name = "blbs" if load is registry.load_data_kind else "blb"
    with pytest.raises(InputError) as caught:
        load(name)  # type: ignore[operator]
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean 'blob")


def test_a_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blob_small").write_text("x")
    assert registry.find_recipe("blob_small") == Path("blob_small")

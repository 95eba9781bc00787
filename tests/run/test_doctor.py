"""`aigc doctor`: what it finds here, and what it says where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aigc_cli.run import doctor
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]


def fake(folder: Path, name: str, version: str, code: str) -> None:
    """An importable package with metadata, as pip would install it."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def doctor_with(packages: Path, *options: str) -> Ending:
    """A process that finds `packages` before all others."""
    done = subprocess.run(
        [sys.executable, "-m", "aigc_cli", "doctor", *options],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
    )
    return Ending(done.returncode, done.stdout, done.stderr)


def test_this_machine_can_train(aigc: Aigc, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("AIGC_WEIGHTS", str(here / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(here / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (here / "weights").mkdir()
    (here / "weights/other.pth").write_bytes(b"")
    ending = aigc("doctor", "--test", "--json")
    assert ending.code == 0
    facts = ending.json
    assert facts["ok"]
    assert facts["problems"] == []
    assert all(facts["versions"].values())
    cpu = facts["devices"][0]
    assert (cpu["device"], cpu["error"]) == ("cpu", None)
    assert 0 < facts["memory"]["free_bytes"] <= facts["memory"]["total_bytes"]
    assert facts["cache"]["folder"] == str(here / "cache")
    assert facts["weights"]["files"] == ["other.pth"]
    assert facts["offline"]
    rows = {row["metric"]: row for row in facts["metrics"]}
    assert rows["psnr_y"]["ready"]
    assert not rows["lpips"]["ready"]
    assert "alexnet-owt-7be5be79.pth" in rows["lpips"]["message"]
    assert "nothing leaves this machine" in facts["network"]
    lines = dict(doctor.doctor_lines(facts))
    assert lines["training"] == "works here"
    assert lines["dists"].startswith("the weights vgg16-397923af.pth are not in")


def test_a_package_that_is_too_old_is_exit_5_and_the_line_that_installs_it(tmp_path: Path) -> None:
    fake(tmp_path, "torch", "1.0", "raise ImportError('libtorch.so: not found')")
    ending = doctor_with(tmp_path)
    assert ending.code == 5
    assert ending.out.splitlines()[-1] == "training:       does not work here"
    assert ending.err == (
        "error: training does not work here: torch is 1.0, which is not >=2.11\n"
        'hint: pip install "torch>=2.11"\n'
    )


def test_a_build_that_does_not_import_is_exit_5(tmp_path: Path) -> None:
    fake(tmp_path, "torch", "99.0", "raise OSError('libcudart.so.99: cannot open\\nmore')")
    ending = doctor_with(tmp_path, "--test", "--json")
    assert ending.code == 5
    assert (ending.json["ok"], ending.json["exit"]) == (False, 5)
    (problem,) = ending.json["problems"]
    assert problem["message"] == "torch does not import: OSError: libcudart.so.99: cannot open"
    assert "pip install --force-reinstall torch torchvision" in problem["hint"]


def test_a_torchaudio_for_another_torch_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(doctor.broken_torchaudio()) == []
    fake(tmp_path, "torchaudio", "2.11.0", "raise OSError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    (warning,) = doctor.broken_torchaudio()
    assert warning.message.startswith("torchaudio 2.11.0 does not import beside torch ")
    assert warning.hint == "aigc does not need it: pip uninstall torchaudio"


def test_requirements_and_extras_are_those_of_the_package() -> None:
    core, extras = doctor.read_requirements()
    assert "torch" in core
    assert "pytest" not in core
    rows = {row["extra"]: row for row in extras}
    assert "torch" not in rows["dev"]["missing"]
    for row in extras:  # what is missing, by name: aigc itself may be on no index
        assert (row["install"] is None) == (not row["missing"])
        assert all(f'"{name}' in (row["install"] or "") for name in row["missing"])


def test_without_a_test_torch_is_not_imported(tmp_path: Path) -> None:
    fake(tmp_path, "torch", "99.0", "raise OSError('imported')")
    (tmp_path / "torch/version.py").write_text("__version__ = '99'\ncuda: Optional[str] = '13.2'\n")
    ending = doctor_with(tmp_path)
    assert ending.code == 0
    assert ending.out.splitlines()[-1] == (
        "training:       the packages fit; to try the devices: aigc doctor --test"
    )
    assert "cuda:           torch is built for 13.2, driver " in ending.out


def test_absent_packages_are_installed_by_one_line() -> None:
    assert list(doctor.lacking({"pip": ""})) == []
    one, other = doctor.lacking({"no-such-a": ">=1", "no-such-b": ""})
    assert str(one.message) == "no-such-a is not installed"
    assert one.hint == other.hint == 'pip install "no-such-a>=1" "no-such-b"'


def test_a_device_that_cannot_compute_stops_training() -> None:
    gpu = {"device": "cuda:0", "name": "Old", "error": "no kernel image is available"}
    (problem,) = doctor.cannot_compute([{"device": "cpu", "name": "x", "error": None}, gpu])
    assert problem.message == "cuda:0 (Old) cannot compute: no kernel image is available"


def test_a_gpu_that_torch_does_not_see_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 550.54.15\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cuda = {"built": None, "driver": doctor.driver()}
    assert cuda["driver"] == "550.54.15"
    (warning,) = doctor.idle_gpu([{"device": "cpu"}], cuda)
    assert "an NVIDIA driver 550.54.15" in warning.message
    assert "built without CUDA, finds no GPU" in warning.message
    assert list(doctor.idle_gpu([{"device": "cpu"}], {**cuda, "driver": None})) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert list(doctor.idle_gpu([{"device": "cpu"}], cuda)) == []


def test_a_driver_that_fails_is_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.driver() is None

"""The container: a user without rights, pinned versions, no more than the wheel is made of."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = [
    line
    for line in re.sub(r"\\\n\s*", "", TEXT).splitlines()
    if line.strip() and not line.startswith("#")
]
STEPS = [(line.split()[0], line.split(maxsplit=1)[1]) for line in LINES]
LET_IN = {
    line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
}


def of_last_stage(word: str) -> list[str]:
    start = max(i for i, (step, _) in enumerate(STEPS) if step == "FROM")
    return [rest for step, rest in STEPS[start:] if step == word]


def test_the_last_user_has_no_rights() -> None:
    (user,) = of_last_stage("USER")
    assert int(user) >= 1000
    assert f"--uid {user}" in " ".join(of_last_stage("RUN"))


def test_every_install_is_pinned_and_leaves_no_cache() -> None:
    installs = re.findall(r"pip install [^&\n]*", "\n".join(LINES))
    assert len(installs) == 2
    for install in installs:
        assert "--no-cache-dir" in install
        assert "--constraint constraints.txt" in install or "--no-deps" in install


def test_the_base_is_an_argument() -> None:
    assert STEPS[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    assert STEPS[1] == ("FROM", "${BASE} AS base")


def test_no_secret_is_kept_in_the_image() -> None:
    kept = " ".join(rest for step, rest in STEPS if step in ("ENV", "ARG"))
    assert not re.search("token|secret|password|key", kept, re.IGNORECASE)


def test_the_context_is_what_the_wheel_is_made_of() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = data["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {data["project"]["readme"], *data["project"]["license-files"], *wheel["packages"]}
    needed |= {*wheel["force-include"], "pyproject.toml", "constraints.txt"}
    assert needed == LET_IN
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_extras_of_the_image_are_extras_of_the_package() -> None:
    (extras,) = (rest for step, rest in STEPS if step == "ARG" and rest.startswith("EXTRAS="))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.partition("=")[2].split(",")) <= set(known)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_has_no_remark() -> None:
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")

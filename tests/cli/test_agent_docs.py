"""What programs are told is true: every command is there, parses, and prints what is promised."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from aigc_cli import errors
from aigc_cli.cli._agent import ORDER, PRINTS
from aigc_cli.cli._app import app
from aigc_cli.cli._tree import commands

RUN = str(Path(__file__).parents[1] / "run/before_rooms/edsr.ckpt")
LEAVES = {
    " ".join(words): command for words, command in commands() if not hasattr(command, "commands")
}
CALLS = [
    "recipe ls",
    "recipe show edsr_demo",
    "recipe check edsr_demo",
    "recipe diff edsr_demo edsr_small_x2",
    "recipe cp edsr_demo mine.yaml",
    "recipe schema",
    "data ls",
    "data check builtin:photos",
    "data show builtin:emotions",
    "run ls",
    "model ls",
    "evaluate --metric list",
    "launch slurm edsr_small_x2 --gpus 0",
]
"""Quick ones; tests/conftest.py watches over those of all other tests."""


def holds(value: str) -> bool:
    return not value.startswith(("with ", "if "))


def test_every_command_is_described() -> None:
    assert set(PRINTS) == set(LEAVES) - {"agent-docs"}


def test_every_command_has_json() -> None:
    lacking = [
        name
        for name, command in LEAVES.items()
        if not any("--json" in one.opts for one in command.params)
    ]
    assert lacking == []


@pytest.mark.parametrize("call", CALLS)
def test_promised_keys_are_printed(call: str, aigc: Callable[..., Any]) -> None:
    ended = aigc(*call.split(), "--json")
    (name,) = (name for name in PRINTS if f"{call} ".startswith(f"{name} "))
    assert ended.code == 0, ended.stderr
    assert {key for key, value in PRINTS[name].items() if holds(value)} <= ended.json.keys()


def test_a_promise_that_is_broken_is_seen(
    aigc: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRINTS["run ls"], "rows", "[{run}]")
    ended = aigc("run", "ls", "--json")
    assert ended.code == 1
    assert "promised in cli/_agent.py" in ended.stderr


@pytest.mark.parametrize("call", [call for call, _ in ORDER])
def test_calls_of_the_order_parse(call: str) -> None:
    command: Any = typer.main.get_command(app)
    _, *words = shlex.split(call)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(call, words)


def test_exit_codes_are_those_of_the_errors(aigc: Callable[..., Any]) -> None:
    codes = aigc("agent-docs", "start", "--json").json["sections"]["start"]["exit codes"]
    classes = [errors.AigcError, *errors.AigcError.__subclasses__()]
    known = {str(c.exit_code) for c in classes if c is not errors.Interrupted}
    assert set(codes) == {"0", *known, "130", "143"}


def test_all_commands_fit_into_a_context(aigc: Callable[..., Any]) -> None:
    text = aigc("agent-docs").stdout
    assert 2000 < len(text.split()) < 6000
    assert all(f"aigc {name}" in text for name in PRINTS)


def test_a_section_is_printed_alone(aigc: Callable[..., Any]) -> None:
    text = aigc("agent-docs", "train").stdout
    assert "aigc train" in text
    assert "aigc sample" not in text
    assert re.search(r"--resume auto\|PATH: Continue", text)


def test_lists_are_those_of_the_registry(aigc: Callable[..., Any]) -> None:
    data = aigc("agent-docs", "recipes", "families", "keys", "--json").json["sections"]
    assert {"recipe": "image/edsr_demo", "family": "edsr"}.items() <= next(
        row for row in data["recipes"] if row["recipe"] == "image/edsr_demo"
    ).items()
    assert "edsr" in {row["family"] for row in data["families"]}
    assert "trainer.max_steps" in {row["key"] for row in data["keys"]}


def test_an_unknown_section_is_refused(aigc: Callable[..., Any]) -> None:
    ended = aigc("agent-docs", "recipe", "trian")
    assert ended.code == 2
    assert ended.stderr == ("error: there is no section 'trian'\nhint: did you mean 'train'?\n")

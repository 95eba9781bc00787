"""Every expected ending that is not success, and the exit code it has.

AigcError
├── InputError          2   the user's input is wrong: usage, recipe, data, checkpoint, output
│   ├── RecipeError         every problem of a recipe at once
│   ├── DataError           files that cannot be used, named
│   ├── CheckpointError     truncated, foreign or unsafe checkpoint
│   ├── PromptError         a text that a model cannot read; others beside it may be answered
│   └── OutputError         output that exists, is locked or cannot be written
├── RunError            3   the run failed; the sentence names the remedy
│   ├── DivergedError       NaN or Inf in a loss term
│   └── DiskFullError       no space left while writing
├── RequirementError    4   `--require` was not met
└── MissingError        5   an extra, a device or weights are absent here; says how to get them

Interrupted (130 or 143) is the ending after Ctrl-C or SIGTERM, with the state saved.
Anything else is a bug, keeps its traceback and exits 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os.path import commonprefix

LISTED = 20
"""Choices that a hint lists where none is near."""

NEAREST = 3
"""Choices that a hint takes for what was meant."""


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is (file, line, key), what is wrong, and what to do about it."""

    message: str
    code: str = "input"
    file: str | None = None
    line: int | None = None
    key: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        """`file:line: key: message, hint` with the parts that are known."""
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        return f"{text}, {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, object]:
        return {k: v for k, v in asdict(self).items() if v is not None}


class AigcError(Exception):
    """Base of the expected errors: one sentence, an optional next step, a stable code for
    scripts.
    """

    exit_code = 1
    code = "error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.code

    @property
    def problems(self) -> list[Problem]:
        return [Problem(self.message, code=self.code, hint=self.hint)]


class InputError(AigcError):
    exit_code = 2
    code = "input"


class RecipeError(InputError):
    """All the mistakes of one recipe.

    `problems` keeps each with its place; the message is their lines joined.
    """

    code = "recipe"

    def __init__(self, problems: Iterable[Problem], *, hint: str | None = None) -> None:
        self._problems = list(problems)
        super().__init__("\n".join(map(str, self._problems)), hint=hint)

    @property
    def problems(self) -> list[Problem]:
        return self._problems


class DataError(InputError):
    code = "data"


class CheckpointError(InputError):
    code = "checkpoint"


class PromptError(InputError):
    code = "prompt"


class OutputError(InputError):
    code = "output"


class RunError(AigcError):
    exit_code = 3
    code = "run"


class DivergedError(RunError):
    code = "run.diverged"


class DiskFullError(RunError):
    code = "run.disk_full"


class RequirementError(AigcError):
    exit_code = 4
    code = "requirement"


class MissingError(AigcError):
    exit_code = 5
    code = "missing"


class Interrupted(AigcError):
    """Stopped by a signal after the state was saved; exit code 128 + signal number."""

    code = "interrupted"

    def __init__(self, signum: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signum = signum
        self.exit_code = 128 + signum


def out_of_memory(error: BaseException, hint: str) -> RunError | None:
    """The error as a sentence with the size that was asked for, if it is one of exhausted memory:
    Python's, NumPy's, or torch's on a CPU or GPU.
    """
    text = str(error)
    ours = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not ours and not (isinstance(error, RuntimeError) and _NO_MEMORY.search(text)):
        return None
    device = "GPU memory" if "CUDA" in text else "memory"
    size = ""
    if found := re.search(r"tried to allocate (\d+) bytes", text):
        size = f": {int(found[1]) / 1e9:,.1f} GB were asked for at once"
    elif found := re.search(r"(?:Tried|Unable) to allocate ([\d.]+ [KMGTP]?i?B)", text):
        size = f": {found[1]} were asked for at once"
    elif found := re.search(r"overflowed with sizes=(\[[\d, ]+\])", text):
        size = f": a tensor of {found[1]} numbers was asked for"
    return RunError(f"out of {device}{size}", hint=hint, code="run.memory")


_NO_MEMORY = re.compile(
    "can't allocate memory|out of memory|Storage size calculation overflowed|bad allocation|"
    "bad_alloc"
)


@contextmanager
def within_memory(hint: str) -> Iterator[None]:
    """Inside, exhausted memory is a RunError with this next step."""
    try:
        yield
    except Exception as error:
        if (told := out_of_memory(error, hint)) is None:
            raise
        raise told from error


def did_you_mean(name: str, choices: Iterable[str], *, ls: str | None = None) -> str:
    """The hint for a wrong name: the nearest choice, with those about as near; where none is near,
    the first of them, or the command `ls` that lists them if they are many.
    """
    known = sorted(choices)
    if near := _nearest(name, known):
        *others, last = (f"'{choice}'" for choice in near)
        more = f" list all with: {ls}" if others and ls else ""
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?{more}"
    if ls and len(known) > LISTED:
        return f"list them with: {ls}"
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"choose from: {', '.join(known[:LISTED])}{more}" if known else "there are none"


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """The choices that may be meant, the likeliest first: the one that differs in case and marks
    alone, else those that begin with the name and what is as similar, else the most similar and
    those about as similar.
    """
    plain = {re.sub(r"[\W_]", "", choice.lower()): choice for choice in reversed(known)}
    short = re.sub(r"[\W_]", "", name.lower())
    if short in plain:
        return [plain[short]]
    begun = {one for one in plain if len(short) > 1 and one.startswith(short)}
    close = difflib.get_close_matches(short, plain, n=NEAREST, cutoff=0.6)
    alike = {one: difflib.SequenceMatcher(None, one, short).ratio() for one in {*begun, *close}}
    least = max((alike[one] for one in begun), default=max(alike.values(), default=0) - 0.1)
    found = (one for one in sorted(alike) if one in begun or alike[one] > least)

    def likeness(one: str) -> tuple[float, int]:
        return alike[one], len(commonprefix([one, short]))  # noqa: RUF071  these are no paths

    ranked = sorted(found, key=likeness, reverse=True)
    return [plain[one] for one in ranked[:NEAREST]]

"""What is told where a command is cut short and can go on: what is kept, and what to type."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aigc_cli.cli import _endings
from aigc_cli.errors import DiskFullError, Interrupted


@contextmanager
def going_on(hint: Callable[[], str | None]) -> Iterator[None]:
    """Inside, an interrupt or a full disk ends with the hint that is true by then.

    Raises:
        Interrupted, DiskFullError: with that hint.
    """
    try:
        yield
    except DiskFullError as error:
        raise DiskFullError(error.message, hint=hint() or error.hint) from error
    except Interrupted:
        raise
    except BaseException as error:
        # A library may turn the interrupt into an error of its own.
        if not isinstance(error, KeyboardInterrupt) and not _endings.received():
            raise
        raise _endings.interruption(hint()) from error


def repeated(*more: str) -> str:
    """This very command line with more options, such as `--continue`, to be typed again."""
    words = [word for word in sys.argv[1:] if word not in ("--overwrite", *more)]
    end = words.index("--") if "--" in words else len(words)
    return shlex.join(["aigc", *words[:end], *more, *words[end:]])

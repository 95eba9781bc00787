"""Endings that may come at any instruction: Ctrl-C, SIGTERM, an output that cannot be written.

Before the command does anything, a signal ends the process at once; while it works, a signal
unwinds it as KeyboardInterrupt, so that half-written files are removed, and a second one ends it at
once. Either way there is one line on stderr, and the exit code is 128 + the signal's number.
Training takes the signals over while it can save its state (`run/stop.py`).

Nothing is imported here that takes time.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aigc_cli.errors import Interrupted

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}

STDOUT = "standard output"

_main = os.getpid()
_received = 0


def end_at_once() -> None:
    """From here on a signal ends the process without unwinding."""
    _handle(_end)


def unwind() -> None:
    """From here on a signal raises KeyboardInterrupt, and `received` says which it was."""
    _handle(_interrupt)


def received() -> int:
    """The number of the signal that interrupted this process; 0 when there was none."""
    return _received


def interruption(hint: str | None = None) -> Interrupted:
    """The signal that was received as an error; Ctrl-C where none was, as in another's handler."""
    from aigc_cli.errors import Interrupted

    number = signal.Signals(_received or signal.SIGINT)
    return Interrupted(number, NAMES[number], hint=hint)


def open_closed_streams() -> None:
    """Put the null device where a standard stream is closed, as after `>&-`.

    Otherwise the next file that is opened takes its number, and a child writes into it. What is
    written to a closed stdout still fails, with its name; a closed stderr swallows it.
    """
    for number, access in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access)  # takes the lowest free number
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    encoding = sys.stdout.encoding if sys.stdout else None
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(Stdout(1, "w", closefd=False)),
        encoding,
        errors="backslashreplace",  # a name that the terminal cannot show is no error
        line_buffering=os.isatty(1),
    )


class Stdout(io.FileIO):
    """Standard output, whose errors say that they are its own."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            raise


def discard_output() -> None:
    """Throw away what stdout could not take, which Python would try to write again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _handle(handler: object) -> None:
    for number in NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of a background job, or nohup
            signal.signal(number, handler)  # type: ignore[arg-type]


def _end(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _main:
        _end_as_a_child(number)
    os.write(2, f"stopped: {NAMES[signal.Signals(number)]}\n".encode())
    if "--json" in sys.argv:
        error = f'{{"message": "{NAMES[signal.Signals(number)]}", "code": "interrupted"}}'
        os.write(1, f'{{"ok": false, "exit": {128 + number}, "errors": [{error}]}}\n'.encode())
    os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    if os.getpid() != _main:
        _end_as_a_child(number)
    if _is_importing(frame):  # an exception in the middle of torch's own start aborts the process
        _end(number, frame)
    _received = number
    end_at_once()
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_as_a_child(number: int) -> None:
    """A process forked from this one, such as a worker that loads data, has no words of its own."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

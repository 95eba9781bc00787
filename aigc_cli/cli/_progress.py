"""Shows the events of a run: a bar on a terminal, one line now and then elsewhere, JSON lines for
scripts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aigc_cli.cli._output import dumps

Event = dict[str, Any]
LINE_EVERY_S = 30.0  # in log files; losses of every `log_every` steps are in metrics.jsonl


class Lines:
    """Plain lines on stderr; of the step lines only one in LINE_EVERY_S seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        from aigc_cli.run.events import describe

        if event["event"] == "step":
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + LINE_EVERY_S
        line = describe(event)
        if line:
            print(line, file=sys.stderr, flush=True)


class Bar:
    """A live line on stderr with phase, step, rate, loss and ETA; other events scroll above it."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("train", total=None, phase="", info="")

    def __call__(self, event: Event) -> None:
        from aigc_cli.run.events import describe

        kind = event["event"]
        if kind == "tick":
            early = {"info": f"loss {event['loss']:.4g}"} if "loss" in event else {}
            self._progress.update(self._task, completed=event["step"], phase="training", **early)
            return
        if kind == "phase":
            done = f" {event['done']}/{event['of']}" if "of" in event else ""
            self._progress.update(self._task, phase=f"{event['phase']}{done}")
            return
        if kind == "step":
            loss = next((v for k, v in event.items() if k.startswith("train/")), 0.0)
            rate, wait = f"{event['samples_per_s']:.1f} samples/s", event["data_wait"]
            loss = event.get("train/loss", loss)
            text = f"loss {loss:.4g}  {rate}  data wait {wait:.0%}"
            self._progress.update(self._task, info=text)
            return
        line = describe(event)
        if line:
            self._progress.console.print(line, markup=False, highlight=False)
        if kind == "start":
            self._progress.update(self._task, total=event["steps"], completed=event["step"])


def json_lines(event: Event) -> None:
    if event["event"] not in ("tick", "phase"):
        print(dumps(event), flush=True)


def _nothing(event: Event) -> None:
    pass


@contextmanager
def watching(*, json: bool, quiet: bool) -> Iterator[Any]:
    """A function that takes the events of a run and shows them as this terminal can."""
    if json:
        yield json_lines
    elif quiet:
        yield _nothing
    elif not sys.stderr.isatty() or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        yield Lines()
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.fields[phase]}", markup=False),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[info]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield Bar(progress)


@contextmanager
def transferring(name: str, size: int | None, *, json: bool, quiet: bool) -> Iterator[Any]:
    """A function that is told of bytes that arrive, and shows them on a terminal or in a log."""
    if json or quiet:
        yield lambda count: None
    elif not sys.stderr.isatty() or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        yield _Counted(name, size)
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=size)
            yield lambda count: progress.advance(task, count)


class _Counted:
    """A line on stderr every LINE_EVERY_S seconds."""

    def __init__(self, name: str, size: int | None) -> None:
        self._name, self._of = name, f" of {size / 1e6:,.1f}" if size else ""
        self._done, self._next = 0, time.monotonic() + LINE_EVERY_S

    def __call__(self, count: int) -> None:
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY_S
            print(
                f"{self._name}: {self._done / 1e6:,.1f}{self._of} MB", file=sys.stderr, flush=True
            )

"""Ending a run early: Ctrl-C, SIGTERM, SLURM's warning signal, --max-time.

While it trains a signal only leaves a note: after the step in progress all processes agree on the
note, the state is saved and the run ends with 128 + signal. Before the first step, and in one
process while it validates and shows, a signal is an `Interrupted` at once. A second Ctrl-C more
than a second later stops whatever is going on.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from aigc_cli.errors import Interrupted

TIME_IS_UP = -1


class Stop:
    """`asked` is 0, a signal number or TIME_IS_UP; `agreed()` is the same on every process.

    deadline: when the time is up, by time.monotonic.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.asked = 0
        self._first = 0.0
        self._at_once = False
        self._deadline = deadline
        self._previous: dict[int, Any] = {}
        self._group: Any = None

    def listen(self, *, at_once: bool = False) -> None:
        """Take the signals over; again after Lightning, whose SIGTERM handler ends with code 0.

        at_once: a signal raises Interrupted, as inside `at_once`.
        """
        self._at_once = at_once
        wanted = [signal.SIGINT, signal.SIGTERM]
        if "SLURM_JOB_ID" in os.environ:
            wanted.append(signal.SIGUSR1)
        for number in wanted:
            previous = signal.signal(number, self._note)
            self._previous.setdefault(number, previous)
        started = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if self._group is None and started:
            self._group = dist.new_group(backend="gloo")  # so that no step waits for a GPU

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises Interrupted, unless other processes would wait for this one."""
        before, self._at_once = self._at_once, self._group is None
        try:
            yield
        finally:
            self._at_once = before

    def agreed(self) -> int:
        """The note all processes act on, after this step."""
        if not self.asked and self._deadline is not None and time.monotonic() > self._deadline:
            self.asked = TIME_IS_UP
        if self._group is None:
            return self.asked
        notes = torch.tensor([self.asked, -self.asked])
        dist.all_reduce(notes, dist.ReduceOp.MAX, group=self._group)
        signals, time_is_up = int(notes[0]), -int(notes[1])
        return signals or time_is_up

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked > 0 and number == signal.SIGINT and now - self._first > 1:
            self.restore()
            raise KeyboardInterrupt
        if self.asked <= 0:
            self.asked, self._first = number, now
            if self._at_once:
                self._at_once = False
                raise Interrupted(number, f"stopped by signal {number} before the first step")


def requeue() -> str | None:
    """Put this SLURM job back into the queue; the message to print, None outside SLURM."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID")
    scontrol = shutil.which("scontrol")
    if not job or not scontrol or not re.fullmatch(r"[0-9_]+", job):
        return None
    done = subprocess.run([scontrol, "requeue", job], capture_output=True, text=True, check=False)  # noqa: S603
    return (
        f"job {job} requeued" if done.returncode == 0 else f"requeue failed: {done.stderr.strip()}"
    )

"""What Ray runs on its machines: keepers of worker processes. Light, since it runs beside them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import IO, Any

END_S = 10.0  # for a process to end after a signal that cannot be held back


@dataclass(frozen=True)
class Ended:
    """How a worker process ended; `code` is negative after a signal, and None where nobody knows,
    as when its machine is gone.
    """

    code: int | None
    problems: Sequence[Mapping[str, Any]] = ()
    """Its own sentences, if it had any."""
    words: str = ""
    """The last line on its stderr."""


class Keeper:
    """Starts one worker process, the one that torchrun would start, and hears its events."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._events: deque[dict[str, Any]] = deque()

    def place(self) -> tuple[str, int]:
        """Address and free port of this machine, where the processes meet."""
        import ray

        address = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((address, 0))
            return address, probe.getsockname()[1]

    def run(self, words: Sequence[str], env: Mapping[str, str], folder: str) -> Ended:
        """Run `aigc WORDS --json` in `folder` to its end."""
        problems: list[dict[str, Any]] = []
        last = [""]

        def listen(stream: IO[str]) -> None:
            for line in stream:
                last[0] = line.strip() or last[0]

        self._process = subprocess.Popen(  # noqa: S603  our own command line
            [sys.executable, "-m", "aigc_cli", *words, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **env},
        )
        assert self._process.stdout
        assert self._process.stderr
        listener = Thread(target=listen, args=(self._process.stderr,), daemon=True)
        listener.start()
        for line in self._process.stdout:
            with suppress(ValueError):
                row = json.loads(line)
                if "event" in row:
                    self._events.append(row)
                else:
                    problems = row.get("errors", [])
        code = self._process.wait()
        listener.join(END_S)
        return Ended(code, problems, last[0])

    def events(self) -> list[dict[str, Any]]:
        """What happened since this was last asked."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def signal(self, number: int) -> None:
        """To the worker, which saves its state."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def end(self) -> None:
        """Kill the worker, if it is still there."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)

"""Parses music in processes of their own, so that a file that ends its parser costs no other file.

A process reads requests from its standard input until that ends: a line of JSON with the name and
the size of a file, then its bytes. It answers with a line of JSON, and the notes where there are
some. Nothing is unpickled on either side.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Timer
from typing import IO, Any

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.midi import Midi, read_midi
from aigc_cli.media.musicxml import is_score, read_musicxml
from aigc_cli.media.score import is_abc, read_abc

SECONDS = 60.0  # that a file may take
AHEAD = 64  # files that are held in memory
# -P: what lies in the working folder is never imported.
COMMAND = [sys.executable, "-P", "-c", "from aigc_cli.media.parsing import serve; serve()"]

Parsed = Midi | DataError


def read_music(data: bytes, name: str) -> Midi:
    """The notes of a MIDI file, of a tune in ABC or of a score in MusicXML.

    Raises:
        DataError: it is none, or cannot be used; names it.
    """
    if name.lower().endswith(".abc"):
        raise DataError(f"{name}: has no tune, which begins with X:")
    if is_score(data):
        return read_musicxml(data, name)
    return read_abc(data, name) if is_abc(data) else read_midi(data, name)


def parse(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Parsed]]:
    """Each file by name, in order, with its notes or what is wrong with it."""
    waiting: deque[tuple[str, Future[Parsed]]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for name, data in files:
            waiting.append((name, threads.submit(_ask, name, data)))
            if len(waiting) >= AHEAD:
                yield waiting[0][0], waiting.popleft()[1].result()
        while waiting:
            yield waiting[0][0], waiting.popleft()[1].result()


def _ask(name: str, data: bytes) -> Parsed:
    try:
        parser = _idle.get_nowait()
    except Empty:
        parser = Parser()
    found = parser.ask(name, data)
    if parser.process.poll() is None:
        _idle.put(parser)
    return found


class Parser:
    """A process that parses one file at a time."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    def ask(self, name: str, data: bytes) -> Parsed:
        """The notes of a file, or what is wrong with it; the process may have ended then."""
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None
        assert sink is not None
        clock = Timer(SECONDS, self.process.kill)
        clock.start()
        try:
            sink.write(json.dumps({"name": name, "size": len(data)}).encode() + b"\n" + data)
            sink.flush()
            head = json.loads(source.readline())
            if "error" in head:
                return DataError(head["error"])
            rows = np.frombuffer(_exactly(source, 40 * head["notes"]), np.int64).reshape(-1, 5)
            meters = tuple((a, b) for a, b in head["meters"])
            return Midi(head["ticks"], rows, head["tempo"], meters)
        except (OSError, ValueError):
            self.close()
            return DataError(f"{name}: ends its parser (exit code {self.process.returncode})")
        finally:
            clock.cancel()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was not written yet
                continue


_idle: SimpleQueue[Parser] = SimpleQueue()


@atexit.register
def _close_all() -> None:
    while not _idle.empty():
        _idle.get().close()


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise ValueError("the answer is cut off")
    return data


def serve() -> None:
    """Answer requests until they end."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # where parsers of others say what they think of a file
    while line := sys.stdin.buffer.readline():
        request: dict[str, Any] = json.loads(line)
        data = sys.stdin.buffer.read(request["size"])
        try:
            midi = read_music(data, request["name"])
        except DataError as error:
            answers.write(json.dumps({"error": error.message}).encode() + b"\n")
        else:
            head = {
                "ticks": midi.ticks, "tempo": midi.tempo, "meters": midi.meters,
                "notes": len(midi.notes),
            }  # fmt: skip
            answers.write(json.dumps(head).encode() + b"\n")
            answers.write(np.ascontiguousarray(midi.notes, np.int64).tobytes())
        answers.flush()

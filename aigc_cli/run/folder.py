"""Writes the run folder that paths.py lays out, finds one, and keeps a second process out of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aigc_cli.errors import DiskFullError, OutputError
from aigc_cli.media.files import write_bytes, write_error
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.write import to_yaml
from aigc_cli.run.environment import environment
from aigc_cli.run.paths import RUNS, RunPaths, is_run

TEMPORARY = re.compile(
    r"\.tmp-[0-9a-f]{32}-(last|best)\.ckpt|\.tmp-probe-\d+|\.latest-\d+|\.[0-9a-f]{32}\.tmp"
)  # the names that checkpoint.py, media/files.py and this file write under
STATUS_BYTES = 1024  # of status.json, padded, so that an ending fits in where a start was
FOLDER_VARIABLE = "AIGC_RUN_FOLDER"  # how a launcher hands its choice to the workers
_HELD: set[FileLock] = set()
"""Locks of this process."""


class RunFolder(RunPaths):
    """One run's files, and the lock that keeps a second process out of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock: FileLock | None = None

    def create(self) -> None:
        """Make the folders and see that they can be written, before the first step.

        Raises:
            OutputError: a file is in the way or the folder is read-only.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            probe = self.checkpoints / f".tmp-probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written: {error.strerror}",
                hint="choose another folder with --out",
            ) from error

    def lock(self) -> None:
        """Hold the folder until the process ends; the system frees it even after kill -9.

        Raises:
            OutputError: another process trains here; names it.
        """
        lock = FileLock(self.lock_file, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"{self.path}: another run is training here ({self._held_by()})",
                hint="wait for it, or choose another folder with --out",
                code="output.locked",
            ) from error
        except (OSError, NotImplementedError) as error:
            raise OutputError(f"{self.lock_file}: cannot be locked: {error}") from error
        self._lock = lock
        _HELD.add(lock)  # whatever becomes of this object
        holder = f"pid {os.getpid()} on {socket.gethostname()}, {_now()}\n"
        with suppress(DiskFullError, OutputError):  # it is for others to read, and may be missing
            write_text(self.holder, holder)
        self._remove_temporary()

    def _held_by(self) -> str:
        try:
            return self.holder.read_text(encoding="utf-8", errors="replace")[:200].strip()
        except OSError:  # not yet written
            return "just started"

    def _remove_temporary(self) -> None:
        """Delete what a kill in the middle of a write left: files of our own names, in our own
        folders, when this is a run.
        """
        if not is_run(self.path):
            return
        for folder in (self.path, self.checkpoints, self.previews):
            with suppress(OSError):
                left = [file for file in folder.iterdir() if TEMPORARY.fullmatch(file.name)]
                for file in left:
                    file.unlink()

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            _HELD.discard(self._lock)
            self._lock = None

    def describe(self, recipe: Recipe) -> None:
        """Write what is known at the start: recipe, command, environment."""
        text = to_yaml(recipe.as_dict())
        write_text(self.recipe, text)
        starts = json.loads(self.command.read_text()) if self.command.exists() else []
        starts.append({"time": _now(), "argv": sys.argv, "cwd": str(Path.cwd()), "git": _commit()})
        write_text(self.command, json.dumps(starts, indent=2, ensure_ascii=False))
        write_text(self.environment, json.dumps(environment(), indent=2))
        latest = self.path.parent / "latest"
        if self.path.parent.parent.name == RUNS.name and not (
            latest.exists() and not latest.is_symlink()
        ):
            temporary = latest.with_name(f".latest-{os.getpid()}")
            with suppress(OSError):
                temporary.symlink_to(self.path.name)
                os.replace(temporary, latest)

    def found(self, report: Mapping[str, Any]) -> None:
        """Write what was found in the data, by part."""
        parts = {key: part.as_dict() for key, part in report.items()}
        write_text(self.data, json.dumps(parts, indent=2, ensure_ascii=False, default=str))

    def status(self, state: str, **facts: Any) -> None:
        """Replace status.json; `state` is running, finished, stopped, interrupted or failed."""
        text = json.dumps({"state": state, "time": _now(), **facts}, indent=2)
        try:
            write_text(self.status_file, text.ljust(STATUS_BYTES))
        except DiskFullError:
            self._write_over(text)

    def _write_over(self, text: str) -> None:
        """Write the status into the blocks that it has already: also a full disk takes that.

        Raises:
            DiskFullError: there is none yet, or it is too short.
        """
        data = text.encode()
        size = self.status_file.stat().st_size if self.status_file.exists() else 0
        if size < len(data):
            raise DiskFullError(f"{self.status_file}: no space left", hint="free some space")
        with self.status_file.open("r+b") as file:
            file.write(data.ljust(size))

    def append(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.jsonl; whole lines only."""
        defined = {k: None if v != v else v for k, v in row.items()}  # JSON has no NaN
        line = json.dumps(defined) + "\n"
        try:
            with self.metrics.open("a") as file:
                file.write(line)
        except OSError as error:
            raise write_error(error, self.metrics, len(line)) from error

    def forget_after(self, step: int, *, pending: Sequence[str] = ()) -> None:
        """Drop rows of metrics.jsonl later than `step`: steps that a resumed run does again; also
        its validation, where that is pending.
        """
        if not self.metrics.exists():
            return
        rows = self.metrics.read_text().splitlines(keepends=True)
        again = {(step, "val")} if "validation" in pending else set()
        known = ((row, _place_of(row)) for row in rows)
        kept = [row for row, at in known if at is not None and at[0] <= step and at not in again]
        if kept != rows:
            write_text(self.metrics, "".join(kept))


def new_folder(recipe: Recipe, out: Path | None, *, overwrite: bool) -> RunFolder:
    """The folder of a new run; an existing one is never reused silently.

    Raises:
        OutputError: `out` exists and is not empty, and `overwrite` was not asked for.
    """
    if out is None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        runs, tail = RUNS / recipe.name, identity_hash(recipe)
        out = runs / f"{stamp}-{tail}"
        for number in range(2, 100):  # several runs started in one second
            if not out.exists():
                break
            out = runs / f"{stamp}.{number}-{tail}"
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise OutputError(
                f"{out}: already exists and is not empty",
                hint="continue it with --resume auto, or use --overwrite or another --out",
                code="output.exists",
            )
        if not RunPaths(out).status_file.exists():
            raise OutputError(
                f"{out}: is not a run folder, so --overwrite will not delete it",
                hint="choose another --out",
            )
        out = out.resolve() if out.is_symlink() else out  # the folder goes, a link to it stays
        existing = RunFolder(out)
        existing.lock()
        existing.unlock()
        try:
            shutil.rmtree(out)
        except OSError as error:
            raise OutputError(f"{out}: cannot be deleted: {error.strerror}") from error
    return RunFolder(out)


def require_own(folder: RunFolder) -> None:
    """See that a folder to be continued or begun is a run, or empty: nothing of the user's is
    touched.

    Raises:
        OutputError: it holds other things.
    """
    path = folder.path
    if not path.exists() or is_run(path) or (path.is_dir() and not any(path.iterdir())):
        return
    raise OutputError(
        f"{path}: is not a run folder, and holds other things",
        hint="choose another --out",
        code="output.exists",
    )


def newest_run(recipe: Recipe) -> RunFolder | None:
    """The newest run in ./runs/<recipe> with a checkpoint that this recipe may continue."""
    tail = f"-{identity_hash(recipe)}"
    for path in sorted((RUNS / recipe.name).glob(f"*{tail}"), reverse=True):
        run = RunFolder(path)
        if run.last.exists() or run.best.exists():
            return run
    return None


def identity(recipe: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved recipe that a resumed run must share: all that decides what is
    learned.

    Budget, devices, precision and cadence may change between two starts.
    """
    trainer = {
        key: recipe["trainer"][key] for key in ("global_batch", "clip_norm", "ema", "schedule")
    }
    data = {key: value for key, value in recipe["data"].items() if key != "cache"}
    keep = {key: recipe[key] for key in ("family", "seed", "model", "init_from")}
    return {**keep, "data": data, "trainer": trainer}


def identity_hash(recipe: Recipe) -> str:
    """Four hexadecimal digits of `identity`, the tail of a run folder's name."""
    text = json.dumps(identity(recipe.as_dict()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:4]


def write_text(path: Path, text: str) -> None:
    """Replace a small file at once, so that a reader never sees half of it."""
    write_bytes(path, text.encode())


def _place_of(row: str) -> tuple[int, str] | None:
    try:
        found = json.loads(row)
        return int(found["step"]), str(found["event"])
    except (ValueError, KeyError, TypeError):
        return None


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Git commit of the current folder, with + when files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        done = subprocess.run([git, *words], capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    head = ask("rev-parse", "--short", "HEAD")
    return head + ("+" if ask("status", "--porcelain") else "") if head else None

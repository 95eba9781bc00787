"""The folder in which a data set comes together before one rename puts it in place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from aigc_cli.catalog.fetch import disk_error
from aigc_cli.catalog.find import size_text
from aigc_cli.errors import DiskFullError, OutputError


@contextmanager
def stage_for(stage: Path, size: int) -> Iterator[None]:
    """A folder to work in, for one process. After a failure only fetched bytes stay there, after a
    full disk not even these.
    """
    try:
        stage.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(stage).free
    except OSError as error:
        raise OutputError(f"cannot write in {str(stage.parent)!r}: {error.strerror}") from error
    if free < 2 * size:
        shutil.rmtree(stage, ignore_errors=True)
        raise DiskFullError(
            f"{size_text(size)} do not fit in {str(stage.parent)!r}: {size_text(free)} are free",
            hint="free some, or choose another place with --to or AIGC_DATA",
        )
    try:
        with FileLock(stage / "lock", timeout=0):
            try:
                _clear(stage)
                yield
            except BaseException:
                _clear(stage)
                raise
    except Timeout as error:
        raise OutputError(f"another process is getting {stage.name[1:-5]!r} here") from error
    except OSError as error:
        failed = disk_error(error, stage)
        _forget(stage, failed)
        raise failed from error
    except BaseException as error:
        _forget(stage, error)
        raise
    shutil.rmtree(stage, ignore_errors=True)


def _forget(stage: Path, error: BaseException) -> None:
    """Remove the stage, unless it has bytes that the next call can go on with."""
    if isinstance(error, DiskFullError) or not (stage / "fetched").is_dir():
        shutil.rmtree(stage, ignore_errors=True)


def _clear(stage: Path) -> None:
    for name in ("unpacked", "ready"):
        shutil.rmtree(stage / name, ignore_errors=True)
    fetched = stage / "fetched"
    if fetched.is_dir() and not any(fetched.iterdir()):
        fetched.rmdir()

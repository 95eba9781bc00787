"""The command `aigc`, from its first instruction to its exit code.

Signals and streams are seen to here, before anything that takes time is imported. The commands and
their errors are in `_app.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aigc_cli.cli import _endings


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    _endings.open_closed_streams()
    _endings.end_at_once()
    from aigc_cli.cli import _app, _libraries

    _libraries.keep_memory()
    _libraries.spin_little()
    args = sys.argv[1:] if args is None else args
    _app.set_up_logs(quiet="--quiet" in args or "-q" in args, debug="--debug" in args)
    _endings.unwind()
    code = _app.invoke(args)
    _endings.end_at_once()
    sys.exit(code)


def invoke(args: Sequence[str]) -> int:
    """Run one command line in this process and return its exit code."""
    from aigc_cli.cli import _app

    return _app.invoke(args)

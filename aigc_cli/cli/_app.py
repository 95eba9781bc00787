"""The commands of `aigc`, and how every ending becomes an exit code and a sentence.

Each command is a file of this folder that imports its heavy parts inside its function, so that
`aigc --help` never waits for torch. Exit codes are listed in `errors.py`.
"""

from __future__ import annotations

import errno
import importlib
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aigc_cli import __version__
from aigc_cli.cli import _endings, _output
from aigc_cli.cli._usage import usage_error
from aigc_cli.errors import AigcError, DiskFullError, InputError, out_of_memory
from aigc_cli.registry import place_in_user_file

# Panel of the help, name, "file:object" in this folder. An object that is a Typer is a group.
# A panel of "" hides the command, which is how an alias is made.
COMMANDS = (
    ("Work", "train", "train:train"),
    ("Work", "tune", "tune:tune"),
    ("Work", "sample", "sample:sample"),
    ("Work", "evaluate", "evaluate:evaluate"),
    ("", "eval", "evaluate:evaluate"),
    ("Work", "augment", "augment:augment"),
    ("Work", "augment features", "features:features"),
    ("Prepare", "recipe", "recipe:app"),
    ("Prepare", "data", "data:app"),
    ("Prepare", "plan", "plan:plan"),
    ("Prepare", "doctor", "doctor:doctor"),
    ("Prepare", "agent-docs", "agent_docs:agent_docs"),
    ("Results", "run", "run:app"),
    ("Results", "model", "model:app"),
    ("Results", "serve", "serve:serve"),
    ("Scale", "launch", "launch:launch"),
)


class Panels(TyperGroup):
    """The help lists the commands under their panels, as plain text, in the order of COMMANDS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for _, name, _ in COMMANDS]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands: list[Any] = [
            c for name in self.list_commands(ctx) if (c := self.get_command(ctx, name))
        ]
        shown = (c for c in commands if not c.hidden)
        for panel, members in groupby(shown, key=lambda c: c.rich_help_panel):
            with formatter.section(panel):
                formatter.write_dl([(c.name, c.get_short_help_str(limit=80)) for c in members])


app = typer.Typer(
    name="aigc",
    cls=Panels,
    help="""Train, sample, evaluate and augment with generative models.

    \b
    First steps:  aigc recipe ls
                  aigc train edsr_small_x2
                  aigc sample runs/edsr_small_x2/latest --input photo.jpg
    """,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def invoke(args: Sequence[str]) -> int:
    """Run one command line; report what ended it on stderr or in JSON; return the exit code."""
    args = two_words(_global_options_last(args))
    try:
        return _call(args)
    except BrokenPipeError:  # the reader has gone, as in `| head -1`
        _endings.discard_output()
        return 141  # 128 + SIGPIPE, as of every Unix filter


def _call(args: list[str]) -> int:
    try:
        code = app(args, prog_name="aigc", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _end(usage_error(error, args), args, error)
    except AigcError as error:
        return _end(error, args, error)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _end(_refused_by_the_system(error), args, error)
    except Exception as error:
        # A library may turn the interrupt into an error of its own.
        return _end(_endings.interruption() if _endings.received() else _bug(error), args, error)
    except KeyboardInterrupt as error:
        return _end(_endings.interruption(), args, error)
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # Typer turns it into 1, a bug's number
            raise ending.__context__ from None
        return int(ending.code or 0)
    if code == 130:  # Typer's number for KeyboardInterrupt
        return _end(_endings.interruption(), args, KeyboardInterrupt())
    return code if isinstance(code, int) else 0


def _end(error: AigcError, args: list[str], cause: BaseException) -> int:
    """Report the error and return its exit code."""
    if "--debug" in args:
        traceback.print_exception(cause, file=sys.stderr)
    if "--json" in args:
        print(_output.dumps(_output.failure(error)), flush=True)
    print(_output.error_text(error, whole="--debug" in args), file=sys.stderr, flush=True)
    return error.exit_code


def _bug(error: Exception) -> AigcError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).partition("\n")[0]
    if told := out_of_memory(error, "make fewer at once, or of a smaller size"):
        return told
    if place := place_in_user_file(error):
        return InputError(
            f"{place}: {type(error).__name__}: {text}",
            hint="a file of AIGC_PATH failed; `aigc model check FAMILY` tries what it promises",
            code="family",
        )
    return AigcError(
        f"this is a bug in aigc: {type(error).__name__}: {text} ({frame.filename}:{frame.lineno})",
        hint="run the command again with --debug for the whole traceback, and report it",
        code="bug",
    )


def _refused_by_the_system(error: OSError) -> AigcError:
    """What the system says of a file: its name is too long, it may not be opened, the disk is
    full.
    """
    if error.filename == _endings.STDOUT:
        _endings.discard_output()
    if error.strerror is None:
        return _bug(error)
    reason = f"{error.strerror[0].lower()}{error.strerror[1:]}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # often without the name of the file
        return DiskFullError(f"{error.filename}: {reason}" if error.filename else reason)
    return InputError(f"{error.filename}: {reason}") if error.filename else _bug(error)


def _global_options_last(args: Sequence[str]) -> list[str]:
    """`aigc --json recipe -q ls` means `aigc recipe ls --json -q`; a `--` ends the options."""
    end = args.index("--") if "--" in args else len(args)
    common = [arg for arg in args[:end] if arg in _output.GLOBAL_OPTIONS]
    others = [arg for arg in args[:end] if arg not in _output.GLOBAL_OPTIONS]
    return [*others, *common, *args[end:]]


def two_words(args: list[str]) -> list[str]:
    """`augment features` is a command of its own, beside `augment DATA`."""
    names = {tuple(name.split()) for _, name, _ in COMMANDS if " " in name}
    return [" ".join(args[:2]), *args[2:]] if tuple(args[:2]) in names else args


def set_up_logs(*, quiet: bool, debug: bool) -> None:
    """Our own remarks go to stderr as `warning: ...`, those of other packages only with --debug."""

    class Line(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"{record.levelname.lower()}: {record.getMessage()}"

    handler = logging.StreamHandler()
    handler.setFormatter(Line())
    logger = logging.getLogger("aigc_cli")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING)
    if not debug:
        warnings.simplefilter("ignore")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"aigc {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    quiet: _output.Quiet = False,
    json: _output.Json = False,
    debug: _output.Debug = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


for _panel, _name, _target in COMMANDS:
    _file, _, _object = _target.partition(":")
    _command = getattr(importlib.import_module(f"aigc_cli.cli.{_file}"), _object)
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name, rich_help_panel=_panel, hidden=not _panel)
    else:
        app.command(_name, rich_help_panel=_panel, hidden=not _panel)(_command)

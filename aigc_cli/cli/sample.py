"""`aigc sample`: files made by a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aigc_cli.cli._engine import Address, EngineName, Workers, engine_of
from aigc_cli.cli._going_on import going_on, repeated
from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import InputError

if TYPE_CHECKING:
    from aigc_cli.run.engines.cluster import Engine
    from aigc_cli.run.request import Request

Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|CKPT|RECIPE",
        help="Run folder such as runs/NAME/latest, .ckpt file, or a recipe that needs no training.",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Options of the family, such as tile=128; see `aigc recipe show RECIPE --doc`.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Ema = Annotated[bool, typer.Option(help="Use the moving average of the weights, if there is one.")]


def check_device(device: str) -> None:
    known = ("auto", "cpu", "cuda", "mps")
    if device not in known:
        hint = f"choose from: {', '.join(known)}"
        raise InputError(f"--device: '{device}' is not known", hint=hint)


Input = Annotated[
    Path | None,
    typer.Option(
        "--input",
        "-i",
        help="File or folder to work on; texts, one a line or as JSONL. Without it, a family that "
        "needs an input shows what it makes of its validation data.",
        show_default=False,
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="Text to continue or answer.", show_default=False),
]
References = Annotated[
    list[Path] | None,
    typer.Option(
        "--reference", help="Additional input, such as a style image.", show_default=False
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "-n", min=1, help="Number of samples, or of outputs for each input.", show_default=False
    ),
]
Interpolate = Annotated[
    int, typer.Option(min=0, help="Interpolation steps between samples, also as a video.")
]
Chat = Annotated[bool, typer.Option("--chat", help="Chat in the terminal; /help lists commands.")]
System = Annotated[str | None, typer.Option(help="System prompt for --chat.", show_default=False)]
Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same files.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Output folder. Default: samples/NAME-TIME."),
]
SingleFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="Only this file: texts as JSONL, which `aigc evaluate --generated` reads.",
        show_default=False,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="Of the files, such as png, jpg, webp or tiff; short for write.format=FORMAT.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Batch size; does not change the results.")]
Overwrite = Annotated[bool, typer.Option(help="Write into a folder that is not empty.")]
GoOn = Annotated[
    bool, typer.Option("--continue", help="Continue an interrupted command; repeat its options.")
]


def sample(
    source: Source,
    options: Options = None,
    input: Input = None,
    prompt: Prompts = None,
    reference: References = None,
    count: Count = None,
    interpolate: Interpolate = 0,
    chat: Chat = False,
    system: System = None,
    seed: Seed = 0,
    out: Out = None,
    output: SingleFile = None,
    format: Format = None,
    batch_size: BatchSize = 16,
    ema: Ema = True,
    overwrite: Overwrite = False,
    go_on: GoOn = False,
    device: Device = "auto",
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Generate files with a trained model and print their paths."""
    from aigc_cli.run import inputs
    from aigc_cli.run.request import Request, default_output

    check_device(device)
    cluster = engine_of(engine, workers, address)
    sections = _sections(options or ())
    inputs.check_source(source, sections["sample"])
    inputs.require_paths("--input", input)
    inputs.require_paths("--reference", *(reference or ()))
    terminal = Output(json, quiet)
    if chat:
        if input or prompt or output or out or count:
            raise InputError("--chat takes its turns from the terminal, and /save writes them")
        _chat(source, options or (), device, ema, system, seed, terminal)
        return
    if system is not None:
        raise InputError("--system goes with --chat")
    if format is not None:
        sections["write"].insert(0, f"format={format}")
    request = Request(
        out=out or default_output(source),
        input=input,
        prompts=tuple(prompt or ()),
        output=output,
        references=tuple(reference or ()),
        count=count,
        interpolate=interpolate,
        seed=seed,
        batch_size=batch_size,
        reading=tuple(sections["read"]),
        writing=tuple(sections["write"]),
        overwrite=overwrite,
        go_on=go_on,
    )
    named = () if out else ("--out", str(request.out))
    with going_on(lambda: _way_on(request, repeated(*named, "--continue"))):
        _make(source, request, sections["sample"], device, ema, cluster, terminal)


def _sections(options: Sequence[str]) -> dict[str, list[str]]:
    """KEY=VALUE by what they are for: read.KEY of inputs, write.KEY of files, or of the family."""
    found: dict[str, list[str]] = {"read": [], "write": [], "sample": []}
    for text in options:
        section, dot, rest = text.partition(".")
        named = section if dot and section in ("read", "write") else "sample"
        found[named].append(text if named == "sample" else rest)
    return found


def _make(
    source: str,
    request: Request,
    options: Sequence[str],
    device: str,
    ema: bool,
    engine: Engine | None,
    terminal: Output,
) -> None:
    """Tell paths, or texts where they are few, as they are made."""
    from aigc_cli.run.sample import Told
    from aigc_cli.run.sample import sample as make

    show_texts = request.input is None  # else they are many, and files say more
    wrote_texts = False

    def made(path: Path) -> None:
        if not terminal.json and not wrote_texts:
            print(path, flush=True)
        elif wrote_texts:
            terminal.log(str(path))

    def shown(text: str) -> None:
        nonlocal wrote_texts
        if not terminal.json and show_texts:
            wrote_texts = True
            print(text, flush=True)

    told = Told(made, shown)
    report = make(source, request, options, device=device, ema=ema, engine=engine, told=told)
    if "tokens" in report:
        terminal.log(f"{report['tokens']} tokens, {report['tokens_per_s']} tokens/s")
    for name, reason in report["skipped"].items():
        terminal.log(f"skipped {name}: {reason}")
    for note in report["notes"]:
        terminal.log(note)
    terminal.result(report)
    if request.out.is_dir() and sys.stderr.isatty() and not terminal.json:
        terminal.log(f"the files are in {request.out}")


def _way_on(request: Request, command: str) -> str | None:
    """How the `command` finishes what was cut short; None where nothing of it was begun."""
    from aigc_cli.modalities._output import JOURNAL, finished

    if not (request.out / JOURNAL).is_file():
        return None
    count = finished(request.out)
    done = f"{count:,} {'is' if count == 1 else 'are'} done and kept" if count else "none is done"
    return f"{done} in {request.out}; go on with: {command}"


def _chat(
    source: str,
    options: Sequence[str],
    device: str,
    ema: bool,
    system: str | None,
    seed: int,
    terminal: Output,
) -> None:
    """Talk in the terminal, or with lines from a pipe; with --json print all that was said."""
    from aigc_cli.run.conversation import chat
    from aigc_cli.run.trained import load_trained

    def lines() -> Iterator[str]:
        if not sys.stdin.isatty():
            yield from sys.stdin
            return
        while True:
            try:
                yield input("> ")
            except EOFError:
                return

    def say(text: str) -> None:
        if not terminal.json:
            print(text, end="", flush=True)

    trained = load_trained(source, options, device=device, ema=ema)
    if sys.stdin.isatty():
        terminal.log("/help lists commands; /quit ends")
    talk = chat(trained, lines(), say=say, note=terminal.log, system=system, seed=seed)
    terminal.result({"messages": talk.messages})

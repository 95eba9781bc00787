"""`aigc sample`: files made by a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import InputError

Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|CKPT|RECIPE",
        help="A run folder, such as runs/NAME/latest, a .ckpt file, or a recipe that needs no "
        "training.",
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
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Ema = Annotated[bool, typer.Option(help="Use the moving average of the weights, if one was kept.")]


def check_device(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device: '{device}' is not known", hint="choose from: auto, cpu, cuda")


def sample(
    source: Source,
    options: Options = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="Picture or folder to work on; texts, one a line or as JSONL.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="Text to continue or answer.", show_default=False),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="A further picture, such as the style to paint in.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-n", min=1, help="How many samples, or answers to each input.", show_default=False
        ),
    ] = None,
    interpolate: Annotated[
        int, typer.Option(min=0, help="Steps from each sample to the next, also as a film.")
    ] = 0,
    chat: Annotated[
        bool, typer.Option("--chat", help="Talk with a chat model; /help lists commands.")
    ] = False,
    system: Annotated[
        str | None,
        typer.Option(help="With --chat: what the model is told first.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same files.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the files. Default: samples/NAME-TIME."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Only this file: texts as JSONL, which `aigc evaluate --generated` reads.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Of the files, such as png, jpg, webp or tiff; as write.format=jpg."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Samples made at once; never changes them.")
    ] = 16,
    ema: Ema = True,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder that holds files.")] = False,
    go_on: Annotated[
        bool,
        typer.Option("--continue", help="Finish an interrupted call; repeat its other options."),
    ] = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make files with a trained model; prints their paths."""
    from aigc_cli.run.sample import Request, Told, default_output
    from aigc_cli.run.sample import sample as make

    check_device(device)
    writing = [text.removeprefix("write.") for text in options or () if text.startswith("write.")]
    options = [text for text in options or () if not text.startswith("write.")]
    if format is not None:
        writing.insert(0, f"format={format}")
    if chat:
        if input or prompt or output or out or count:
            raise InputError("--chat takes its turns from the terminal, and /save writes them")
        _chat(source, options or (), device, ema, system, seed, Output(json, quiet))
        return
    if system is not None:
        raise InputError("--system goes with --chat")
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
        writing=tuple(writing),
        overwrite=overwrite,
        go_on=go_on,
    )
    terminal = Output(json, quiet)

    show_texts = input is None  # else they are many, and files say more
    wrote_texts = False

    def made(path: Path) -> None:
        if not json and not wrote_texts:
            print(path, flush=True)
        elif wrote_texts:
            terminal.log(str(path))

    def shown(text: str) -> None:
        nonlocal wrote_texts
        if not json and show_texts:
            wrote_texts = True
            print(text, flush=True)

    told = Told(made, shown)
    report = make(source, request, options, device=device, ema=ema, told=told)
    if "tokens" in report:
        terminal.log(f"{report['tokens']} tokens, {report['tokens_per_s']} tokens/s")
    for note in report["notes"]:
        terminal.log(note)
    terminal.result(report)


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

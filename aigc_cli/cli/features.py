"""`aigc augment features`: what networks see in a data set, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import table
from aigc_cli.cli.augment import Data, LongTail, OnError, OnLeak, Test, Val, Workers
from aigc_cli.cli.sample import Device, Seed, check_device
from aigc_cli.errors import InputError

With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="SOURCE",
        help="raw, names, efficientnet_lite0, minilm, RUN, RUN:NETWORK or FILE.parquet; several "
        "stand side by side.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The .parquet file.", show_default=False)]
Options = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="data.KEY=VALUE is for reading.", show_default=False
    ),
]
Keep = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Keep only the best features.", show_default=False),
]
By = Annotated[
    Literal["mutual_information", "trees"],
    typer.Option(help="How the best are found: each by itself, or together."),
]
Probe = Annotated[
    bool,
    typer.Option(
        "--probe", help="Judge features by a linear model, on --test or the validation data."
    ),
]
Items = Annotated[
    str | None,
    typer.Option(
        metavar="N|P%", help="Use only a part of the items, of each class.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace the file.")]


def features(
    data: Data,
    options: Options = None,
    *,
    out: Out,
    with_: With = None,
    keep: Keep = None,
    by: By = "mutual_information",
    probe: Probe = False,
    items: Items = None,
    long_tail: LongTail = None,
    val: Val = None,
    test: Test = None,
    on_leak: OnLeak = "stop",
    on_error: OnError = "stop",
    seed: Seed = 0,
    workers: Workers = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write features of a data set, fused and selected; print what they are worth."""
    from aigc_cli.run import inputs
    from aigc_cli.run.augmenting import Augmenting

    check_device(device)
    reading = tuple(options or ())
    if others := [text for text in reading if not (text.startswith("data.") and "=" in text)]:
        raise InputError(
            f"{others[0]}: only data.KEY=VALUE is for features",
            hint="a network is set by the recipe that trains it",
        )
    if not data.endswith(".parquet"):
        inputs.check_data(data, reading)
    else:
        inputs.require_paths("DATA", data)
    inputs.require_paths("--val", val)
    inputs.require_paths("--test", *(test or []))
    request = Augmenting(
        data=data,
        out=out,
        data_options=tuple(text.removeprefix("data.") for text in reading),
        val=val,
        tests=tuple(test or ()),
        on_leak=on_leak,
        on_error=on_error,
        keep=items,
        long_tail=long_tail,
        factor=1.0,
        seed=seed,
        workers=workers,
    )
    from aigc_cli.run.feature_table import Asked
    from aigc_cli.run.feature_table import features as make

    terminal = Output(json, quiet)
    asked = Asked(tuple(with_ or ()), out, keep, by, probe, overwrite, device)
    record = make(request, asked, terminal.log)
    terminal.result(record, None if json else _text(record))
    terminal.log(f"the features are in {out}")


def _text(record: dict[str, Any]) -> str:
    """What the linear probe says, or how many features there are."""
    if record["probe"]:
        rows = [
            {
                "features": row["features"],
                "dims": f"{row['dims']:,}",
                "accuracy": f"{row['accuracy']:.3f}",
                "macro-F1": f"{row['macro_f1']:.3f}",
            }
            for row in record["probe"]
        ]
    else:
        rows = [{"features": name, "dims": f"{dims:,}"} for name, dims in record["sources"].items()]
    return table(rows, tuple(rows[0]))

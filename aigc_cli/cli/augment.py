"""`aigc augment`: a larger or balanced data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import table

COUNTS = ("before", "after", "validation")

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder, zip, file, builtin:NAME or data set; or a recipe, whose data is taken.",
        show_default=False,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Amounts of the operations, such as rotation=20; data.KEY=VALUE is for reading.",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the new set.", show_default=False)
]
Factor = Annotated[
    float | None,
    typer.Option(
        help="New size of each class by its old one. Default: 2; 1 with --balance.",
        show_default=False,
    ),
]
Balance = Annotated[
    str | None,
    typer.Option(
        metavar="classes|SIZE",
        help="Bring each class to the size of the largest, or to a size.",
        show_default=False,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(help="Classes that grow, with commas. Default: all.", show_default=False),
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="N|P%", help="Use only a part of the items, of each class.", show_default=False
    ),
]
LongTail = Annotated[
    float | None,
    typer.Option(
        "--long-tail",
        min=1,
        metavar="RATIO",
        help="Use class sizes that fall exponentially, the last this many times below the first.",
        show_default=False,
    ),
]
Val = Annotated[
    str | None,
    typer.Option(
        help="Validation data, copied unchanged. Default: every tenth item of DATA.",
        show_default=False,
    ),
]
Test = Annotated[
    list[str] | None,
    typer.Option("--test", help="Further data that judges: nothing of it may train.",
                 show_default=False),
]  # fmt: skip
OnLeak = Annotated[
    Literal["stop", "drop"],
    typer.Option(help="What becomes of training items that are also in data that judges."),
]
OnError = Annotated[
    Literal["stop", "skip"], typer.Option(help="What becomes of items that cannot be read.")
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same set.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes; does not change the set. Default: the cores.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace the set in a folder that is not empty.")]
GoOn = Annotated[
    bool, typer.Option("--continue", help="Continue an interrupted command; repeat its options.")
]


def augment(
    data: Data,
    options: Options = None,
    *,
    out: Out,
    factor: Factor = None,
    balance: Balance = None,
    classes: Classes = None,
    keep: Keep = None,
    long_tail: LongTail = None,
    val: Val = None,
    test: Test = None,
    on_leak: OnLeak = "stop",
    on_error: OnError = "stop",
    seed: Seed = 0,
    workers: Workers = None,
    overwrite: Overwrite = False,
    go_on: GoOn = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Enlarge or balance a data set and print its sizes."""
    from aigc_cli.run import inputs
    from aigc_cli.run.augmenting import Augmenting

    reading = [text.removeprefix("data.") for text in options or () if text.startswith("data.")]
    varying = [text for text in options or () if not text.startswith("data.")]
    inputs.check_data(data, [f"data.{text}" for text in reading])
    for option, sources in (("--val", [val]), ("--test", test or [])):
        inputs.require_paths(option, *sources)
    request = Augmenting(
        data=data,
        out=out,
        options=tuple(varying),
        data_options=tuple(reading),
        val=val,
        tests=tuple(test or ()),
        on_leak=on_leak,
        on_error=on_error,
        keep=keep,
        long_tail=long_tail,
        factor=factor,
        balance=balance,
        classes=tuple(filter(None, (classes or "").split(","))),
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        go_on=go_on,
    )
    from aigc_cli.run.augment import augment as make

    terminal = Output(json, quiet)
    record = make(request)
    terminal.result(record, None if json else _counts(record))
    for why, count in record["left_out"].items():
        terminal.log(f"left out: {count:,} {why}")
    terminal.log(f"the set is in {out}, the origin of each item in {out / 'augment.jsonl'}")
    keys = " ".join(f"data.{key}={value}" for key, value in record["data_keys"].items())
    terminal.next(f"aigc train RECIPE {keys}")


def _counts(record: dict[str, Any]) -> str:
    """Sizes before and after, class by class."""

    def row(label: str, before: int) -> dict[str, str]:
        sizes = (before, record["after"][label], record["validation"].get(label, 0))
        return {
            "class": label or "(none)",
            **dict(zip(COUNTS, map("{:,}".format, sizes), strict=True)),
        }

    rows = [row(label, before) for label, before in record["before"].items()]
    if len(rows) > 1:
        totals = {
            key: f"{sum(record[key].values()):,}" for key in ("before", "after", "validation")
        }
        rows.append({"class": "all", **totals})
    return table(rows, ("class", *COUNTS))

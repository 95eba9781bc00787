"""`aigc augment`: a larger or balanced data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aigc_cli.cli._engine import Address, EngineName, engine_of
from aigc_cli.cli._going_on import going_on, repeated
from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import table
from aigc_cli.cli.sample import Device, GoOn, Seed, check_device
from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.recipe.load import load_recipe

if TYPE_CHECKING:
    from aigc_cli.run.augmenting import Augmenting

COUNTS = ("before", "after", "validation")
SECTIONS = (
    "rotation=20 sets an operation, data.KEY=VALUE how data is read, sample.KEY=VALUE the model of "
    "--with, yardstick.model.KEY=VALUE what --measure trains"
)

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
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="RUN|CKPT",
        help="Model that makes the new items; several answer in turn. sample.KEY=VALUE sets it.",
        show_default=False,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        metavar="RUN|CKPT",
        help="Classifier that must see the class of what was made.",
        show_default=False,
    ),
]
Confidence = Annotated[
    float, typer.Option(min=0, max=1, help="Least probability that --judge gives the class.")
]
Measure = Annotated[
    bool,
    typer.Option("--measure", help="Train a yardstick with and without the new items; compare."),
]
YardstickName = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE",
        help="What --measure trains; yardstick.KEY=VALUE changes it. It is judged on the first "
        "--test, else on the validation data.",
        show_default=False,
    ),
]
Seeds = Annotated[int, typer.Option(min=2, help="Seeds of --measure.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes; does not change the set. Default: the cores.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace the set in a folder that is not empty.")]


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
    with_: With = None,
    judge: Judge = None,
    min_confidence: Confidence = 0.5,
    measure: Measure = False,
    yardstick: YardstickName = None,
    seeds: Seeds = 3,
    on_leak: OnLeak = "stop",
    on_error: OnError = "stop",
    seed: Seed = 0,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    go_on: GoOn = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Enlarge or balance a data set and print its sizes."""
    from aigc_cli.run.augmenting import Augmenting

    check_device(device)
    cluster = engine_of(engine, workers, address, instead=None)
    parts = _sections(options or ())
    request = Augmenting(
        data=data,
        out=out,
        options=tuple(parts["augment"]),
        data_options=tuple(parts["data"]),
        sources=tuple(with_ or ()),
        sampling=tuple(parts["sample"]),
        judge=judge,
        min_confidence=min_confidence,
        device=device,
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
        engine=cluster,
        overwrite=overwrite,
        go_on=go_on,
    )
    _check(request, measure, yardstick, parts["yardstick"])
    from aigc_cli.run.augment import augment as make

    terminal = Output(json, quiet)
    with going_on(lambda: _way_on(out, measure)):
        if measure:
            record = _measured(request, yardstick, parts["yardstick"], seeds, terminal)
        else:
            record = make(request)
    _tell(record, terminal)


def _way_on(out: Path, measure: bool) -> str | None:
    """How a call that was cut short is finished; None where nothing of it was begun."""
    from aigc_cli.run.augment import finished
    from aigc_cli.run.augment_journal import is_interrupted

    if is_interrupted(out):
        return f"what is in {out} stays; go on with: {repeated('--continue')}"
    if measure and finished(out):
        return f"the set in {out} is whole; measure it with: {repeated('--continue')}"
    return None


def _check(
    request: Augmenting, measure: bool, yardstick: str | None, overrides: Sequence[str]
) -> None:
    """What can be said before torch is imported.

    Raises:
        InputError: an option is for what is not asked for; there is no such data, run or recipe.
        DataError: --val or --test is not there. RecipeError: wrong keys.
    """
    from aigc_cli.run import inputs

    inputs.check_data(request.data, [f"data.{text}" for text in request.data_options])
    inputs.require_paths("--val", request.val)
    inputs.require_paths("--test", *request.tests)
    judged = () if request.judge is None else (request.judge,)
    idle = [*(f"--judge {text}" for text in judged), *(f"sample.{t}" for t in request.sampling)]
    if idle and not request.sources:
        raise InputError(
            f"{idle[0]}: is for a model of --with, and there is none",
            hint="name a run or checkpoint with --with, or leave it out",
        )
    for source in (*request.sources, *judged):
        inputs.check_source(source)
    if yardstick is not None:
        load_recipe(yardstick, overrides, whole=False)
    idle = [*([] if yardstick is None else [f"--yardstick {yardstick}"]),
            *(f"yardstick.{text}" for text in overrides)]  # fmt: skip
    if idle and not measure:
        raise InputError(
            f"{idle[0]}: is for --measure, which is not asked for",
            hint="add --measure, or leave it out",
        )


def _tell(record: dict[str, Any], terminal: Output) -> None:
    """The sizes, what was left out, and where everything is."""
    terminal.result(record, None if terminal.json else _counts(record))
    for note in record.get("notes", ()):
        terminal.log(f"note: {note}")
    for why, count in record.get("dropped", {}).items():
        terminal.log(f"dropped: {count:,} {why}")
    for why, count in record["left_out"].items():
        terminal.log(f"left out: {count:,} {why}")
    out = record["out"]
    terminal.log(f"the set is in {out}, the origin of each item in {out}/augment.jsonl")
    keys = " ".join(f"data.{key}={value}" for key, value in record["data_keys"].items())
    terminal.next(f"aigc train RECIPE {keys}")


def _measured(
    request: Augmenting,
    recipe: str | None,
    overrides: Sequence[str],
    seeds: int,
    terminal: Output,
) -> dict[str, Any]:
    """Make the set, train the yardstick, and put the comparison before the sizes."""
    from aigc_cli.run.augment import augment_and_measure, usual_yardstick
    from aigc_cli.run.augment_measure import Yardstick
    from aigc_cli.run.augment_report import table_rows

    test = request.tests[0] if request.tests else None
    name = recipe or usual_yardstick(request)
    yardstick = Yardstick(name, tuple(overrides), test, seeds, request.device)
    record = augment_and_measure(request, yardstick, told=terminal.log)
    measured = record["measured"]
    rows = table_rows(measured)
    if not terminal.json:
        print(table(rows, tuple(rows[0])))
        print(f"{name}, {seeds} seeds, {measured['steps']:,} steps, n {measured['n']:,}; "
              f"{measured['protocol']}\n")  # fmt: skip
    return record


def _sections(options: Sequence[str]) -> dict[str, list[str]]:
    """KEY=VALUE by what they are for: reading, the model, the yardstick, or the operations.

    Raises:
        InputError: one is for nothing of these, or no KEY=VALUE.
    """
    found: dict[str, list[str]] = {"data": [], "sample": [], "yardstick": [], "augment": []}
    for text in options:
        key, equals, _ = text.partition("=")
        section, dot, rest = key.partition(".")
        if not equals:
            raise InputError(f"expected KEY=VALUE, got {text!r}", hint=SECTIONS)
        if dot and section in ("model", "trainer"):
            raise InputError(
                f"{text}: is for training, and here nothing is trained",
                hint=f"sample.{rest} is for the model of --with, yardstick.{key} for what "
                "--measure trains",
            )
        if dot and section not in found:
            near = did_you_mean(section, found)
            raise InputError(
                f"{text}: there is nothing to set by '{section}.'",
                hint=near if near.startswith("did") else SECTIONS,
            )
        found[section if dot else "augment"].append(text.partition(".")[2] if dot else text)
    return found


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

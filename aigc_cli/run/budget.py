"""`aigc train DATA|RECIPE --budget 20m`: a run that ends when the time is up, not before.

Steps are what a run is made of, so time becomes steps: some are timed, `trainer.max_steps` is set,
and while the run goes on it is set anew, twice, to what the rest of the time holds. That is what
`aigc train --resume RUN trainer.max_steps=N` does, and it is done so: the run ends a leg as
`--max-time` ends it and goes on from its checkpoint. Nothing in the training knows of time.

Where the recipe is written here, the learning rate is constant between its warm-up and the last
eighth (warm-up, stable, decay: Hu et al., 2024, https://arxiv.org/abs/2404.06395), so that up to
then it does not depend on the length, and the run is the one that its recipe gives when it is
trained again.
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from aigc_cli.catalog.weights import find_entry, find_model
from aigc_cli.data._data import DataSource
from aigc_cli.errors import InputError, MissingError, OutputError
from aigc_cli.media.files import write_bytes
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.load import Recipe, load_recipe, recipe_from_dict
from aigc_cli.recipe.new import Draft, open_data, width
from aigc_cli.registry import load_family
from aigc_cli.run import devices
from aigc_cli.run.build import build, build_model, count_steps
from aigc_cli.run.events import duration
from aigc_cli.run.pace import Pace, measure_pace, measure_preview
from aigc_cli.run.paths import RUNS
from aigc_cli.run.progress import Emit, Event
from aigc_cli.run.proposal import Proposal, propose
from aigc_cli.run.train import train
from aigc_cli.run.weights import complete

LEGS = 0.25, 0.85
"""Parts of the time after which the steps are counted anew."""
DECAY = 0.88
"""Part of the steps after which the learning rate falls; behind the last of LEGS."""
LATEST = 1.04
"""Times the budget: then the run ends, whatever step it is at."""
EARLY = 0.9
"""Times the budget: a run that would end before is given more steps."""
VALIDATING, SHOWING, MEASURING = 0.06, 0.04, 0.02
"""Parts of the time for validations, previews, and the timing of each size."""
FEWEST = 10  # steps that are worth a run
GROWTH = 2  # times the steps of a size that there must be for the next, slower one to be tried


class Clock:
    """What is spent of a budget, in seconds of wall time; `started` is of time.monotonic."""

    def __init__(self, budget: float, started: float) -> None:
        self.budget, self.started = budget, started

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        return self.budget - self.spent


@dataclass
class Fitted:
    """A recipe whose length is still to be set, and what its parts cost in seconds."""

    with_steps: Callable[[int], Recipe]
    steps: int
    ending: float
    """Of a validation, a preview and what else comes behind the last step."""


def train_data(
    source: str,
    *,
    goal: str | None,
    overrides: Iterable[str],
    clock: Clock,
    out: Path | None,
    overwrite: bool,
    emit: Emit,
    write: bool = True,
) -> Path | str:
    """Choose a family for the data, fit it to them and to the time, write its recipe beside the
    run, and train it: the run folder; not to `write`, the text of the recipe, and no run.

    Raises:
        InputError: nothing learns from the data, or the time is too short. As `train`.
    """
    overrides = list(overrides)
    _require_one_process()
    given = dict(override.partition("=")[::2] for override in overrides)
    proposal, others = propose(source, goal, given.get("family"))
    emit(_note(f"{source}: {proposal.claim.why}: {proposal}"))
    if others:
        goals: dict[str, list[str]] = {}
        for other in others:
            goals.setdefault(other.goal, []).append(other.family)
        also = (
            f"--goal {goal} ({', '.join(dict.fromkeys(names))})" for goal, names in goals.items()
        )
        emit(_note(f"others that fit: {'; '.join(also)}; or family=NAME"))
    file = _recipe_file(source, proposal.family, out, overwrite=overwrite) if write else Path()
    draft, steps, ending = _begin(proposal, overrides, clock, emit)
    words = f"aigc train {shlex.quote(source)} --budget {duration(clock.budget)}"
    again = f"; trained again as: aigc train {file}" if write else ""
    head = f"# {words}\n# chose and wrote this{again}\n"

    def with_steps(count: int) -> Recipe:
        why = f"{duration(clock.budget)} here, with all that is around the steps."
        draft.suggest("trainer", {"max_steps": (count, why)})
        draft.recipe  # noqa: B018  checked before it is written
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, f"{head}{draft.text()}".encode())
        return complete(load_recipe(file))

    if not write:
        draft.suggest("trainer", {"max_steps": (steps, "As measured.")})
        return f"{head}{draft.text()}"
    emit(_note(f"recipe: {file}"))
    return _run(Fitted(with_steps, steps, ending), clock, out, overwrite, emit)


def train_recipe(
    recipe: Recipe, *, clock: Clock, out: Path | None, overwrite: bool, emit: Emit
) -> Path:
    """Train a recipe for so long: its length and cadence are stretched alike. As `train_data`."""
    _require_one_process()
    data, model = build(recipe)
    usual = count_steps(recipe, len(data.train), model.batches_per_step)
    pace = measure_pace(recipe, data, model, MEASURING * clock.budget)
    preview = measure_preview(recipe, data, build_model(recipe, data.spec))
    often = usual / recipe.trainer.validate_every, usual / recipe.trainer.preview_every
    around = often[0] * pace.validation + (often[1] + 2) * preview
    steps = int((clock.left - around) / pace.step)
    _require_steps(steps, pace, clock)

    def with_steps(count: int) -> Recipe:
        values = recipe.as_dict()
        trainer, stretch = values["trainer"], steps / usual
        for key in ("validate_every", "preview_every", "checkpoint_every"):
            trainer[key] = max(1, round(trainer[key] * stretch))
        trainer["log_every"] = max(1, min(trainer["log_every"], steps // 10))
        schedule = trainer["schedule"]
        schedule["warmup"] = min(schedule["warmup"], steps // 5)
        schedule["every"] = max(1, round(schedule["every"] * stretch))
        trainer |= {"max_steps": count, "max_epochs": None}
        return recipe_from_dict(values, recipe.path)

    return _run(Fitted(with_steps, steps, pace.validation + preview), clock, out, overwrite, emit)


class TooShort(InputError):
    """The time holds too few steps."""


def _begin(
    proposal: Proposal, overrides: list[str], clock: Clock, emit: Emit
) -> tuple[Draft, int, float]:
    """What is trained, of how many steps, and what their end costs: from a model of others where
    one is here and the time is enough for it, else from nothing.

    Raises:
        TooShort: as `_plan`.
    """

    def fitted(proposal: Proposal) -> tuple[Draft, int, float]:
        draft, data, pace = _fit(proposal, overrides, clock, emit)
        recipe = complete(draft.recipe)
        preview = measure_preview(recipe, data, build_model(recipe, data.spec))
        steps, cadence = _plan(pace, preview, clock, proposal.dial)
        draft.suggest("trainer", cadence)
        return draft, steps, pace.validation + preview

    for started in proposal.started(override.partition("=")[0] for override in overrides):
        name, entry = find_entry(str(started.start))
        try:
            find_model(name)
        except MissingError as absent:
            emit(_note(f"a better start is not here: {absent.hint} ({entry.cost})"))
            continue
        emit(_note(f"starts from {name}: {entry.title}"))
        try:
            return fitted(started)
        except TooShort as error:
            emit(_note(f"from nothing, since for that {error.message}"))
    return fitted(proposal)


def _fit(
    proposal: Proposal, overrides: list[str], clock: Clock, emit: Emit
) -> tuple[Draft, DataSource, Pace]:
    """The largest size that has the steps it is worth in the time, else the smallest."""
    dial, config, chosen = proposal.dial, load_family(proposal.family).Config, None
    data: Any = None
    opened = None
    for number, size in enumerate(dial.sizes, 1):
        values = {**proposal.values, **size}
        draft = _draft(proposal, values, overrides)
        recipe = complete(draft.recipe)
        if opened != (opened := recipe.data):
            data = open_data(recipe)
        items = 1 << (len(data.train).bit_length() - 1)
        batch = min(recipe.trainer.global_batch, items)
        draft.suggest("trainer", {"global_batch": (batch, "Items in one step.")})
        few = width(config, data).items() if recipe.init_from is None else ()
        draft.suggest("model", {k: v for k, v in few if f"model.{k}" not in values})
        recipe = complete(draft.recipe)
        model = build_model(recipe, data.spec)
        pace = measure_pace(recipe, data, model, MEASURING * clock.budget)
        steps = int(clock.left * EARLY / pace.step)
        count = sum(p.numel() for p in model.parameters())
        emit(_note(f"size {number}: {count:,} parameters, {pace.step:.3f} s a step"))
        if chosen is None or steps >= dial.steps:
            chosen = draft, data, pace
        if steps < GROWTH * dial.steps:
            break
    assert chosen is not None
    return chosen


def _draft(proposal: Proposal, values: dict[str, Any], overrides: list[str]) -> Draft:
    """A recipe of one size, fitted to the data."""
    data: dict[str, Any] = {"kind": proposal.kind, **proposal.claim.values}
    sections: dict[str, dict[str, Any]] = {"trainer": {"max_steps": 1000}}
    most: dict[str, int] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section != "data":
            sections.setdefault(section, {})[name] = value
        elif type(value) is int:
            most[name] = value
        else:
            data[name] = value
    return Draft(
        proposal.family,
        data,
        overrides=overrides,
        sections=sections,
        most=most,
        init_from=proposal.start,
        complete=complete,
    )


def _plan(
    pace: Pace, preview: float, clock: Clock, dial: Dial
) -> tuple[int, dict[str, tuple[Any, str]]]:
    """How many steps the time holds, and what is done around them.

    Raises:
        TooShort: too few.
    """

    def times(part: float, cost: float, most: int) -> int:
        return max(1, min(most, int(part * clock.budget / max(cost, 1e-3))))

    validations = times(VALIDATING, pace.validation, dial.validations or 20)
    previews = times(SHOWING, preview, 5)
    around = validations * pace.validation + (previews + 1) * preview
    steps = int((clock.left - around) / pace.step)
    _require_steps(steps, pace, clock)
    often: dict[str, tuple[Any, str]] = {
        "validate_every": (math.ceil(steps / validations), "The best becomes best.ckpt."),
        "preview_every": (math.ceil(steps / previews), "What it makes by then, in previews/."),
        "checkpoint_every": (math.ceil(steps / 10), ""),
        "log_every": (max(1, min(50, steps // 40)), ""),
        "schedule": (
            {"name": "linear", "start": DECAY, "warmup": min(100, steps // 20)},
            "Constant up to the end, so that more or less time changes nothing before.",
        ),
    }
    if dial.averaged:
        often["ema"] = (
            round(1 - 1 / min(max(10, steps / 40), 10_000), 4),
            "Over a fortieth of the steps, at most 10,000.",
        )
    return steps, often


def _require_steps(steps: int, pace: Pace, clock: Clock) -> None:
    """
    Raises:
        TooShort
    """
    if steps < FEWEST:
        least = 1.2 * (clock.spent + 2 * pace.validation + FEWEST * pace.step)
        raise TooShort(
            f"--budget {duration(clock.budget)} is too short: {duration(clock.spent)} went into "
            f"the start, and a step takes {pace.step:.2g} s",
            hint=f"give it at least {duration(max(least, 1.5 * clock.budget))}",
        )


def _run(fitted: Fitted, clock: Clock, out: Path | None, overwrite: bool, emit: Emit) -> Path:
    """Train in legs; before each, the length is what the time holds. A machine that became faster
    gets another leg at the end.
    """
    watch = _Watch(clock, emit)
    recipe, folder = fitted.with_steps(fitted.steps), None
    for end in chain(LEGS, repeat(None)):
        limit = (end or LATEST) * clock.budget - clock.spent
        if end is None:
            limit -= max(fitted.ending, watch.ending)
        elif limit <= 0:
            continue
        watch.begin()
        result = train(
            recipe,
            out=out if folder is None else None,
            resume=None if folder is None else str(folder),
            overwrite=overwrite and folder is None,
            max_time_s=max(limit, 1.0),
            emit=watch,
        )
        folder = result.folder
        done, length = result.status == "finished", recipe.trainer.max_steps
        assert length is not None
        settled = result.step < length or clock.spent > EARLY * clock.budget
        if settled if done else end is None:
            break  # out of patience, with nothing left to gain, or at the end of the time
        steps = watch.steps_in(clock.left - watch.starting - max(fitted.ending, watch.ending))
        if done and steps <= length:
            break
        emit(_note(f"{result.step:,} steps in {duration(clock.spent)}: {steps:,} fit"))
        recipe = fitted.with_steps(steps)
    assert folder is not None
    watch.say_end()
    emit(_note(f"took {duration(clock.spent)} of {duration(clock.budget)}"))
    return folder


class _Watch:
    """Passes the events of the legs on as those of one run, and learns from them how long what
    takes.
    """

    def __init__(self, clock: Clock, emit: Emit) -> None:
        self.clock, self.emit = clock, emit
        self.starting = self.ending = 0.0
        """Seconds from a start to its first step, without previews; of validation and preview."""
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None
        self._phases: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._end: Event | None = None
        self._is_first = True
        self._begun = self._shown = 0.0

    def begin(self) -> None:
        """A leg begins."""
        self._begun, self._first, self._shown = time.monotonic(), None, 0.0

    def __call__(self, event: Event) -> None:
        now, kind = time.monotonic(), event["event"]
        if kind == "phase" and event["phase"] in ("validation", "preview"):
            self._phases.setdefault(event["phase"], now)
        elif kind in ("val", "sample"):
            phase = "validation" if kind == "val" else "preview"
            self._took[phase] = now - self._phases.pop(phase, now)
            if self._first is None:
                self._shown += self._took[phase]
        elif kind == "tick":
            if self._first is None:
                self._first = now, event["step"]
                self.starting = now - self._begun - self._shown
            self._last = now, event["step"]
        elif kind == "step":
            event = {**event, "eta_s": round(max(0.0, self.clock.left))}
        elif kind == "end":
            self._end = event
            return
        elif kind == "start":
            if not self._is_first:
                return
            self._is_first = False
        self.ending = sum(self._took.values())
        self.emit(event)

    def steps_in(self, seconds: float) -> int:
        """Steps of the whole run when so many more seconds are spent at the pace of the leg, with
        what lay between its steps.
        """
        assert self._first is not None
        assert self._last is not None
        (began, first), (ended, last) = self._first, self._last
        pace = (ended - began) / max(1, last - first) if last > first else self.starting
        return last + max(1, int(seconds / max(pace, 1e-6)))

    def say_end(self) -> None:
        """The end of the last leg is that of the run."""
        if self._end is not None:
            self.emit({**self._end, "seconds": round(self.clock.spent, 1)})


def _recipe_file(source: str, family: str, out: Path | None, *, overwrite: bool) -> Path:
    """Where the recipe is written: beside the folders of its runs, under a name that is free.

    Raises:
        OutputError: a file or a run is where `out` says.
    """
    if out is not None:
        file = out.with_name(f"{out.name}.yaml")
        for path in (file, out):
            if path.exists() and not overwrite and not (path.is_dir() and not any(path.iterdir())):
                raise OutputError(
                    f"{path}: already exists", hint="choose another --out, or use --overwrite"
                )
        return file
    words = re.sub(r"\W+", "_", source.split(":", 1)[-1].rstrip("/").rsplit("/", 1)[-1])
    stem = re.sub(r"_(gz|zip|txt|jsonl?|[ct]sv)(?=_|$)", "", words).strip("_") or "data"
    name = f"{stem}_{family}"
    taken = (RUNS / f"{name}{n}.yaml" for n in ("", *(f"_{n}" for n in range(2, 1000))))
    return next(file for file in taken if not file.exists())


def _require_one_process() -> None:
    """
    Raises:
        InputError: several processes were started, whose pace this one does not see.
    """
    if devices.find_world().size > 1:
        raise InputError(
            "--budget is for one process", hint="on several devices, use --max-time instead"
        )


def _note(message: str) -> Event:
    return {"event": "note", "message": message}

"""`aigc tune`: many short runs of a recipe with other values, and the best of them as a recipe.

Optuna proposes the values and stops what is far behind; a trial is a run like any other, in a
folder of its own. What Optuna knows lies beside the runs, in `trials.journal`. Its samplers are
given a seed of their own for each trial, since one that is opened again would draw its first
values again; so a search that was killed and continued proposes what an uninterrupted one does.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from aigc_cli.errors import InputError, MissingError, OutputError, RunError
from aigc_cli.media.files import write_bytes
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.recipe.search_space import Dimension, own_values
from aigc_cli.run import devices
from aigc_cli.run.build import build, check_monitor, count_steps
from aigc_cli.run.progress import Emit
from aigc_cli.run.tune_report import best_of, best_recipe, drawing, rows_of

if TYPE_CHECKING:
    from optuna import Study, Trial

SEARCH, JOURNAL, LOCK = "search.json", "trials.journal", "search.lock"
BEST, RESULT, DRAWING = "best.yaml", "result.json", "trials.svg"
ETA = 3
"""Of three trials that come so far, one goes on."""

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["asha", "hyperband", "none"]


@dataclass(frozen=True)
class Search:
    """What is searched, and how; all that a trial needs to know, in any process."""

    folder: Path
    recipe: Mapping[str, Any]
    """Every value of the recipe."""
    recipe_path: str | None
    space: tuple[Dimension, ...]
    sampler: Sampler
    pruner: Pruner
    seed: int
    metric: str
    direction: Literal["min", "max"]
    steps: int
    """Of a whole run."""

    def write(self) -> None:
        data = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_bytes(self.folder / SEARCH, json.dumps(data, indent=2, ensure_ascii=False).encode())

    @classmethod
    def read(cls, folder: Path) -> Search:
        """
        Raises:
            OutputError: there is none, or it is damaged.
        """
        try:
            data = json.loads((folder / SEARCH).read_text(encoding="utf-8"))
            space = (
                Dimension(**{**one, "choices": tuple(one["choices"])}) for one in data.pop("space")
            )
            return cls(folder=folder, space=tuple(space), **data)
        except FileNotFoundError:
            raise OutputError(
                f"{folder}: there is no search to continue", hint="leave out --continue"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{folder / SEARCH}: is damaged", hint="start anew with --overwrite"
            ) from error

    def run_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:03d}"

    def recipe_with(self, texts: Iterable[str]) -> Recipe:
        """The recipe with these KEY=VALUE.

        Raises:
            RecipeError: values that do not go together.
        """
        path = Path(self.recipe_path) if self.recipe_path else None
        return recipe_from_dict(self.recipe, path, texts)

    def texts(self, params: Mapping[str, Any]) -> list[str]:
        """The values as KEY=VALUE."""
        return [f"{one.key}={one.text(params[one.key])}" for one in self.space]

    def open(self, number: int = 0) -> Study:
        """What Optuna knows, and the sampler for trial `number`."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.folder / JOURNAL))),
            study_name="aigc tune",
            direction="minimize" if self.direction == "min" else "maximize",
            sampler=self.sampler_for(number),
            pruner=self._pruner(),
            load_if_exists=True,
        )

    def sampler_for(self, number: int) -> Any:
        from optuna import samplers

        if self.sampler == "grid":
            return samplers.GridSampler(self.grid(), seed=self.seed)
        made = samplers.TPESampler if self.sampler == "tpe" else samplers.RandomSampler
        return made(seed=(self.seed + 7919 * number) % 2**32)

    def grid(self) -> dict[str, list[Any]]:
        """
        Raises:
            InputError: a range has no end of values.
        """
        values = {one.key: one.grid() for one in self.space}
        for key, found in values.items():
            if found is None:
                raise InputError(
                    f"--sampler grid needs an end of values, and {key} has a range without step",
                    hint="give it a step or choices, or use --sampler tpe",
                )
        return {key: found or [] for key, found in values.items()}

    def _pruner(self) -> Any:
        from optuna import pruners

        first = min(int(self.recipe["trainer"]["validate_every"]), self.steps)
        if self.pruner == "none":
            return pruners.NopPruner()
        if self.pruner == "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=ETA)
        return pruners.HyperbandPruner(first, self.steps, ETA)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The values of a trial, those that it has already and those that it has not."""
        found: dict[str, Any] = {}
        for one in self.space:
            if one.choices:
                found[one.key] = trial.suggest_categorical(one.key, one.choices)
            elif one.whole:
                low, high, step = int(one.low), int(one.high), int(one.step or 1)
                found[one.key] = trial.suggest_int(one.key, low, high, step=step, log=one.log)
            else:
                found[one.key] = trial.suggest_float(
                    one.key, one.low, one.high, step=one.step, log=one.log
                )
        return found


@dataclass(frozen=True)
class Tuning:
    """What a user asks of `aigc tune`."""

    recipe: Recipe
    space: tuple[Dimension, ...]
    trials: int
    out: Path
    sampler: Sampler = "tpe"
    pruner: Pruner = "asha"
    seed: int = 0
    overwrite: bool = False
    go_on: bool = False
    words: str = "aigc tune"
    """The command, for the head of best.yaml."""


Pool = Callable[[Search, Iterator[int], Emit], None]
"""Runs the trials whose numbers it takes, and takes one when it has room for it."""


def tune(asked: Tuning, pool: Pool, emit: Emit) -> dict[str, Any]:
    """Search, and write best.yaml, result.json and trials.svg; returns what result.json records.

    Raises:
        InputError: what is asked makes no sense. OutputError: the folder is in use, or of another
            search. RunError: no trial came to an end. Interrupted: `--continue` goes on.
    """
    search = _begin(asked)
    with _alone(search.folder):
        _repair(search.folder / JOURNAL)
        study = search.open()
        if not study.trials:
            own = own_values(search.space, search.recipe)
            if own is None:
                message = "the recipe's own values lie outside the space, so they are no trial"
                emit({"event": "note", "message": message})
            else:
                study.enqueue_trial(own, user_attrs={"own": True})
        if search.pruner != "none" and search.steps <= search.recipe["trainer"]["validate_every"]:
            message = (
                "one validation in a run: no trial is stopped early "
                "(trainer.validate_every is not below its length)"
            )
            emit({"event": "note", "message": message})
        pool(search, _numbers(search, asked.trials), emit)
        return _end(search, asked.words)


def require_optuna() -> None:
    """
    Raises:
        MissingError: Optuna is not installed.
    """
    if not importlib.util.find_spec("optuna"):
        raise MissingError(
            "aigc tune needs Optuna, which is not installed", hint='pip install "aigc-cli[tune]"'
        )


def _begin(asked: Tuning) -> Search:
    """The search in its folder, new or as it was."""
    recipe, folder = asked.recipe, asked.out
    if devices.choose_devices(recipe.trainer) > 1:
        raise InputError(
            "a trial runs in one process, and trainer.devices asks for several",
            hint="set trainer.devices=1",
        )
    data, model = build(recipe)
    metric = check_monitor(recipe, model)
    search = Search(
        folder, recipe.as_dict(), str(recipe.path.resolve()) if recipe.path else None,
        asked.space, asked.sampler, asked.pruner, asked.seed, metric, model.metrics[metric],
        count_steps(recipe, len(data.train), model.batches_per_step),
    )  # fmt: skip
    if search.sampler == "grid":
        search.grid()
    if asked.go_on:
        known = Search.read(folder)
        _require_same(known, search)
        return known
    if folder.exists() and any(folder.iterdir()):
        if not (folder / SEARCH).is_file():
            raise OutputError(
                f"{folder}: holds other things than a search", hint="choose another --out"
            )
        if not asked.overwrite:
            raise OutputError(
                f"{folder}: already holds a search",
                hint="go on with --continue, or start anew with --overwrite",
                code="output.exists",
            )
        with _alone(folder):
            pass
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    search.write()
    return search


def _require_same(known: Search, asked: Search) -> None:
    """
    Raises:
        OutputError: the search there is another.
    """
    one, other = asdict(known), asdict(asked)
    parts = ("recipe", "space", "sampler", "pruner", "seed")
    differing = [part for part in parts if json.dumps(one[part]) != json.dumps(other[part])]
    if differing:
        raise OutputError(
            f"{known.folder}: its search has another {' and '.join(differing)}",
            hint="repeat its command with --continue, or choose another --out",
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """
    Raises:
        OutputError: another process searches here.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"{folder}: another search is running here",
            hint="wait for it, or choose another --out",
            code="output.locked",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _repair(journal: Path) -> None:
    """Take away what a kill in the middle of a write left: half a line, and Optuna's own lock."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _numbers(search: Search, count: int) -> Iterator[int]:
    """Numbers of trials: those that a killed search left first, then new ones up to `count`."""
    from optuna import Trial
    from optuna.trial import TrialState

    study = search.open()
    if search.sampler == "grid":
        own = sum("own" in t.user_attrs for t in study.get_trials(deepcopy=False))
        count = min(count, math.prod(map(len, search.grid().values())) + own)
    for left in study.get_trials(states=(TrialState.RUNNING,)):
        study.sampler = search.sampler_for(left.number)
        search.suggest(Trial(study, left._trial_id))
        yield left.number
    while True:
        number = sum(t.state != TrialState.WAITING for t in study.get_trials(deepcopy=False))
        study.sampler = search.sampler_for(number)
        if number >= count:
            return
        trial = study.ask()
        search.suggest(trial)
        yield trial.number


def _end(search: Search, words: str) -> dict[str, Any]:
    """Write what came out.

    Raises:
        RunError: nothing did.
    """
    rows = rows_of(search.open().trials, search)
    best = best_of(rows, search.direction)
    result: dict[str, Any] = {
        "out": str(search.folder),
        "metric": search.metric,
        "direction": search.direction,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
        "best": best,
        "recipe": None if best is None else str(search.folder / BEST),
        "trials": rows,
    }
    write_bytes(search.folder / RESULT, json.dumps(result, indent=2, ensure_ascii=False).encode())
    write_bytes(search.folder / DRAWING, drawing(rows, search).encode())
    if best is None:
        reasons = dict.fromkeys(row["reason"] for row in rows if row.get("reason"))
        raise RunError(
            f"none of {len(rows)} trials came to an end: {'; '.join(list(reasons)[:3])}",
            hint="narrow the space, or see log.txt in the folders of the trials",
        )
    text = best_recipe(search, best, rows, words)
    write_bytes(search.folder / BEST, text.encode())
    return result

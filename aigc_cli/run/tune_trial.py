"""One trial of a search: a run that tells Optuna of its validations, and may be ended by it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aigc_cli.errors import (
    AigcError,
    DataError,
    DiskFullError,
    Interrupted,
    MissingError,
    OutputError,
    out_of_memory,
)
from aigc_cli.run.checkpoint import find_usable, load_checkpoint
from aigc_cli.run.history import validation
from aigc_cli.run.paths import RunPaths
from aigc_cli.run.progress import Emit, Event
from aigc_cli.run.train import Result, train
from aigc_cli.run.tune import Search

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

MOST_STARTS = 3
"""From one step: then the trial has failed, as what kills it, such as its memory, will again."""


def in_this_process(search: Search, numbers: Iterator[int], emit: Emit) -> None:
    """The trials, one after the other."""
    for number in numbers:
        run_trial(search, number, emit)


def run_trial(search: Search, number: int, emit: Emit) -> None:
    """Train trial `number` to its end, from its checkpoint where there is one.

    Raises:
        Interrupted: by a signal; the trial goes on when the search does.
        AigcError: what no other trial could escape: data, folder or disk.
    """
    from optuna import Trial
    from optuna.trial import TrialState

    study = search.open(number)
    frozen = study.trials[number]
    texts = " ".join(search.texts(frozen.params))
    emit(_note(f"trial {number}: {texts}" + (" (the recipe)" if _is_own(frozen) else "")))
    if (twin := _twin(study.trials, frozen)) is not None:
        _copy(study, Trial(study, frozen._trial_id), twin)
        emit(_note(f"trial {number}: the same values as trial {twin.number}, so it ends as that"))
        return
    watch = _Watch(study, Trial(study, frozen._trial_id), search, emit)
    reason = watch.catch_up(RunPaths(search.run_folder(number)))
    if reason is None and not watch.is_behind:
        result, reason = _trained(search, frozen, watch)
        gc.collect()  # the model of a trial that failed hangs in a circle
        if result is not None and not watch.is_behind:
            if result.best is None:
                reason = f"{search.metric} was no number in any validation"
            else:
                study.tell(number, result.best["value"])
                value, step = result.best["value"], result.best["step"]
                emit(_note(f"trial {number}: {search.metric} {value:.4f} at step {step:,}"))
    if watch.is_behind:
        emit(_note(f"trial {number}: stopped early, far behind at step {watch.step:,}"))
    elif reason is not None:
        watch.trial.set_user_attr("reason", reason)
        study.tell(number, state=TrialState.FAIL)
        emit(_note(f"trial {number}: failed: {reason}"))


def _trained(
    search: Search, frozen: FrozenTrial, watch: _Watch
) -> tuple[Result | None, str | None]:
    """The end of the run, or why it has none."""
    try:
        recipe = search.recipe_with(search.texts(frozen.params))
        out = search.run_folder(frozen.number)
        return train(recipe, out=out, resume="auto", enough=watch.enough, emit=watch), None
    except (DataError, DiskFullError, Interrupted, MissingError, OutputError):
        raise
    except AigcError as error:
        return None, error.message
    except Exception as error:  # sizes that do not fit each other end in any of torch's errors
        told = out_of_memory(error, "")
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
        return None, told.message if told else text


class _Watch:
    """Hears the events of the run, and passes on those that show how far it is."""

    def __init__(self, study: Study, trial: Trial, search: Search, emit: Emit) -> None:
        self.study, self.trial, self.search, self.emit = study, trial, search, emit
        self.is_behind = False
        self.step = 0
        self._told = set(study.trials[trial.number].intermediate_values)

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind == "val":
            self._report(event["step"], event[f"val/{self.search.metric}"])
        elif kind in ("tick", "phase", "step", "warning"):
            self.emit(event)

    def enough(self) -> bool:
        return self.is_behind

    def catch_up(self, run: RunPaths) -> str | None:
        """Count the start, and report what a killed search did not; why not to start, if so."""
        step, starts = 0, list(self.trial.user_attrs.get("starts", []))
        if run.last.exists() or run.best.exists():
            step = int(load_checkpoint(find_usable(run.last, run.best))["step"])
        if starts:
            whence = f"goes on from step {step:,}" if step else "nothing was saved, starts anew"
            self.emit(_note(f"trial {self.trial.number}: {whence}"))
        if starts.count(step) >= MOST_STARTS:
            return f"was killed {MOST_STARTS} times behind step {step:,}"
        self.trial.set_user_attr("starts", [*starts, step])
        for row in validation(run.path):
            if row["step"] <= step and not self.is_behind:
                self._report(row["step"], row[self.search.metric])
        return None

    def _report(self, step: int, value: float | None) -> None:
        """Tell Optuna, once, and ask it whether to go on."""
        from optuna.trial import TrialState

        self.step = step
        if step not in self._told:
            self._told.add(step)
            self.trial.report(float("nan") if value is None else value, step)
        if step < self.search.steps and self.trial.should_prune():
            self.is_behind = True  # told at once, since the question changes what it knows
            self.study.tell(self.trial.number, state=TrialState.PRUNED)


def _twin(trials: list[FrozenTrial], own: FrozenTrial) -> FrozenTrial | None:
    """An earlier trial of the same values, which has ended: a run is a function of its recipe."""
    earlier = (t for t in trials if t.number != own.number and t.state.is_finished())
    return next((t for t in earlier if t.params == own.params), None)


def _copy(study: Study, trial: Trial, twin: FrozenTrial) -> None:
    from optuna.trial import TrialState

    known = study.trials[trial.number].intermediate_values
    for step, value in twin.intermediate_values.items():
        if step not in known:
            trial.report(value, step)
    trial.set_user_attr("same_as", twin.user_attrs.get("same_as", twin.number))
    if "reason" in twin.user_attrs:
        trial.set_user_attr("reason", twin.user_attrs["reason"])
    finished = twin.state == TrialState.COMPLETE
    study.tell(trial.number, twin.value if finished else None, state=twin.state)


def _is_own(trial: FrozenTrial) -> Any:
    return trial.user_attrs.get("own")


def _note(message: str) -> Event:
    return {"event": "note", "message": message}

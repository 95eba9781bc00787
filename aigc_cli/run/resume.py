"""Where a run writes, what it continues from, and what a checkpoint keeps of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from aigc_cli import __version__
from aigc_cli.data._data import CONTENT
from aigc_cli.errors import CheckpointError, DataError, RecipeError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run import devices
from aigc_cli.run.base import without_base
from aigc_cli.run.checkpoint import FORMAT, find_usable
from aigc_cli.run.folder import (
    FOLDER_VARIABLE,
    RunFolder,
    identity,
    new_folder,
    newest_run,
    require_own,
)
from aigc_cli.run.paths import RUNS, way_on
from aigc_cli.run.progress import Emit, Progress
from aigc_cli.run.sharding import full_tensors, network_state
from aigc_cli.specs import Spec, spec_from_dict


def choose_folder(
    recipe: Recipe, out: Path | None, resume: str | None, *, overwrite: bool, emit: Emit
) -> tuple[RunFolder, Path | None]:
    """Where the run writes, and the checkpoint it continues from, if any.

    A launcher hands its choice down; processes that torchrun or srun started choose alike, and only
    the first of them writes.

    Raises:
        OutputError: the folder is in use, or is no run.
        CheckpointError: nothing usable to continue from.
    """
    handed = os.environ.get(FOLDER_VARIABLE)
    if handed:
        folder = RunFolder(Path(handed))
    elif resume is None:
        if devices.find_world().rank > 0:
            return RunFolder(out or RUNS), None
        return new_folder(recipe, out, overwrite=overwrite), None
    elif resume == "auto":
        found = RunFolder(out) if out is not None else newest_run(recipe)
        folder = found or new_folder(recipe, None, overwrite=False)
        require_own(folder)
    elif Path(resume).is_file():
        return RunFolder(out or Path(resume).absolute().parent.parent), Path(resume)
    else:
        folder = RunFolder(Path(resume))
        if not (folder.last.exists() or folder.best.exists()):
            raise CheckpointError(
                f"{resume}: no checkpoint to continue from",
                hint=way_on(folder)
                or "expected a run folder with checkpoints/last.ckpt, or a .ckpt file",
            )
    if resume is not None and Path(resume).is_file():
        return folder, Path(resume)
    if resume is None or not (folder.last.exists() or folder.best.exists()):
        return folder, None
    checkpoint = find_usable(folder.last, folder.best)
    if checkpoint != folder.last:
        message = f"{folder.last} is damaged or absent; continuing from {checkpoint}"
        emit({"event": "warning", "message": message})
    return folder, checkpoint


def check_resumable(recipe: Recipe, state: dict[str, Any], path: Path) -> None:
    """A run continues only what it was; keys that are newer than its checkpoint had their defaults.

    Raises:
        CheckpointError: values that decide what is learned differ; names them all.
    """
    saved = state["recipe"]
    with suppress(RecipeError):  # of a version with other keys: compared as it stands
        saved = recipe_from_dict(saved).as_dict()
    ours, theirs = identity(recipe.as_dict()), identity(saved)
    changed = [
        f"{key} ({old} in the checkpoint, {new} now)"
        for (key, new), (_, old) in zip(flatten(ours), flatten(theirs, like=ours), strict=True)
        if new != old
    ]
    if changed:
        raise CheckpointError(
            f"{path}: the run cannot be continued with other values of {'; '.join(changed)}",
            hint="undo the change, or start a new run with init_from to fine-tune",
            code="checkpoint.changed",
        )


def flatten(
    values: dict[str, Any], like: dict[str, Any] | None = None, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) pairs; with `like`, in its order and for its keys, None where absent."""
    for key, shape in (like or values).items():
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(shape, dict):
            yield from flatten(value or {}, shape, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def require_optimizers_fit(
    model: GenerativeModule, trainer: Trainer, state: dict[str, Any], path: Path
) -> None:
    """See that the optimizers' states and the moving average are those that this model trains with.

    Raises:
        CheckpointError: they are of another number of weights or optimizers, or absent.
    """
    made = model.configure_optimizers()
    ours = [_sizes(o.state_dict()) for o in (made if isinstance(made, list) else [made])]
    theirs = [_sizes(saved) for saved in state["optimizers"]]
    if ours != theirs:
        raise CheckpointError(
            f"{path}: its optimizers are of {theirs} weights, and this model's of {ours}",
            hint="start a new run with init_from to take its weights alone",
            code="checkpoint.mismatch",
        )
    if trainer.ema is not None and state["ema"] is None:
        raise CheckpointError(
            f"{path}: it has no moving average, and trainer.ema is {trainer.ema}",
            hint="start a new run with init_from to take its weights alone",
            code="checkpoint.mismatch",
        )


def _sizes(state: dict[str, Any]) -> list[int]:
    """Weights in each group of an optimizer."""
    return [len(group["params"]) for group in state["param_groups"]]


def check_data(state: dict[str, Any], digest: str, path: Path, *, accepted: bool) -> str | None:
    """See that the data are those that the checkpoint learned from; the note of a change that is
    accepted, None where there is none.

    Raises:
        DataError: they are others.
    """
    known = state.get("data")
    if known is None or known == digest or known.startswith(CONTENT) != digest.startswith(CONTENT):
        return None  # what an earlier version knew of it cannot be compared
    if not accepted:
        raise DataError(
            f"{path}: the data have changed since this checkpoint was written",
            hint="give the run its data back, or continue on the changed data with "
            "--accept-changed-data",
            code="data.changed",
        )
    return f"continuing on changed data: digest {_short(digest)}, and {_short(known)} before"


def require_same_tokens(spec: Spec, state: dict[str, Any], path: Path) -> None:
    """See that tokens which changed data taught mean what they meant when the weights learned them.

    Raises:
        DataError: they do not; names what is other.
    """
    ours, theirs = spec.as_dict(), spec_from_dict(state["spec"]).as_dict()
    for name in ours:
        if (name.endswith("tokenizer") or name == "merges") and ours[name] != theirs.get(name):
            raise DataError(
                f"{path}: the changed data give another {name}, and the weights know the old one",
                hint="give the run its data back, or start a new run",
                code="data.changed",
            )


def _short(digest: str) -> str:
    return digest.removeprefix(CONTENT)[:12]


def collect(
    recipe: Recipe,
    model: GenerativeModule,
    optimizers: list[Optimizer],
    scaler: Any,
    progress: Progress,
    data: str,
) -> dict[str, Any]:
    """The content of a checkpoint, see run/checkpoint.py; with sharded weights every process must
    call it. data: digest of what is learned from.
    """
    weights, states = network_state(model, optimizers)
    average = None if model.ema is None else full_tensors(model.ema.state_dict())
    return {
        "format": FORMAT,
        "aigc": __version__,
        "torch": str(torch.__version__),
        "step": model.step,
        "samples": model.step * recipe.trainer.global_batch * model.batches_per_step,
        "recipe": recipe.as_dict(),
        "recipe_path": str(recipe.path.resolve()) if recipe.path else None,
        "spec": model.spec.as_dict(),
        "data": data,
        "weights": without_base(weights, model.base),
        "ema": None if average is None else without_base(average, model.base),
        "base": model.base,
        "optimizers": states,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "best": progress.best,
        "began": progress.began,
        "pending": list(progress.pending),
        **{name: network.state() for name, network in model.frozen_networks.items()},
    }

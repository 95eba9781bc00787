"""The classifier that a recipe names to judge what a model makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_cli.errors import CheckpointError, InputError
from aigc_cli.models._classifier import ClassifierModule, Judge
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.registry import load_family
from aigc_cli.run.base import load_whole
from aigc_cli.run.checkpoint import file_digest
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.specs import spec_from_dict


def open_judge(text: str, bases: Sequence[Path] = (), *, of: str | None = None) -> Judge:
    """The classifier of a run or checkpoint, of things of the modality `of`; relative paths are
    tried against `bases` in turn.

    Raises:
        CheckpointError: the file is damaged. InputError: there is none, or it is of another family.
    """
    path = next((b / text for b in (Path(), *bases) if (b / text).exists()), Path(text))
    path = find_checkpoint(str(path))
    state = load_whole(path)
    recipe = state["recipe"]
    family = str(recipe.get("family"))
    known = load_family(family).Model
    if not issubclass(known, ClassifierModule) or of not in (None, known.takes):
        raise InputError(
            f"model.classifier: {path} is of family {family}, which names no classes of what is "
            "judged",
            hint=f"name a run of a classifier of modality {of}" if of else None,
        )
    name = Path(state["recipe_path"] or family).stem
    return restored(
        {
            "stamp": f"{name} {path.name} {file_digest(path)[:12]}",
            "recipe": recipe,
            "spec": state["spec"],
            "weights": {**state["weights"], **(state["ema"] or {})},
        }
    )


def restored(state: Mapping[str, Any]) -> Judge:
    """The classifier of `Judge.state`.

    Raises:
        CheckpointError: the state is that of no classifier this version knows.
    """
    try:
        recipe = recipe_from_dict(state["recipe"])
        model: ClassifierModule = load_family(recipe.family).Model(
            recipe.model, spec_from_dict(state["spec"])
        )
        model.load_state_dict(state["weights"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            "the classifier in the checkpoint does not fit",
            hint="was it written by a newer aigc?",
        ) from error
    return Judge(model.requires_grad_(False).eval(), dict(state))

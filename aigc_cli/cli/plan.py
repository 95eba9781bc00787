"""`aigc plan`: what a run will cost."""

from __future__ import annotations

from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet, RecipeName


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    measure: Annotated[
        int, typer.Option(min=0, help="Steps to time on this machine; 0 skips timing.")
    ] = 20,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Estimate parameters, memory, time and disk space of a run."""
    from aigc_cli.recipe.load import load_recipe, require_trainable
    from aigc_cli.run.inputs import check_training

    check_training(recipe, overrides or (), None)
    from aigc_cli.run import plan as planning
    from aigc_cli.run.weights import complete

    chosen = complete(require_trainable(load_recipe(recipe, overrides or ())))
    facts = planning.plan(chosen, measure)
    Output(json, quiet).result(facts, planning.plan_text(facts))

"""How long the parts of a run take here: steps, validations and previews, in memory alone."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from aigc_cli.data._data import DataSource
from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import Recipe
from aigc_cli.run import devices
from aigc_cli.run.failures import expected_failures
from aigc_cli.run.rehearsal import rehearsing
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.trained import Trained

STEPS = 8  # that are timed at most, behind a first that is slower


@dataclass(frozen=True)
class Pace:
    """Seconds of wall time."""

    step: float
    validation: float
    """A whole one."""


def measure_pace(recipe: Recipe, data: DataSource, model: GenerativeModule, limit: float) -> Pace:
    """The mean of some real steps, about `limit` seconds of them, and a validation by its first
    batch. The model is not the same afterwards.

    Raises: as `train` before and in its first step.
    """
    share = devices.share_of_batch(recipe.trainer, 1)
    with rehearsing(recipe, data, model, share) as rehearsal:
        began = time.monotonic()
        for _ in range(recipe.trainer.accumulate):
            rehearsal.step()
        first = time.monotonic() - began
        began, done = time.monotonic(), 0
        while done < STEPS and first + time.monotonic() - began < limit:
            for _ in range(recipe.trainer.accumulate):
                rehearsal.step()
            done += 1
        step = (time.monotonic() - began) / done if done else first
        began = time.monotonic()
        batches = rehearsal.validate()
        return Pace(step, (time.monotonic() - began) * batches)


def measure_preview(recipe: Recipe, data: DataSource, model: GenerativeModule) -> float:
    """Seconds of a preview."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aigc-pace-") as folder, expected_failures(recipe):
        make(
            Trained(model.eval(), recipe, model.spec),
            Request(Path(folder) / "preview"),
            items=data.val,
        )
    return time.monotonic() - began

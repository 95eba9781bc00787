"""What the parts of a run share while it trains, and the events that tell of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.folder import RunFolder

Event = dict[str, Any]
Emit = Callable[[Event], None]


@dataclass
class Progress:
    """Where the run stands. What a checkpoint keeps of it is `best`, `began` and `pending`."""

    folder: RunFolder
    settings: Trainer
    max_steps: int
    emit: Emit
    best: dict[str, Any] | None = None
    """{"metric", "value", "step"} of the best validation."""
    began: dict[str, Any] | None = None
    """{"metric", "value"} of the first validation batch before the first step."""
    pending: list[str] = field(default_factory=list)
    """What is still to be done after the step that was saved: "validation", "preview"."""
    status: str = "running"
    saved_step: int = -1
    enough: Callable[[], bool] = lambda: False
    """Whether somebody who heard of the last validation wants the run to end."""
    warnings: Counter[str] = field(default_factory=Counter)
    """How many rows of the log showed each failure of health."""

    def out_of_patience(self, step: int) -> bool:
        """Whether `trainer.patience` validations have passed since the best one."""
        patience, best = self.settings.patience, self.best
        if patience is None or best is None:
            return False
        return step - int(best["step"]) >= patience * self.settings.validate_every

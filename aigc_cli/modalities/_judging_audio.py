"""What an evaluation needs to know of recordings: sets of them, of files and of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aigc_cli.metrics._things import Sets
from aigc_cli.modalities import _judging
from aigc_cli.modalities._judging import MOST, Drawn, Listed, Trial


class Judging(_judging.Judging):
    """Recordings, whole."""

    usual = ("fad",)

    def made_sets(self, trial: Trial) -> Sets:
        data, parts = trial.open_data(), {}
        for key, sounds in data.sounds.items():
            part = key.removeprefix("data.")
            parts[part] = Listed(sounds, f"{trial.recipe.name}, {part}")
        which = trial.references[-1] if trial.references else "val"
        reference: Any = parts.get(which)
        if reference is None:
            reference, _ = self.open_set(Path(which), "--reference", trial.reading, None)
        drawn = Drawn(self, trial, trial.count or min(len(reference), MOST))
        held_out = parts["val"]
        return Sets(drawn, reference, train=parts.get("train"), held_out=held_out, made=True)

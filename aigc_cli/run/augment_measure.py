"""`aigc augment --measure`: whether a set improves what is trained on it.

The same yardstick is trained on the real items, on these with the new ones, and where a model made
them on the new ones alone (the classification accuracy score: Ravuri and Vinyals, 2019,
https://arxiv.org/abs/1905.10887), for several seeds and equally many steps, and judged once, on
real data by which nothing was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from aigc_cli.augment._augmentation import Augmentation
from aigc_cli.data._stream import StepSampler
from aigc_cli.errors import InputError
from aigc_cli.models._base import Run
from aigc_cli.models._yardstick import YardstickModule
from aigc_cli.recipe.load import load_recipe
from aigc_cli.registry import load_family
from aigc_cli.run.augment_journal import LIST, Line
from aigc_cli.run.augment_verdict import compared
from aigc_cli.run.build import attach_networks, build, count_steps
from aigc_cli.run.devices import choose_device
from aigc_cli.run.iteration import Iteration

ROWS = "measure.jsonl"
SCORED = 64  # items at a time


@dataclass(frozen=True)
class Yardstick:
    """What is trained, on what it is judged, and how often."""

    recipe: str
    overrides: tuple[str, ...] = ()
    test: str | None = None
    """Real data to be judged on; None: what the set holds out."""
    seeds: int = 3
    device: str = "auto"

    def require(self) -> type[YardstickModule]:
        """The family, before anything is made or trained.

        Raises:
            RecipeError, InputError: no such recipe, wrong overrides, or its family scores nothing.
            MissingError: a package that scores is not installed.
        """
        recipe = load_recipe(self.recipe, self.overrides, whole=False)
        family = load_family(recipe.family).Model
        if not issubclass(family, YardstickModule):
            raise InputError(
                f"--yardstick {self.recipe}: family {recipe.family!r} neither classifies nor "
                "detects, so it has no score by which data could be compared"
            )
        family.require_scores()
        return family


Arms = Mapping[str, str]
"""Sources of training data by name; the first is what the others are compared with."""


def arms_of(
    augmentation: Augmentation, out: Path, *, classical: Path | None = None
) -> dict[str, str]:
    """The real items of a written set, those with the new ones, and new ones alone that a model
    made, where every class has some. `classical` is a set of the same real items varied.
    """
    arms = {"real": augmentation.part_for(out, "measure-real", _lines(out, "copied"))}
    if classical is not None:
        arms["real + varied"] = augmentation.part_for(
            classical, "measure-varied", _lines(classical, "copied", "varied")
        )
    for made, name in (("varied", "varied"), ("generated", "generated")):
        if next(iter(_lines(out, made)), None) is None:
            continue
        both = _lines(out, "copied", made)
        arms[f"real + {name}"] = augmentation.part_for(out, f"measure-{name}", both)
        real, new = _classes(out, "copied"), _classes(out, made)
        if made == "generated" and real == new:
            arms["generated"] = augmentation.part_for(out, "measure-only", _lines(out, made))
    return arms


def _classes(out: Path, made: str) -> set[str]:
    return {line.get("label", "") for line in _lines(out, made)}


def _lines(out: Path, *made: str) -> Iterable[Line]:
    with (out / LIST).open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line["split"] == "train" and line["made"] in made:
                yield line


def measure(
    arms: Arms,
    yardstick: Yardstick,
    test: str,
    out: Path,
    told: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train on every arm with every seed; what is done already, by `measure.jsonl`, is not done
    again. Returns what measure.json records.

    Raises: as `Yardstick.require`, and as `build` of the data.
    """
    family = yardstick.require()
    asked = [yardstick.recipe, *yardstick.overrides, test]
    done = _done(out / ROWS, asked)
    with (out / ROWS).open("a", encoding="utf-8") as file:
        for seed in range(yardstick.seeds):
            for arm, train in arms.items():
                if (arm, seed) in done:
                    continue
                row = {"arm": arm, "seed": seed, **_judged(yardstick, train, test, seed)}
                done[arm, seed] = row
                file.write(json.dumps({**row, "asked": asked}) + "\n")
                file.flush()
                value = row["scores"][family.decisive]
                told(f"{arm}, seed {seed}: {family.scores[family.decisive]} {value:.4f}")
    rows = [row for (arm, seed), row in done.items() if arm in arms and seed < yardstick.seeds]
    return {
        "yardstick": yardstick.recipe,
        "overrides": list(yardstick.overrides),
        "test": test,
        "class_score": family.class_score,
        **compared(rows, list(arms), family.scores, family.decisive),
    }


def _done(path: Path, asked: Sequence[str]) -> dict[tuple[str, int], dict[str, Any]]:
    found = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8").split("\n")[:-1]:
            row = json.loads(text)
            if row.pop("asked") == list(asked) and "scores" in row:  # rows of before have none
                found[row["arm"], row["seed"]] = row
    return found


def _judged(yardstick: Yardstick, train: str, test: str, seed: int) -> dict[str, Any]:
    """Train one model and score it."""
    given = [f"data.train={train}", f"data.val={test}", f"seed={seed}", *yardstick.overrides]
    recipe = load_recipe(yardstick.recipe, given)
    data, model = build(recipe)
    assert isinstance(model, YardstickModule)
    attach_networks(model, recipe)
    device = choose_device(yardstick.device)
    steps = count_steps(recipe, len(data.train))
    model.to(device).train()
    model.prepare(Run(recipe.trainer, recipe.seed, steps))
    made = model.configure_optimizers()
    step = Iteration(model, made if isinstance(made, list) else [made])
    loader: DataLoader[Any] = DataLoader(
        data.train,
        batch_sampler=StepSampler(
            len(data.train), global_batch=recipe.trainer.global_batch, seed=recipe.seed, stop=steps,
            lengths=getattr(data.train, "lengths", None),
        ),
        collate_fn=getattr(data.train, "collate", None),
    )  # fmt: skip
    for batch in loader:
        step(_moved(batch, device))
    step.raise_if_diverged()

    # Scored with the averaged weights, as a run is; nothing was chosen by this data.
    held_out = DataLoader(
        data.val, batch_size=SCORED, collate_fn=getattr(data.val, "collate", default_collate)
    )
    model.eval()
    with model.averaged_weights(), torch.inference_mode():
        scores = model.score(_moved(batch, device) for batch in held_out)
    return {
        "trained_on": len(data.train),
        "steps": steps,
        "n": scores.count,
        "scores": dict(scores.whole),
        "classes": dict(scores.classes),
    }


def _moved(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    return {name: values.to(device) for name, values in batch.items()}

"""`aigc evaluate`: numbers that carry their protocol, for a trained model or for two folders of
files.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from aigc_cli.data._sources import Source
from aigc_cli.errors import DataError, InputError, RequirementError
from aigc_cli.media.image import Picture, from_tensor, tile_grid, to_tensor, write_picture
from aigc_cli.media.resize import modcrop, resize_bicubic
from aigc_cli.metrics.requirement import check, parse_requirement
from aigc_cli.metrics.table import GROUPS, METRICS, PairMetric, resolve
from aigc_cli.registry import load_data_kind
from aigc_cli.run.paths import RunPaths
from aigc_cli.run.sample import open_input, prepare_output
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.specs import SuperResolutionSpec

Pixels = Any
log = logging.getLogger(__name__)
DETAIL = 96  # pixels of a side in the comparison sheets
PAIRS = ("psnr", "ssim")  # what is measured of pairs of pictures when nothing is asked for


@dataclass
class Score:
    """One metric over all pictures; `baseline` is the same metric of bicubic enlargement."""

    name: str
    unit: str
    protocol: str
    higher_is_better: bool
    values: list[float] = field(default_factory=list)
    baselines: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        return float(np.mean(self.values))

    @property
    def baseline(self) -> float | None:
        return float(np.mean(self.baselines)) if self.baselines else None

    def as_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "value": _plain(self.value),
            "n": len(self.values),
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "protocol": self.protocol,
        }
        if self.baseline is not None:
            row["bicubic"] = _plain(self.baseline)
        return row


def evaluate_model(
    source: str,
    *,
    data: Path | None = None,
    metrics: Sequence[str] = (),
    require: Sequence[str] = (),
    overrides: Sequence[str] = (),
    device: str = "auto",
    ema: bool = True,
    limit: int | None = None,
    save: Path | None = None,
    overwrite: bool = False,
    seen: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Score a run or checkpoint on its validation data, or on the pictures in `data`.

    For super-resolution: each picture is cropped to a multiple of the scale, reduced by MATLAB's
    bicubic imresize to 8 bit, enlarged by the model and by bicubic, rounded to 8 bit and compared
    with the original without a border of `scale` pixels. `save` is a folder for what the model made
    and, side by side, for magnified details of bicubic, model and original.

    Raises:
        InputError: unknown metric or data. MissingError: weights of a metric that was asked for are
            absent. OutputError: `save` is in use.
    """
    begun = time.monotonic()
    trained = load_trained(source, overrides, device=device, ema=ema)
    spec = trained.spec
    if not isinstance(spec, SuperResolutionSpec):
        asked = {"--data": data, "--metric": metrics, "--limit": limit, "--save": save}
        for option, value in asked.items():
            if value:
                raise InputError(f"{option} does not apply to family '{trained.recipe.family}'")
        report = _evaluate_as_in_training(trained, require)
        _remember(trained, report)
        return report
    defaults = trained.recipe.evaluate
    require = list(require) or list(defaults.require)
    wanted = resolve(with_required(list(metrics) or list(defaults.metrics), require))
    scores = [_score(metric, spec.scale) for metric in wanted]
    for metric in wanted:
        metric.prepare()
    if save is not None:
        prepare_output(save, overwrite=overwrite)
    rows = []
    for name, original in _limited(_originals(trained, data), limit):
        target = modcrop(original, spec.scale)
        low = resize_bicubic(target, scale=1 / spec.scale)
        preds = _enlarge(trained, low)
        bicubic = resize_bicubic(low, scale=spec.scale)
        row: dict[str, Any] = {"name": name}
        for metric, score in zip(wanted, scores, strict=True):
            score.values.append(metric.compute(preds, target, spec.scale, name=name))
            score.baselines.append(metric.compute(bicubic, target, spec.scale, name=name))
            row[metric.name] = _plain(score.values[-1])
        rows.append(row)
        if save is not None:
            sides = {"bicubic": bicubic, trained.recipe.family: preds, "original": target}
            _save(save / Path(name).with_suffix(".png"), preds, sides)
        seen(name)
    if not rows:
        raise DataError("there is no picture to evaluate on")
    report = {
        "ok": True,
        "model": trained.describe(),
        "data": str(data) if data is not None else trained.recipe.data.model_dump().get("val"),
        "options": trained.recipe.sample.model_dump(mode="json"),
        "reduction": f"MATLAB imresize bicubic x1/{spec.scale}, 8 bit",
        "metrics": {score.name: score.as_dict() for score in scores},
        "require": require,
        "items": rows,
        "seconds": round(time.monotonic() - begun, 1),
    }
    _remember(trained, report)
    return report


def evaluate_files(
    generated: Path,
    reference: Path,
    *,
    metrics: Sequence[str] = (),
    border: int = 0,
    limit: int | None = None,
) -> dict[str, Any]:
    """Score pictures against those of the same name in another folder; no model needed.

    Raises:
        DataError: names do not pair up or sizes differ; says which and how many.
    """
    begun = time.monotonic()
    wanted = resolve(metrics)
    scores = [_score(metric, border) for metric in wanted]
    made, truth = open_input(generated, "--generated"), open_input(reference, "--reference")
    pairs = pair_names(made, truth)[:limit]
    for metric in wanted:
        metric.prepare()
    rows = []
    for name, one, other in pairs:
        preds, target = _eight_bit(made.read(one)), _eight_bit(truth.read(other))
        row: dict[str, Any] = {"name": name}
        for metric, score in zip(wanted, scores, strict=True):
            score.values.append(metric.compute(preds, target, border, name=name))
            row[metric.name] = _plain(score.values[-1])
        rows.append(row)
    return {
        "ok": True,
        "generated": str(generated),
        "reference": str(reference),
        "metrics": {score.name: score.as_dict() for score in scores},
        "items": rows,
        "seconds": round(time.monotonic() - begun, 1),
    }


def pair_names(generated: Source, reference: Source) -> list[tuple[str, int, int]]:
    """(name, number in generated, number in reference) where names agree but for the ending; two
    single pictures pair whatever their names.

    Raises:
        DataError: a picture has no partner, or two have the same name.
    """
    if len(generated) == len(reference) == 1:
        return [(generated.name(0), 0, 0)]
    made, truth = _by_stem(generated), _by_stem(reference)
    alone = sorted(made.keys() ^ truth.keys())
    if alone:
        side = "reference" if alone[0] in made else "generated"
        raise DataError(
            f"{len(made)} generated and {len(truth)} reference pictures do not pair by name: "
            f"'{alone[0]}' has no {side} ({len(alone)} without a partner)",
            hint="give both folders the same file names; endings may differ",
        )
    return [(stem, made[stem], truth[stem]) for stem in sorted(made)]


def check_requirements(report: dict[str, Any], texts: Sequence[str]) -> None:
    """Compare the report with conditions such as "psnr_y>=36.0"; adds what failed to the report.

    Raises:
        InputError: a condition names a metric that was not measured.
        RequirementError: a condition does not hold; exit code 4.
    """
    requirements = [parse_requirement(text) for text in texts]
    values = {name: float(score["value"]) for name, score in report["metrics"].items()}
    try:
        check(requirements, values)
    except RequirementError:
        report["ok"] = False
        report["failed"] = [str(r) for r in requirements if not r.holds(values[r.name])]
        raise


def with_required(metrics: Sequence[str], require: Sequence[str]) -> list[str]:
    """Names to measure: those asked for, else the usual ones, and those that conditions are
    about.

    Raises:
        InputError: an unknown metric, or a condition on a group of metrics.
    """
    names = [*(metrics or PAIRS), *(parse_requirement(text).name for text in require)]
    for text in require:
        if members := GROUPS.get(parse_requirement(text).name):
            raise InputError(
                f"--require {text}: which one is meant?", hint=f"choose from: {', '.join(members)}"
            )
    return [metric.name for metric in resolve(names)]


def explain_metrics() -> list[dict[str, Any]]:
    """What `--metric list` shows."""
    return [
        {
            "metric": metric.name,
            "better": "higher" if metric.higher_is_better else "lower",
            "unit": metric.unit,
            "protocol": metric.describe(0),
        }
        for metric in METRICS.values()
    ]


def _evaluate_as_in_training(trained: Trained, require: Sequence[str]) -> dict[str, Any]:
    """The validation metrics of the family over the recipe's validation data."""
    begun = time.monotonic()
    recipe, model = trained.recipe, trained.model
    data = load_data_kind(recipe.kind).Data(recipe.data, seed=recipe.seed, bases=recipe.bases)
    model.on_validation_epoch_start()
    with torch.no_grad():
        for number, batch in enumerate(DataLoader(data.val, data.val_batch_size or 32)):
            model.validation_step({k: v.to(model.device) for k, v in batch.items()}, number)
    means = model.validation_means()
    return {
        "ok": True,
        "model": trained.describe(),
        "data": recipe.data.model_dump().get("val"),
        "metrics": {
            name: {
                "value": _plain(value),
                "n": len(data.val),
                "unit": "-",
                "higher_is_better": model.metrics[name] == "max",
                "protocol": f"validation of family {recipe.family}",
            }
            for name, value in means.items()
        },
        "require": list(require) or list(recipe.evaluate.require),
        "items": [],
        "seconds": round(time.monotonic() - begun, 1),
    }


def _originals(trained: Trained, data: Path | None) -> Iterator[tuple[str, Pixels]]:
    """8-bit pictures with the model's channels: the recipe's validation data, or those in
    `data`.
    """
    assert isinstance(trained.spec, SuperResolutionSpec)
    channels = trained.spec.channels
    if data is not None:
        source = open_input(data, "--data")
        for number in range(len(source)):
            picture = source.read(number).as_channels(channels)
            yield source.name(number), _eight_bit(picture)
        return
    recipe = trained.recipe
    kind = load_data_kind(recipe.kind)
    held_out = kind.Data(recipe.data, seed=recipe.seed, bases=recipe.bases).val
    for index in range(len(held_out)):
        item = held_out[index]
        yield held_out.name(index), from_tensor(item["high"])


def _enlarge(trained: Trained, low: Pixels) -> Pixels:
    batch = {"low": to_tensor(low)[None].to(trained.model.device)}
    with torch.no_grad():
        return from_tensor(trained.model.sample(1, trained.recipe.sample, condition=batch)[0].cpu())


def _save(path: Path, made: Pixels, sides: dict[str, Pixels]) -> None:
    """What the model made as `path`, and <name>-compare.png with the middle of every side, x4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, Picture(made))
    H, W = made.shape[:2]
    h, w = min(H, DETAIL), min(W, DETAIL)
    y, x = (H - h) // 2, (W - w) // 2
    details = [
        Picture(p[y : y + h, x : x + w].repeat(4, axis=0).repeat(4, axis=1)) for p in sides.values()
    ]
    sheet = tile_grid(details, len(sides), labels=list(sides))
    write_picture(path.with_name(f"{path.stem}-compare.png"), sheet)


def _score(metric: PairMetric, border: int) -> Score:
    return Score(metric.name, metric.unit, metric.describe(border), metric.higher_is_better)


def _eight_bit(picture: Picture) -> Pixels:
    return picture.as_bits(8).pixels


def _by_stem(source: Source) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number in range(len(source)):
        stem = str(PurePosixPath(source.name(number)).with_suffix(""))
        if numbers.setdefault(stem, number) != number:
            raise DataError(
                f"{source.text}: two pictures are called '{stem}'", hint="keep one of them"
            )
    return numbers


def _limited(items: Iterator[Any], limit: int | None) -> Iterator[Any]:
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            return
        yield item


def _plain(value: float) -> float | str:
    """Equal pictures have an infinite PSNR, which JSON has no number for."""
    return round(value, 6) if math.isfinite(value) else str(value)


def _remember(trained: Trained, report: dict[str, Any]) -> None:
    """Add the result to evaluations.jsonl of the run, when the checkpoint lies in one."""
    run = RunPaths(trained.checkpoint.resolve().parent.parent)
    if not run.status_file.exists():
        return
    row = {key: value for key, value in report.items() if key != "items"}
    try:
        with run.evaluations.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:  # another person's run, or a full disk: the result stands all the same
        log.warning("%s is not continued: %s", run.evaluations, error.strerror)

"""Pictures compared one by one with what they should look like: super-resolution, and files of the
same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from aigc_cli.data._sources import Source
from aigc_cli.errors import DataError
from aigc_cli.media.image import Picture, from_tensor, tile_grid, to_tensor, write_picture
from aigc_cli.media.resize import modcrop, resize_bicubic
from aigc_cli.metrics.table import PairMetric
from aigc_cli.registry import load_data_kind
from aigc_cli.run.sample import open_input
from aigc_cli.run.trained import Trained
from aigc_cli.specs.image import SuperResolutionSpec

Pixels = Any
DETAIL = 96  # pixels of a side in the comparison sheets


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
            "value": plain(self.value),
            "n": len(self.values),
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "protocol": self.protocol,
        }
        if self.baseline is not None:
            row["bicubic"] = plain(self.baseline)
        return row


def compare_enlargements(
    trained: Trained,
    wanted: Sequence[PairMetric],
    *,
    data: Path | None,
    limit: int | None,
    save: Path | None,
    seen: Callable[[str], None],
) -> dict[str, Any]:
    """Values of super-resolution with the same of bicubic enlargement beside them.

    Each picture is cropped to a multiple of the scale, reduced by MATLAB's bicubic imresize to
    8 bit, enlarged by the model and by bicubic, rounded to 8 bit and compared with the original
    without a border of `scale` pixels. `save` is a folder for what the model made and, side by
    side, for magnified details of bicubic, model and original.
    """
    spec = trained.spec
    assert isinstance(spec, SuperResolutionSpec)
    scores = [_score(metric, spec.scale) for metric in wanted]
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
            row[metric.name] = plain(score.values[-1])
        rows.append(row)
        if save is not None:
            sides = {"bicubic": bicubic, trained.recipe.family: preds, "original": target}
            _save(save / Path(name).with_suffix(".png"), preds, sides)
        seen(name)
    if not rows:
        raise DataError("there is no picture to evaluate on")
    return {
        "data": str(data) if data is not None else trained.recipe.data.model_dump().get("val"),
        "reduction": f"MATLAB imresize bicubic x1/{spec.scale}, 8 bit",
        "metrics": {score.name: score.as_dict() for score in scores},
        "items": rows,
    }


def compare_files(
    generated: Path,
    reference: Path,
    wanted: Sequence[PairMetric],
    *,
    border: int,
    limit: int | None,
) -> dict[str, Any]:
    """Values of pictures against those of the same name in another folder.

    Raises:
        DataError: names do not pair up or sizes differ; says which and how many.
    """
    scores = [_score(metric, border) for metric in wanted]
    made, truth = open_input(generated, "--generated"), open_input(reference, "--reference")
    pairs = pair_names(made, truth)[:limit]
    rows = []
    for name, one, other in pairs:
        preds, target = _eight_bit(made.read(one)), _eight_bit(truth.read(other))
        row: dict[str, Any] = {"name": name}
        for metric, score in zip(wanted, scores, strict=True):
            score.values.append(metric.compute(preds, target, border, name=name))
            row[metric.name] = plain(score.values[-1])
        rows.append(row)
    return {"metrics": {score.name: score.as_dict() for score in scores}, "items": rows}


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


def plain(value: float) -> float | str:
    """Equal pictures have an infinite PSNR, which JSON has no number for."""
    return round(value, 6) if math.isfinite(value) else str(value)

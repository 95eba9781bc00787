"""`aigc evaluate RUN`: numbers that carry their protocol, of a trained model.

What there is to measure depends on the model and on the name of the metric:

* run/pairs.py: pictures against what they should look like (super-resolution, two folders)
* run/distribution.py: sets of pictures by their features (FID and its kin)
* run/classification.py: what a classifier mistakes for what
* run/texts.py: texts against references and against another system's
* here: what a family measures of each item of its validation data

run/evaluate_files.py measures files without a model; run/asked.py has what both were asked.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset, default_collate

from aigc_cli.errors import DataError, InputError, RecipeError
from aigc_cli.media.image import Picture, from_tensor, tile_grid, write_picture
from aigc_cli.metrics.sets import SET_GROUPS, SET_METRICS
from aigc_cli.metrics.text import TEXT_GROUPS, TEXT_METRICS
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.registry import load_data_kind
from aigc_cli.run.asked import (
    FOR_TEXTS,
    HOW_TEXTS,
    Job,
    Judging,
    Report,
    counter,
    model_of,
    pairs_only,
    prepared,
    split,
    unknown_metric,
    with_required,
)
from aigc_cli.run.classification import MACRO, judge
from aigc_cli.run.distribution import Sets, check_sets, compare
from aigc_cli.run.extract import Pictures, open_extractor
from aigc_cli.run.folder import write_text
from aigc_cli.run.pairs import compare_enlargements, plain
from aigc_cli.run.paths import RunPaths
from aigc_cli.run.pictures import Drawn, Files, Part, Translated, Whole
from aigc_cli.run.sample import open_input, prepare_output
from aigc_cli.run.sheets import text_sheet
from aigc_cli.run.texts import open_answers
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.specs.image import ImageSpec, PairSpec, SuperResolutionSpec, UnpairedSpec

log = logging.getLogger(__name__)
MOST = 10_000  # pictures that are made when no number is given


def evaluate_model(
    source: str,
    *,
    data: Path | None = None,
    metrics: Sequence[str] = (),
    require: Sequence[str] = (),
    overrides: Sequence[str] = (),
    judging: Judging,
    texts: Mapping[str, Any] | None = None,
    baseline: Path | None = None,
    device: str = "auto",
    ema: bool = True,
    limit: int | None = None,
    save: Path | None = None,
    overwrite: bool = False,
    seen: Callable[[str], None] = lambda name: None,
) -> Job:
    """Check what was asked of a run or checkpoint; the job scores it on its validation data, or on
    the pictures or texts in `data`. `texts` and `baseline` are as in `evaluate_files`.

    Raises:
        InputError: unknown metric or data, or one that does not fit the model. MissingError:
            weights of a metric or extractor that was asked for are absent. OutputError: `save` is
            in use.
    """
    begun = time.monotonic()
    trained = load_trained(source, overrides, device=device, ema=ema)
    defaults = trained.recipe.evaluate
    require = list(require) or list(defaults.require)
    asked = list(metrics) or list(defaults.metrics)
    if not trained.recipe.is_trained:
        raise InputError(
            f"family '{trained.recipe.family}' is not trained and has no data to be measured on",
            hint="compare its pictures with others: --generated DIR --reference DIR",
        )
    if (texts or baseline) and trained.model.makes != "texts":
        raise InputError(FOR_TEXTS, hint=HOW_TEXTS)
    work: Callable[[], dict[str, Any] | None]
    if isinstance(trained.spec, SuperResolutionSpec):
        pairs = prepared(
            pairs_only(with_required(asked, require)), judging, device, trained.recipe.bases
        )

        def work() -> dict[str, Any]:
            return compare_enlargements(
                trained, pairs, data=data, limit=limit, save=save, seen=seen
            )

    else:
        work = _model_job(
            trained, data, asked, require, judging, texts or {}, baseline, device, limit, save, seen
        )
    if save is not None:
        prepare_output(save, overwrite=overwrite)

    def job() -> Report | None:
        found = work()
        if found is None:
            return None
        report = {
            "ok": True,
            "model": trained.describe(),
            "options": trained.recipe.sample.model_dump(mode="json"),
            **found,
            "require": require,
            "seconds": round(time.monotonic() - begun, 1),
        }
        _remember(trained, report)
        return report

    return job


def _model_job(
    trained: Trained,
    data: Path | None,
    metrics: Sequence[str],
    require: Sequence[str],
    judging: Judging,
    texts: Mapping[str, Any],
    baseline: Path | None,
    device: str,
    limit: int | None,
    save: Path | None,
    seen: Callable[[str], None],
) -> Callable[[], dict[str, Any] | None]:
    """What the family measures of each item, and metrics of sets or of texts that it makes."""
    measures = trained.model.measures or trained.model.metrics
    judged = list(MACRO) if trained.model.makes == "labels" else []
    names = with_required(metrics, require, usual=[*measures, *judged])
    own = [name for name in names if name in measures]
    judged = [name for name in names if name in judged]
    _, wanted, _ = split([name for name in names if name not in judged])
    written = [name for name in names if name in TEXT_METRICS]
    made = [*TEXT_METRICS, *TEXT_GROUPS] if trained.model.makes == "texts" else []
    known = [*measures, *judged, *SET_METRICS, *SET_GROUPS, *made]
    if unknown := [name for name in names if name not in known]:
        raise unknown_metric(unknown[0], known)
    if limit is not None and wanted:
        raise InputError(f"--limit is not for {wanted[0].name}", hint="take --count instead")
    held, has_train = _open_data(trained, data)
    compared = None
    if wanted:
        sets, classes = _sets(trained, held, judging, data, has_train=has_train)
        extractor = open_extractor(judging.extractor, device, trained.recipe.bases)
        check_sets(wanted, sets, extractor, classes)

        def compared() -> dict[str, Any] | None:
            return compare(
                wanted, sets, extractor, classes=classes, batch_size=judging.batch_size,
                save=save, seen=counter(seen),
            )  # fmt: skip

    if written:
        answers = open_answers(
            trained, held.val, written, baseline=baseline,
            options={**texts, "model": model_of(judging)}, device=device, limit=limit,
            seed=judging.seed, batch_size=judging.batch_size, save=save,
            seen=counter(seen, "texts"),
        )  # fmt: skip
    elif texts or baseline:
        raise InputError(FOR_TEXTS, hint="name a metric of texts, such as --metric bleu")

    def work() -> dict[str, Any] | None:
        found: dict[str, Any] = {"metrics": {}, "items": []}
        if compared is not None:
            more = compared()
            if more is None:
                return None
            found |= more
        if own:
            found["metrics"] = {**_measure(trained, held, own, limit, save), **found["metrics"]}
        if written:
            more = answers()
            found |= {**more, "metrics": {**found["metrics"], **more["metrics"]}}
        if judged:
            verdict = judge(trained, held, limit=limit, save=save)
            measured = verdict.pop("metrics")
            found["metrics"] |= {name: measured[name] for name in judged}
            found |= verdict
        name = str(data) if data is not None else trained.recipe.data.model_dump().get("val")
        return {"data": name, **found}

    return work


def _open_data(trained: Trained, data: Path | None) -> tuple[Any, bool]:
    """The recipe's data, or the same kind of data with other pictures to validate with; and whether
    its training part is there.

    Raises:
        DataError: it cannot be used. InputError: it does not fit the model.
    """
    recipe = trained.recipe
    kind = load_data_kind(recipe.kind)
    if data is None:
        return kind.Data(recipe.data, seed=recipe.seed, bases=recipe.bases), True
    first: DataError | None = None
    for keys in (("val",), ("train", "val")):  # the training data may be on another machine
        try:
            given = [f"data.{key}={data}" for key in keys]
            other = recipe_from_dict(recipe.as_dict(), recipe.path, given)
            found = kind.Data(other.data, seed=recipe.seed, bases=recipe.bases)
        except RecipeError as error:
            raise InputError(f"--data does not apply to data of kind '{recipe.kind}'") from error
        except DataError as error:
            first = first or error
            if error.message.startswith("data.val"):
                break
            continue
        if found.spec != trained.spec:
            raise InputError(f"--data: {data} is other data than the model was made for")
        return found, keys == ("val",)
    assert first is not None
    raise DataError(first.message.replace("data.val", "--data"), hint=first.hint)


def _sets(
    trained: Trained, data: Any, judging: Judging, other_data: Path | None, *, has_train: bool
) -> tuple[Sets, tuple[str, ...] | None]:
    """What the model makes, what it is compared with, and the names of its classes.

    Raises:
        InputError: the family makes nothing that could be compared.
    """
    model, spec, recipe = trained.model, trained.spec, trained.recipe

    def part(which: str, name: str) -> Part:
        items = data.train if which == "train" else data.val
        text = _source(recipe, which, name)
        if other_data is not None and which == "val" and name != "b":
            text = str(other_data)
        if isinstance(spec, UnpairedSpec):
            text, side = f"{text}, domain {name.upper()}", Whole(getattr(items, name), recipe.data)
            return Part(side, f"{text}, {PARTS[which]}")
        return Part(items, f"{text}, {PARTS[which]}", name=name)

    inputs: str | None = None
    match spec:
        case ImageSpec() if model.makes == "samples":
            name = "image"
        case PairSpec() if model.makes == "translations":
            inputs, name = "source", "target"
        case UnpairedSpec() if model.makes == "translations":
            backwards = getattr(recipe.sample, "direction", "a2b") == "b2a"
            inputs, name = ("b", "a") if backwards else ("a", "b")
        case _:
            raise InputError(f"family '{recipe.family}' makes nothing that sets could be made of")
    train, val = part("train", name) if has_train else None, part("val", name)
    which = judging.reference or "val"
    if which == "train" and train is None:
        raise InputError("--reference train: the training pictures are not here")
    known: dict[str, Part | None] = {"train": train, "val": val}
    reference = known.get(which) or Files(open_input(Path(which), "--reference"))
    generated: Pictures
    given: Pictures | None = None
    if inputs is None:
        count = judging.count or min(len(reference), MOST)
        generated = Drawn(trained, count, judging.seed)
    else:
        given = part("val", inputs).first(judging.count or MOST)
        generated = Translated(trained, given, judging.seed)
    others = val if which == "train" else train
    other = others.some(len(generated), judging.seed) if others is not None else None
    if other is not None and len(other) < 2:
        other = None
    labels = spec.labels if isinstance(spec, ImageSpec) else None
    return Sets(generated, reference, train, other, val, given), labels


PARTS = {"train": "training part", "val": "validation part"}


def _source(recipe: Recipe, part: str, domain: str = "a") -> str:
    """What the recipe says of where a part comes from, "b" having keys of its own."""
    config = recipe.data.model_dump()
    suffix = "_b" if domain == "b" else ""
    keys = [f"{part}{suffix}", f"train{suffix}", part, "train"]  # one folder may hold everything
    named = next(config[key] for key in keys if config.get(key) is not None)
    return named if isinstance(named, str) else ", ".join(named)


def _measure(
    trained: Trained, data: Any, names: Sequence[str], limit: int | None, save: Path | None
) -> dict[str, Any]:
    """Means of what the family measures of each item, with the same of answers without a model."""
    model, recipe = trained.model, trained.recipe
    directions = model.measures or model.metrics
    items = data.val if limit is None else Subset(data.val, range(min(limit, len(data.val))))
    size = data.val_batch_size or recipe.trainer.global_batch
    sums: dict[str, dict[str, float]] = {}
    model.start_means()
    with torch.no_grad():
        for batch in DataLoader(items, size, collate_fn=getattr(data.val, "collate", None)):
            batch = {k: v.to(model.device) for k, v in batch.items()}
            found = {"value": model.add_to_means(model.measure(batch, recipe.sample))}
            for column, values in {**found, **model.baselines(batch)}.items():
                for name, value in values.items():
                    row = sums.setdefault(name, {})
                    row[column] = row.get(column, 0.0) + float(value.double().sum())
    if save is not None:
        _save_preview(trained, items, save, data.val_batch_size or 8)
    n = len(items)
    columns: dict[str, dict[str, float]] = {}
    for name, row in sums.items():
        for column, total in row.items():
            columns.setdefault(column, {})[name] = total / n
    scores = {column: model.summarise(means) for column, means in columns.items()}
    if missing := [name for name in names if name not in scores["value"]]:
        raise InputError(f"family '{recipe.family}' did not measure {missing[0]}")
    return {
        name: {
            **{column: plain(row[name]) for column, row in scores.items() if name in row},
            "n": n,
            "unit": "-",
            "higher_is_better": directions[name] == "max",
            "protocol": f"validation of family {recipe.family}",
        }
        for name in names
    }


def _save_preview(trained: Trained, items: Any, save: Path, count: int) -> None:
    """What the family shows of the first items: a row of pictures for each caption, and texts."""
    first = [items[i] for i in range(min(count, len(items)))]
    whole = items.dataset if isinstance(items, Subset) else items
    collate = getattr(whole, "collate", default_collate)
    batch = {k: v.to(trained.model.device) for k, v in collate(first).items()}
    with torch.no_grad():
        shown = trained.model.preview(batch)
    texts = {k: v for k, v in shown.items() if not isinstance(v, torch.Tensor)}
    if texts:
        write_text(save / "texts.txt", text_sheet(texts))
    for caption, images in shown.items():
        if not isinstance(images, torch.Tensor):
            continue
        cells = [Picture(from_tensor(image)) for image in images.float().cpu()]
        write_picture(save / f"{caption.replace('/', '-')}.png", tile_grid(cells, len(cells)))


def _remember(trained: Trained, report: dict[str, Any]) -> None:
    """Add the result to evaluations.jsonl of the run, when the checkpoint lies in one."""
    if trained.checkpoint is None:
        return
    run = RunPaths(trained.checkpoint.resolve().parent.parent)
    if not run.status_file.exists():
        return
    row = {key: value for key, value in report.items() if key != "items"}
    try:
        with run.evaluations.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:  # another person's run, or a full disk: the result stands all the same
        log.warning("%s is not continued: %s", run.evaluations, error.strerror)

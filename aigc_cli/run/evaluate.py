"""`aigc evaluate`: numbers that carry their protocol, for a trained model or for folders of files.

What there is to measure depends on the model and on the name of the metric:

* run/pairs.py: pictures against what they should look like (super-resolution, two folders)
* run/distribution.py: sets of pictures by their features (FID and its kin)
* run/classification.py: what a classifier mistakes for what
* run/texts.py: texts against references and against another system's
* here: what a family measures of each item of its validation data
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset, default_collate

from aigc_cli.errors import (
    DataError,
    InputError,
    RecipeError,
    RequirementError,
    did_you_mean,
)
from aigc_cli.media.image import Picture, from_tensor, tile_grid, write_picture
from aigc_cli.metrics.requirement import check, parse_requirement
from aigc_cli.metrics.sets import SET_GROUPS, SET_METRICS, SetMetric
from aigc_cli.metrics.table import GROUPS, METRICS, PairMetric, seen_by
from aigc_cli.metrics.text import TEXT_GROUPS, TEXT_METRICS
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.registry import load_data_kind
from aigc_cli.run.callbacks import text_sheet
from aigc_cli.run.classification import MACRO, judge
from aigc_cli.run.distribution import Sets, check_sets, compare
from aigc_cli.run.extract import Pictures, open_extractor
from aigc_cli.run.folder import write_text
from aigc_cli.run.pairs import compare_enlargements, compare_files, plain
from aigc_cli.run.paths import RunPaths
from aigc_cli.run.pictures import Drawn, Files, Part, Translated, Whole
from aigc_cli.run.sample import open_input, prepare_output
from aigc_cli.run.texts import USUAL, are_texts, compare_text_files, open_answers
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.specs import ImageSpec, PairSpec, SuperResolutionSpec, UnpairedSpec

log = logging.getLogger(__name__)
PAIRS = ("psnr", "ssim")  # what is measured of pairs of pictures when nothing is asked for
MOST = 10_000  # pictures that are made when no number is given
EXTRACTOR = "inception"
TOGETHER = "--generated and --reference go together, and without a model, --data or --save"
FOR_TEXTS = (
    "--lang, --tokenize, --lowercase, --stem, --rouge-split, --baseline and several --reference "
    "are for texts"
)
HOW_TEXTS = "aigc evaluate --generated FILE --reference FILE --metric bleu"
HOW = "aigc evaluate --generated DIR --reference DIR, or aigc evaluate RUN"

Report = dict[str, Any]
Job = Callable[[], Report | None]
"""The work after every check; None on processes that do not report."""


@dataclass(frozen=True)
class Judging:
    """How sets of pictures are compared. `reference` is train, val or a source of pictures."""

    extractor: str = EXTRACTOR
    reference: str | None = None
    count: int | None = None
    seed: int = 0
    batch_size: int = 64


def evaluate_model(
    source: str,
    *,
    data: Path | None = None,
    metrics: Sequence[str] = (),
    require: Sequence[str] = (),
    overrides: Sequence[str] = (),
    judging: Judging = Judging(),
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
        pairs = _prepared(
            _pairs(with_required(asked, require)), judging, device, trained.recipe.bases
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


def evaluate_files(
    generated: Path,
    references: Sequence[Path],
    *,
    metrics: Sequence[str] = (),
    require: Sequence[str] = (),
    judging: Judging = Judging(),
    border: int | None = None,
    texts: Mapping[str, Any] | None = None,
    baseline: Path | None = None,
    device: str = "auto",
    limit: int | None = None,
    save: Path | None = None,
    overwrite: bool = False,
    seen: Callable[[str], None] = lambda name: None,
) -> Job:
    """Check what was asked of files, no model needed; the job compares two folders of pictures, or
    texts with one or more references. `texts` are options that only texts have.

    Raises:
        DataError: names do not pair up or sizes differ; says which and how many. InputError: an
            option or metric is not for this kind of file.
    """
    if are_texts(generated, with_required(metrics, require, usual=())):
        if border is not None or save is not None:
            raise InputError("--border and --save are for pictures")
        names = with_required(metrics, require, usual=USUAL)
        return _texts_job(
            generated, references, names, judging, texts or {}, baseline, device, limit
        )
    if texts or baseline or len(references) > 1:
        raise InputError(FOR_TEXTS, hint=HOW_TEXTS)
    if not references:
        raise InputError(TOGETHER, hint=HOW)
    [reference] = references
    begun = time.monotonic()
    pairs, sets, others = split(with_required(metrics, require))
    if others:
        pictures = [*METRICS, *GROUPS, *SET_METRICS, *SET_GROUPS]
        raise _unknown(others[0], [*pictures, *TEXT_METRICS, *TEXT_GROUPS])
    if save is not None and not sets:
        raise InputError(
            "--save without a model shows sets of pictures", hint="add --metric fid or copies"
        )
    if sets:
        made, real = (
            Files(open_input(path, option), limit)
            for path, option in ((generated, "--generated"), (reference, "--reference"))
        )
        extractor = open_extractor(judging.extractor, device)
        both = Sets(made, real, train=real)
        check_sets(sets, both, extractor, None)
    pairs = _prepared(pairs, judging, device)
    if save is not None:
        prepare_output(save, overwrite=overwrite)

    def job() -> Report | None:
        report: Report = {"ok": True, "generated": str(generated), "reference": str(reference)}
        found: dict[str, Any] = {"metrics": {}, "items": []}
        if pairs:
            found = compare_files(generated, reference, pairs, border=border or 0, limit=limit)
        if sets:
            sizes = judging.batch_size
            more = compare(sets, both, extractor, batch_size=sizes, save=save, seen=_counter(seen))
            if more is None:
                return None
            found = {**found, **more, "metrics": {**found["metrics"], **more["metrics"]}}
        return {**report, **found, "seconds": round(time.monotonic() - begun, 1)}

    return job


def _texts_job(
    generated: Path,
    references: Sequence[Path],
    names: Sequence[str],
    judging: Judging,
    options: Mapping[str, Any],
    baseline: Path | None,
    device: str,
    limit: int | None,
) -> Job:
    if others := [name for name in names if name in METRICS or name in SET_METRICS]:
        raise InputError(f"{others[0]} is for pictures and {generated} holds texts")

    def job() -> Report:
        return compare_text_files(
            generated,
            references,
            names,
            baseline=baseline,
            options={**options, "model": _model_of(judging)},
            device=device,
            limit=limit,
        )

    return job


def _model_of(judging: Judging) -> str | None:
    """What BERTScore looks through, if something was named."""
    return None if judging.extractor == EXTRACTOR else judging.extractor


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


def with_required(
    metrics: Sequence[str], require: Sequence[str], usual: Sequence[str] = PAIRS
) -> list[str]:
    """Names to measure: those asked for, else the usual ones, and those that conditions are about;
    groups as their members.

    Raises:
        InputError: a condition on a group of metrics.
    """
    groups = GROUPS | SET_GROUPS | TEXT_GROUPS
    for text in require:
        if members := groups.get(parse_requirement(text).name):
            raise InputError(
                f"--require {text}: which one is meant?", hint=f"choose from: {', '.join(members)}"
            )
    names = [*(metrics or usual), *(parse_requirement(text).name for text in require)]
    return list(dict.fromkeys(member for name in names for member in groups.get(name, (name,))))


def split(names: Sequence[str]) -> tuple[list[PairMetric], list[SetMetric], list[str]]:
    """Metrics of pairs, metrics of sets, and names that are neither."""
    pairs = [METRICS[name] for name in names if name in METRICS]
    sets = [SET_METRICS[name] for name in names if name in SET_METRICS]
    return pairs, sets, [n for n in names if n not in METRICS and n not in SET_METRICS]


def explain_metrics() -> list[dict[str, Any]]:
    """What `--metric list` shows."""
    pairs = [(m.name, m.higher_is_better, m.unit, m.describe(0)) for m in METRICS.values()]
    sets = [(m.name, m.higher_is_better, m.unit, m.protocol) for m in SET_METRICS.values()]
    texts = [(m.name, m.higher_is_better, m.unit, m.protocol) for m in TEXT_METRICS.values()]
    return [
        {
            "metric": name,
            "of": "pairs" if name in METRICS else "sets" if name in SET_METRICS else "texts",
            "better": "higher" if higher else "lower",
            "unit": unit,
            "protocol": protocol,
        }
        for name, higher, unit, protocol in [*pairs, *sets, *texts]
    ]


def _pairs(names: Sequence[str]) -> list[PairMetric]:
    pairs, sets, others = split(names)
    if sets or others:
        raise _unknown([*others, *(m.name for m in sets)][0], [*METRICS, *GROUPS])
    return pairs


def _prepared(
    pairs: Sequence[PairMetric], judging: Judging, device: str, bases: Sequence[Path] = ()
) -> list[PairMetric]:
    """The metrics with the networks that they need.

    Raises:
        MissingError, InputError: there is no such network.
    """
    if any(metric.name == "perceptual" for metric in pairs):
        extractor = open_extractor(judging.extractor, device, bases)
        pairs = [seen_by(metric, extractor.stamp, extractor.distance) for metric in pairs]
    for metric in pairs:
        metric.prepare()
    return list(pairs)


def _unknown(name: str, known: Sequence[str]) -> InputError:
    if name in SET_METRICS or name in METRICS or name in TEXT_METRICS:
        return InputError(
            f"{name} is not for this family", hint=f"choose from: {', '.join(sorted(known))}"
        )
    return InputError(f"unknown metric {name!r}", hint=did_you_mean(name, known))


# Families other than super-resolution.


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
        raise _unknown(unknown[0], known)
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
                save=save, seen=_counter(seen),
            )  # fmt: skip

    if written:
        answers = open_answers(
            trained, held.val, written, baseline=baseline,
            options={**texts, "model": _model_of(judging)}, device=device, limit=limit,
            seed=judging.seed, batch_size=judging.batch_size, save=save,
            seen=_counter(seen, "texts"),
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
    model.on_validation_epoch_start()
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


def _counter(seen: Callable[[str], None], what: str = "pictures") -> Callable[[int], None]:
    """Says now and then how many were looked at."""
    total, told = 0, time.monotonic()

    def count(more: int) -> None:
        nonlocal total, told
        total += more
        if time.monotonic() - told > 10:
            told = time.monotonic()
            seen(f"{total} {what}")

    return count


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

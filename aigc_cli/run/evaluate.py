"""`aigc evaluate RUN`: numbers that carry their protocol, of a trained model.

What there is to measure depends on the model and on what a metric is of:

* run/items.py: what a family measures of each item of its validation data
* run/pairs.py: things against what they should be
* run/corpus.py: what a model writes, against references and against another system
* run/sets.py: sets of things by their features (FID and its kin)
* run/confusion.py: what a classifier mistakes for what

run/evaluate_files.py measures files without a model; run/asked.py has what both were asked.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import DataError, InputError, RecipeError
from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics.find import belongs, open_metrics, resolve
from aigc_cli.metrics.requirement import parse_requirement
from aigc_cli.modalities._output import prepare_folder
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.recipe.options import read_options
from aigc_cli.registry import load_data_kind
from aigc_cli.run import evaluate_images
from aigc_cli.run.asked import Asked, Job, Report, counter, with_required
from aigc_cli.run.confusion import judge
from aigc_cli.run.corpus import open_answers
from aigc_cli.run.evaluate_files import prepare
from aigc_cli.run.evaluate_images import Reading_
from aigc_cli.run.items import measure_items
from aigc_cli.run.pairs import compare_pairs
from aigc_cli.run.paths import RunPaths
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.sets import check_sets, compare_sets
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.specs.image import SuperResolutionSpec

log = logging.getLogger(__name__)
Work = Callable[[], dict[str, Any] | None]
MACRO = ("macro_recall", "macro_f1")  # of classifiers, beside what the family measures


def evaluate_model(source: str, asked: Asked) -> Job:
    """Check what was asked of a run or checkpoint; the job scores it on its validation data, or on
    what is in `asked.data`.

    Raises:
        InputError: unknown metric or data, or one that does not fit the model. MissingError:
            weights of a metric or extractor that was asked for are absent. OutputError: `save` is
            in use.
    """
    begun = time.monotonic()
    wanted = (*asked.metrics, *(parse_requirement(text).name for text in asked.require))
    known = resolve(name for name in wanted if name in registry.metrics())
    reading_keys = Reading_.model_fields
    about = {"metric": [], "reading": [], "family": []}  # type: dict[str, list[str]]
    for text in asked.options:
        key = text.partition("=")[0]
        which = "reading" if key in reading_keys else "metric" if belongs(key, known) else "family"
        about[which].append(text)
    trained = load_trained(source, about["family"], device=asked.device, ema=asked.ema)
    defaults = trained.recipe.evaluate
    require = asked.require or tuple(defaults.require)
    if not trained.recipe.is_trained:
        raise InputError(
            f"family '{trained.recipe.family}' is not trained and has no data to be measured on",
            hint="compare its images with others: --generated DIR --reference DIR",
        )
    work = Evaluation(
        trained,
        asked,
        tuple(asked.metrics or defaults.metrics),
        require,
        (*defaults.options, *about["metric"]),
        read_options(Reading_, about["reading"]),
    ).open()
    if asked.save is not None:
        prepare_folder(asked.save, overwrite=asked.overwrite)

    def job() -> Report | None:
        found = work()
        if found is None:
            return None
        report = {
            "ok": True,
            "model": trained.describe(),
            "options": trained.recipe.sample.model_dump(mode="json"),
            **found,
            "require": list(require),
            "seconds": round(time.monotonic() - begun, 1),
        }
        _remember(trained, report)
        return report

    return job


class Evaluation:
    """One model, and what is measured of it."""

    def __init__(
        self,
        trained: Trained,
        asked: Asked,
        metrics: Sequence[str],
        require: Sequence[str],
        options: Sequence[str],
        reading: Reading_,
    ) -> None:
        self.trained, self.asked, self.options, self.reading = trained, asked, options, reading
        model = trained.model
        measures = model.measures or model.metrics
        self.usual = self._usual(list(measures))
        names = with_required(metrics or self.usual, require, list(measures))
        self.own = [name for name in names if name in measures and name not in self.pairwise]
        self.others = [name for name in names if name not in self.own]
        self.metrics = self._opened()

    @property
    def pairwise(self) -> tuple[str, ...]:
        """What is measured of whole images, not as the family does of its validation items."""
        enlarges = isinstance(self.trained.spec, SuperResolutionSpec)
        return evaluate_images.USUAL if enlarges else ()

    def _usual(self, measures: Sequence[str]) -> list[str]:
        if self.pairwise:
            return list(self.pairwise)
        return [*measures, *(MACRO if self.trained.model.makes == "labels" else ())]

    def _opened(self) -> list[Metric]:
        """
        Raises:
            InputError: a metric is not for what the model makes.
        """
        trained, known = self.trained, registry.metrics()
        room = _modality(trained)
        if unfit := [name for name in self.others if known[name].modality != room]:
            names = [n for n, file in known.items() if file.modality == room]
            raise InputError(
                f"{unfit[0]} is not for this family",
                hint=f"choose from: {', '.join(sorted({*self.usual, *names}))}",
            )
        spec: Any = trained.spec
        defaults: dict[str, Any] = {}
        if isinstance(spec, SuperResolutionSpec):
            defaults["border"] = spec.scale
        if languages := getattr(spec, "languages", None):
            defaults["lang"] = languages[1]
        return open_metrics(self.others, self.options, defaults)

    def open(self) -> Work:
        """Check that all can be had; the work does it.

        Raises:
            InputError, DataError, MissingError: it cannot.
        """
        asked, trained = self.asked, self.trained
        room = _modality(trained)
        sets = [metric for metric in self.metrics if metric.of == "set"]
        loose = [metric for metric in self.metrics if metric.of != "set"]
        if asked.limit is not None and sets:
            raise InputError(f"--limit is not for {sets[0].name}", hint="take --count instead")
        if asked.baseline is not None and (room != "text" or not loose):
            raise InputError(
                "--baseline is for metrics of texts", hint="name one, such as --metric bleu"
            )
        if len(asked.references) > 1:
            raise InputError("several --reference are for files", hint="name one")
        prepare(self.metrics, asked, trained.recipe.bases)
        data = None
        if not (self.pairwise and asked.data) or sets or self.own:
            data = _open_data(trained, asked.data, self.reading)
        works: list[Work] = []
        if sets:
            works.append(self._sets(sets, data))
        if self.own:
            works.append(lambda: measure_items(trained, data, self.own, asked.limit))
        if loose:
            opener = {"image": self._pairs, "text": self._answers, "labels": self._labels}[room]
            works.append(opener(loose, data))

        def work() -> dict[str, Any] | None:
            found: dict[str, Any] = {"metrics": {}, "items": []}
            for part in works:
                more = part()
                if more is None:
                    return None
                found |= {**more, "metrics": {**found["metrics"], **more["metrics"]}}
            if self.own and asked.save is not None and data is not None:
                make(trained, Request(asked.save / "samples", overwrite=True), items=data.val)
            order = [*self.own, *(name for name in found["metrics"] if name not in self.own)]
            found["metrics"] = {name: found["metrics"][name] for name in order}
            val = trained.recipe.data.model_dump().get("val")
            return {"data": str(asked.data) if asked.data is not None else val, **found}

        return work

    def _sets(self, metrics: Sequence[Metric], data: Any) -> Work:
        asked = self.asked
        sets = evaluate_images.model_sets(self.trained, data, asked, self.reading)
        check_sets(metrics, sets)
        return lambda: compare_sets(
            metrics, sets, batch_size=asked.batch_size, save=asked.save,
            show=evaluate_images.show_sets, seen=counter(asked.seen, "images"),
        )  # fmt: skip

    def _pairs(self, metrics: Sequence[Metric], data: Any) -> Work:
        asked, trained = self.asked, self.trained
        spec = trained.spec
        if not isinstance(spec, SuperResolutionSpec):
            raise InputError(
                f"{metrics[0].name} is not for this family: it compares images with what they "
                "should be",
                hint=f"choose from: {', '.join(self.usual)}",
            )
        images, skipped = evaluate_images.originals(
            trained, asked.data, self.reading, asked.limit, data and data.val
        )

        def work() -> dict[str, Any]:
            pairs = evaluate_images.enlargements(trained, images, asked.save)
            found = compare_pairs(pairs, metrics, seen=asked.seen)
            reduction = f"MATLAB imresize bicubic x1/{spec.scale}, 8 bit"
            return {"reduction": reduction, **found, **({"skipped": skipped} if skipped else {})}

        return work

    def _answers(self, metrics: Sequence[Metric], data: Any) -> Work:
        asked = self.asked
        return open_answers(
            self.trained, data.val, metrics, baseline=asked.baseline, limit=asked.limit,
            seed=asked.seed, batch_size=asked.batch_size, save=asked.save,
            seen=counter(asked.seen, "texts"),
        )  # fmt: skip

    def _labels(self, metrics: Sequence[Metric], data: Any) -> Work:
        asked = self.asked
        return lambda: judge(self.trained, data, metrics, limit=asked.limit, save=asked.save)


def _modality(trained: Trained) -> str:
    """Of what the model makes."""
    return trained.model.makes


def _open_data(trained: Trained, data: Path | None, reading: Reading_) -> Any:
    """The recipe's data; or what is in `data` as things to validate with, for which the checkpoint
    suffices: its tokenizer, labels and sizes.

    Raises:
        DataError: it cannot be used. InputError: it does not fit the model.
    """
    recipe = trained.recipe
    kind = load_data_kind(recipe.kind)
    given = [
        f"data.{key}={value}"
        for key, value in reading.model_dump(exclude_unset=True).items()
        if key in type(recipe.data).model_fields
    ]
    try:
        given += [] if data is None else [f"data.val={data}"]
        config = recipe_from_dict(recipe.as_dict(), recipe.path, given).data
        spec = {} if data is None else {"spec": trained.spec}
        return kind.Data(config, seed=recipe.seed, bases=recipe.bases, **spec)
    except RecipeError as error:
        raise InputError(f"--data does not apply to data of kind '{recipe.kind}'") from error
    except DataError as error:
        if data is not None:
            error.message = error.message.replace("data.val", "--data")
            error.hint = error.hint and error.hint.replace("data.on_error", "on_error")
        raise


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

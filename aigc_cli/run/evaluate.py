"""`aigc evaluate RUN`: numbers that carry their protocol, of a trained model.

What there is to measure depends on what a metric is of; how its things come about is the business
of the modality that the family makes (modalities/_judging.py):

* run/items.py: what a family measures of each item of its validation data
* run/pairs.py: things by themselves, or against what they should be
* metrics/report.py: a corpus, against references and against another system
* run/sets.py: sets of things by their features (FID and its kin)

run/evaluate_files.py measures files without a model; run/asked.py has what both were asked.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import AigcError, DataError, InputError, RecipeError
from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics.find import open_metrics
from aigc_cli.modalities._judging import Reading, Trial, find_judging
from aigc_cli.modalities._output import prepare_folder
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.recipe.options import read_options
from aigc_cli.registry import load_data_kind
from aigc_cli.run.asked import Asked, Job, Report, counter, with_required
from aigc_cli.run.evaluate_files import compare_corpus, prepare
from aigc_cli.run.items import measure_items
from aigc_cli.run.paths import RunPaths
from aigc_cli.run.report import write_report
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.sets import check_sets, compare_sets
from aigc_cli.run.trained import Trained, load_trained

log = logging.getLogger(__name__)
Work = Callable[[], dict[str, Any] | None]


def evaluate_model(source: str, asked: Asked) -> Job:
    """Check what was asked of a run or checkpoint; the job scores it on its validation data, or on
    what is in `asked.data`.

    Raises:
        InputError: unknown metric or data, or one that does not fit the model. MissingError:
            weights of a metric or extractor that was asked for are absent. OutputError: `save` is
            in use.
    """
    begun = time.monotonic()
    about = asked.sorted_options()
    trained = load_trained(source, about["family"], device=asked.device, ema=asked.ema)
    defaults = trained.recipe.evaluate
    if not trained.recipe.is_trained:
        raise InputError(
            f"family '{trained.recipe.family}' is not trained and has no data to be measured on",
            hint="compare what it makes with others: --generated PATH --reference PATH",
        )
    require = asked.require or tuple(defaults.require)
    evaluation = Evaluation(
        trained, asked, tuple(asked.metrics or defaults.metrics), require,
        (*defaults.options, *about["metric"]), about["reading"],
    )  # fmt: skip
    work = evaluation.open()
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
        reading: Sequence[str],
    ) -> None:
        """
        Raises:
            InputError: a metric is unknown, or not for what the model makes.
        """
        self.trained, self.asked, model = trained, asked, trained.model
        self.judging = judging = find_judging(model.makes)
        reads = read_options(judging.reads, reading)
        self.open_data = cache(lambda: _open_data(trained, asked.data, reads))
        self.trial = Trial(
            model, trained.recipe, self.open_data, asked.data, asked.baseline, asked.references,
            asked.count, asked.seed, asked.batch_size, asked.limit, asked.save, reads,
            counter(asked.seen, "done"),
        )  # fmt: skip
        whole = judging.of_whole(self.trial)
        measures = [n for n in model.measures or model.metrics if n not in whole]
        usual = list(whole) or [*measures, *judging.beside]
        names = with_required(metrics or usual, require, measures)
        self.own = [name for name in names if name in measures]
        others, known = [name for name in names if name not in measures], registry.metrics()
        if unfit := [name for name in others if known[name].modality != judging.name]:
            fit = {n for n, file in known.items() if file.modality == judging.name}
            raise InputError(
                f"{unfit[0]} is not for this family",
                hint=f"choose from: {', '.join(sorted({*measures, *fit}))}",
            )
        self.metrics = open_metrics(others, options, judging.options(self.trial))

    def open(self) -> Work:
        """Check that all can be had; the work does it.

        Raises:
            InputError, DataError, MissingError: it cannot.
        """
        asked, trained = self.asked, self.trained
        sets = [metric for metric in self.metrics if metric.of == "set"]
        loose = [metric for metric in self.metrics if metric.of != "set"]
        if asked.limit is not None and sets:
            raise InputError(f"--limit is not for {sets[0].name}", hint="take --count instead")
        if asked.baseline is not None and not any(metric.of == "corpus" for metric in loose):
            raise InputError(
                "--baseline is for metrics of a corpus", hint="name one, such as --metric bleu"
            )
        if len(asked.references) > 1:
            raise InputError("several --reference are for files", hint="name one")
        prepare(self.metrics, asked, trained.recipe.bases)
        works: list[Work] = []
        if sets:
            works.append(self._sets(sets))
        if self.own:
            data = self.open_data()
            works.append(lambda: measure_items(trained, data, self.own, asked.limit))
        if loose:
            works.append(self._corpus(loose))

        def work() -> dict[str, Any] | None:
            found: dict[str, Any] = {"metrics": {}, "items": []}
            for part in works:
                more = part()
                if more is None:
                    return None
                found |= {**more, "metrics": {**found["metrics"], **more["metrics"]}}
            if self.own and asked.save is not None:
                request = Request(asked.save / "samples", overwrite=True)
                make(trained, request, items=self.open_data().val)
            order = [*self.own, *(name for name in found["metrics"] if name not in self.own)]
            found["metrics"] = {name: found["metrics"][name] for name in order}
            val = trained.recipe.data.model_dump().get("val")
            return {"data": str(asked.data) if asked.data is not None else val, **found}

        return work

    def _corpus(self, metrics: Sequence[Metric]) -> Work:
        corpus = self.judging.made_corpus(self.trial)
        needy = [metric.name for metric in metrics if metric.reference]
        if needy and not corpus.has_references:
            raise InputError(f"{needy[0]} compares with references, and there are none")
        return lambda: compare_corpus(corpus, metrics, self.asked.seen)

    def _sets(self, metrics: Sequence[Metric]) -> Work:
        sets = self.judging.made_sets(self.trial)
        check_sets(metrics, sets)
        return lambda: compare_sets(
            metrics, sets, batch_size=self.asked.batch_size, save=self.asked.save,
            show=self.judging.show_sets, seen=counter(self.asked.seen, "things"),
        )  # fmt: skip


def _open_data(trained: Trained, data: Path | None, reading: Reading) -> Any:
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
        return
    with suppress(AigcError):  # where the page cannot be written, the row is there all the same
        write_report(run.path)

"""New items that a trained model makes, filtered: drawn of a class, or answers to training items.

What is dropped is counted; `augment_filters.py` says what that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch

from aigc_cli.augment._augmentation import Draw
from aigc_cli.augment._plan import Plan
from aigc_cli.errors import AigcError, DataError, InputError, RunError
from aigc_cli.modalities import find_modality
from aigc_cli.modalities._modality import Input, Task, on_cpu
from aigc_cli.run.augment_filters import Candidate, Filters
from aigc_cli.run.augment_journal import Line
from aigc_cli.run.augment_sources import Looked, Some, Sources, look, traced
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.sampling.noise import SampleNoise

BATCH = 64  # candidates at once
HOPELESS = 16  # candidates of a class for each that shall pass


class Generated:
    """The new items of a plan, made by `models`: one that draws, or several that answer in turn."""

    def __init__(self, request: Augmenting, sources: Sources) -> None:
        self.request, self.sources = request, sources
        self.models = [
            load_trained(text, request.sampling, device=request.device) for text in request.sources
        ]
        self.judge = None
        if request.judge is not None:
            self.judge = load_trained(request.judge, device=request.device)
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.asked_items = self._open_asked()
        for text, model in zip(request.sources, self.models, strict=True):
            self._require_fit(text, model)
        self._require_unseen()

    def asked(self) -> dict[str, Any]:
        """All that decides what is made and what passes."""
        trained = [*self.models, *([self.judge] if self.judge else [])]
        options = [one.recipe.sample.model_dump(mode="json") for one in self.models]
        return {
            "weights": [one.weights for one in trained],
            "sample": options,
            "min_confidence": self.request.min_confidence,
            "asked": [] if self.most is None else self.asked_items.digests,
        }

    @property
    def most(self) -> int | None:
        """How many items are answered, once each; None: training items are, over and over."""
        own = self.asked_items is not self.sources.train
        return len(self.asked_items.part) if own else None

    @property
    def draws(self) -> bool:
        """Whether new items are drawn of noise, and not answers to training items."""
        return self.models[0].model.draws and not self.sources.augmentation.asks()

    @property
    def composes(self) -> bool:
        """Whether what is drawn goes into training items."""
        return self.sources.augmentation.made_of is not None

    def _require_fit(self, text: str, trained: Trained) -> None:
        """Raises InputError: the model cannot make such items."""
        augmentation = self.sources.augmentation
        model, wanted = trained.model, augmentation.made_of or self.sources.modality
        title = find_modality(wanted).title
        others = f"name a run that makes {title}; recipes for one: aigc recipe ls {wanted}/"
        if model.makes != wanted:
            made = model.makes if model.makes == "labels" else find_modality(model.makes).title
            needs = "what is drawn into the data must be" if self.composes else "the data is"
            raise InputError(f"--with {text}: makes {made}, and {needs} {title}", hint=others)
        if self.composes and not self.draws:
            raise InputError(f"--with {text}: draws none of its {title} of noise alone",
                             hint="name a run of a GAN, a flow or a VAE")  # fmt: skip
        if self.composes and self.judge is not None:
            raise InputError("--judge is for whole items, and here parts of them are drawn",
                             hint="leave out --judge")  # fmt: skip
        if not self.draws:
            if model.takes != wanted:
                raise InputError(f"--with {text}: takes no {title} and draws none", hint=others)
            return
        if len(self.models) > 1:
            raise InputError("--with is given several times only for models that answer in turn",
                             hint="name one model that draws")  # fmt: skip
        labels = augmentation.made_classes(self.sources.train.part)
        known: Sequence[str] = getattr(trained.spec, "labels", None) or ()
        if labels is not None and not model.conditional:
            raise InputError(
                f"--with {text}: was not trained with classes, so its items have none",
                hint="train it on the same folders with model.conditional=true",
            )
        if labels is None:
            return
        growing = set(labels if self.composes else self.request.classes or labels)
        if unknown := sorted(growing - set(known)):
            shared = "" if self.composes else ",".join(sorted(growing & set(known)))
            raise InputError(
                f"--with {text}: knows no class '{unknown[0]}'",
                hint=f"let those grow that it knows: --classes {shared}"
                if shared
                else "train it on the same folders",
            )

    def _open_asked(self) -> Looked:
        """What models answer.

        Raises:
            DataError: items that cannot be used, or that judge and are not to be dropped.
        """
        train, forbidden = self.sources.train, self.sources.forbidden
        part = self.sources.augmentation.asked(train.part)
        if part is train.part:
            return train
        found = look(part, self.request, lineage={})
        good = [i for i, digest in enumerate(found.digests) if digest not in forbidden]
        if leaked := len(found.digests) - len(good):
            if self.request.on_leak == "stop" or not good:
                raise DataError(
                    f"{leaked:,} of {len(found.digests):,} texts of {part.text} are also in data "
                    "that judges",
                    hint="name other texts, or leave these out with --on-leak drop",
                    code="data.leak",
                )
            self.sources.left_out[f"of {part.text} also in other data"] = leaked
        return Looked(Some(found.part, good), [found.digests[i] for i in good])

    def _require_unseen(self) -> None:
        """See that no model has learned from what judges, as far as its data is here.

        Raises:
            DataError: one has.
        """
        for text, trained in zip(self.request.sources, self.models, strict=True):
            try:
                parts = self.sources.augmentation.open_recipe(trained.recipe)
                source = getattr(trained.recipe.data, "train", None)
                seen = look(parts["train"], self.request, lineage=traced(source))
            except AigcError:
                self.notes.append(
                    f"--with {text}: its training data is not here, so nobody knows whether it has "
                    "learned from the data that judges"
                )
                continue
            leaked = seen.all_origins() & self.sources.forbidden
            if leaked and self.request.on_leak == "stop":
                raise DataError(
                    f"--with {text}: was trained on {len(leaked):,} items that judge here",
                    hint="train it on the training data alone, as DIR/train of a set made before",
                    code="data.leak",
                )

    # -- making ------------------------------------------------------------------------------------

    def rows(
        self, plan: Plan, first: int, done: Iterable[Line]
    ) -> Iterator[tuple[Line, bytes | None]]:
        """Lines and rows of the new items behind those that are `done`; they begin at `first`."""
        filters = Filters(self.sources, self.request, self.judge, self.composes)
        passed, last = Counter[str](), dict[str, int]()
        for line in done:
            if line["made"] != "generated":
                continue
            label = line.get("label", "")
            passed[label] += 1
            last[label] = line["index"]
            self.dropped.update(line["dropped"])
            filters.accept(label, self.sources.augmentation.read_back(self.request.out, line))
        number = first + sum(passed.values())
        for label, wanted in plan.new.items():
            if passed[label] >= wanted:  # the model may not know a class that does not grow
                continue
            dropped: Counter[str] = Counter()
            for batch in self._batches(label, plan, last.get(label, -1) + 1):
                if passed[label] >= wanted:
                    break
                if batch[0].index > HOPELESS * (wanted + 1):
                    raise self._hopeless(label, batch[0].index, passed[label])
                for one, judged in zip(batch, filters.look(label, batch), strict=True):
                    if passed[label] >= wanted:
                        break
                    if (reason := filters.reason(label, one, judged)) is not None:
                        dropped[reason] += 1
                        self.dropped[reason] += 1
                        continue
                    filters.accept(label, one.thing)
                    yield self._row(label, one, number, judged, dropped)
                    number, dropped = number + 1, Counter()
                    passed[label] += 1

    def _hopeless(self, label: str, tried: int, passed: int) -> RunError:
        why = ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items())
        named = f"class '{label}': " if label else ""
        return RunError(
            f"{named}of {tried:,} candidates only {passed:,} passed; dropped: {why}",
            hint="train the model longer, or lower --min-confidence",
        )

    def _batches(self, label: str, plan: Plan, first: int) -> Iterator[list[Candidate]]:
        """Candidates of a class from number `first` on, without end."""
        stream = (list(plan.members).index(label) + 1) << 40
        thing_of = self.sources.augmentation.thing_of_made
        options = self.models[0].recipe.sample
        if label and self.draws:
            options = options.model_copy(update={"label": label})
        while self.composes:
            yield [self._composed(plan.item(label, first), first, stream + first)]
            first += 1
        while self.draws:
            noise = SampleNoise(self.request.seed, stream + first, BATCH)
            with torch.no_grad():
                made = on_cpu(self.models[0].model.sample(noise, options))
            yield [Candidate(first + place, thing_of(one)) for place, one in enumerate(made)]
            first += BATCH
        at_once = find_modality(str(self.models[0].model.takes)).at_once(BATCH, self._task(0))
        while self.most is None or first < self.most:
            start = first - first % at_once  # the same batches after a kill
            numbers = range(start, min(start + at_once, self.most or start + at_once))
            items = [plan.item(label, n) if self.most is None else n for n in numbers]
            made = self._answers(items, [stream + n for n in numbers], label)
            found = map(Candidate, numbers, made, items)
            yield [one for one in found if one.index >= first]
            first = start + at_once

    def _composed(self, item: int, index: int, number: int) -> Candidate:
        """A training item into which goes what the model draws."""
        train, model = self.sources.train.part, self.models[0]
        drawn = count()

        def made(label: str) -> Any:
            options = model.recipe.sample.model_copy(update={"label": label})
            noise = SampleNoise(self.request.seed, (number << 10) + next(drawn), 1)
            with torch.no_grad():
                return on_cpu(model.model.sample(noise, options))[0]

        draw = Draw(self.request.seed, number)
        thing, done = self.sources.augmentation.composed(train.read(item), train, draw, made)
        return Candidate(index, thing, item, done)

    def _task(self, model: int) -> Task:
        trained = self.models[model]
        return Task(trained.model, trained.recipe, 1, self.request.seed)

    def _answers(self, items: Sequence[int], numbers: Sequence[int], label: str) -> list[Any]:
        """What the models make of these items in turn."""
        augmentation = self.sources.augmentation
        things = [self.asked_items.part.read(item) for item in items]
        said = [augmentation.question(thing) for thing in things]
        for model, trained in enumerate(self.models):
            takes, task = find_modality(str(trained.model.takes)), self._task(model)
            asked = [Input("", one, augmentation.given(one, label, task)) for one in said]
            made = takes.make(asked, numbers, task, alone=False)
            said = [augmentation.thing_of_made(one) for (one,) in made]
        return [augmentation.answered(*pair) for pair in zip(things, said, strict=True)]

    def _row(
        self,
        label: str,
        one: Candidate,
        number: int,
        score: Mapping[str, float],
        dropped: Counter[str],
    ) -> tuple[Line, bytes | None]:
        augmentation, train = self.sources.augmentation, self.sources.train
        facts: Line = {
            "made": "generated",
            "checkpoint": [model.weights for model in self.models],
            "seed": self.request.seed,
            "index": one.index,
            "score": dict(score),
            "dropped": dict(dropped),
            "digest": train.part.digest(one.thing),
            "origins": [] if one.source is None else self.asked_items.origins(one.source),
        }
        if one.operations:
            facts["operations"] = list(one.operations)
        if one.source is not None:
            facts["source"] = self.asked_items.part.name(one.source)
        stem = f"made-{number:07d}"
        written = augmentation.write(self.request.out, "train", stem, label or None, one.thing)
        return written.line("train", label or None, facts), written.row

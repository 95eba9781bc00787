"""`aigc sample`: files made by a trained model, with a record of how.

Only forms are known here: draw samples from noise, answer inputs, classify them, interpolate. What
comes in and goes out is the business of the modalities that the family takes and makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aigc_cli import __version__
from aigc_cli.media.files import write_bytes
from aigc_cli.modalities import find_modality
from aigc_cli.modalities._modality import Input, Inputs, Modality, Task, Writer, listed, on_cpu
from aigc_cli.modalities._output import LABELS, File, Output, digest_of
from aigc_cli.models._classifier import ClassifierModule
from aigc_cli.recipe.load import section_from_texts
from aigc_cli.recipe.sections import Section
from aigc_cli.run.engines.cluster import Engine
from aigc_cli.run.engines.pool import in_order_on_ray
from aigc_cli.run.inputs_of import WithReferences, check_request, validation_items
from aigc_cli.run.labels import Best, best_of, labels_table
from aigc_cli.run.request import Request
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.sampling.interpolation import InterpolatedNoise
from aigc_cli.sampling.noise import SampleNoise

Job = tuple[str, Sequence[int]]
"""A form, and the numbers of a batch of it."""
Mapped = Callable[[Job, Iterable[Job]], Iterator[Any]]
"""Computes jobs elsewhere, after a first one, by which a model may decide how it computes."""

EXAMPLES = 4  # validation items that are shown when there is no input


@dataclass
class Told:
    """Who is told of what, while it is made."""

    file: Callable[[Path], None] = lambda path: None
    text: Callable[[str], None] = lambda text: None


def sample(
    source: str,
    request: Request,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    ema: bool = True,
    engine: Engine | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Make samples of a run, checkpoint or training-free recipe in `request.out`; returns what
    samples.json records.

    The same seed gives the same samples, whatever the batch size. Options are `key=value` of the
    family. engine: the cluster whose workers compute; writing stays here.

    Raises:
        InputError: no input where the model needs one, or the other way round. DataError: inputs
            that cannot be used, all of them named, before anything is written. OutputError: `out`
            is in use.
    """
    trained = load_trained(source, overrides, device=device, ema=ema)
    far: Mapped | None = None
    if engine is not None:
        gpus = int(trained.model.device.type == "cuda")

        def mapped(first: Job, jobs: Iterable[Job]) -> Iterator[Any]:
            opened = partial(_open_far, source, request, tuple(overrides), device, ema, first)
            return in_order_on_ray(engine, opened, jobs, gpus=gpus)

        far = mapped
    return make(trained, request, far=far, told=told)


def make(
    trained: Trained,
    request: Request,
    *,
    items: Any = None,
    far: Mapped | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """As `sample`, of a model in memory; `items` are validation items to show where the family
    needs an input and none is given, otherwise those of the recipe. `far` maps tasks elsewhere.
    """
    told = told or Told()
    call = _Call.of(trained, request, items)
    call.far = far
    output = Output(request.out, request.output, own=call.own_files)
    output.prepare(overwrite=request.overwrite or request.go_on)
    entries = []
    record = {
        "seed": request.seed,
        "options": trained.recipe.sample.model_dump(mode="json"),
        "model": trained.describe(),
    }
    asked = {**record, "count": request.count, "interpolate": request.interpolate}
    output.begin(
        {**asked, "inputs": call.names, "reading": request.reading, "writing": request.writing},
        go_on=request.go_on,
    )
    try:
        for file in call.files(output, told.text):
            told.file(file.path)
            facts = {k: v for k, v in file.facts.items() if k != "sha256"}
            entry = {"path": output.relative(file.path), **facts}
            kind = {} if file.sample else {"sample": False}
            entries.append({**entry, **kind, "sha256": digest_of(file.path)})
        record["items"] = entries
        output.end(record)
    finally:
        output.close()
    return {"ok": True, "out": str(request.output or request.out), **record, **call.ending()}


def _open_far(
    source: str,
    request: Request,
    overrides: tuple[str, ...],
    device: str,
    ema: bool,
    first: Job,
) -> Callable[[Job], Any]:
    """In a worker of a cluster: the same call, which only computes."""
    call = _Call.of(load_trained(source, overrides, device=device, ema=ema), request, None)
    call.is_far = True
    call.compute(first)
    return call.compute


@dataclass
class _Call:
    """One request, checked: which form it has, what comes in and who writes."""

    trained: Trained
    request: Request
    task: Task
    inputs: Inputs | None
    takes: Modality | None
    makes: Modality | None
    """None: labels."""
    between: bool
    writer: Writer | None = field(default=None, init=False)
    far: Mapped | None = field(default=None, init=False)
    """Computes jobs elsewhere, in order; None: here."""
    is_far: bool = field(default=False, init=False)
    """Whether this is elsewhere."""

    @classmethod
    def of(cls, trained: Trained, request: Request, items: Any) -> _Call:
        """Check the request before anything is written. Raises as `sample`."""
        model, family = trained.model, trained.recipe.family
        takes = None if model.takes is None else find_modality(model.takes)
        makes = None if model.makes == "labels" else find_modality(model.makes)
        check_request(trained, request, takes, makes)

        # How answers are asked for, and what each file says of its making.
        reading = section_from_texts(takes.Reading if takes else Section, request.reading, "read")
        writing = section_from_texts(makes.Writing if makes else Section, request.writing, "write")
        record = {
            "tool": f"aigc {__version__}",
            "family": family,
            "recipe": trained.recipe.name,
            "step": trained.step,
            "weights": trained.weights,
            "seed": request.seed,
            "options": trained.recipe.sample.model_dump(mode="json"),
        }
        count = request.count or 1
        task = Task(model, trained.recipe, count, request.seed, reading, writing, record)

        # What comes in: what was named, otherwise what the family would be shown in validation.
        inputs: Inputs | None = None
        if takes is not None and request.prompts:
            inputs = takes.open_prompts(request.prompts, task)
        elif takes is not None and request.input is not None:
            inputs = takes.open(request.input, task, makes)
        elif takes is not None and model.input_optional and not request.interpolate:
            inputs = takes.open_nothing(task)
        elif takes is not None and not model.input_optional:
            inputs = takes.examples(validation_items(trained, takes, items), task, EXAMPLES)
        between = request.interpolate > 0
        if takes is not None and request.references and inputs is not None:
            references = takes.open_references(request.references, task)
            inputs = WithReferences(inputs, references)
        return cls(trained, request, task, inputs, takes, makes, between)

    @property
    def own_files(self) -> tuple[str, ...]:
        return () if self.makes is None else self.makes.own_files

    @property
    def names(self) -> list[str]:
        """Of all inputs: part of what a continued call must have in common with the first."""
        return [] if self.inputs is None else [self.inputs.name(i) for i in range(len(self.inputs))]

    def files(self, output: Output, text: Callable[[str], None]) -> Iterator[File]:
        """Make everything, file by file."""
        if self.makes is None:
            yield from self._classify(output, text)
            return
        writer = self.writer = self.makes.writer(output, self.task)
        if self.between:
            numbered, rows = self._between(writer), self.request.interpolate
        elif self.inputs is not None:
            numbered, rows = self._answer(writer, output), None
        else:
            numbered, rows = self._draw(writer, output), self._columns()
        for files in numbered:
            yield from files
            for shown in writer.shown():
                text(shown)
        yield from listed(writer, writer.finish(rows))

    def ending(self) -> dict[str, Any]:
        """What the report says beside the record: speed, notes, what was skipped.

        Raises:
            AigcError: something was not made; all else is written.
        """
        if self.writer is not None and (failure := self.writer.failure()) is not None:
            raise failure
        skipped = dict(self.inputs.skipped()) if self.inputs is not None else {}
        notes = [] if self.writer is None else self.writer.notes
        facts = {} if self.writer is None else self.writer.facts()
        return {**facts, "notes": notes, "skipped": skipped}

    # The forms.

    def compute(self, job: Job) -> Any:
        """What a model makes of a batch: the part of a form that may be done elsewhere."""
        form, numbers = job
        computed: Any = getattr(self, f"_{form}")(numbers)
        return computed

    def _computed(self, form: str, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Of each batch in turn, here or elsewhere."""
        jobs = [(form, numbers) for numbers in batches]
        if self.far is None or len(jobs) < 2:
            yield from map(self.compute, jobs)
            return
        yield self.compute(jobs[0])  # what a first batch decides, such as a precision, files say
        yield from self.far(jobs[0], jobs[1:])

    def _draw(self, writer: Writer, output: Output) -> Iterator[list[File]]:
        """Samples out of noise alone, a batch at a time."""
        assert self.makes is not None
        seed, count = self.request.seed, self.request.count or self.makes.usual_count
        batches = list(_batches(count, self.request.batch_size))
        known = [[output.kept(number) for number in numbers] for numbers in batches]
        left = [n for n, kept in zip(batches, known, strict=True) if None in kept]
        computed = self._computed("drawn", left)
        for numbers, found in zip(batches, known, strict=True):  # in order, as the sheet is
            kept = [one for one in found if one is not None]
            if len(kept) < len(numbers):
                made = next(computed)
            elif all(map(writer.again, kept)):
                yield from ([*k.files] for k in kept)
                continue
            else:
                made = self._drawn(numbers)
            for number, one in zip(numbers, made, strict=True):
                facts = {"seed": seed, "index": number, **self._label(number)}
                files = listed(writer, writer.drawn(number, one, facts))
                output.done(number, files, writer.state())
                yield files

    def _drawn(self, numbers: Sequence[int]) -> Any:
        noise = SampleNoise(self.request.seed, numbers[0], len(numbers))
        with torch.no_grad():
            return on_cpu(self.task.model.sample(noise, self.task.options))

    def _answer(self, writer: Writer, output: Output) -> Iterator[list[File]]:
        """`count` answers to each input."""
        assert self.inputs is not None
        assert self.takes is not None
        numbers = [n for n in range(len(self.inputs)) if not self._kept(n, writer, output)]
        done = sorted(set(range(len(self.inputs))) - set(numbers))
        yield from ([*kept.files] for n in done if (kept := output.kept(n)) is not None)
        at_once = self.takes.at_once(self.request.batch_size, self.task)
        groups = [numbers[first : first + at_once] for first in range(0, len(numbers), at_once)]
        for answers in self._computed("answered", groups):
            for number, input, made in answers:
                known = self.inputs[number] if input is None else input
                files = listed(writer, writer.answered(number, known, made))
                output.done(number, files, writer.state())
                yield files

    def _answered(self, numbers: Sequence[int]) -> list[tuple[int, Input | None, Any]]:
        """With the inputs only where they need not travel."""
        assert self.inputs is not None
        assert self.takes is not None
        found = self.takes.answers(self.task, self.inputs, self.request.batch_size, numbers)
        return [(number, None if self.is_far else input, made) for number, input, made in found]

    def _kept(self, number: int, writer: Writer, output: Output) -> bool:
        kept = output.kept(number)
        return kept is not None and writer.again(kept)

    def _between(self, writer: Writer) -> Iterator[list[File]]:
        """The way from each sample, or each input, to the next in so many steps."""
        assert self.makes is not None
        model, task, steps = self.task.model, self.task, self.request.interpolate
        ends = self.request.count or self.makes.usual_ways
        if self.inputs is not None or not model.turns_noise:
            given = None if self.inputs is None else [i.given for i in self.inputs]  # type: ignore[attr-defined]
            with torch.no_grad():
                noise = SampleNoise(self.request.seed, 0, ends)
                made = on_cpu(model.between(given, steps, task.options, noise))
            for number, one in enumerate(made):
                facts: dict[str, Any] = {"between": number / steps}
                yield listed(writer, writer.between(number, one, facts))
            return
        for numbers in _batches((ends - 1) * steps + 1, self.request.batch_size):
            noise = InterpolatedNoise(self.request.seed, numbers[0], len(numbers), steps=steps)
            with torch.no_grad():
                made = on_cpu(model.sample(noise, task.options))
            for number, one in zip(numbers, made, strict=True):
                facts = {"seed": self.request.seed, "between": number / steps}
                yield listed(writer, writer.between(number, one, facts))

    def _classify(self, output: Output, text: Callable[[str], None]) -> Iterator[File]:
        """The classes of each input with their probabilities, as labels.csv."""
        assert self.takes is not None
        assert self.inputs is not None
        batches = list(_batches(len(self.inputs), self.request.batch_size))
        found = [one for few in self._computed("classified", batches) for one in few]
        inputs = self.names
        for name, [(label, p), *_] in zip(inputs, found, strict=True):
            text(f"{label} {p:.4f}  {name}")
        path = output.own(LABELS)
        write_bytes(path, labels_table(self.takes.column, inputs, found).encode())
        yield File(path, {self.takes.title: len(inputs)})

    def _classified(self, numbers: Sequence[int]) -> list[Best]:
        assert self.takes is not None
        assert self.inputs is not None
        classifier = self.task.model
        assert isinstance(classifier, ClassifierModule)
        names = classifier.spec.labels  # type: ignore[attr-defined]
        things = self.takes.fitted([self.inputs[number] for number in numbers], self.task)
        with torch.no_grad():
            return best_of(classifier.classify_things(things), names)

    def _label(self, number: int) -> dict[str, str]:
        """The class of a sample by name, for samples.json."""
        labels = self.task.model.labels_of(self.task.options, number, 1)
        names = getattr(self.trained.spec, "labels", None)
        return {} if labels is None or names is None else {"label": names[int(labels)]}

    def _columns(self) -> int | None:
        """A column for each class where they take turns."""
        model, options = self.task.model, self.task.options
        if getattr(options, "label", None) is not None or model.labels_of(options, 0, 1) is None:
            return None
        return min(len(getattr(self.trained.spec, "labels", None) or ()), 16) or None


def _batches(count: int, size: int) -> Iterator[range]:
    """Numbers 0 ... count - 1, `size` at a time."""
    return (range(first, min(first + size, count)) for first in range(0, count, size))

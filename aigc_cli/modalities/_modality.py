"""What a modality is to the commands: how its things come in, go out, and are looked at.

A file `modalities/<name>.py` defines `Modality`, a subclass of the one here. run/ and cli/ know
only this contract, never a name: a modality is added by new files alone (docs/add_a_modality.md).

Three forms meet here. A *thing* is what the modality holds in memory, such as an image with its
transparency; what a model is *given* is a thing as `Model.sample` takes it; what a model *makes*
is what `Model.sample` returns, which a `Writer` turns into files.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import default_collate

from aigc_cli.data._named_files import files_in, names_in
from aigc_cli.data._shards import Item
from aigc_cli.data._stream import key_at
from aigc_cli.errors import AigcError, DataError, InputError
from aigc_cli.modalities._findings import Findings, tensor_facts
from aigc_cli.modalities._output import File, Kept, Output
from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section
from aigc_cli.registry import load_data_kind
from aigc_cli.sampling.noise import SampleNoise


@dataclass(frozen=True)
class Task:
    """What a modality must know of a call: the model, and how its answers are asked for."""

    model: GenerativeModule
    recipe: Recipe
    count: int = 1
    """Answers to each input."""
    seed: int = 0
    reading: Section = field(default_factory=Section)
    """How inputs are read: the `Reading` of the modality that is taken."""
    writing: Section = field(default_factory=Section)
    """How files are written: the `Writing` of the modality that is made."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What made the files, as in samples.json; written into each that can hold it."""

    @property
    def options(self) -> Any:
        """The family's `Options`."""
        return self.recipe.sample


@dataclass(frozen=True)
class Input:
    """One thing to work on."""

    name: str
    """Of its file, relative to what the user named; "" where it has none."""
    thing: Any
    given: Any
    """The thing as `Model.sample` takes it, on the CPU."""
    stem: str = ""
    """What files of answers to it are called, but for their ending."""
    references: Sequence[Any] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What is shown beside the answer, by caption, each as a model makes it."""


class Inputs(ABC):
    """Checked inputs, each opened when it is asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> Input: ...

    @abstractmethod
    def name(self, number: int) -> str:
        """What the input is called in labels.csv and samples.json."""

    def skipped(self) -> Mapping[str, str]:
        """What was left out (`on_error=skip`), by name, and why."""
        return {}


class Examples(Inputs):
    """The first validation items, as the family would be given them."""

    def __init__(self, modality: Modality, items: Any, task: Task, count: int) -> None:
        self.modality, self.items, self.task = modality, items, task
        self.count = min(count, len(items))

    def __len__(self) -> int:
        return self.count

    def name(self, number: int) -> str:
        return f"val-{number:05d}"

    def __getitem__(self, number: int) -> Input:
        collate = getattr(self.items, "collate", default_collate)
        example = self.task.model.example(collate([self.items[number]]), self.task.options)
        assert example is not None
        thing = self.modality.thing_of(example.given, self.task)
        name = self.name(number)
        return Input(name, thing, example.given, name, example.references, example.beside)


class Writer(ABC):
    """Writes what a model makes. `again` takes over what an interrupted call has written."""

    notes: list[str]
    """What to tell the user at the end."""

    def __init__(self, output: Output, task: Task) -> None:
        self.output, self.task = output, task
        self.notes = []

    @abstractmethod
    def drawn(self, number: int, made: Any, facts: Mapping[str, Any]) -> list[File]:
        """Write sample `number`; `facts` are for its entry in samples.json."""

    @abstractmethod
    def answered(self, number: int, input: Input, made: Sequence[Any]) -> list[File]:
        """Write all answers to input `number`."""

    @abstractmethod
    def between(self, number: int, made: Any, facts: Mapping[str, Any]) -> list[File]:
        """Write number `number` of a way from one thing to the next."""

    def finish(self, rows: int | None = None) -> list[File]:
        """Write what shows all of them together; `rows`: things in a row, where there are such."""
        return []

    def state(self) -> Any:
        """What to keep of the number written last beside its files, as JSON; see `again`."""
        return None

    def again(self, kept: Kept) -> bool:
        """Take what a killed call has written of a number; False to have it made anew, which
        depends on the task alone.
        """
        return False

    def shown(self) -> list[str]:
        """Texts for the terminal since the last call; a modality of files has none."""
        return []

    def facts(self) -> Mapping[str, Any]:
        """How much was made, in which time and the like, for the report."""
        return {}

    def failure(self) -> AigcError | None:
        """What the call ends with once everything is written, where something was not made."""
        return None


class FileWriter(Writer):
    """Writes each thing under a stem of its own, with what lies beside it."""

    @abstractmethod
    def _write(self, stem: str, made: Any, facts: Mapping[str, Any]) -> list[File]:
        """Write one thing and what shows it, as files of that stem."""

    def drawn(self, number: int, made: Any, facts: Mapping[str, Any]) -> list[File]:
        return self._write(f"sample-{number:05d}", made, facts)

    def between(self, number: int, made: Any, facts: Mapping[str, Any]) -> list[File]:
        return self._write(f"between-{number:05d}", made, facts)

    def answered(self, number: int, input: Input, made: Sequence[Any]) -> list[File]:
        files = []
        for index, one in enumerate(made):
            count = f"-{index:02d}" if len(made) > 1 else ""
            facts = {"input": input.name, "seed": self.task.seed}
            files += self._write(f"{input.stem}{self.task.model.suffix}{count}", one, facts)
        return files


def listed(writer: Writer, files: Any) -> list[File]:
    """What a writer returned, if it is what the contract says.

    Raises:
        InputError: it is not; names the file of the modality.
    """
    if isinstance(files, list) and all(isinstance(file, File) for file in files):
        return files
    place = sys.modules[type(writer).__module__].__file__
    raise InputError(
        f"{place}: its {type(writer).__name__} returned {str(files)[:80]!r}, and what it "
        f"wrote must be a list of {File.__module__}.File",
        code="modality",
    )


def on_cpu(made: Any) -> Any:
    """What a model made, where the files are written."""
    return made.float().cpu() if isinstance(made, Tensor) else made


@dataclass
class Stored:
    """Files that go into shards."""

    items: Iterable[Item]
    """One after the other."""
    count: int
    """How many there are, with those that turn out bad."""
    skipped: Mapping[str, int]
    """Files of the source that are none of these: by their ending."""
    bad: Mapping[str, str]
    """Files that cannot be used and are not stored, with the reason; whole after the last item."""


MOST_STORED = 1 << 30  # bytes of a file that is read whole


class Modality(ABC):
    """The contract of `modalities/<name>.py`."""

    name: ClassVar[str]
    """As families say it in `takes` and `makes`; the file's name."""
    title: ClassVar[str]
    """For people, in the plural: "images"."""
    endings: ClassVar[frozenset[str]]
    """Of its files, lower case, with the dot."""
    is_general: ClassVar[bool] = False
    """Whether files of other modalities can also be read as its own: it is asked last."""
    Reading: ClassVar[type[Section]] = Section
    """How inputs are read: `aigc sample ... read.KEY=VALUE`."""
    Writing: ClassVar[type[Section]] = Section
    """How files are written: `aigc sample ... write.KEY=VALUE`."""
    column: ClassVar[str] = "file"
    """Head of the first column of labels.csv."""
    own_files: ClassVar[tuple[str, ...]] = ()
    """Names of files that a writer makes beside samples and answers."""
    single_file: ClassVar[bool] = False
    """Whether all that is made can be one file (`aigc sample --output`)."""
    takes_prompts: ClassVar[bool] = False
    """Whether things can be given on the command line (`--prompt`)."""
    usual_count: ClassVar[int] = 16
    """Samples that are drawn when no number is asked for."""
    usual_ways: ClassVar[int] = 5
    """Samples between which `--interpolate` goes, when no number is asked for."""

    # What comes in.

    @abstractmethod
    def open(self, source: Path, task: Task, makes: Modality | None) -> Inputs:
        """The things in a file, a folder or any source of a recipe, each checked before the first
        is worked on. `makes` writes the answers.

        Raises:
            DataError: names every thing that cannot be used.
        """

    def open_prompts(self, prompts: Sequence[str], task: Task) -> Inputs:
        """As `open`, of things that were typed. Raises InputError where they cannot be."""
        raise InputError(
            f"--prompt is for texts, and family '{task.recipe.family}' takes {self.title}",
            hint="give files with --input",
        )

    def open_nothing(self, task: Task) -> Inputs | None:
        """What a family whose input is optional works on without one; None: it draws."""
        return None

    def open_references(self, paths: Sequence[Path], task: Task) -> list[Any]:
        """Each `--reference` as `Model.sample` takes it.

        Raises:
            InputError: one that is not one thing.
        """
        raise InputError(f"--reference is not for family '{task.recipe.family}'")

    def examples(self, items: Any, task: Task, count: int) -> Inputs:
        """The first `count` validation items of a recipe's data as inputs."""
        return Examples(self, items, task, count)

    def thing_of(self, given: Any, task: Task) -> Any:
        """The thing that would be given so: the inverse of opening."""
        return given

    def at_once(self, batch_size: int, task: Task) -> int:
        """How many inputs `Model.sample` gets at once."""
        return 1

    def packed(self, inputs: Sequence[Input], task: Task) -> tuple[Any, Sequence[Any]]:
        """`given` and `references` of `Model.sample` for these inputs, on the model's device."""
        (one,), device = inputs, task.model.device
        return one.given.to(device), [reference.to(device) for reference in one.references]

    def make(
        self, inputs: Sequence[Input], numbers: Sequence[int], task: Task, *, alone: bool
    ) -> list[Sequence[Any]]:
        """The `task.count` answers of the model to each of these inputs. Answer i to input number
        n depends on the seed, n and i alone. `alone`: there is no input beside them.
        """
        given, references = self.packed(inputs, task)
        rows = [SampleNoise(task.seed, number << 20, task.count) for number in numbers]
        noise = rows[0] if len(rows) == 1 else SampleNoise.joined(rows)
        with torch.no_grad():
            made = on_cpu(task.model.sample(noise, task.options, given, references))
        return [made[i * task.count : (i + 1) * task.count] for i in range(len(inputs))]

    def answers(
        self, task: Task, inputs: Inputs, batch_size: int, numbers: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Input, Sequence[Any]]]:
        """(number, input, its `task.count` answers) for these numbers of inputs, in order."""
        numbers = range(len(inputs)) if numbers is None else numbers
        at_once = self.at_once(batch_size, task)
        for first in range(0, len(numbers), at_once):
            group = numbers[first : first + at_once]
            asked = [inputs[number] for number in group]
            made = self.make(asked, group, task, alone=len(inputs) == 1)
            yield from zip(group, asked, made, strict=True)

    def fitted(self, inputs: Sequence[Input], task: Task) -> Sequence[Any]:
        """The things as `ClassifierModule.batch_of` takes them."""
        return [input.given for input in inputs]

    @abstractmethod
    def example_files(self, folder: Path) -> list[Path]:
        """A few tiny files of this modality, written into the folder, for tests and `aigc model
        check`; the first holds one thing or several.
        """

    # What is compared; see _judging.py for more.

    def read(self, path: Path) -> Sequence[Any]:
        """The things in one of its files, as metrics receive them.

        Raises:
            DataError: it cannot be read.
        """
        raise InputError(f"{self.title} cannot be read to be compared: no `read` in their modality")

    def opened(self, path: Path) -> Any:
        """A file that was written, as Python programs have such things: its bytes."""
        return path.read_bytes()

    def thing_of_item(self, item: Mapping[str, Tensor]) -> Any:
        """The thing in an item of a recipe's data, as metrics receive it."""
        raise InputError(
            f"{self.title} of a recipe's data are not compared: no `thing_of_item` in their "
            "modality"
        )

    # What goes out.

    @abstractmethod
    def writer(self, output: Output, task: Task) -> Writer:
        """Writes things of this modality, in the way `task.writing` says."""

    # Data, for `aigc data`.

    @abstractmethod
    def recognizes(self, source: str) -> bool:
        """Whether a source of data holds things of this modality, by content and ending."""

    @abstractmethod
    def source_part(self, source: str) -> dict[str, Any]:
        """Facts of a source of data: `source`, and what `part_lines` tells.

        Raises:
            DataError: it cannot be used.
        """

    def stored(self, source: str) -> Stored:
        """The files of a source as `aigc data shard` stores them: unchanged, and in the order in
        which a kind of data would read them.

        Raises:
            DataError: there are none.
        """
        bad: dict[str, str] = {}
        names = names_in(source, tuple(self.endings))
        if not names:
            raise DataError(f"{source!r} holds no {self.title}: {', '.join(sorted(self.endings))}")

        def items() -> Iterator[Item]:
            for name, data in files_in(source, tuple(self.endings), MOST_STORED, self.title):
                try:
                    self.require_usable(name, data)
                except DataError as error:
                    bad[name] = error.message.removeprefix(f"{name}: ")
                else:
                    yield Item(name, data)

        return Stored(items(), len(names), {}, bad)

    def require_usable(self, name: str, data: bytes) -> None:  # noqa: B027
        """See that a file can be read, before it is stored.

        Raises:
            DataError: it cannot; says why.
        """

    @abstractmethod
    def parts_of(self, data: Any, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """As `source_part`, of each part of a recipe's data, by its key."""

    def describe(self, subject: Recipe | str, n: int | None, sheet: Path | None) -> dict[str, Any]:
        """Facts of a recipe's data or of a source: `parts`; of a recipe also `recipe`, `spec` and
        the first `batch`. `n` of its things are shown: on a `sheet` of that name, or as `examples`.

        Raises:
            DataError: it cannot be used. InputError: there is no sheet of such things.
        """
        if sheet is not None:
            raise InputError(f"a sheet holds images, and this data is {self.title}")
        if isinstance(subject, str):
            return {"parts": {"data": self.source_part(subject)}}
        data = open_data(subject)
        count = min(subject.trainer.global_batch, 16)
        keys = [key_at(subject.seed, position, len(data.train)) for position in range(count)]
        collate = getattr(data.train, "collate", default_collate)
        batch = collate([data.train[key] for key in keys])
        return {
            "recipe": subject.name,
            "spec": data.spec.as_dict(),
            "parts": self.parts_of(data, subject),
            "batch": {name: tensor_facts(values) for name, values in batch.items()},
        }

    def inspect(self, subject: Recipe | str) -> Findings:
        """What spoils training: things that cannot be used, duplicates, what is cut.

        Raises:
            DataError: as in training.
        """
        if isinstance(subject, str):
            return Findings(self.name, {"data": self.source_part(subject)})
        return Findings(self.name, self.parts_of(open_data(subject), subject))

    @abstractmethod
    def part_lines(self, part: Mapping[str, Any]) -> Iterator[str]:
        """One of the parts of `describe` for people, but for its source."""

    def summary_lines(self, key: str, part: Mapping[str, Any]) -> list[str]:
        """One of the parts of `inspect` for people."""
        return [f"{key}: {part['source']}", *(f"  {line}" for line in self.part_lines(part))]

    def shown(self, example: Any) -> str:
        """One of the examples of `describe` for people."""
        return str(example)


def open_data(recipe: Recipe) -> Any:
    """The data of a recipe. Raises as its kind."""
    return load_data_kind(recipe.kind).Data(recipe.data, seed=recipe.seed, bases=recipe.bases)

"""What an evaluation must know of a modality: how things are read and made to be compared.

`modalities/_judging_<name>.py` may define `class Judging(...)` beside `modalities/<name>.py`;
otherwise things are what `Modality.read` gives of files, and what the model draws. Nothing here
imports torch, so that files of texts are compared without it.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_cli import registry
from aigc_cli.errors import DataError, InputError
from aigc_cli.metrics._things import Corpus, Sets, Side, Things
from aigc_cli.recipe.sections import Section

if TYPE_CHECKING:
    from aigc_cli.modalities._modality import Modality
    from aigc_cli.recipe.load import Recipe

MOST = 10_000  # things that are made when no number is given


class Reading(Section):
    """How files that are compared are read, as KEY=VALUE."""

    suffix: str = ""
    """What generated names have behind those of their references: _x2 pairs a_x2.png with a.png."""


@dataclass(frozen=True)
class Trial:
    """A model that is judged, on which data, and how much of it. `model` and `recipe` are as in
    `Task`; `data` are the recipe's, or those of `source`.
    """

    model: Any
    recipe: Recipe
    open_data: Callable[[], Any]
    source: Path | None = None
    baseline: Path | None = None
    references: Sequence[str] = ()
    count: int | None = None
    seed: int = 0
    batch_size: int = 64
    limit: int | None = None
    save: Path | None = None
    reading: Reading = field(default_factory=Reading)
    seen: Callable[[int], None] = lambda count: None

    def first(self, items: Any) -> range:
        """Numbers of the items that are looked at."""
        return range(min(len(items), self.limit or len(items)))


class Judging:
    """Of a modality whose files hold one thing or several each."""

    usual: ClassVar[tuple[str, ...]] = ()
    """Metrics of files when nothing is asked for."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Metrics of a model beside what its family measures, when nothing is asked for."""
    reads: ClassVar[type[Reading]] = Reading
    endings: ClassVar[frozenset[str]] = frozenset()
    """Of files that are known without asking the modality."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def modality(self) -> Modality:
        from aigc_cli.modalities import find_modality

        return find_modality(self.name)

    # Files.

    def claims(self, path: Path) -> bool:
        """Whether a file that has one of `endings` is meant for this modality, by its content."""
        return True

    def open_corpus(
        self,
        generated: Path,
        references: Sequence[Path],
        baseline: Path | None,
        reading: Reading,
        limit: int | None,
    ) -> Corpus:
        """Things of files beside those of the same name.

        Raises:
            DataError: files cannot be read, or do not pair; says which.
        """
        made = self._read(generated, "--generated")
        others = [self._read(path, "--reference") for path in references]
        if baseline is not None:
            others.append(self._read(baseline, "--baseline"))
        pairs = [paired(made, other, reading.suffix) for other in others]
        names = list(made)[:limit]
        refs = pairs[: len(references)]
        return Corpus(
            names,
            lambda i: made[names[i]],
            lambda i: [pair[names[i]] for pair in refs],
            None if baseline is None else lambda i: pairs[-1][names[i]],
        )

    def open_set(
        self, path: Path, option: str, reading: Reading, limit: int | None
    ) -> tuple[Things, list[str]]:
        """The things of a user's as a set, and those that were skipped. Raises DataError."""
        return Listed(list(self._read(path, option).values())[:limit], str(path)), []

    def _read(self, path: Path, option: str) -> dict[str, Any]:
        """By name every thing in a file, or in the files of a folder."""
        samples = recorded_samples(path)
        endings = self.modality.endings
        if samples is not None:
            files = [path / name for name in samples]
        elif path.is_dir():
            files = sorted(f for f in path.rglob("*") if f.suffix.lower() in endings)
        else:
            files = [path]
        found: dict[str, Any] = {}
        for file in files:
            things = self.modality.read(file)
            stem = str(file.relative_to(path).with_suffix("")) if file != path else file.stem
            for number, thing in enumerate(things, 1):
                found[f"{stem}:{number}" if len(things) > 1 else stem] = thing
        if not found:
            raise DataError(f"{option}: {path} holds no {self.modality.title}")
        return found

    # Models.

    def options(self, trial: Trial) -> Mapping[str, Any]:
        """Options that the model asks of every metric that has them, such as its language."""
        return {}

    def of_whole(self, trial: Trial) -> tuple[str, ...]:
        """Metrics that are measured of whole things, although the family measures them too, of what
        it validates with.
        """
        return ()

    def made_corpus(self, trial: Trial) -> Corpus:
        """What the model makes, beside what it should be where that is known.

        Raises:
            InputError: the model makes nothing that could be compared.
        """
        drawn = Drawn(self, trial, trial.limit or trial.count or self.modality.usual_count)
        names = [f"sample-{number:05d}" for number in range(len(drawn))]
        return Corpus(names, lambda i: drawn.read([i])[0], has_references=False)

    def made_sets(self, trial: Trial) -> Sets:
        """What the model makes as a set, beside real ones. Raises as `made_corpus`."""
        data, which = trial.open_data(), trial.references[-1] if trial.references else "val"
        val = Items(self, data.val, f"{trial.recipe.name}, validation part")
        reference: Things = val
        if which == "train" and hasattr(data, "train"):
            reference = Items(self, data.train, f"{trial.recipe.name}, training part")
        elif which != "val":
            reference, _ = self.open_set(Path(which), "--reference", trial.reading, None)
        count = trial.count or min(len(reference), MOST)
        return Sets(Drawn(self, trial, count), reference, made=True)

    def thing_made(self, made: Any) -> Any:
        """One of what `Model.sample` returns, as metrics compare it."""
        return made

    def report(self, trial: Trial) -> dict[str, Any]:
        """Further facts of what was compared, once it was; `trial.save` gets what shows them."""
        return {}

    def show_sets(self, folder: Path, sets: Sets, side: Side) -> None:
        """Draw sheets of both sets into the folder."""


class Listed(Things):
    """Things in memory."""

    def __init__(self, things: Sequence[Any], text: str) -> None:
        self.things, self.text = things, text

    def __len__(self) -> int:
        return len(self.things)

    def read(self, numbers: Sequence[int]) -> Sequence[Any]:
        return [self.things[number] for number in numbers]


class Items(Things):
    """The things of a part of a recipe's data."""

    def __init__(self, judging: Judging, items: Any, text: str) -> None:
        self.judging, self.items, self.text = judging, items, text
        self.training = hasattr(items, "__getitems__")  # its keys are (index, seed)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, numbers: Sequence[int]) -> Sequence[Any]:
        keys = [(number, 0) if self.training else number for number in numbers]
        return [self.judging.modality.thing_of_item(self.items[key]) for key in keys]


class Drawn(Things):
    """Samples number 0 ... count - 1 of a seed: those of `aigc sample -n COUNT --seed SEED`."""

    def __init__(self, judging: Judging, trial: Trial, count: int) -> None:
        if not trial.model.draws:
            raise InputError(
                f"family '{trial.recipe.family}' works on what it is given, and its answers have "
                "nothing to be compared with"
            )
        self.judging, self.trial, self.count = judging, trial, count
        self.text = f"{count} samples of seed {trial.seed}"

    def __len__(self) -> int:
        return self.count

    def read(self, numbers: Sequence[int]) -> list[Any]:
        return [self.judging.thing_made(one) for one in self.tensors(numbers)]

    def tensors(self, numbers: Sequence[int]) -> list[Any]:
        """Each as the model makes it, on the CPU."""
        import torch

        from aigc_cli.modalities._modality import on_cpu
        from aigc_cli.sampling.noise import SampleNoise

        trial, made = self.trial, []
        for first, n in runs_of(numbers):
            noise = SampleNoise(trial.seed, first, n)
            with torch.no_grad():
                made += [*on_cpu(trial.model.sample(noise, trial.recipe.sample))]
        return made

    def labels(self, numbers: Sequence[int]) -> Any:
        import torch

        model, options = self.trial.model, self.trial.recipe.sample
        parts = [model.labels_of(options, first, n) for first, n in runs_of(numbers)]
        return None if not parts or parts[0] is None else torch.cat(parts).cpu()


def runs_of(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Numbers as (first, count) of consecutive ones."""
    first = count = 0
    for number in numbers:
        if count and number != first + count:
            yield first, count
            count = 0
        first, count = (first, count + 1) if count else (number, 1)
    if count:
        yield first, count


def recorded_samples(path: Path) -> dict[str, str | None] | None:
    """The samples in a folder that `aigc sample` wrote, without its sheets and films, by what each
    was made of; None where it wrote no such folder.

    Raises:
        DataError: its samples.json is no record of samples.
    """
    record = path / "samples.json"
    if not record.is_file():
        return None
    try:
        items = json.loads(record.read_text(encoding="utf-8"))["items"]
        made = {
            str(item["path"]): item.get("input")
            for item in items
            if item.get("sample", True)  # older records do not say so of sheets and films
            and {"index", "input", "between"} & item.keys()
            and "frames" not in item
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record} is no record of samples: {error}") from error
    return {name: given for name, given in made.items() if (path / name).is_file()} or None


def paired(made: Mapping[str, Any], other: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """What belongs to each name of `made`; two single things pair whatever their names.

    Raises:
        DataError: a name has no partner.
    """
    if len(made) == len(other) == 1:
        return dict(zip(made, other.values(), strict=True))
    keys = {name: name.removesuffix(suffix) if suffix else name for name in made}
    alone = sorted(set(keys.values()) ^ other.keys())
    if alone:
        raise unpaired(len(made), len(other), alone, set(keys.values()))
    return {name: other[key] for name, key in keys.items()}


def unpaired(made: int, other: int, alone: Sequence[str], ours: Collection[str]) -> DataError:
    """The error for names that do not pair."""
    side = "reference" if alone[0] in ours else "generated"
    return DataError(
        f"{made} generated and {other} reference files do not pair by name: "
        f"'{alone[0]}' has no {side} ({len(alone)} without a partner)",
        hint="give both folders the same file names; endings may differ, and suffix=_x2 is left "
        "out of generated names",
    )


def by_stem(names: Sequence[str], where: str) -> dict[str, int]:
    """The place of each name without its ending; with it where that makes two equal.

    Raises:
        DataError: two names are the same.
    """
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    count = Counter(stems)
    keys: dict[str, int] = {}
    for place, (name, stem) in enumerate(zip(names, stems, strict=True)):
        key = name if count[stem] > 1 else stem
        if keys.setdefault(key, place) != place:
            raise DataError(f"{where}: two are called '{key}'", hint="keep one of them")
    return keys


def find_judging(name: str) -> Judging:
    """Of a modality, or of labels.

    Raises:
        InputError: there is no such modality.
    """
    place = registry.PACKAGE / "modalities" / f"_judging_{name}.py"
    if place.is_file():
        found: Judging = importlib.import_module(f"aigc_cli.modalities.{place.stem}").Judging(name)
        return found
    return Judging(name)


def judging_of_files(path: Path) -> Judging:
    """Of what the files are, by their endings, and by content where these say too little.

    Raises:
        InputError: no modality knows them.
    """
    named = path.with_suffix("") if path.suffix == ".gz" else path
    for file in sorted((registry.PACKAGE / "modalities").glob("_judging_*.py")):
        light = find_judging(file.stem.removeprefix("_judging_"))
        if named.suffix.lower() in light.endings and light.claims(path):
            return light
    from aigc_cli.modalities import find_modality

    samples = recorded_samples(path) or ()
    ending = Path(next(iter(samples), named.name)).suffix.lower()
    for name in registry.modalities():
        if ending and ending in find_modality(name).endings:
            return find_judging(name)
    from aigc_cli.modalities import recognized

    return find_judging(recognized(str(path)).name)

"""The items that augmentation starts from: opened, read once, and held apart from other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from aigc_cli.augment._augmentation import Augmentation, Part
from aigc_cli.augment._plan import Members, kept, long_tailed, members_of, parse_keep
from aigc_cli.errors import DataError, InputError
from aigc_cli.recipe.load import Recipe, section_from_texts
from aigc_cli.registry import augmentations, load_augmentation
from aigc_cli.run.augment_journal import lineage
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.data import find_subject
from aigc_cli.run.inputs import is_source
from aigc_cli.run.workers import in_order

HELD_OUT = 10  # one item in so many validates where no data for it is named
NAMED = 5  # items that a message names


class Some(Part):
    """The items of a part whose numbers are given."""

    def __init__(self, part: Part, numbers: Sequence[int]) -> None:
        self.part, self.numbers, self.text = part, list(numbers), part.text
        self.left_out = part.left_out

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, number: int) -> str:
        return self.part.name(self.numbers[number])

    def labels(self) -> Sequence[str] | None:
        labels = self.part.labels()
        return None if labels is None else [labels[number] for number in self.numbers]

    def read(self, number: int) -> Any:
        return self.part.read(self.numbers[number])

    def digest(self, thing: Any) -> str:
        return self.part.digest(thing)

    def digests_of_parts(self, thing: Any) -> Sequence[str]:
        return self.part.digests_of_parts(thing)


@dataclass
class Looked:
    """A part whose items were all read once: those that can be used, and their digests."""

    part: Part
    digests: list[str]
    bad: dict[str, str] = field(default_factory=dict)
    lineage: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parts: set[str] = field(default_factory=set)
    """Digests of what is a thing by itself in an item."""

    def origins(self, number: int) -> list[str]:
        """Digests of the real items that an item comes from: itself, but for made ones."""
        digest = self.digests[number]
        return list(self.lineage.get(digest, ())) or [digest]

    def all_origins(self) -> set[str]:
        return set(chain(self.digests, *(self.origins(i) for i in range(len(self.digests)))))


@dataclass
class Sources:
    """What there is to augment, and what was left out of it."""

    augmentation: Augmentation
    kind: str
    """The file of `augmentation`."""
    modality: str
    train: Looked
    val: Looked
    members: Members
    """Training items by class that are kept."""
    left_out: dict[str, int]
    forbidden: set[str]
    """Digests of what validates and tests, and of what that comes from."""


def open_sources(request: Augmenting) -> Sources:
    """Open and read everything that the request names.

    Raises:
        InputError: no such data, or none that is augmented. DataError: items that cannot be used,
            classes that cannot be, training items that are also in other data.
    """
    subject, augmentation, kind, modality = find_augmentation(request)
    data = request.data_options

    # What trains, what validates, and whether we part them ourselves.
    ours = False
    if isinstance(subject, Recipe):
        if request.val is not None:
            raise InputError(
                "--val is for data that is no recipe", hint="change the recipe's: data.val=SOURCE"
            )
        parts = dict(augmentation.open_recipe(subject))
        known = {key: traced(getattr(subject.data, key, None)) for key in ("train", "val")}
    else:
        parts = {"train": augmentation.open(subject, "DATA", data)}
        known = {"train": lineage(subject), "val": lineage(request.val or "")}
        if request.val is not None:
            parts["val"] = augmentation.open(request.val, "--val", data)
        elif known["train"]:
            raise InputError(
                f"{subject}: was made by aigc augment, so its items are not independent",
                hint="name the data beside it that validates, such as --val SET/val",
            )
    looked = {key: look(part, request, lineage=known[key]) for key, part in parts.items()}
    train = looked["train"]
    if "val" not in looked:
        ours = True
        train, looked["val"] = _held_apart(train)
    val = looked["val"]
    tests = [
        look(augmentation.open(text, "--test", data), request, lineage=lineage(text))
        for text in request.tests
    ]

    # Nothing that is judged by may train.
    others = {"val": val.all_origins() | val.parts} | {
        f"--test {part.part.text}": part.all_origins() | part.parts for part in tests
    }
    leaked = _leaks(train, others, drop=ours or request.on_leak == "drop")
    members = members_of(train.part.labels(), len(train.part))
    members = {label: [i for i in items if i not in leaked] for label, items in members.items()}
    _require_classes(members, val)
    members = _subset(members, request)
    left_out = {"unreadable": len(train.bad), "also in other data": len(leaked)}
    left_out |= train.part.left_out
    return Sources(
        augmentation, kind, modality, train, val, members, left_out, set().union(*others.values())
    )


def _is_recipe(request: Augmenting) -> bool:
    return not is_source(request.data) or request.data.endswith((".yaml", ".yml"))


def find_augmentation(request: Augmenting) -> tuple[Recipe | str, Augmentation, str, str]:
    """The recipe or source that is augmented, how, the name of that, and the modality.

    Raises:
        InputError: no such data, or none that is augmented. RecipeError: wrong options.
    """
    overrides = [f"data.{text}" for text in request.data_options]
    subject, modality = find_subject(request.data, overrides if _is_recipe(request) else ())
    name = modality.name
    if isinstance(subject, Recipe) and subject.kind in augmentations():
        name = str(subject.kind)
    made = load_augmentation(name).Augmentation
    options = section_from_texts(made.Options, request.options)
    return subject, made(options), name, modality.name


def traced(source: object) -> dict[str, list[str]]:
    """As `lineage`, of one source or several."""
    sources = [source] if isinstance(source, str) else source or ()
    assert isinstance(sources, (list, tuple))
    return {key: value for text in sources for key, value in lineage(str(text)).items()}


class _Digests:
    """Reads an item and gives its digest and those of its parts, or why it cannot be read; a
    DataLoader's data set.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, number: int) -> tuple[str, Sequence[str], str]:
        try:
            thing = self.part.read(number)
            return self.part.digest(thing), self.part.digests_of_parts(thing), ""
        except DataError as error:
            return "", (), error.message


def look(part: Part, request: Augmenting, *, lineage: Mapping[str, Sequence[str]]) -> Looked:
    """Read every item once.

    Raises:
        DataError: some cannot be read and are not to be skipped, or none is left.
    """
    digests, parts, good, bad = [], set[str](), [], {}
    for number, (digest, own, reason) in enumerate(in_order(_Digests(part), request.workers)):
        if reason:
            bad[part.name(number)] = reason
        else:
            digests.append(digest)
            parts.update(own)
            good.append(number)
    if bad and (request.on_error == "stop" or not good):
        reasons = "; ".join(list(bad.values())[:NAMED])
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise DataError(
            f"{part.text}: {len(bad)} of {len(part)} items cannot be used: {reasons}{more}",
            hint="repair or remove them, or leave them out with --on-error skip",
        )
    if not good:
        raise DataError(f"{part.text}: holds no items")
    return Looked(part if not bad else Some(part, good), digests, bad, lineage, parts)


def _held_apart(whole: Looked) -> tuple[Looked, Looked]:
    """Every tenth item validates, as where a recipe names no `data.val`."""
    count = len(whole.part)
    if count < 2:
        raise DataError(f"{whole.part.text}: one item cannot both train and validate",
                        hint="name other data with --val")  # fmt: skip
    rest = [i for i in range(count) if i % HELD_OUT]
    held = list(range(0, count, HELD_OUT))
    train, val = (
        Looked(Some(whole.part, numbers), [whole.digests[i] for i in numbers], bad, {})
        for numbers, bad in ((rest, whole.bad), (held, {}))
    )
    return train, val


def _leaks(train: Looked, others: Mapping[str, set[str]], *, drop: bool) -> set[int]:
    """Training items that are, or come from, items of other data.

    Raises:
        DataError: there are some, and they are not to be dropped.
    """
    found: dict[int, str] = {}
    for number in range(len(train.part)):
        origins = {train.digests[number], *train.origins(number)}
        for text, digests in others.items():
            if not origins.isdisjoint(digests):
                found.setdefault(number, text)
    if found and not drop:
        number, text = next(iter(found.items()))
        raise DataError(
            f"{len(found):,} of {len(train.part):,} training items are, or come from, items that "
            f"judge: first {train.part.name(number)!r}, which is in {text}",
            hint="name other data, or leave these items out with --on-leak drop",
            code="data.leak",
        )
    return set(found)


def _require_classes(members: Members, val: Looked) -> None:
    """Raises DataError: no training item of a class that validates is left."""
    if not any(members.values()):
        raise DataError("no training item is left: all are also in other data")
    labels = val.part.labels()
    if labels is None or "" in members:
        return
    if unknown := sorted(set(labels) - {label for label, items in members.items() if items}):
        raise DataError(
            f"class {unknown[0]!r} of the validation data has no training items",
            hint="add items of it, or name validation data without it with --val",
        )


def _subset(members: Members, request: Augmenting) -> Members:
    """What `--keep` and `--long-tail` leave."""
    if request.keep is not None:
        count = sum(map(len, members.values()))
        members = kept(members, parse_keep(request.keep, count), request.seed)
    if request.long_tail is not None:
        if "" in members or len(members) < 2:
            raise InputError("--long-tail needs items of several classes")
        members = long_tailed(members, request.long_tail, request.seed)
    empty = [label for label, items in members.items() if not items]
    if empty:
        raise DataError(f"class '{empty[0]}' would have no item left", hint="keep more of the set")
    return members

"""`aigc augment`: a larger or balanced data set, with the origin of every item.

First what is there is copied, training and validation items apart; then new items are made of the
training items. What an item is and how it is varied is the modality's (augment/).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aigc_cli import __version__
from aigc_cli.augment._augmentation import Draw, Part
from aigc_cli.augment._plan import Members, Plan, members_of, sizes_after
from aigc_cli.catalog.find import resolve
from aigc_cli.errors import AigcError, DataError, InputError
from aigc_cli.media.files import write_bytes
from aigc_cli.modalities._output import prepare_folder
from aigc_cli.registry import load_augmentation
from aigc_cli.run.augment_generated import Generated
from aigc_cli.run.augment_journal import ASKED, LIST, RECORD, Journal, Line, clear
from aigc_cli.run.augment_measure import Yardstick, arms_of, measure
from aigc_cli.run.augment_report import html
from aigc_cli.run.augment_sources import Sources, find_augmentation, open_sources
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.engines.pool import in_order_on_ray
from aigc_cli.run.workers import CHUNK, in_order

Row = tuple[Line, bytes | None]


def augment(
    request: Augmenting,
    *,
    told: Callable[[int, int], None] = lambda done, of: None,
    of_classes: bool = False,
) -> dict[str, Any]:
    """Write the set into `request.out`; returns what augment.json records. `told` hears how many
    items are done.

    The same request gives the same files, whatever the number of workers and however often it was
    interrupted.

    Raises:
        InputError, DataError: as `open_sources`; sizes or classes that make no sense; with
            `of_classes`, items of no class. OutputError: `out` is in use. DiskFullError: no space
            left; what is written stays to be continued.
    """
    _require_apart(request)
    made = not request.out.exists()
    prepare_folder(request.out, overwrite=request.overwrite or request.go_on, journal=ASKED)
    try:
        work = _plan(request, of_classes)
    except BaseException:
        if made:
            request.out.rmdir()
        raise
    if request.overwrite:
        clear(request.out)
    journal = Journal(request.out, work.asked())
    journal.begin(go_on=request.go_on)
    try:
        for line, row in _rows(work, journal):
            journal.add(line, row)
            told(journal.count, work.copied + len(work.plan))
        work.sources.augmentation.finish(request.out, journal.lines())
        record = work.record(Counter(line.get("label", "") for line in _training(journal)))
        journal.end(record)
    finally:
        journal.close()
    return {"out": str(request.out), **record}


def _require_apart(request: Augmenting) -> None:
    """Raises InputError: the set would become a part of what it is made of, or judged by."""
    for source in filter(None, (request.data, request.val, *request.tests)):
        folder = Path(resolve(source)).expanduser()
        if folder.is_dir() and request.out.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"--out {request.out}: lies in {source}, of which it would become a part",
                hint="name a folder beside it",
            )


def _plan(request: Augmenting, of_classes: bool) -> Work:
    """What there is to do; nothing is written."""
    sources = open_sources(request)
    if of_classes and "" in sources.members:
        raise InputError("--measure needs items with classes, which the yardstick tells apart")
    generated = Generated(request, sources) if request.sources else None
    if generated is None and sources.augmentation.asked(sources.train.part) != sources.train.part:
        raise InputError("alone=FILE is for a model of --with, and there is none")
    growth = request.growth
    if generated is not None and generated.most is not None:  # each is answered once
        most = 1 + generated.most / sum(map(len, sources.members.values()))
        growth = most if request.factor is None else min(request.factor, most)
    after = sizes_after(sources.members, growth, request.balance, request.classes)
    return Work(sources, request, Plan(sources.members, after, request.seed), generated)


def augment_and_measure(
    request: Augmenting,
    yardstick: Yardstick,
    *,
    told: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """As `augment`, and what a model gains that is trained on the set: `measure.json` and
    `report.html`. With `request.go_on` a set that is complete is only measured.

    Raises: as `augment` and `measure`.
    """
    out, family = request.out, yardstick.require()
    record = finished(out) if request.go_on else None
    if record is None:
        record = augment(request, of_classes=family.of_classes)
    varied = None
    if request.sources:  # the classical operations are what a model must be better than
        varied = out / "varied"
        same = replace(request, out=varied, sources=(), sampling=(), judge=None, overwrite=True)
        if finished(varied) is None:
            augment(replace(same, go_on=False))
    augmentation = load_augmentation(record.get("kind", record["modality"])).Augmentation(None)
    arms = arms_of(augmentation, out, classical=varied)
    test = yardstick.test or augmentation.trains_on(out)["val"]
    measured = measure(arms, yardstick, test, out, told)
    write_bytes(out / "measure.json", json.dumps(measured, indent=2).encode())
    write_bytes(out / "report.html", html(measured, record).encode())
    return {**record, "measured": measured}


def usual_yardstick(request: Augmenting) -> str:
    """The recipe that measures such data where none is named.

    Raises: as `open_sources`; InputError: nothing measures it.
    """
    name = find_augmentation(request)[1].yardstick
    if name is None:
        raise InputError(
            "--measure trains classifiers and detectors, which such data does not teach",
            hint="train on the set and on the real data alone, and compare what both answer: "
            "aigc evaluate RUN --baseline ANSWERS",
        )
    return name


def finished(out: Path) -> dict[str, Any] | None:
    """The record of a set that is complete."""
    if not (out / LIST).is_file() or not (out / RECORD).is_file():
        return None
    record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
    return {"out": str(out), **record}


def _rows(work: Work, journal: Journal) -> Iterator[Row]:
    """What is not in the journal yet."""
    engine = work.request.engine
    made = in_order(work, work.request.workers, journal.count)
    if engine is not None and journal.count < len(work):
        alone = replace(work, generated=None)  # models stay here
        chunks = (
            range(first, min(first + CHUNK, len(work)))
            for first in range(journal.count, len(work), CHUNK)
        )
        found = in_order_on_ray(engine, partial(_open_far, alone), chunks)
        made = (row for rows in found for row in rows)
    for done in made:
        if isinstance(done, AigcError):
            raise done
        yield done
    if work.generated is not None:
        yield from work.generated.rows(work.plan, work.copied, journal.lines())


def _open_far(work: Work) -> Callable[[range], list[Row | AigcError]]:
    """In a worker of a cluster."""
    return lambda numbers: [work[number] for number in numbers]


def _training(journal: Journal) -> Iterator[Line]:
    return (line for line in journal.lines() if line["split"] == "train")


@dataclass
class Work:
    """The items of the new set by number: training items, validation items, new ones.

    It travels to worker processes: item n follows from n alone.
    """

    sources: Sources
    request: Augmenting
    plan: Plan
    generated: Generated | None = None
    """Makes the new items, in this process; None: they are varied, in any."""

    def __post_init__(self) -> None:
        self.training = sorted(i for items in self.sources.members.values() for i in items)
        parts = {"train": self.sources.train.part, "val": self.sources.val.part}
        self.labels = {split: part.labels() for split, part in parts.items()}

    @property
    def copied(self) -> int:
        return len(self.training) + len(self.sources.val.part)

    def __len__(self) -> int:
        return self.copied + (0 if self.generated else len(self.plan))

    def __getitem__(self, number: int) -> Row | AigcError:
        """The line of item `number`, whose file is written, and its row in a common file. An
        expected error is returned, since one that is raised loses its type on the way.
        """
        try:
            if number < len(self.training):
                return self._copy("train", self.training[number], number)
            if number < self.copied:
                return self._copy("val", number - len(self.training), number)
            return self._varied(number)
        except AigcError as error:
            return error

    def _copy(self, split: str, item: int, number: int) -> Row:
        looked = self.sources.train if split == "train" else self.sources.val
        labels = self.labels[split]
        label = None if labels is None else labels[item]
        thing = self._unchanged(looked.part, item, looked.digests[item])
        written = self.sources.augmentation.write(
            self.request.out, split, f"real-{number:07d}", label, thing
        )
        facts = {
            "made": "copied",
            "source": looked.part.name(item),
            "digest": looked.digests[item],
            "origins": looked.origins(item),
        }
        return written.line(split, label, facts), written.row

    def _varied(self, number: int) -> Row:
        looked, made = self.sources.train, self.sources.augmentation
        label, item = self.plan.job(number - self.copied)
        thing = self._unchanged(looked.part, item, looked.digests[item])
        draw = Draw(self.request.seed, number)
        varied = made.vary(thing, looked.part, item, self.plan.members[label], draw)
        came = [item, *varied.sources]
        facts = {
            "made": "varied",
            "source": looked.part.name(item),
            "operations": list(varied.operations),
            "seed": draw.item_seed,
            "digest": looked.part.digest(varied.thing),
            "origins": sorted({origin for one in came for origin in looked.origins(one)}),
        }
        if varied.sources:
            facts["with"] = [looked.part.name(one) for one in varied.sources]
        stem = f"new-{number:07d}"
        written = made.write(self.request.out, "train", stem, label or None, varied.thing)
        return written.line("train", label or None, facts), written.row

    @staticmethod
    def _unchanged(part: Part, item: int, digest: str) -> Any:
        thing = part.read(item)
        if part.digest(thing) != digest:
            raise DataError(f"{part.name(item)}: changed while the set was made",
                            hint="start anew with --overwrite")  # fmt: skip
        return thing

    def asked(self) -> dict[str, Any]:
        """All that decides the files."""
        r, s = self.request, self.sources
        return {
            "data": [*s.train.digests, "/", *s.val.digests],
            "members": s.members,
            "after": dict(self.plan.after),
            "options": s.augmentation.options.model_dump(mode="json"),
            "seed": r.seed,
            **(self.generated.asked() if self.generated else {}),
        }

    def record(self, counted: Counter[str]) -> dict[str, Any]:
        """For augment.json."""
        before = {label: len(items) for label, items in self.sources.members.items()}
        return {
            "tool": f"aigc {__version__}",
            "data": self.request.data,
            "modality": self.sources.modality,
            "kind": self.sources.kind,
            "seed": self.request.seed,
            "options": self.sources.augmentation.options.model_dump(mode="json"),
            "before": before,
            "after": {label: counted[label] for label in before},
            "validation": _sizes(self.sources.val.part),
            "left_out": {key: count for key, count in self.sources.left_out.items() if count},
            **self._making(),
            "data_keys": dict(self.sources.augmentation.trains_on(self.request.out)),
        }

    def _making(self) -> dict[str, Any]:
        """What made the new items, where a model did."""
        if self.generated is None:
            return {}
        return {
            "with": [trained.describe() for trained in self.generated.models],
            "dropped": dict(self.generated.dropped),
            "notes": self.generated.notes,
        }


def _sizes(part: Part) -> dict[str, int]:
    members: Members = members_of(part.labels(), len(part))
    return {label: len(items) for label, items in members.items()}

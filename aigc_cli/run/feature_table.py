"""`aigc augment features`: what networks see in the items of a data set, as a table for others.

Features of several networks, or of several tables joined by the names of items, stand beside each
other; the best of them are selected by the training items alone, and a linear probe says what each
is worth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aigc_cli import __version__
from aigc_cli.errors import DataError, InputError, MissingError, OutputError
from aigc_cli.media.files import write_bytes
from aigc_cli.run.augment_sources import Sources, look, open_sources
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.encoders import Encoder, open_encoder
from aigc_cli.run.judged_features import probe, select

BATCH = 64
Values = NDArray[np.float32]


@dataclass
class Table:
    """Features of items by what made them; parts are train and test."""

    names: list[str]
    parts: list[str]
    labels: list[str] | None
    columns: dict[str, Values] = field(default_factory=dict)
    """(N, D) of each source of features."""

    def joined(self, names: Sequence[str] | None = None) -> Values:
        """(N, D) of these sources, or of all, side by side."""
        chosen = list(self.columns) if names is None else names
        return np.concatenate([self.columns[name] for name in chosen], axis=1)

    def rows(self, part: str) -> NDArray[np.intp]:
        return np.flatnonzero([own == part for own in self.parts])


@dataclass(frozen=True)
class Asked:
    """What is made of a data set: features of `sources`, of which `keep` are selected."""

    sources: tuple[str, ...]
    out: Path
    keep: int | None = None
    by: Literal["mutual_information", "trees"] = "mutual_information"
    probe: bool = False
    overwrite: bool = False
    device: str = "auto"


def features(
    request: Augmenting, asked: Asked, told: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Write the table; returns its sizes, and what a linear probe says of it.

    Raises:
        InputError, DataError: as `open_sources`; an unknown network, tables of other items, no
            classes where some are needed. MissingError: scikit-learn is not installed. OutputError:
            the file exists.
    """
    if asked.out.exists() and not asked.overwrite:
        raise OutputError(f"{asked.out}: exists already", hint="choose another, or add --overwrite")
    if asked.out.suffix != ".parquet":
        raise InputError(f"--out {asked.out}: must end in .parquet")
    if asked.keep is not None or asked.probe:
        require_sklearn()
    if request.data.endswith(".parquet"):
        table = read_table(Path(request.data), "DATA")
    else:
        table = _extracted(request, asked, told)
    for text in asked.sources:
        if text.endswith(".parquet"):
            join(table, read_table(Path(text), "--with"))
    if table.labels is None and (asked.keep is not None or asked.probe):
        raise InputError("--keep and --probe need items with classes")
    rows, chosen = [], None
    if asked.probe:
        assert table.labels is not None
        for name in table.columns:
            rows.append(_probed(table, name, table.columns[name]))
        if len(table.columns) > 1:
            rows.append(_probed(table, " + ".join(table.columns), table.joined()))
    whole = table.joined()
    if asked.keep is not None:
        chosen = _selected(table, whole, asked)
        whole = whole[:, chosen]
        if asked.probe:
            rows.append(_probed(table, f"best {len(chosen)} by {asked.by}", whole))
    facts = {
        "tool": f"aigc {__version__}",
        "data": request.data,
        "sources": {name: values.shape[1] for name, values in table.columns.items()},
        "selected": None if chosen is None else {"by": asked.by, "columns": chosen},
    }
    write_table(asked.out, table, whole, facts)
    counts = {part: len(table.rows(part)) for part in ("train", "test")}
    return {"ok": True, "out": str(asked.out), "items": counts, **facts, "probe": rows}


def require_sklearn() -> None:
    """
    Raises:
        MissingError: scikit-learn is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("sklearn") is None:
        raise MissingError(
            "selection and the linear probe need scikit-learn",
            hint='pip install "aigc-cli[features]"',
        )


def _extracted(request: Augmenting, asked: Asked, told: Callable[[str], None]) -> Table:
    """Features of the items of a data set. Its test part is the first --test, or what validates."""
    sources = open_sources(request)
    test = sources.val
    if request.tests:
        opened = sources.augmentation.open(request.tests[0], "--test", request.data_options)
        test = look(opened, request, lineage={})
    training = sorted(i for items in sources.members.values() for i in items)
    places = [(sources.train, i, "train") for i in training]
    places += [(test, i, "test") for i in range(len(test.part))]
    trained, tested = sources.train.part.labels(), test.part.labels()
    labels = None
    if trained is not None and tested is not None:
        labels = [*(trained[i] for i in training), *tested]
    table = Table(
        [looked.part.name(i) for looked, i, _ in places],
        [part for _, _, part in places],
        labels,
    )
    encoders = [_encoder(text, sources, asked) for text in asked.sources if _is_network(text)]
    if not encoders and not any(text.endswith(".parquet") for text in asked.sources):
        raise InputError("no features are asked for", hint="name some: --with raw, --with RUN")
    found: dict[str, list[Values]] = {encoder.name: [] for encoder in encoders}
    for first in range(0, len(places), BATCH):
        batch = places[first : first + BATCH]
        things = [looked.part.read(i) for looked, i, _ in batch]
        for encoder in encoders:
            found[encoder.name].append(encoder(things, [table.names[first + k] for k in
                                                        range(len(batch))]))  # fmt: skip
        if first // BATCH % 16 == 15:
            told(f"{first + len(batch):,} of {len(places):,} items")
    table.columns = {name: np.concatenate(values) for name, values in found.items()}
    return table


def _is_network(text: str) -> bool:
    return not text.endswith(".parquet")


def _encoder(text: str, sources: Sources, asked: Asked) -> Encoder:
    return open_encoder(text, sources.augmentation, sources.modality, asked.device)


def join(table: Table, other: Table) -> None:
    """Put the features of the same items of another table beside those of this one.

    Raises:
        DataError: an item is in one of both only.
    """
    place = {name: i for i, name in enumerate(other.names)}
    absent = [name for name in table.names if name not in place]
    if absent:
        raise DataError(
            f"--with: {len(absent):,} of {len(table.names):,} items are not in the other table: "
            f"first {absent[0]!r}",
            hint="both need the same items by name",
        )
    order = [place[name] for name in table.names]
    for name, values in other.columns.items():
        new = name
        while new in table.columns:
            new += "'"
        table.columns[new] = values[order]


def _selected(table: Table, whole: Values, asked: Asked) -> list[int]:
    assert asked.keep is not None
    assert table.labels is not None
    if not 1 <= asked.keep <= whole.shape[1]:
        raise InputError(
            f"--keep {asked.keep}: there are {whole.shape[1]:,} features",
            hint=f"give a number from 1 to {whole.shape[1]}",
        )
    train = table.rows("train")
    labels = [table.labels[i] for i in train]
    return select(whole[train], labels, asked.keep, asked.by)


def _probed(table: Table, name: str, values: Values) -> dict[str, Any]:
    assert table.labels is not None
    train, test = table.rows("train"), table.rows("test")
    if not len(test):
        raise InputError("--probe needs items to test on", hint="name some with --test")
    labels = np.asarray(table.labels)
    measured = probe(values[train], labels[train].tolist(), values[test], labels[test].tolist())
    return {"features": name, "dims": values.shape[1], **measured}


# -- files -----------------------------------------------------------------------------------------


def write_table(path: Path, table: Table, values: Values, facts: dict[str, Any]) -> None:
    """Rows of name, part, label and features, a list of numbers of one length."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    columns = {
        "name": pa.array(table.names),
        "part": pa.array(table.parts),
        "label": pa.array(table.labels if table.labels is not None else [None] * len(values),
                          pa.string()),
        "features": pa.FixedSizeListArray.from_arrays(flat, values.shape[1]),
    }  # fmt: skip
    made = pa.table(columns).replace_schema_metadata({"aigc": json.dumps(facts)})
    data = io.BytesIO()
    pq.write_table(made, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data.getvalue())


def read_table(path: Path, option: str) -> Table:
    """
    Raises:
        DataError: it is no table of features.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(path)
        width = found.schema.field("features").type.list_size
        flat = found["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        values = np.asarray(flat, dtype=np.float32).reshape(-1, width)
        labels = found["label"].to_pylist()
        return Table(
            found["name"].to_pylist(),
            found["part"].to_pylist(),
            None if None in labels else labels,
            {path.stem: values},
        )
    except (OSError, KeyError, ValueError, AttributeError, pa.ArrowException) as error:
        raise DataError(
            f"{option} {path}: is no table of features: {str(error).splitlines()[0]}",
            hint="aigc augment features writes such tables",
        ) from error

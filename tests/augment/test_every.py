"""What is promised of every augmentation of the folder, by the examples of the kinds of data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigc_cli import registry
from aigc_cli.errors import AigcError, DataError
from aigc_cli.run.augment import augment
from aigc_cli.run.augment_sources import find_augmentation, open_sources
from aigc_cli.run.augmenting import Augmenting
from tests.augment.conftest import contents, killed_after, rows


def example_of(name: str, folder: Path) -> Augmenting:
    """A request that augmentation `name` answers, of the example of a kind of data of that name or
    modality: its files by themselves, or where these are no source as a recipe.
    """
    kinds = sorted(registry.data_kinds(), key=lambda kind: kind != name)
    for kind in kinds:
        module = registry.load_data_kind(kind)
        if name not in (kind, module.Config.modality) or not hasattr(module, "example"):
            continue
        data = module.example(folder / kind)
        for source in _named(kind, data, folder):
            request = Augmenting(
                source, folder / "o", factor=1.6, seed=4, workers=0, on_leak="drop"
            )
            try:
                if find_augmentation(request)[2] == name:
                    open_sources(request)
                    return request
            except AigcError:
                continue
    raise AssertionError(f"no example(folder) of a kind of data is augmented by augment/{name}.py")


def _named(kind: str, data: dict[str, Any], folder: Path) -> Iterator[str]:
    """The data themselves, and a recipe of a family that one of the package trains on the kind."""
    yield str(data["train"])
    texts = (file.path.read_text() for file in registry.recipes().values())
    family = next(yaml.safe_load(t)["family"] for t in texts if f"kind: {kind}\n" in t)
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump({"family": family, "data": data, "trainer": {"max_steps": 1}}))
    yield str(path)


@pytest.fixture(scope="module", params=sorted(registry.augmentations()))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Augmenting, dict[str, Any]]:
    """What was asked, and its record."""
    asked = example_of(request.param, tmp_path_factory.mktemp(request.param))
    return asked, augment(asked)


Made = tuple[Augmenting, dict[str, Any]]


def test_sizes_are_those_asked_for(made: Made) -> None:
    asked, record = made
    assert record["after"] == {c: round(1.6 * n) for c, n in record["before"].items()}
    lines = rows(asked.out)
    parts = {"train": record["after"], "val": record["validation"]}
    for split, sizes in parts.items():
        found = Counter(line.get("label", "") for line in lines if line["split"] == split)
        assert found == sizes


def test_every_item_is_there_and_has_its_origin(made: Made) -> None:
    """The list names each item once, by its bytes, by what it shows, and by what it comes from."""
    asked, _ = made
    lines, sources = rows(asked.out), open_sources(asked)
    part = sources.train.part
    names = {part.name(number): sources.train.digests[number] for number in range(len(part))}
    assert len({(line["path"], line.get("start")) for line in lines}) == len(lines)
    for line in lines:
        data = (asked.out / line["path"]).read_bytes()
        assert sha256(data[line.get("start") : line.get("end")]).hexdigest() == line["sha256"]
        shown = sources.augmentation.read_back(asked.out, line)
        assert part.digest(shown) == line["digest"]
        if line["made"] == "copied":
            assert line["origins"] == [line["digest"]]
        else:
            assert line["split"] == "train"
            assert line["operations"]
            assert "seed" in line
            sources_of = [line["source"], *line.get("with", ())]
            assert line["origins"] == sorted({names[source] for source in sources_of})


def test_nothing_that_judges_trains(made: Made) -> None:
    asked, _ = made
    lines = rows(asked.out)
    judged = {line["digest"] for line in lines if line["split"] == "val"}
    trained = [line for line in lines if line["split"] == "train"]
    assert judged.isdisjoint(o for line in trained for o in (line["digest"], *line["origins"]))
    if asked.data.endswith(".yaml"):
        train = yaml.safe_load(Path(asked.data).read_text())["data"]["train"]
        leaking = replace(asked, data_options=(f"val={train}",))
    else:
        leaking = replace(asked, val=asked.data)
    with pytest.raises(DataError, match="training items are, or come from, items that judge"):
        augment(replace(leaking, on_leak="stop", out=asked.out.with_name("leaking")))
    assert not asked.out.with_name("leaking").exists()


def test_the_same_seed_gives_the_same_set_with_any_workers(made: Made) -> None:
    asked, _ = made
    two, other = asked.out.with_name("two"), asked.out.with_name("other")
    augment(replace(asked, out=two, workers=2))
    assert contents(two) == contents(asked.out)
    augment(replace(asked, out=other, seed=5))
    assert contents(other) != contents(asked.out)


@pytest.mark.parametrize("new", [False, True])
def test_resumed_equals_uninterrupted(made: Made, new: bool) -> None:
    """Whether copies or new items were being written, and with half a line at the end."""
    asked, record = made
    cut = replace(asked, out=asked.out.with_name(f"cut-{new}"))
    copied = sum((*record["before"].values(), *record["validation"].values()))
    killed_after(copied + 2 if new else copied // 2, cut)
    with (cut.out / "augment.part.jsonl").open("a") as file:
        file.write('{"path": "tra')
    augment(replace(cut, go_on=True))
    assert contents(cut.out) == contents(asked.out)

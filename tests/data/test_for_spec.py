"""What a checkpoint's spec says is enough to validate on other files, whatever the kind of data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from aigc_cli.registry import data_kinds, load_data_kind
from aigc_cli.specs import spec_from_dict

KINDS = sorted(data_kinds())
CHAINS = {"unigram", "markov", "drawn"}
"""Of an item, what statistics of the training items make of it: there are none without those."""


def opened(kind: str, config: dict[str, Any], **given: Any) -> Any:
    module = load_data_kind(kind)
    checked = TypeAdapter(module.Config).validate_json(json.dumps(config))
    return module.Data(checked, seed=0, **given)


def with_files(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same kind of data, validated on copies of the training files."""
    changed = dict(config)
    for key in ("train", "train_b"):
        if key in config:
            source, target = Path(config[key]), folder / Path(config[key]).name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
            if (images := source.parent / "images").is_dir():  # what notes beside them name
                shutil.copytree(images, folder / "images", dirs_exist_ok=True)
            changed[key.replace("train", "val")] = str(target)
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_files_to_validate_need_no_training_files(tmp_path: Path, kind: str) -> None:
    """And give the same items as where the training files are there."""
    config = load_data_kind(kind).example(tmp_path / "made")
    (tmp_path / "new").mkdir()
    config = with_files(config, tmp_path / "new")
    whole = opened(kind, config)
    shutil.rmtree(tmp_path / "made")
    spec = spec_from_dict(json.loads(json.dumps(whole.spec.as_dict())))
    alone = opened(kind, config, spec=spec)
    assert alone.spec == whole.spec
    assert list(alone.report) == [key for key in whole.report if key.startswith("data.val")]
    assert len(alone.val) == len(whole.val) > 0
    for number in range(len(alone.val)):
        one, other = alone.val[number], whole.val[number]
        assert one.keys() == other.keys() - CHAINS
        for key in one:
            assert torch.equal(one[key], other[key])
    if hasattr(alone.val, "texts"):
        assert alone.val.texts(0) == whole.val.texts(0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_training_file_is_the_same_share(tmp_path: Path, kind: str) -> None:
    config = load_data_kind(kind).example(tmp_path)
    whole = opened(kind, config)
    alone = opened(kind, config, spec=whole.spec)
    assert len(alone.val) == len(whole.val)
    assert alone.val[0].keys() - CHAINS == whole.val[0].keys() - CHAINS
    for key, value in alone.val[0].items():
        assert torch.equal(whole.val[0][key], value)


def test_the_vocabulary_and_the_classes_are_those_of_the_model(tmp_path: Path) -> None:
    """Not those of the new texts, in which a class may be absent and words unknown."""
    config = load_data_kind("labelled_texts").example(tmp_path)
    spec = opened("labelled_texts", config).spec
    (tmp_path / "new.csv").write_text("text,label\nthe zebra sat .,sat\n")
    alone = opened("labelled_texts", {**config, "val": str(tmp_path / "new.csv")}, spec=spec)
    assert alone.spec.labels == ("jumped", "sat", "saw")
    assert int(alone.val[0]["label"]) == 1
    assert alone.report["data.val"].unknown == 1

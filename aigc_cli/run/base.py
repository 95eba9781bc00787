"""What a run starts from, and what a checkpoint of adapters leaves to it.

A run with LoRA never changes most of its weights. Where they come from `init_from`, its checkpoints
hold the others alone and say where these are (`base` in run/checkpoint.py): a digest, and the
places that are looked at. So they are small, and whoever reads one gets the same weights or one
sentence.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_cli.catalog.weights import find_model, is_model, models_home
from aigc_cli.errors import AigcError, CheckpointError, InputError, MissingError
from aigc_cli.models.text._network import NetworkConfig, sizes
from aigc_cli.nn.bert import is_bert, read_encoder
from aigc_cli.nn.lora import merge_adapters
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.checkpoint import load_checkpoint
from aigc_cli.run.foreign import spec_family, spec_of
from aigc_cli.run.hugging_face import is_folder, read_folder
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.specs import Spec, spec_from_dict
from aigc_cli.specs.text import TextSpec
from aigc_cli.text.folder import read_tokenizer


@dataclass(frozen=True)
class Initial:
    """A model that a run starts from: of a checkpoint, or of a folder of transformers."""

    path: Path
    family: str
    sizes: Mapping[str, Any]
    """Fields of its recipe's section `model`."""
    weights: Mapping[str, Tensor]
    spec: Spec
    imported: bool = False
    """Whether it was trained elsewhere."""


def open_initial(source: str, bases: Sequence[Path]) -> Initial:
    """The model that `init_from` names; relative paths are tried against `bases` in turn.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    places = [Path(source), *(base / source for base in bases)]
    place = next((p for p in places if p.exists()), places[0])
    if not place.exists() and is_model(source):
        place = find_model(source)
    if is_bert(place):
        return _encoder(place)
    if is_folder(place):
        folder = read_folder(place)
        network = sizes(NetworkConfig(**folder.fields))
        weights = {f"net.{name}": value for name, value in folder.weights.items()}
        spec = spec_of(folder)
        return Initial(place, spec_family(spec), network, weights, spec, imported=True)
    if place.suffix == ".gguf":
        raise InputError(
            f"init_from: {place}: a GGUF file is made a checkpoint first",
            hint=f"aigc model import {place} --out {place.with_suffix('.ckpt').name}",
        )
    path = find_checkpoint(place)
    state = load_whole(path)
    weights = {**state["weights"], **(state["ema"] or {})}
    recipe = recipe_from_dict(state["recipe"])  # with what its fields were before they were there
    fields = recipe.model.model_dump()
    spec = spec_from_dict(state["spec"])
    return Initial(path, recipe.family, fields, weights, spec, state["step"] == 0)


def _encoder(folder: Path) -> Initial:
    """An encoder of texts, as what a classifier of texts calls its own."""
    found = read_encoder(folder)
    weights = {f"net.bert.{name}": value for name, value in found.network.state_dict().items()}
    spec = TextSpec(read_tokenizer(folder / "tokenizer.json").to_json(), found.max_length)
    return Initial(folder, "bert", {}, weights, spec, imported=True)


def describe_base(
    source: str, initial: Initial, taken: Mapping[str, Tensor], unchanged: frozenset[str]
) -> dict[str, Any] | None:
    """What a checkpoint says of the weights that it leaves out: those of `taken` that are
    `unchanged`; None where it leaves none.
    """
    tensors = {name: list(taken[name].shape) for name in sorted(unchanged & taken.keys())}
    if not tensors:
        return None
    return {
        "source": source,
        "path": str(initial.path.resolve()),
        "near": os.path.relpath(initial.path),
        "digest": digest_of(initial.weights),
        "tensors": tensors,
    }


def without_base(weights: Mapping[str, Any], base: Mapping[str, Any] | None) -> dict[str, Any]:
    """The weights that a checkpoint holds itself."""
    left = base["tensors"] if base else ()
    return {name: value for name, value in weights.items() if name not in left}


def load_whole(path: Path) -> dict[str, Any]:
    """A checkpoint with all its weights, also those that it leaves to its base.

    Raises:
        CheckpointError: as `load_checkpoint`, or the base has changed. MissingError: it is nowhere.
    """
    state = load_checkpoint(path)
    if (base := state.get("base")) is None:
        return state
    theirs = merge_adapters(_find_base(base, path).weights)
    held = {}
    for name, shape in base["tensors"].items():
        value = theirs.get(name, torch.empty(0))[: shape[0]]  # positions beyond the context
        if list(value.shape) != shape:
            raise CheckpointError(
                f"{path}: damaged: '{name}' of its base is {list(value.shape)}, not {shape}"
            )
        held[name] = value
    for part in ("weights", "ema"):
        if state[part] is not None:
            state[part] = {**held, **state[part]}
    return state


def _find_base(base: Mapping[str, Any], path: Path) -> Initial:
    """
    Raises:
        CheckpointError: there is a base in its place, and it is another. MissingError: there is
            none.
    """
    other: tuple[Path, str] | None = None
    for place in dict.fromkeys(_places(base)):
        try:
            initial = open_initial(place, ())
        except AigcError:
            continue
        if (digest := digest_of(initial.weights)) == base["digest"]:
            return initial
        other = other or (initial.path, digest)
    name, wanted = base["source"], base["digest"][:12]
    if other is not None:
        raise CheckpointError(
            f"{path}: holds adapters of {name} as it was, digest {wanted}, and {other[0]} has "
            f"changed since, digest {other[1][:12]}",
            hint=f"put the old one back, or into {models_home()} as {Path(base['path']).name}",
            code="checkpoint.base",
        )
    known = f"aigc model get {name}; or " if is_model(name) else ""
    raise MissingError(
        f"{path}: holds adapters of {name}, digest {wanted}, which is not here",
        hint=f"{known}bring it to {base['path']}, or into {models_home()}",
    )


def _places(base: Mapping[str, Any]) -> Iterator[str]:
    """Where the base may be: where it was, the same place from here, its name, and the folder of
    models.
    """
    yield base["path"]
    if not base["near"].startswith(".."):
        yield base["near"]
    yield base["source"]
    yield str(models_home() / Path(base["path"]).name)


def digest_of(tensors: Mapping[str, Any]) -> str:
    """BLAKE2b of tensors by name, in hex, whatever device they are on."""
    state = hashlib.blake2b(digest_size=16)
    for name, value in sorted(tensors.items()):
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value  # a DTensor
        state.update(f"{name} {tuple(whole.shape)} {whole.dtype}".encode())
        plain = whole.detach().cpu().contiguous().reshape(-1)
        state.update(plain.view(torch.uint8).numpy().tobytes())
    return state.hexdigest()

"""The feature network that a recipe or an option names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from aigc_cli.catalog.weights import is_model
from aigc_cli.errors import CheckpointError, InputError, did_you_mean
from aigc_cli.metrics._networks import VGG16, VGG19, fill, load_state, published
from aigc_cli.nn.classifier import VGG_DEPTHS, vgg
from aigc_cli.nn.efficientnet_lite import fold
from aigc_cli.nn.features import FeatureNetwork, random_features, vgg_arch
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.registry import load_family
from aigc_cli.run.checkpoint import file_digest, load_checkpoint
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.run.weights import load_averaged, require_fit
from aigc_cli.specs import spec_from_dict

VGG_FILES = {"vgg16": VGG16, "vgg19": VGG19}
"""Names that torchvision gives to its ImageNet weights."""


def open_features(text: str, bases: Sequence[Path] = ()) -> FeatureNetwork:
    """The network that `text` names; relative paths are tried against `bases` in turn.

        efficientnet_lite0, imagenet   that network, from `aigc model get efficientnet_lite0`
        vgg19, vgg16       torchvision's file of ImageNet weights, in AIGC_WEIGHTS or torch's cache
        PATH.pth           the same from a file of your own
        RUN or PATH.ckpt   a classifier of this toolkit
        random:vgg19, random:cnn, random:vgg16:7   random weights, of seed 0 or the one given

    Raises:
        MissingError: torchvision's file is absent; says which and where to put it.
        CheckpointError: the file is damaged, or holds the weights of something else.
        InputError: there is no such network, file or run, or the run is no classifier.
    """
    if text.startswith("random:"):
        return _random(text)
    if text in VGG_FILES:
        return _pretrained(text)
    path = next((b / text for b in (Path(), *bases) if (b / text).exists()), Path(text))
    if path.suffix in (".pth", ".pt"):
        if not path.is_file():
            raise InputError(f"features={text}: there is no such file")
        return _from_file(path)
    if not path.exists() and "/" not in text and text.startswith(("vgg", "random")):
        choices = [
            "efficientnet_lite0",
            *VGG_FILES,
            *(f"random:{name}" for name in (*VGG_DEPTHS, "cnn")),
        ]
        raise InputError(f"features={text}: no such network", hint=did_you_mean(text, choices))
    return _classifier(str(path) if path.exists() else text)


def _random(text: str) -> FeatureNetwork:
    name, _, seed = text.removeprefix("random:").partition(":")
    if seed and not seed.isdecimal():
        raise InputError(f"features={text}: the seed '{seed}' is no whole number")
    return random_features(name, int(seed or 0))


def _pretrained(name: str) -> FeatureNetwork:
    file = VGG_FILES[name]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    how = (
        f"put {published()[file]} there or into {cache}; without it take a "
        f"classifier's run or random:{name}"
    )
    state = load_state(file, None, [cache / file], how=how)
    return _vgg(name, state, file)


def _from_file(path: Path) -> FeatureNetwork:
    state = load_state(path.name, path.parent, [], how="name a file that exists")
    convolutions = sum(v.ndim == 4 for v in state.values())
    name = {sum(depths): name for name, depths in VGG_DEPTHS.items()}.get(convolutions)
    if name is None:
        raise CheckpointError(
            f"{path}: not the weights of vgg16 or vgg19 ({convolutions} convolutions)",
            hint="only torchvision's layout is read; a classifier of aigc is named by its run or "
            ".ckpt file",
        )
    return _vgg(name, state, str(path))


def _vgg(name: str, state: dict[str, Tensor], file: str) -> FeatureNetwork:
    """torchvision's `features.<number>.weight` or `<number>.weight` -> our names, by order."""
    prefix = "features." if any(k.startswith("features.") for k in state) else ""
    kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    chain = vgg(name)
    fill(nn.Sequential(*chain), kept, file)
    return FeatureNetwork(chain, vgg_arch(name), f"{name} {Path(file).name}")


def _classifier(source: str) -> FeatureNetwork:
    path = find_checkpoint(source)
    state = load_checkpoint(path)
    family = state["recipe"].get("family")
    if family != "classifier":
        raise InputError(
            f"{path}: a checkpoint of family {family}, which has no features",
            hint="name a run of family classifier",
        )
    recipe_path = Path(state["recipe_path"]) if state["recipe_path"] else None
    recipe = recipe_from_dict(state["recipe"], recipe_path)
    model = load_family(family).Model(recipe.model, spec_from_dict(state["spec"]))
    require_fit(model, state, path)
    load_averaged(model, state, ema=True)
    arch = model.arch
    if arch["name"] == "efficientnet_lite0":
        fold(model.net)
        arch = {**arch, "folded": True}
    stamp = f"classifier {recipe.name} {path.name}"
    if not Path(source).exists() and is_model(source):
        stamp = f"{path.parent.name} of ImageNet, {file_digest(path)[:12]}"
    return FeatureNetwork(model.net, arch, stamp)

"""Weights of others as checkpoints of ours: the networks of the catalogue, by name of `convert`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_cli import __version__
from aigc_cli.errors import CheckpointError
from aigc_cli.nn.classifier import build
from aigc_cli.nn.efficientnet_lite import SIZE, from_published
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.checkpoint import FORMAT, save_checkpoint
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec


def write_imported(
    out: Path, recipe: Mapping[str, Any], spec: Spec, weights: Mapping[str, Tensor]
) -> None:
    """A checkpoint at step 0 that samples, evaluates and starts runs like any other.

    Raises:
        DiskFullError, OutputError: it cannot be written.
    """
    resolved = recipe_from_dict({**recipe, "trainer": {"max_steps": 1}})
    save_checkpoint(
        {
            "format": FORMAT,
            "aigc": __version__,
            "torch": str(torch.__version__),
            "step": 0,
            "samples": 0,
            "recipe": resolved.as_dict(),
            "recipe_path": None,
            "spec": spec.as_dict(),
            "weights": dict(weights),
            "ema": None,
            "optimizers": [],
            "scaler": None,
            "best": None,
            "features": None,
        },
        out,
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name of torch's format or of safetensors; what could run code is refused.

    Raises:
        CheckpointError: damaged, pickled code, or something else than tensors by name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged, no file of weights, or one that asks to run code"
        ) from error
    for wrapper in ("state_dict", "params_ema", "params"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no tensors by name")
    return state


def efficientnet(file: Path, folder: Path) -> None:
    """EfficientNet-Lite0 as a classifier of ImageNet's 1,000 classes."""
    from torchvision.models import EfficientNet_B0_Weights  # it lists the classes in their order

    labels = tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
    with torch.device("meta"):
        arch = {"name": "efficientnet_lite0", "channels": 3, "num_classes": len(labels)}
        own = build({**arch, "dropout": 0.0}).state_dict()
    try:
        weights = from_published(read_tensors(file), own)
    except ValueError as error:
        raise CheckpointError(f"{file}: not the weights of EfficientNet-Lite0: {error}") from error
    recipe = {
        "family": "classifier",
        "data": {"kind": "images", "train": "ImageNet", "channels": 3, "image_size": SIZE},
        "model": {"arch": "efficientnet_lite0", "dropout": 0.2},
    }
    named = {f"net.{name}": tensor for name, tensor in weights.items()}
    write_imported(folder / "model.ckpt", recipe, ImageSpec(3, SIZE, labels), named)


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"efficientnet": efficientnet}
"""By `convert` of an entry: (published file, new folder) -> None."""

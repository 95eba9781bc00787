"""What becomes of the published files of the catalogue: a checkpoint of ours, by `convert`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from aigc_cli.errors import CheckpointError
from aigc_cli.nn.classifier import build
from aigc_cli.nn.efficientnet_lite import SIZE, from_published
from aigc_cli.run.foreign import read_foreign, write_foreign
from aigc_cli.run.imported import read_tensors, write_imported
from aigc_cli.specs.image import ImageSpec


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


def language(file: Path, folder: Path) -> None:
    """A language model of another program as chat or lm."""
    write_foreign(read_foreign(file), folder / "model.ckpt")


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "efficientnet": efficientnet,
    "language": language,
}
"""By `convert` of an entry: (published file, new folder) -> None."""

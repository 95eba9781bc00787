"""What becomes of the published files of the catalogue, by `convert`: a checkpoint of ours, or the
folder of an encoder of sentences.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from aigc_cli.errors import CheckpointError
from aigc_cli.nn.bert import read_encoder
from aigc_cli.nn.classifier import build
from aigc_cli.nn.efficientnet_lite import SIZE, from_published
from aigc_cli.nn.voice import VoiceEncoder
from aigc_cli.run.foreign import read_foreign, write_foreign
from aigc_cli.run.imported import read_tensors, write_imported
from aigc_cli.specs.image import ImageSpec
from aigc_cli.text.folder import TEXT_LIMIT


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


ENCODER_FILES = {
    "config.json": 1 << 20,
    "sentence_bert_config.json": 1 << 20,
    "tokenizer.json": TEXT_LIMIT,
    "tokenizer_config.json": 1 << 20,
    "model.safetensors": 2 << 30,
}
"""Files of an encoder of sentences, and the most bytes that each may have."""


def encoder(file: Path, folder: Path) -> None:
    """A zip with the folder of a BERT: that folder, as transformers and nn/bert.py read it."""
    made = folder / "model"
    made.mkdir()
    try:
        with zipfile.ZipFile(file) as archive:
            for name, most in ENCODER_FILES.items():
                if archive.getinfo(name).file_size > most:
                    raise CheckpointError(f"{file}: {name} is larger than {most >> 20} MiB")
                (made / name).write_bytes(archive.read(name))
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise CheckpointError(f"{file}: damaged, or no folder of a BERT in a zip") from error
    read_encoder(made)


def voices(file: Path, folder: Path) -> None:
    """An encoder of voices, without what its training left."""
    from safetensors.torch import save_file

    weights = {
        name: tensor.contiguous()
        for name, tensor in read_tensors(file).items()
        if name.startswith(("lstm.", "linear."))
    }
    try:
        VoiceEncoder().load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: not the weights of an encoder of voices") from error
    (folder / "model").mkdir()
    save_file(weights, folder / "model" / "model.safetensors")


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "efficientnet": efficientnet,
    "language": language,
    "encoder": encoder,
    "voices": voices,
}
"""By `convert` of an entry: (published file, new folder) -> None."""

"""What can give features of things: the things themselves, pretrained networks, trained models."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aigc_cli.augment._augmentation import Augmentation
from aigc_cli.data._images import in_8_bits
from aigc_cli.data.images import fitted
from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.media.image import Raster, to_tensor
from aigc_cli.modalities import find_modality
from aigc_cli.modalities._modality import Input, Task
from aigc_cli.models._classifier import ClassifierModule
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.run.features import VGG_FILES, open_features
from aigc_cli.run.trained import load_trained
from aigc_cli.specs.image import ImageSpec

RAW, NAMES = "raw", "names"
SIDE = 32  # pixels of raw images at most
LEAST = 64  # pixels that networks for photographs see at least
BINS = 512  # into which words of names are hashed
PREFERRED = ("encoder", "discriminator", "net")
"""Networks of a model that give features, where none is named."""

Values = NDArray[np.float32]


class Encoder(ABC):
    """Gives features (B, D) of B things and their names."""

    name: str

    @abstractmethod
    def __call__(self, things: Sequence[Any], names: Sequence[str]) -> Values: ...


def open_encoder(text: str, augmentation: Augmentation, modality: str, device: str) -> Encoder:
    """What `text` names:

        raw                   pixels of small images, else what `Augmentation.features` says
        names                 words of the names of files; code points become their Unicode names
        efficientnet_lite0, vgg19, random:cnn    networks for images, as in recipes (`features`)
        minilm                sentence encoder, for texts
        RUN|CKPT[:NETWORK]    a network of a trained model: what its last layer is given, and of an
                              encoder what it answers

    Raises:
        InputError: there is none, or it takes other things. MissingError: its weights are not here.
    """
    if text == RAW:
        return Raw(augmentation)
    if text == NAMES:
        return Names()
    if text == "minilm":
        if modality != "text":
            raise InputError(f"--with {text}: is for texts, and the data is {_title(modality)}")
        return Sentences(text)
    known = text in ("efficientnet_lite0", "imagenet", *VGG_FILES) or text.startswith("random:")
    if known:
        if modality != "image":
            raise InputError(f"--with {text}: is for images, and the data is {_title(modality)}")
        return Pretrained(text)
    source, colon, network = text.rpartition(":")
    if not colon or Path(text).exists():
        source, network = text, ""
    return Learned(text, source, network, modality, device)


def _title(modality: str) -> str:
    return find_modality(modality).title


class Raw(Encoder):
    """The things themselves."""

    name = RAW

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation

    def __call__(self, things: Sequence[Any], names: Sequence[str]) -> Values:
        if not isinstance(things[0], Raster):
            return _rows([self.augmentation.features(thing) for thing in things])
        rows = []
        for picture in things:
            side = min(SIDE, picture.width, picture.height)
            channels = 1 if picture.channels == 1 else 3
            rows.append(to_tensor(fitted(in_8_bits(picture, channels), side, "stretch")).flatten())
        if len({len(row) for row in rows}) > 1:
            raise InputError(
                "raw: images differ in size or color", hint="name a network with --with"
            )
        return _rows(rows)


class Names(Encoder):
    """Words of file names, each hashed into one of BINS; so an image has a text beside it."""

    name = NAMES

    def __call__(self, things: Sequence[Any], names: Sequence[str]) -> Values:
        found = np.zeros((len(names), BINS), np.float32)
        for row, name in zip(found, names, strict=True):
            for word in words_of(name):
                digest = blake2b(word.encode(), digest_size=4).digest()
                row[int.from_bytes(digest) % BINS] += 1
        return found


def words_of(name: str) -> list[str]:
    """Words of the name of a file.

    >>> words_of("faces/1f600.png"), words_of("x/red_car-2.jpg")
    (['grinning', 'face'], ['red', 'car', '2'])
    """
    stem = PurePosixPath(name).stem.lower()
    points = re.findall(r"(?:^|[-_ ])(?:u\+?)?([0-9a-f]{4,6})(?=$|[-_ ])", stem)
    if points:
        stem = " ".join(unicodedata.name(chr(int(p, 16)), "") for p in points
                        if int(p, 16) < 0x110000).lower()  # fmt: skip
    return re.findall(r"[^\W_]+", stem)


class Sentences(Encoder):
    """Vectors of whole texts."""

    def __init__(self, name: str) -> None:
        from aigc_cli.nn.bert import open_encoder as open_bert

        self.name, self.encoder = name, open_bert(name)

    def __call__(self, things: Sequence[Any], names: Sequence[str]) -> Values:
        return _rows(self.encoder.encode([str(thing) for thing in things]))


class Pretrained(Encoder):
    """A network for photographs: the mean of its last map, or what lies before its classes."""

    def __init__(self, text: str) -> None:
        self.name, self.network = text, open_features(text)
        layers = self.network.layers
        self.layer = "pooled" if "pooled" in layers else layers[-1]

    def __call__(self, things: Sequence[Any], names: Sequence[str]) -> Values:
        network: FeatureNetwork = self.network
        rows = []
        for picture in things:
            side = max(LEAST, min(picture.width, picture.height, 224))
            image = to_tensor(fitted(in_8_bits(picture, network.in_channels), side, "crop"))
            with torch.no_grad():
                rows.append(_flat(network(image[None], [self.layer])[self.layer])[0])
        return _rows(rows)


class _Reached(Exception):
    def __init__(self, x: Tensor) -> None:
        self.x = x


class Learned(Encoder):
    """A network of a trained model."""

    def __init__(self, text: str, source: str, network: str, modality: str, device: str) -> None:
        trained = load_trained(source, device=device)
        model = trained.model
        networks = model.networks()
        choice = network or next((name for name in PREFERRED if name in networks), "")
        if choice not in networks:
            raise InputError(
                f"--with {text}: has no network '{choice or PREFERRED[0]}'",
                hint=did_you_mean(choice, networks) if choice else "name one: RUN:NETWORK",
            )
        takes = "image" if isinstance(model.spec, ImageSpec) else model.takes
        if takes != modality or not isinstance(model, (ClassifierModule, nn.Module)):
            raise InputError(
                f"--with {text}: its networks do not see {_title(modality)} by themselves"
            )
        if not isinstance(model.spec, ImageSpec) and not isinstance(model, ClassifierModule):
            raise InputError(f"--with {text}: only classifiers of {_title(modality)} give features")
        self.name, self.model, self.choice = text, model, choice
        self.network = networks[choice]
        self.takes, self.task = find_modality(modality), Task(model, trained.recipe)
        weighted = [m for m in self.network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        if not weighted:
            raise InputError(f"--with {text}: '{choice}' has no layers of weights")
        self.last = weighted[-1]

    @torch.no_grad()
    def __call__(self, things: Sequence[Any], names: Sequence[str]) -> Values:
        given = self.takes.fitted([Input("", thing, thing) for thing in things], self.task)
        if self.choice == "encoder":
            made = self.network(torch.stack(list(given)).to(self.model.device))
            return _rows(_flat(made[0] if isinstance(made, tuple) else made))

        def reached(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            raise _Reached(inputs[0])

        hook = self.last.register_forward_pre_hook(reached)
        try:
            if isinstance(self.model, ClassifierModule):
                self.model.classify_things(given)
            else:
                self.network(torch.stack(list(given)).to(self.model.device))
        except _Reached as found:
            return _rows(_flat(found.x))
        finally:
            hook.remove()
        raise InputError(f"--with {self.name}: '{self.choice}' does not come to its last layer")


def _flat(x: Tensor) -> Tensor:
    """Maps (B, C, H, W) -> their means (B, C); sequences (B, T, D) -> (B, D)."""
    if x.ndim == 4:
        return F.adaptive_avg_pool2d(x, 1).flatten(1)
    return x.mean(1) if x.ndim == 3 else x


def _rows(rows: Sequence[Tensor] | Tensor) -> Values:
    stacked = rows if isinstance(rows, Tensor) else torch.stack(list(rows))
    values: Values = stacked.float().cpu().numpy()
    return values

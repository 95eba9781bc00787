"""Classifier: names the class of an image; its layers serve as features elsewhere.

Plain convolutional network in the manner of VGG (Simonyan and Zisserman, 2015,
https://arxiv.org/abs/1409.1556) with batch normalization, ResNet (He et al., 2016,
https://arxiv.org/abs/1512.03385, torchvision's blocks) or a multilayer perceptron. Cross-entropy
with label smoothing (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567).

Differs from the papers:
* cnn ends in one global average and one linear layer instead of VGG's three;
* ResNet on images below 64 pixels begins with one 3x3 convolution of stride 1 and no pooling, as
  section 4.2 of the ResNet paper does on CIFAR-10.

Another classifier's weights, by `init_from`, give a new head the layers below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from aigc_cli.errors import DataError, InputError
from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models._classifier import ClassifierModule, judged
from aigc_cli.nn.adam import fused_adamw
from aigc_cli.nn.classifier import build, pictures_for
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec

DIAL = Dial(
    goals=("classify",),
    sizes=(
        {"data.image_size": 32, "model.widths": [16, 32, 64], "model.depths": [1, 1, 1]},
        {"data.image_size": 32, "model.widths": [32, 64, 128], "model.depths": [1, 2, 2]},
        {"data.image_size": 64, "model.widths": [32, 64, 128], "model.depths": [2, 2, 2]},
    ),
    steps=1200,
    always={
        "model.label_smoothing": 0.02, "model.lr": 3e-3, "model.weight_decay": 0.02,
        "trainer.global_batch": 128, "trainer.channels_last": True, "trainer.clip_norm": 1.0,
    },
    needs="classes",
    starts={
        "efficientnet_lite0": Dial(
            goals=("classify",),
            sizes=tuple({"data.image_size": side} for side in (64, 96, 128, 192)),
            steps=150,
            always={
                "model.arch": "efficientnet_lite0", "model.dropout": 0.2,
                "model.label_smoothing": 0.1, "model.shift": 4, "model.zoom": 0.2,
                "model.lr": 1e-3, "model.weight_decay": 0.01, "data.flip": True,
                "trainer.global_batch": 16, "trainer.channels_last": True,
                "trainer.clip_norm": 1.0,
            },
            needs="photographs",
        ),
    },
)  # fmt: skip


class Config(Section):
    """The network, its optimizer, and how training images are varied."""

    TINY: ClassVar[Mapping[str, Any]] = {"widths": (4, 8), "depths": (1, 1)}

    arch: Literal["cnn", "resnet18", "resnet34", "resnet50", "efficientnet_lite0", "mlp"] = "cnn"
    """cnn: plain stages of convolutions; efficientnet_lite0: for RGB; with init_from of that name
    it starts from what ImageNet taught.
    """
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """cnn: channels of each stage, between which the resolution is halved; mlp: units of each
    hidden layer.
    """
    depths: tuple[int, ...] = (2, 2, 2, 2)
    """cnn: 3x3 convolutions of each stage."""
    norm: bool = True
    """cnn: batch normalization before each ReLU."""
    stem: Literal["auto", "small", "large"] = "auto"
    """resnet: small keeps the resolution; large reduces it 4 times; auto: small below 64 pixels."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Part of the features that is zeroed before the last layer; mlp: before every layer."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Part of the target that is spread evenly over all classes."""
    shift: int = Field(0, ge=0, le=256)
    """Pixels by which training images are moved at most, in each direction; the edge is repeated.
    """
    zoom: float = Field(0.0, ge=0, lt=1)
    """Part of a training image's side that is cut off at most before it is upscaled again."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """sgd has Nesterov momentum 0.9."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Learning rate before the schedule; for sgd about 0.1."""
    weight_decay: float = Field(1e-2, ge=0, le=1)
    """Decay of the weights, not of biases and normalizations; for sgd about 5e-4."""

    @model_validator(mode="after")
    def _stages_agree(self) -> Config:
        if not self.widths or min(self.widths) < 1:
            raise ValueError("widths must name one or more layers of 1 or more channels")
        if self.arch == "cnn" and (len(self.depths) != len(self.widths) or min(self.depths) < 1):
            raise ValueError(
                f"depths needs {len(self.widths)} numbers of 1 or more, one for each of widths"
            )
        return self


def describe(config: Config, spec: ImageSpec) -> dict[str, Any]:
    """The plain description from which nn/classifier.py builds the network.

    Raises:
        DataError: the data has no classes, or fewer than two.
        InputError: the images are too small for the stages.
    """
    if spec.labels is None:
        raise DataError(
            "a classifier needs classes, and the data has none",
            hint="put the images of each class into a folder of its name below data.train",
            code="unlabeled",
        )
    if len(spec.labels) < 2:
        raise DataError(f"the data has one class, {spec.labels[0]!r}: there is nothing to tell")
    least = 2 ** (len(config.widths) - 1)
    if config.arch == "cnn" and spec.image_size < least:
        raise InputError(
            f"model.widths: {len(config.widths)} stages need images of {least} pixels, "
            f"data.image_size is {spec.image_size}"
        )
    small = config.stem == "small" or (config.stem == "auto" and spec.image_size < 64)
    return {
        "name": config.arch,
        "channels": spec.channels,
        "image_size": spec.image_size,
        "num_classes": len(spec.labels),
        "widths": list(config.widths),
        "depths": list(config.depths),
        "norm": config.norm,
        "dropout": config.dropout,
        "small_stem": small,
        "pooling": "max",
        "padding": "zeros",
    }


class Model(ClassifierModule):
    """Cross-entropy; the moving average of the weights, where one is kept, names the classes."""

    accepts = (ImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "accuracy": "max",
        "cross_entropy": "min",
    }
    averaged = ("net",)
    takes = "image"
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, ImageSpec)
        self.arch = describe(config, spec)
        self.net = build(self.arch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": c.weight_decay},
            {"params": [p for p in self.net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if c.optimizer == "sgd":
            return torch.optim.SGD(groups, c.lr, momentum=0.9, nesterov=True, foreach=True)
        return fused_adamw(groups, c.lr)

    def loss(self, batch: Batch) -> Terms:
        logits, label = self.net(self._varied(batch["image"])), batch["label"]
        loss = F.cross_entropy(logits, label, label_smoothing=self.config.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(1) == label).float().mean()}

    def _varied(self, images: Tensor) -> Tensor:
        """Each image moved and upscaled by its own random amounts, bilinearly."""
        shift, zoom = self.config.shift, self.config.zoom
        if not shift and not zoom:
            return images
        B, S = len(images), images.shape[-1]
        theta = images.new_zeros(B, 2, 3)
        scale = 1 - zoom * self.rand(B)
        pixels = torch.floor((2 * shift + 1) * self.rand(B, 2)) - shift
        theta[:, 0, 0] = theta[:, 1, 1] = scale
        theta[:, :, 2] = pixels * 2 / S
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return judged(self.net(batch["image"]).float(), batch["label"])

    def example(self, batch: Batch, options: Options) -> Example:
        assert isinstance(self.spec, ImageSpec)
        names = self.spec.labels or ()
        return Example(batch["image"][0], beside={"class": names[int(batch["label"][0])]})

    def batch_of(self, things: Sequence[Tensor]) -> Batch:
        return {"image": torch.stack(list(things))}

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Probabilities (B, K) of the classes in `spec.labels` for images (B, C, S, S)."""
        logits: Tensor = self.net(pictures_for(self.arch, batch["image"])).float()
        return logits.softmax(1)


class Options(Section):
    """What `aigc sample` may set: nothing."""

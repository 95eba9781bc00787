"""Base of the families that find objects: what they have in common but for the network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.media.boxes import Boxes
from aigc_cli.metrics.boxes._coco import image_ap, measure_coco, require_backend
from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models._yardstick import Scores, YardstickModule
from aigc_cli.nn.adam import fused_adamw
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.boxes import BoxesSpec


class BackboneConfig(Section):
    """The network below the detector, and the optimizer."""

    backbone: Literal["cnn", "efficientnet_lite0"] = "cnn"
    """cnn: residual blocks of convolutions; efficientnet_lite0: with init_from of that name it
    starts from what ImageNet taught.
    """
    widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    """cnn: channels of the stages, each of half the resolution of the one before."""
    neck: int = Field(64, ge=4, le=512)
    """Channels of the feature maps in which objects are looked for, at strides 8, 16 and 32."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Learning rate before the schedule."""
    backbone_lr: float = Field(1.0, gt=0, le=1)
    """That of the backbone, as a part of `lr`: less where it is pretrained."""
    weight_decay: float = Field(1e-2, ge=0, le=1)
    """Decay of the weights, not of biases and normalizations."""


class Options(Section):
    """Which of the boxes that are found are told."""

    score: float = Field(0.3, ge=0, le=1)
    """Least sureness of a box."""
    overlap: float = Field(0.5, gt=0, le=1)
    """Of two boxes of one class that overlap by more (IoU) only the surer is told."""
    most: int = Field(100, ge=1, le=1000)
    """Boxes of an image at most, the surest."""


JUDGED = Options(score=0.01)
"""As COCO judges: nearly all boxes count, by how sure they are."""


class DetectorModule(YardstickModule):
    """A family writes `network`, which has the member `backbone`, `losses` and `raw`.
    Each image counts the same in the loss, whatever there is in it.
    """

    accepts = (BoxesSpec,)
    takes = "image"
    makes: ClassVar[str] = "boxes"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"image_ap_50": "max"}
    averaged = ("net",)
    judged = JUDGED
    scores: ClassVar = {"map_50": "mAP at 0.5", "map": "mAP"}
    decisive: ClassVar = "map_50"
    class_score: ClassVar = "AP at 0.5"
    of_classes: ClassVar = False
    config: BackboneConfig
    net: nn.Module

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, BoxesSpec)
        self.labels = spec.labels
        self.canvas = (spec.height, spec.width)
        self.mean_boxes = np.asarray(spec.mean_boxes).reshape(-1, 4)
        try:
            self.net = self.network()
        except ValueError as error:
            raise InputError(f"model.{error}") from error

    # What a family writes.

    @abstractmethod
    def network(self) -> nn.Module:
        """`net`, for `config`, `labels` and `canvas`; a ValueError names the key that is wrong."""

    @abstractmethod
    def losses(self, images: Tensor, targets: Sequence[tuple[Tensor, Tensor]]) -> Terms:
        """Terms of the loss of images (B, 3, H, W), each a mean over the images; a target is boxes
        (N, 4) and classes (N,).
        """

    @abstractmethod
    def raw(self, images: Tensor, score: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image boxes (M, 4), their scores (M,) of at least `score`, and classes (M,),
        before those that overlap are left out.
        """

    # What follows.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c, groups = self.config, []
        for is_backbone in (True, False):
            for decays in (True, False):
                weights = [
                    p
                    for name, p in self.net.named_parameters()
                    if p.requires_grad
                    and name.startswith("backbone.") == is_backbone
                    and (p.ndim > 1) == decays
                ]
                groups.append({
                    "params": weights,
                    "lr": c.lr * (c.backbone_lr if is_backbone else 1.0),
                    "weight_decay": c.weight_decay if decays else 0.0,
                })  # fmt: skip
        return fused_adamw([group for group in groups if group["params"]], c.lr)

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> Mapping[str, Tensor]:
        """Of a classifier its layers, for the backbone."""
        if any(name.startswith("net.backbone.") for name in weights):
            return weights
        return {f"net.backbone.{name.removeprefix('net.')}": w for name, w in weights.items()}

    def loss(self, batch: Batch) -> Terms:
        there = batch["classes"] >= 0
        targets = [
            (boxes[real], classes[real])
            for boxes, classes, real in zip(batch["boxes"], batch["classes"], there, strict=True)
        ]
        terms = self.losses(batch["image"], targets)
        return {"loss": torch.stack([*terms.values()]).sum(), **terms}

    def find(self, images: Tensor, options: Options) -> list[Boxes]:
        """The objects in images (B, 3, H, W) of the size trained with, the surest first."""
        from torchvision.ops import batched_nms  # takes seconds

        H, W = self.canvas
        found = []
        for boxes, scores, classes in self.raw(images, options.score):
            boxes = boxes.float().clamp(min=0)
            boxes = torch.minimum(boxes, boxes.new_tensor([W, H, W, H]))
            kept = (boxes[:, 2:] > boxes[:, :2]).all(1).nonzero()[:, 0]
            boxes, scores, classes = boxes[kept], scores[kept].float(), classes[kept]
            kept = batched_nms(boxes, scores, classes, options.overlap)[: options.most]
            names = tuple(self.labels[i] for i in classes[kept].tolist())
            found.append(Boxes(_numbers(boxes[kept]), names, _numbers(scores[kept])))
        return found

    def real(self, batch: Batch) -> list[Boxes]:
        """What is there in the images of a batch."""
        found = []
        for boxes, classes in zip(batch["boxes"], batch["classes"], strict=True):
            there = classes >= 0
            names = tuple(self.labels[i] for i in classes[there].tolist())
            found.append(Boxes(_numbers(boxes[there]), names))
        return found

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return self._judge(self.find(batch["image"], JUDGED), batch)

    @classmethod
    def require_scores(cls) -> None:
        require_backend()

    def score(self, batches: Iterable[Batch]) -> Scores:
        found: list[Boxes] = []
        target: list[Boxes] = []
        for batch in batches:
            found += self.find(batch["image"], JUDGED)
            target += self.real(batch)
        values = measure_coco(found, target)
        return Scores(
            {key: values[key] for key in self.scores},
            {row["class"]: row["AP at 0.5"] for row in values["classes"]},
            len(target),
        )

    def _judge(self, found: Sequence[Boxes], batch: Batch) -> dict[str, Tensor]:
        values = [image_ap(one, real) for one, real in zip(found, self.real(batch), strict=True)]
        return {"image_ap_50": torch.tensor(values)}

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """One box of each class, the mean of those that training has."""
        H, W = self.canvas
        mean = Boxes(self.mean_boxes * (W, H, W, H), self.labels, np.ones(len(self.labels)))
        return {"mean box": self._judge([mean] * len(batch["image"]), batch)}

    def example(self, batch: Batch, options: Options) -> Example:
        return Example(batch["image"][0], beside={"as it is": self.real(batch)[0]})

    def sample(
        self, noise: SampleNoise, options: Any, given: Any = None, references: Any = ()
    ) -> list[Boxes]:
        """The objects in an image (3, h, w) of any size, in its pixels."""
        h, w = given.shape[1:]
        canvas, scale = self.fit(given)
        (found,) = self.find(canvas[None], options)
        boxes = np.clip(found.boxes / scale, 0, (w, h, w, h))
        seen = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))  # not beside the image
        return [Boxes(boxes, found.names, found.scores).some(seen.tolist())] * noise.count

    def fit(self, image: Tensor) -> tuple[Tensor, float]:
        """An image (3, h, w) at the upper left of the canvas (3, H, W), as large as it fits; and
        by how much it grew.
        """
        (h, w), (H, W) = image.shape[1:], self.canvas
        scale = min(W / w, H / h)
        size = (min(H, max(1, round(h * scale))), min(W, max(1, round(w * scale))))
        if size != (h, w):
            image = F.interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(-1, 1)
        return F.pad(image, (0, W - size[1], 0, H - size[0])), scale


class DenseModule(DetectorModule):
    """A family that looks once: every place tells a box and how sure it is of each class."""

    @abstractmethod
    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of images (B, 3, H, W) the boxes (B, A, 4) in pixels and scores (B, A, K) of A places."""

    def raw(self, images: Tensor, score: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        found = []
        for boxes, scores in zip(*self.dense(images), strict=True):
            place, number = (scores >= score).nonzero(as_tuple=True)
            found.append((boxes[place], scores[place, number], number))
        return found


def _numbers(values: Tensor) -> np.ndarray:
    numbers: np.ndarray = values.detach().double().cpu().numpy()
    return numbers

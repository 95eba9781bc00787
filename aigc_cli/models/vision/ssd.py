"""Finds objects in one look, from default boxes of several maps (SSD).

Liu et al., 2016, https://arxiv.org/abs/1512.02325. Default boxes, matching, head and loss, which
looks for the hardest background, are torchvision's.

Differs from the paper: a small backbone with a feature pyramid; each image counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.models._base import Terms
from aigc_cli.models.vision._detector import BackboneConfig, DenseModule
from aigc_cli.models.vision._detector import Options as DetectorOptions
from aigc_cli.nn.pyramid import STRIDES, Pyramid, backbone, groups_of


class Config(BackboneConfig):
    """The network and its default boxes."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "widths": (4, 4, 8, 8, 8), "neck": 8, "scales": (0.12, 0.22, 0.44, 0.8),
    }  # fmt: skip

    scales: tuple[float, ...] = (0.06, 0.14, 0.28, 0.5, 0.9)
    """Sides of the default boxes of each map as parts of the image's, and one more, between which
    and the last a square lies; beyond three, each is a map of half the resolution.
    """
    ratio: float = Field(2.0, gt=1, le=8)
    """Of the sides of default boxes that are not square."""
    negatives: int = Field(3, ge=1, le=100)
    """Default boxes on the background that learn, for each on an object."""

    @model_validator(mode="after")
    def _scales_rise(self) -> Config:
        rising = all(a < b for a, b in zip(self.scales, self.scales[1:], strict=False))
        if not 4 <= len(self.scales) <= 7 or not rising or self.scales[0] <= 0:
            raise ValueError("scales needs four to seven numbers that rise, above 0")
        return self


class Net(nn.Module):
    """Images (B, 3, H, W) -> classes (B, A, K + 1), boxes as offsets (B, A, 4), default boxes."""

    def __init__(self, config: Config, classes: int, canvas: tuple[int, int]) -> None:
        from torchvision.models.detection.anchor_utils import DefaultBoxGenerator  # takes seconds
        from torchvision.models.detection.ssd import SSD, SSDHead

        super().__init__()
        self.backbone = backbone(config.backbone, config.widths)
        self.pyramid = Pyramid(self.backbone.channels, config.neck)
        width, levels = config.neck, len(config.scales) - 1
        self.coarser = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, 2, padding=1, bias=False),
                nn.GroupNorm(groups_of(width), width),
                nn.ReLU(),
            )
            for _ in range(levels - len(STRIDES))
        )
        defaults = DefaultBoxGenerator([[config.ratio]] * levels, scales=list(config.scales))
        counts = defaults.num_anchors_per_location()
        head = SSDHead([width] * levels, counts, classes + 1)
        self.ssd = SSD(
            nn.Identity(), defaults, canvas, classes + 1, head=head,
            positive_fraction=1 / (1 + config.negatives),
        )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from torchvision.models.detection.image_list import ImageList

        maps = self.pyramid(self.backbone.maps(images))
        for layer in self.coarser:
            maps.append(layer(maps[-1]))
        found = self.ssd.head(maps)
        size = [(int(images.shape[2]), int(images.shape[3]))]
        defaults: Tensor = self.ssd.anchor_generator(ImageList(images[:1], size), maps)[0]
        return found["cls_logits"].float(), found["bbox_regression"].float(), defaults


class Model(DenseModule):
    """Cross-entropy of default boxes, and smooth L1 of those on objects."""

    config: Config
    net: Net

    def network(self) -> Net:
        return Net(self.config, len(self.labels), self.canvas)

    def losses(self, images: Tensor, targets: Sequence[tuple[Tensor, Tensor]]) -> Terms:
        from torchvision.ops import box_iou

        logits, offsets, defaults = self.net(images)
        ssd = self.net.ssd
        terms: dict[str, list[Tensor]] = {"classes": [], "boxes": []}
        for i, (boxes, classes) in enumerate(targets):
            matched = torch.full((len(defaults),), -1, device=images.device)
            if len(boxes):
                matched = ssd.proposal_matcher(box_iou(boxes, defaults))
            target = {"boxes": boxes, "labels": classes + 1}  # 0 is what is no object
            outputs = {"cls_logits": logits[i : i + 1], "bbox_regression": offsets[i : i + 1]}
            found = ssd.compute_loss([target], outputs, [defaults], [matched])
            terms["classes"].append(found["classification"])
            terms["boxes"].append(found["bbox_regression"])
        return {name: torch.stack(values).mean() for name, values in terms.items()}

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, offsets, defaults = self.net(images)
        around = defaults.expand_as(offsets).flatten(0, 1)
        boxes: Tensor = self.net.ssd.box_coder.decode_single(offsets.flatten(0, 1), around)
        return boxes.view_as(offsets), logits.softmax(-1)[..., 1:]


class Options(DetectorOptions):
    """Which of the boxes that are found are told."""

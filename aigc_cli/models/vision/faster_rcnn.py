"""Finds objects in two steps: where something is, then what it is (Faster R-CNN).

Ren et al., 2015, https://arxiv.org/abs/1506.01497, over a feature pyramid (Lin et al., 2017).
Region proposals, their pooling, matching and losses are torchvision's.

Differs from the paper: a small backbone, and maps at strides 8, 16 and 32; each image counts the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.models._base import Terms
from aigc_cli.models.vision._detector import JUDGED, BackboneConfig, DetectorModule
from aigc_cli.models.vision._detector import Options as DetectorOptions
from aigc_cli.nn.pyramid import STRIDES, Pyramid, backbone

POOLED = 7  # places of a side of what is pooled of a region
RATIOS = (0.5, 1.0, 2.0)
WITHOUT = 1.0  # IoU from which boxes are left out: none here, `find` does it


class Config(BackboneConfig):
    """The network, its anchors, and how many regions are looked at."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "widths": (4, 4, 8, 8, 8), "neck": 8, "hidden": 8, "anchors": (8, 16, 32),
        "sampled_anchors": 10_000, "sampled_regions": 10_000, "regions": 20,
    }  # fmt: skip

    anchors: tuple[int, int, int] = (24, 48, 112)
    """Sides of the square anchors of the three maps, in pixels; each has two more shapes."""
    hidden: int = Field(256, ge=4, le=4096)
    """Units of the two layers that see a region."""
    regions: int = Field(300, ge=10, le=2000)
    """Regions of an image that are looked at, of three times as many proposed on each map."""
    sampled_anchors: int = Field(256, ge=2, le=100_000)
    """Anchors of an image that learn in a step, half of them on objects where there are so many."""
    sampled_regions: int = Field(128, ge=2, le=100_000)
    """Regions of an image that learn in a step, a quarter of them on objects at most."""


class Net(nn.Module):
    """Images (B, 3, H, W) -> maps; `rpn` and `heads` look at them."""

    def __init__(self, config: Config, classes: int) -> None:
        # here, since it takes seconds
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.roi_heads import RoIHeads
        from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
        from torchvision.ops import MultiScaleRoIAlign

        super().__init__()
        self.backbone = backbone(config.backbone, config.widths)
        self.pyramid = Pyramid(self.backbone.channels, config.neck)
        regions = {"training": config.regions, "testing": config.regions}
        self.rpn = RegionProposalNetwork(
            AnchorGenerator(tuple((side,) for side in config.anchors), (RATIOS,) * len(STRIDES)),
            RPNHead(config.neck, len(RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=config.sampled_anchors,
            positive_fraction=0.5,
            pre_nms_top_n={key: 3 * count for key, count in regions.items()},
            post_nms_top_n=regions,
            nms_thresh=0.7,
        )
        self.heads = RoIHeads(
            MultiScaleRoIAlign([str(i) for i in range(len(STRIDES))], POOLED, sampling_ratio=2),
            TwoMLPHead(config.neck * POOLED**2, config.hidden),
            FastRCNNPredictor(config.hidden, classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=config.sampled_regions,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=JUDGED.score,
            nms_thresh=WITHOUT,
            detections_per_img=1000,
        )

    def maps(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.pyramid(self.backbone.maps(images))
        return found

    def look(
        self, images: Tensor, maps: Sequence[Tensor], target: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], Terms]:
        """What is found in one image (1, 3, H, W), and while training the losses."""
        from torchvision.models.detection.image_list import ImageList

        size = [(int(images.shape[2]), int(images.shape[3]))]
        features = {str(i): x.float() for i, x in enumerate(maps)}
        targets = None if target is None else [target]
        regions, proposing = self.rpn(ImageList(images, size), features, targets)
        found, seeing = self.heads(features, regions, size, targets)
        return (found[0] if found else {}), {**proposing, **seeing}


class Model(DetectorModule):
    """Cross-entropy of regions and of their classes, and smooth L1 of both boxes."""

    config: Config
    net: Net

    def network(self) -> Net:
        return Net(self.config, len(self.labels))

    def losses(self, images: Tensor, targets: Sequence[tuple[Tensor, Tensor]]) -> Terms:
        maps = self.net.maps(images)
        terms: dict[str, list[Tensor]] = {}
        for i, (boxes, classes) in enumerate(targets):
            target = {"boxes": boxes, "labels": classes + 1}  # 0 is what is no object
            _, found = self.net.look(images[i : i + 1], [x[i : i + 1] for x in maps], target)
            for name, value in found.items():
                terms.setdefault(name.removeprefix("loss_"), []).append(value)
        return {name: torch.stack(values).mean() for name, values in terms.items()}

    def raw(self, images: Tensor, score: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        maps, found = self.net.maps(images), []
        for i in range(len(images)):
            one, _ = self.net.look(images[i : i + 1], [x[i : i + 1] for x in maps], None)
            sure = one["scores"] >= score
            found.append((one["boxes"][sure], one["scores"][sure], one["labels"][sure] - 1))
        return found


class Options(DetectorOptions):
    """Which of the boxes that are found are told."""

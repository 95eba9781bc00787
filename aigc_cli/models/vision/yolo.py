"""Finds objects in one look, without anchors: YOLO of our own.

Redmon et al., 2016, https://arxiv.org/abs/1506.02640, had the idea; what is here is of later work:

* each place of three feature maps tells the distances to the edges of a box (Tian et al., FCOS,
  2019, https://arxiv.org/abs/1904.01355);
* classes and boxes come from branches of their own (Ge et al., YOLOX, 2021,
  https://arxiv.org/abs/2107.08430);
* which places learn which object follows from how well they do (Feng et al., TOOD, 2021,
  https://arxiv.org/abs/2108.07755), whose task-aligned scores are what classes learn;
* they learn them by varifocal loss (Zhang et al., 2021, https://arxiv.org/abs/2008.13367);
* boxes are compared by GIoU (Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630).

Differs from these: one head for all maps, with group normalization, so that small batches train;
each image counts the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.models._base import Terms
from aigc_cli.models.vision._detector import BackboneConfig, DenseModule
from aigc_cli.models.vision._detector import Options as DetectorOptions
from aigc_cli.nn.pyramid import STRIDES, Pyramid, backbone, groups_of
from aigc_cli.recipe.dial import Dial

EDGE = 1.5  # strides, or so, from a place to an edge before training
PRIOR = 0.01  # of a class at a place before training, as in Lin et al., 2017 (focal loss)

DIAL = Dial(
    goals=("detect",),
    sizes=(
        {"data.width": 192, "data.height": 192, "model.widths": [8, 16, 32, 64, 96]},
        {"data.width": 320, "data.height": 320},
    ),
    steps=1000,
    always={"model.lr": 2e-3, "trainer.global_batch": 8, "trainer.clip_norm": 10.0},
    needs="boxes",
)


class Config(BackboneConfig):
    """The network and how places are given objects."""

    TINY: ClassVar[Mapping[str, Any]] = {"widths": (4, 4, 8, 8, 8), "neck": 8, "depth": 1}

    depth: int = Field(2, ge=1, le=8)
    """Convolutions of each branch of the head."""
    places: int = Field(10, ge=1, le=100)
    """Places that learn an object at most."""
    alpha: float = Field(1.0, ge=0, le=10)
    """Power of the class score by which places are chosen."""
    beta: float = Field(6.0, ge=0, le=10)
    """Power of the overlap by which places are chosen."""
    box_weight: float = Field(2.0, gt=0, le=100)
    """Of the loss of boxes; that of classes has 1."""


class Head(nn.Module):
    """Maps (B, C, H_i, W_i) -> logits (B, A, K) and edges (B, A, 4) in strides, of all places."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.classes, self.boxes = (self._branch(width, depth) for _ in range(2))
        self.logits = nn.Conv2d(width, classes, 1)
        self.edges = nn.Conv2d(width, 4, 1)
        for layer, bias in ((self.logits, -math.log((1 - PRIOR) / PRIOR)), (self.edges, EDGE)):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, bias)

    @staticmethod
    def _branch(width: int, depth: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(depth):
            conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
            layers += [conv, nn.GroupNorm(groups_of(width), width), nn.SiLU()]
        return nn.Sequential(*layers)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits = [self.logits(self.classes(x)).flatten(2) for x in maps]
        edges = [F.softplus(self.edges(self.boxes(x))).flatten(2) for x in maps]
        return torch.cat(logits, 2).mT, torch.cat(edges, 2).mT


class Net(nn.Module):
    """Images (B, 3, H, W) -> logits (B, A, K) and boxes (B, A, 4) in pixels, of all places."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.backbone = backbone(config.backbone, config.widths)
        self.pyramid = Pyramid(self.backbone.channels, config.neck)
        self.head = Head(config.neck, config.depth, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Also the places (A, 3): x, y and stride."""
        maps = self.pyramid(self.backbone.maps(images))
        places = places_of([x.shape[-2:] for x in maps], images.device)
        logits, edges = self.head(maps)
        edges = edges.float() * places[:, 2:]
        middle = places[:, :2]
        return (
            logits.float(),
            torch.cat([middle - edges[..., :2], middle + edges[..., 2:]], -1),
            (places),
        )


def places_of(sizes: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """The middle x, y of each place of the maps, and its stride: (A, 3), row by row."""
    found = []
    for (H, W), stride in zip(sizes, STRIDES, strict=True):
        y, x = torch.meshgrid(
            torch.arange(H, device=device), torch.arange(W, device=device), indexing="ij"
        )
        grid = (torch.stack([x, y], -1).float() + 0.5) * stride  # (H, W, 2)
        found.append(F.pad(grid.flatten(0, 1), (0, 1), value=stride))
    return torch.cat(found)


@torch.no_grad()
def aligned(
    scores: Tensor, boxes: Tensor, places: Tensor, real: Tensor, classes: Tensor, config: Config
) -> tuple[Tensor, Tensor]:
    """Of scores (A, K) and boxes (A, 4) of an image with N real boxes: which object each place
    learns (A,), -1 for none, and its target score (A,).

    Of the places in a box those learn it whose score^alpha * IoU^beta is highest; the best gets as
    target the IoU it has, the others less in proportion. A place in several boxes learns that which
    it overlaps most.
    """
    from torchvision.ops import box_iou  # takes seconds

    N, A = len(real), len(boxes)
    shared = box_iou(real, boxes)  # (N, A)
    x, y = places[:, 0], places[:, 1]
    inside = (x > real[:, None, 0]) & (x < real[:, None, 2])
    inside &= (y > real[:, None, 1]) & (y < real[:, None, 3])
    # An object between all places learns at the nearest one.
    middle = (real[:, None, :2] + real[:, None, 2:]) / 2
    nearest = (places[None, :, :2] - middle).square().sum(-1).argmin(1)
    inside[torch.arange(N, device=real.device), nearest] = True
    fit = scores[:, classes].T.pow(config.alpha) * shared.pow(config.beta)  # (N, A)
    fit = (fit + 1e-9).where(inside, fit.new_tensor(-1.0))
    best = fit.topk(min(config.places, A), dim=1)
    chosen = torch.zeros_like(inside).scatter_(1, best.indices, best.values > 0)
    owner = shared.where(chosen, shared.new_tensor(-1.0)).argmax(0)  # (A,)
    taken = chosen.any(0)
    chosen &= F.one_hot(owner, N).T.bool()
    top = fit.where(chosen, fit.new_tensor(0.0)).amax(1, keepdim=True).clamp(min=1e-9)
    most = shared.where(chosen, shared.new_tensor(0.0)).amax(1, keepdim=True)
    target = (fit / top * most).where(chosen, fit.new_tensor(0.0)).amax(0)
    return owner.where(taken, owner.new_tensor(-1)), target


class Model(DenseModule):
    """Binary cross-entropy of the classes against aligned scores, and GIoU of the boxes."""

    config: Config
    net: Net

    def network(self) -> Net:
        return Net(self.config, len(self.labels))

    def losses(self, images: Tensor, targets: Sequence[tuple[Tensor, Tensor]]) -> Terms:
        from torchvision.ops import generalized_box_iou_loss

        logits, boxes, places = self.net(images)
        of_classes, of_boxes = [], []
        for ours, found, (real, classes) in zip(logits, boxes, targets, strict=True):
            target = torch.zeros_like(ours)
            box = found.sum() * 0
            if len(real):
                owner, score = aligned(ours.sigmoid(), found, places, real, classes, self.config)
                learn = (owner >= 0).nonzero()[:, 0]
                target[learn, classes[owner[learn]]] = score[learn]
                apart = generalized_box_iou_loss(found[learn], real[owner[learn]])
                box = (apart * score[learn]).sum()
            whole = target.sum().clamp(min=1)
            cost = F.binary_cross_entropy_with_logits(ours, target, reduction="none")
            # Varifocal: places that learn nothing count by how sure they are.
            weight = torch.where(target > 0, target, 0.75 * ours.detach().sigmoid().square())
            of_classes.append((cost * weight).sum() / whole)
            of_boxes.append(box / whole)
        return {
            "classes": torch.stack(of_classes).mean(),
            "boxes": self.config.box_weight * torch.stack(of_boxes).mean(),
        }

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes, _ = self.net(images)
        return boxes, logits.sigmoid()


class Options(DetectorOptions):
    """Which of the boxes that are found are told."""

"""Mean average precision as COCO measures it, by torchmetrics.

Its own protocol (Lin et al., 2014, https://cocodataset.org/#detection-eval): the surest 100 boxes
of an image, 101 recalls, a mean over classes. torchmetrics leaves the matching to a backend, here
faster-coco-eval, whose numbers are those of pycocotools.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from aigc_cli.errors import MissingError
from aigc_cli.media.boxes import Boxes
from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics._metric import CorpusMetric
from aigc_cli.metrics.boxes._matching import average_precision, hits

BACKEND: Literal["faster_coco_eval"] = "faster_coco_eval"
ONE_IOU = 0.5  # of the score of one image by itself


def require_backend() -> None:
    """
    Raises:
        MissingError: the backend is not installed.
    """
    if importlib.util.find_spec(BACKEND) is None:
        raise MissingError(
            "mean average precision needs the package faster-coco-eval",
            hint="pip install faster-coco-eval",
        )


def measure_coco(preds: Sequence[Boxes], target: Sequence[Boxes]) -> dict[str, Any]:
    """`map`, `map_50` and `map_75` of N images, and `classes`: a row for each class.

    Raises:
        MissingError: the backend is not installed.
    """
    require_backend()
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    names = sorted({name for boxes in (*preds, *target) for name in boxes.names})
    number = {name: i for i, name in enumerate(names)}

    def tensors(found: Boxes, *, scored: bool) -> dict[str, torch.Tensor]:
        entry = {
            "boxes": torch.from_numpy(found.boxes).float().reshape(-1, 4),
            "labels": torch.tensor([number[name] for name in found.names], dtype=torch.long),
        }
        if scored:
            scores = np.ones(len(found)) if found.scores is None else found.scores
            entry["scores"] = torch.tensor(scores.tolist())
        return entry

    metric = MeanAveragePrecision(class_metrics=True, backend=BACKEND)
    metric.warn_on_many_detections = False  # the protocol keeps 100
    metric.update(
        [tensors(found, scored=True) for found in preds],
        [tensors(found, scored=False) for found in target],
    )
    values = metric.compute()
    by_number = dict(zip(values["classes"].reshape(-1).tolist(),
                         values["map_per_class"].reshape(-1).tolist(), strict=True))  # fmt: skip
    rows = [
        {
            "class": name,
            "boxes": sum(found.names.count(name) for found in target),
            "AP": round(by_number.get(i, -1.0), 4),
            "AP at 0.5": round(class_ap(preds, target, name), 4),
        }
        for name, i in number.items()
        if any(name in found.names for found in target)
    ]
    return {key: float(values[key]) for key in ("map", "map_50", "map_75")} | {"classes": rows}


def class_ap(
    preds: Sequence[Boxes], target: Sequence[Boxes], name: str, iou: float = ONE_IOU
) -> float:
    """Average precision of a class over N images; NaN where there is no such object."""
    scores, hit, count = [np.zeros(0)], [np.zeros(0, dtype=bool)], 0
    for found, real in zip(preds, target, strict=True):
        ours = found.some([i for i, other in enumerate(found.names) if other == name][:100])
        theirs = real.boxes[[i for i, other in enumerate(real.names) if other == name]]
        scores.append(np.ones(len(ours)) if ours.scores is None else ours.scores)
        hit.append(hits(ours.boxes, theirs, iou))
        count += len(theirs)
    return average_precision(np.concatenate(scores), np.concatenate(hit), count)


def image_ap(found: Boxes, real: Boxes) -> float:
    """The mean average precision at 0.5 of one image, over the classes in it; of an image without
    objects 1 where nothing was found, else 0.
    """
    names = sorted(set(real.names))
    if not names:
        return float(not len(found))
    return float(np.mean([class_ap([found], [real], name) for name in names]))


class MeanAP(CorpusMetric):
    """Mean average precision of all images together."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Which number of `measure_coco`."""

    def prepare(self, device: str = "cpu") -> None:
        require_backend()

    def compute(self, preds: Sequence[Boxes], refs: Sequence[Sequence[Boxes]]) -> Measured:
        target = [several[0] for several in refs]
        found = measure_coco(preds, target)
        items = [image_ap(one, other) for one, other in zip(preds, target, strict=True)]
        return Measured(self.describe(), items, found[self.key])

"""Mean average precision where boxes must overlap by 0.50 to 0.95 by 0.05."""

from __future__ import annotations

from aigc_cli.metrics.boxes._coco import MeanAP


class Metric(MeanAP):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = (
        "mean over classes of the average precision at 101 recalls, IoU 0.50 to 0.95 by 0.05, "
        "the surest 100 boxes of an image, all sizes, as COCO by torchmetrics and "
        "faster-coco-eval; items are AP at 0.5 of an image by itself"
    )
    key = "map"

"""What `aigc evaluate` says of a classifier beside its means: recall by class, confusion matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import DataLoader, Subset

from aigc_cli.media.image import Picture, write_picture
from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics.labels._classes import Counts, by_class, count
from aigc_cli.metrics.report import corpus_report
from aigc_cli.models._classifier import ClassifierModule
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained
from aigc_cli.specs.image import ImageSpec
from aigc_cli.specs.text import LabelledTextSpec

BLUE = np.array([31, 90, 160])  # of a cell that holds its whole row


def judge(
    trained: Trained,
    data: Any,
    metrics: Sequence[Metric],
    *,
    limit: int | None = None,
    save: Path | None = None,
) -> dict[str, Any]:
    """{"metrics": what is asked for, "classes": a row for each class}; `save` also gets
    confusion.png and confusion.csv, a row for each class as it is, a column for each class as it is
    named.
    """
    names = _names(trained)
    preds, target = named(trained, data, limit)
    counts = count(preds, target, names)
    if save is not None:
        write_text(save / "confusion.csv", as_csv(counts, names))
        write_picture(save / "confusion.png", draw(counts, names))
    found = corpus_report(metrics, preds, [[label] for label in target])["metrics"]
    return {"metrics": found, "classes": by_class(counts, names)}


def named(trained: Trained, data: Any, limit: int | None) -> tuple[list[str], list[str]]:
    """The labels of validation items, as the model names them and as they are."""
    names = _names(trained)
    classifier = trained.model
    assert isinstance(classifier, ClassifierModule)
    items = data.val if limit is None else Subset(data.val, range(min(limit, len(data.val))))
    size = data.val_batch_size or trained.recipe.trainer.global_batch
    preds, target = [], []
    with torch.no_grad():
        for batch in DataLoader(items, size, collate_fn=getattr(data.val, "collate", None)):
            on_device = {name: values.to(classifier.device) for name, values in batch.items()}
            found = classifier.classify(on_device).argmax(1)
            preds += [names[i] for i in found.tolist()]
            target += [names[i] for i in batch["label"].tolist()]
    return preds, target


def _names(trained: Trained) -> tuple[str, ...]:
    assert isinstance(trained.spec, (ImageSpec, LabelledTextSpec))
    assert trained.spec.labels is not None
    return trained.spec.labels


def as_csv(counts: Counts, names: Sequence[str]) -> str:
    """A table with the names of the classes on top and at the left."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["is / named", *names])
    rows.writerows([name, *map(int, row)] for name, row in zip(names, counts, strict=True))
    return text.getvalue()


def draw(counts: Counts, names: Sequence[str]) -> Picture:
    """The matrix with its numbers; a cell is the bluer the larger its share of the row."""
    K, font = len(names), ImageFont.load_default(13)
    numbers = K <= 50  # more of them could not be read
    longest = max(font.getlength(str(n)) for n in (*counts.flatten(), 999))
    side = ceil(longest) + 8 if numbers else 8
    step = 1 if numbers else ceil(16 / side)  # every so many names fit
    margin = ceil(max(font.getlength(name) for name in (*names, "named"))) + 30
    sheet = Image.new("RGB", (margin + K * side + 10,) * 2, "white")
    pen = ImageDraw.Draw(sheet)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for i in range(K):
        for j in range(K):
            x, y = margin + j * side, margin + i * side
            shade = tuple(int(v) for v in np.rint(255 + share[i, j] * (BLUE - 255)))
            pen.rectangle((x, y, x + side - 2, y + side - 2), fill=shade)
            if numbers and counts[i, j]:
                colour = "white" if share[i, j] > 0.5 else "black"
                centre = (x + side / 2 - 1, y + side / 2 - 1)
                pen.text(centre, str(counts[i, j]), fill=colour, font=font, anchor="mm")
    for i in range(0, K, step):
        middle = margin + i * side + side / 2
        pen.text((margin - 6, middle), names[i], fill="black", font=font, anchor="rm")
    above = Image.new("RGB", (margin, sheet.width), "white")  # turned by a quarter, it is on top
    pen = ImageDraw.Draw(above)
    for j in range(0, K, step):
        middle = sheet.width - (margin + j * side + side / 2)
        pen.text((margin - 6, middle), names[j], fill="black", font=font, anchor="rm")
    sheet.paste(above.transpose(Image.Transpose.ROTATE_270), (0, 0))
    pen = ImageDraw.Draw(sheet)
    pen.text((8, margin - 8), "is", fill="gray", font=font, anchor="ls")
    pen.text((margin - 8, 8), "named", fill="gray", font=font, anchor="rt")
    return Picture(np.array(sheet))

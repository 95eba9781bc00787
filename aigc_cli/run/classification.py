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
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained
from aigc_cli.specs.image import ImageSpec
from aigc_cli.specs.text import LabelledTextSpec

Counts = np.ndarray[Any, np.dtype[np.int64]]
MACRO = {"macro_recall": "recall", "macro_f1": "f1"}
"""Means over the classes, and of what."""
BLUE = np.array([31, 90, 160])  # of a cell that holds its whole row


def judge(
    trained: Trained, data: Any, *, limit: int | None = None, save: Path | None = None
) -> dict[str, Any]:
    """{"metrics": those of MACRO, "classes": a row for each class}; `save` also gets confusion.png
    and confusion.csv, a row for each class as it is, a column for each class as it is named.
    """
    names = _names(trained)
    counts = confusion(trained, data, limit)
    if save is not None:
        write_text(save / "confusion.csv", as_csv(counts, names))
        write_picture(save / "confusion.png", draw(counts, names))
    rows = by_class(counts, names)
    metrics = {}
    for name, key in MACRO.items():
        values = [row[key] for row in rows if row[key] is not None]
        metrics[name] = {
            "value": float(np.mean(values)),
            "n": int(counts.sum()),
            "unit": "-",
            "higher_is_better": True,
            "protocol": f"mean {key} of {len(values)} classes",
        }
    return {"metrics": metrics, "classes": rows}


def _names(trained: Trained) -> tuple[str, ...]:
    assert isinstance(trained.spec, (ImageSpec, LabelledTextSpec))
    assert trained.spec.labels is not None
    return trained.spec.labels


@torch.no_grad()
def confusion(trained: Trained, data: Any, limit: int | None) -> Counts:
    """How often a validation item of class i was named j, (K, K)."""
    K = len(_names(trained))
    key = "tokens" if isinstance(trained.spec, LabelledTextSpec) else "image"
    items = data.val if limit is None else Subset(data.val, range(min(limit, len(data.val))))
    size = data.val_batch_size or trained.recipe.trainer.global_batch
    counts = torch.zeros(K * K, dtype=torch.int64)
    for batch in DataLoader(items, size, collate_fn=getattr(data.val, "collate", None)):
        named = trained.model.classify(batch[key].to(trained.model.device)).argmax(1).cpu()
        counts += torch.bincount(batch["label"] * K + named, minlength=K * K)
    table: Counts = counts.view(K, K).numpy()
    return table


def by_class(counts: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """Number, recall, precision and F1 of each class (None where there is nothing to divide by),
    and the class that it is most often mistaken for.
    """
    rows = []
    for i, name in enumerate(names):
        n, named, right = int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])
        wrong = counts[i].copy()
        wrong[i] = 0
        other = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "n": n,
                "recall": right / n if n else None,
                "precision": right / named if named else None,
                "f1": 2 * right / (n + named) if n + named else None,
                "mistaken for": f"{names[other]} ({wrong[other]})" if wrong.any() else None,
            }
        )
    return rows


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

"""What `aigc evaluate` says of a classifier beside its means: recall by class, confusion matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import DataLoader, Subset

from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Raster, write_image
from aigc_cli.metrics._things import Corpus
from aigc_cli.metrics.labels._classes import Counts, by_class, count
from aigc_cli.modalities import _judging
from aigc_cli.modalities._judging import Trial
from aigc_cli.models._classifier import ClassifierModule

BLUE = np.array([31, 90, 160])  # of a cell that holds its whole row


class Judging(_judging.Judging):
    """Classes of things, whatever they are."""

    beside = ("macro_recall", "macro_f1")

    def made_corpus(self, trial: Trial) -> Corpus:
        return Labels(trial)


class Labels(Corpus):
    """The labels of validation items, as the model names them and as they are, once they are asked
    for. `trial.save` gets confusion.png and confusion.csv, a row for each class as it is, a column
    for each class as it is named.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial, self.val = trial, trial.open_data().val
        self._named: tuple[list[str], list[str]] | None = None
        lines = [str(number + 1) for number in trial.first(self.val)]
        super().__init__(lines, lambda i: self.named[0][i], lambda i: [self.named[1][i]])

    @property
    def named(self) -> tuple[list[str], list[str]]:
        """By the model, and the truth."""
        if self._named is None:
            self._named = preds, target = self._classify()
            names = self.trial.model.spec.labels
            counts = count(preds, target, names)
            self.facts["classes"] = by_class(counts, names)
            if (save := self.trial.save) is not None:
                write_bytes(save / "confusion.csv", as_csv(counts, names).encode())
                write_image(save / "confusion.png", draw(counts, names))
        return self._named

    def _classify(self) -> tuple[list[str], list[str]]:
        classifier = self.trial.model
        assert isinstance(classifier, ClassifierModule)
        names = classifier.spec.labels  # type: ignore[attr-defined]
        items = Subset(self.val, self.trial.first(self.val))
        collate = getattr(self.val, "collate", None)
        preds, target = [], []
        with torch.no_grad():
            for batch in DataLoader(items, self.trial.batch_size, collate_fn=collate):
                on_device = {name: values.to(classifier.device) for name, values in batch.items()}
                preds += [names[i] for i in classifier.classify(on_device).argmax(1).tolist()]
                target += [names[i] for i in batch["label"].tolist()]
        return preds, target


def as_csv(counts: Counts, names: Sequence[str]) -> str:
    """A table with the names of the classes on top and at the left."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["is / named", *names])
    rows.writerows([name, *map(int, row)] for name, row in zip(names, counts, strict=True))
    return text.getvalue()


def draw(counts: Counts, names: Sequence[str]) -> Raster:
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
                color = "white" if share[i, j] > 0.5 else "black"
                center = (x + side / 2 - 1, y + side / 2 - 1)
                pen.text(center, str(counts[i, j]), fill=color, font=font, anchor="mm")
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
    return Raster(np.array(sheet))

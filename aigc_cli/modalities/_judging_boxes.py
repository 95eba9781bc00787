"""What an evaluation needs to know of boxes: COCO files, and what a detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from aigc_cli.data._box_files import format_of, read_notes
from aigc_cli.errors import DataError
from aigc_cli.media.boxes import Boxes
from aigc_cli.metrics._things import Corpus
from aigc_cli.modalities import _judging
from aigc_cli.modalities._judging import Reading, Trial


class Judging(_judging.Judging):
    """Boxes, which pair by the names of their images."""

    usual = ("map_50", "map")
    beside = ("map_50", "map")
    endings = frozenset({".json"})

    def claims(self, path: Path) -> bool:
        return path.is_file() and format_of(path) == "coco"

    def open_corpus(
        self,
        generated: Path,
        references: Sequence[Path],
        baseline: Path | None,
        reading: Reading,
        limit: int | None,
    ) -> Corpus:
        """
        Raises:
            DataError: a file notes no boxes, or images of the references are in no other file.
        """
        real = [_by_name(path) for path in references]
        others = [_by_name(path) for path in (generated, *([baseline] if baseline else []))]
        names = sorted(real[0] if real else others[0])[:limit]
        if any(name not in found for found in others for name in names):
            real, others = (list(map(_without_folders, each)) for each in (real, others))
            names = sorted(real[0] if real else others[0])[:limit]
        for path, found in zip((generated, baseline), others, strict=False):
            if absent := [name for name in names if name not in found]:
                raise DataError(
                    f"{path} says nothing of {len(absent):,} of {len(names):,} images: first "
                    f"{absent[0]!r}"
                )
        return Corpus(
            names,
            lambda i: others[0][names[i]],
            lambda i: [boxes[names[i]] for boxes in real],
            None if baseline is None else lambda i: others[1][names[i]],
        )

    def made_corpus(self, trial: Trial) -> Corpus:
        return Found(trial)


def _by_name(path: Path) -> dict[str, Boxes]:
    return {noted.name: noted.boxes for noted in read_notes(str(path)).images}


def _without_folders(found: dict[str, Boxes]) -> dict[str, Boxes]:
    """By the names of the files alone, where these differ: what is found in images/a.png belongs to
    a.png.
    """
    short = {PurePosixPath(name).name: boxes for name, boxes in found.items()}
    return short if len(short) == len(found) else found


class Found(Corpus):
    """What a detector finds in validation images, in pixels as they are fitted for it, beside what
    is there; the images are looked at once. `facts` get a row for each class.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial, self.val = trial, trial.open_data().val
        self._seen: tuple[list[Boxes], list[Boxes]] | None = None
        names = [str(number + 1) for number in trial.first(self.val)]
        super().__init__(names, lambda i: self.seen[0][i], lambda i: [self.seen[1][i]])

    @property
    def seen(self) -> tuple[list[Boxes], list[Boxes]]:
        """By the model, and the truth."""
        if self._seen is None:
            self._seen = found, real = self._look()
            from aigc_cli.metrics.boxes._coco import measure_coco

            self.facts["classes"] = measure_coco(found, real)["classes"]
        return self._seen

    def _look(self) -> tuple[list[Boxes], list[Boxes]]:
        import torch
        from torch.utils.data import DataLoader, Subset

        model: Any = self.trial.model
        items = Subset(self.val, self.trial.first(self.val))
        found: list[Boxes] = []
        real: list[Boxes] = []
        size = min(self.trial.batch_size, 8)
        with torch.no_grad():
            for batch in DataLoader(items, size, collate_fn=self.val.collate):
                found += model.find(batch["image"].to(model.device), model.judged)
                real += model.real(batch)
        return found, real

"""Several things on one sheet, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from aigc_cli.media.image import Picture, from_tensor, tile_grid


def text_sheet(texts: dict[str, Sequence[str]]) -> str:
    """The texts of each item under each other, every one behind its caption."""
    rows = zip(*texts.values(), strict=True)
    items = ["".join(f"{k}: {t}\n" for k, t in zip(texts, row, strict=True)) for row in rows]
    return "\n".join(items)


def contact_sheet(pictures: dict[str, Tensor]) -> Picture:
    """One row for each item and one captioned column for each entry; a near-square grid for a
    single entry.
    """
    columns = {k: [from_tensor(p) for p in v.float().cpu()] for k, v in pictures.items()}
    if len(columns) == 1:
        (only,) = columns.values()
        return tile_grid([Picture(p) for p in only], round(len(only) ** 0.5))
    rows = [Picture(p) for row in zip(*columns.values(), strict=True) for p in row]
    labels = list(columns) * (len(rows) // len(columns))
    return tile_grid(rows, len(columns), labels=labels)

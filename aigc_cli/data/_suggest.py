"""What `aigc recipe new` learns from images: which settings suit them, and why.

Each kind of data has `suggest(config, bases=...)`, which returns values for other keys of its
config with a reason for each. It reads the same images, in the same way, as the training will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._check import check, require_good
from aigc_cli.data._images import PictureConfig, open_parts
from aigc_cli.data._seen import Seen

Suggestions = dict[str, tuple[Any, str]]


@dataclass(frozen=True)
class Look:
    """The usable training images of a config."""

    config: PictureConfig
    seen: list[Seen]

    @property
    def sides(self) -> list[int]:
        """The shorter side of each image in pixels, ascending."""
        return sorted(min(seen.height, seen.width) for seen in self.seen)

    def shared(self) -> Suggestions:
        """What does not depend on the kind: how many images, and whether they have colors."""
        sides = f"{self.sides[0]} to {self.sides[-1]} pixels on the shorter side"
        found: Suggestions = {
            "train": (self.config.train, f"{len(self.seen)} images train: {sides}.")
        }
        if all(seen.mode.startswith("gray") for seen in self.seen):
            found["channels"] = (1, "All images are gray.")
        return found


def look(config: PictureConfig, bases: Sequence[Path]) -> Look:
    """Decode the training images.

    Raises:
        DataError: there are none, or some cannot be used and `on_error` is stop.
    """
    train = open_parts(config, bases)["data.train"]
    report = check(train.source, train.numbers, cache=cache_folder(config.cache))
    require_good({"data.train": report}, config.on_error)
    return Look(config, list(report.seen.values()))

"""Seconds for an epoch of training patches: from files, and from the cache of prepared images."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from aigc_cli.data._stream import StepSampler
from aigc_cli.recipe.load import load_recipe
from aigc_cli.registry import load_data_kind


def main() -> dict[str, Any]:
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first_s", "second_s"):
            recipe = load_recipe("edsr_small_x2", [f"data.cache={cache}"])
            data = load_data_kind(recipe.kind).Data(recipe.data, seed=0, bases=recipe.bases)
            n = len(data.train)
            begun = time.perf_counter()
            for keys in StepSampler(n, global_batch=n, seed=0, stop=1):
                data.train.__getitems__(keys)
            seconds[name] = time.perf_counter() - begun
            del data
    ratio = round(seconds["first_s"] / seconds["second_s"], 1)
    rows = {name: round(value, 4) for name, value in seconds.items()}
    return {"benchmark": "one epoch over builtin:photos:train", **rows, "ratio": ratio}

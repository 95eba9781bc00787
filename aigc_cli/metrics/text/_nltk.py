"""NLTK without scipy.stats, which takes four times as long to import as all the rest of it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

STATS = "scipy.stats"


def nltk(module: str) -> Any:
    """A module of NLTK by name. Its one user of scipy.stats, Fisher's test of collocations, does
    without where that cannot be imported, and nothing here asks for it.
    """
    hidden = STATS not in sys.modules
    if hidden:
        sys.modules[STATS] = None  # type: ignore[assignment]  # stands for "not there"
    try:
        return import_module(f"nltk.{module}")
    finally:
        if hidden:
            del sys.modules[STATS]

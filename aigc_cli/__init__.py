"""aigc: train, sample, evaluate and augment with generative models from one command line.

The commands from Python, in docs/api.md; importing this imports no torch:

    from aigc_cli import train, sample, evaluate, load
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AigcError", "Model", "evaluate", "load", "sample", "train"]
"""The public surface. All else may change from one version to the next."""

if TYPE_CHECKING:
    from aigc_cli.api import Model, evaluate, load, sample, train
    from aigc_cli.errors import AigcError


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aigc_cli import api, errors

    return getattr(errors if name == "AigcError" else api, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""The modalities by name: found by listing `modalities/*.py`, here and in AIGC_PATH."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_cli.catalog.find import modality_of
from aigc_cli.data._paths import find_shards
from aigc_cli.errors import InputError
from aigc_cli.registry import load_modality, modalities

if TYPE_CHECKING:
    from aigc_cli.modalities._modality import Modality


def find_modality(name: str) -> Modality:
    """The modality of this name.

    Raises:
        InputError: there is none, or its file cannot be used; names it.
    """
    return _made(name, modalities().get(name))


@lru_cache
def _made(name: str, path: Path | None) -> Modality:
    from aigc_cli.modalities._modality import Modality

    module = load_modality(name)
    if not issubclass(module.Modality, Modality):
        raise InputError(f"{path}: Modality is no subclass of aigc_cli.modalities._modality's")
    missing = sorted(getattr(module.Modality, "__abstractmethods__", ()))
    if missing:
        raise InputError(f"{path}: Modality does not define {', '.join(missing)}")
    made: Modality = module.Modality()
    return made


def modality_of_data(config: Any) -> Modality:
    """The modality of a recipe's `data` section.

    Raises:
        InputError: its kind of data names none.
    """
    name = getattr(type(config), "modality", None)
    if name is None:
        raise InputError(
            f"data kind '{config.kind}' does not say its modality",
            hint="add `modality: ClassVar[str]` to its Config; see docs/add_a_modality.md",
        )
    return find_modality(name)


def recognized(text: str) -> Modality:
    """The modality of a source of data: a file, a folder or the like.

    Raises:
        InputError: none knows it; says what would be known.
    """
    said = modality_of(text)
    if shards := find_shards(text, ()):
        from aigc_cli.data._shards import Shards

        said = Shards(*shards).index.modality
    if said in modalities():
        return find_modality(said)
    found = [find_modality(name) for name in sorted(modalities()) if said is None]
    for modality in sorted(found, key=lambda modality: modality.is_general):
        if modality.recognizes(text):
            return modality
    known = "; ".join(
        f"{(m := find_modality(name)).title}: {', '.join(sorted(m.endings)[:8])}"
        for name in sorted(modalities())
    )
    raise InputError(f"{text!r} holds nothing that is known here", hint=known)

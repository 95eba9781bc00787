"""Which families can learn from a source of data, and which is proposed: `aigc train DATA`.

Nothing here names a kind or a family: kinds say what they recognize (data/_claim.py), families
what they are for (recipe/dial.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aigc_cli import registry
from aigc_cli.catalog.find import resolve
from aigc_cli.data._claim import LIKELY, Claim
from aigc_cli.data._names import is_hidden
from aigc_cli.errors import InputError
from aigc_cli.modalities import find_modality, recognized
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.new import source_key

MIXED = 0.1  # of the files in a folder are more than an accident


@dataclass(frozen=True)
class Proposal:
    """A family that can learn from the source."""

    family: str
    kind: str
    claim: Claim
    dial: Dial
    start: str | None = None
    """The model of `aigc model ls` whose weights it begins with."""

    @property
    def goal(self) -> str:
        return self.dial.goals[0]

    @property
    def values(self) -> Mapping[str, Any]:
        """Dotted keys that hold for every size."""
        facts = (self.dial.given.get(fact, {}) for fact in self.claim.facts)
        return dict(self.dial.always) | {key: v for given in facts for key, v in given.items()}

    def started(self, given: Iterable[str]) -> list[Proposal]:
        """The same from each model that suits the data; none where `given`, the keys that the user
        has set, say what the network is or where it begins.
        """
        sizes = {key for size in self.dial.sizes for key in size if key.startswith("model.")}
        settled = {*sizes, "model.arch", "data.tokenizer", "init_from"}
        if any(key == own or key.startswith(f"{own}.") for key in given for own in settled):
            return []
        return [
            replace(self, dial=dial, start=name)
            for name, dial in self.dial.starts.items()
            if dial.needs is None or dial.needs in self.claim.facts
        ]

    def __str__(self) -> str:
        return f"{self.goal} ({self.family})"


def propose(source: str, goal: str | None, family: str | None) -> tuple[Proposal, list[Proposal]]:
    """The family to train, and the others that fit, the best first.

    Raises:
        InputError: nothing knows such data, it is of several modalities, or the goal or the family
            does not fit it.
    """
    if goal is None and family is None:
        _require_one_modality(source)
    known = proposals(source)
    if not known:
        modality = recognized(source)  # says what would be known
        modality.source_part(source)  # says what is wrong with it
        raise InputError(
            f"{source!r}: no family learns from these {modality.title} alone",
            hint="write a recipe: aigc recipe new --family FAMILY --data DATA",
        )
    fitting = [p for p in known if family in (None, p.family)]
    if not fitting:
        names = ", ".join(dict.fromkeys(p.family for p in known))
        raise InputError(
            f"{source!r}: family '{family}' is not for such data", hint=f"choose from: {names}"
        )
    chosen = [p for p in fitting if goal is None or goal in p.dial.goals]
    if not chosen:
        raise InputError(
            f"--goal: {goal!r} is not for {source!r}",
            hint=f"these are: {', '.join(dict.fromkeys(map(str, fitting)))}",
        )
    return chosen[0], [p for p in known if p is not chosen[0]]


def proposals(source: str) -> list[Proposal]:
    """All that can learn from the source, the best first. Of equals, those of the modality whose
    file it is.
    """
    claims = {}
    for kind in registry.data_kinds():
        claim = _claim(kind, source)
        if claim is not None:
            claims[kind] = claim
    found = []
    for family, file in registry.families().items():
        if "\nDIAL = " not in file.path.read_text(encoding="utf-8"):
            continue  # not worth an import
        module = registry.load_family(family)
        dial: Dial = module.DIAL
        accepted = {str(spec.kind) for spec in module.Model.accepts}
        for kind in sorted(accepted & set(dial.kinds or accepted) & claims.keys()):
            if dial.needs is None or dial.needs in claims[kind].facts:
                found.append(Proposal(family, kind, claims[kind], dial))
    suffix = Path(source).suffix.lower()

    def order(p: Proposal) -> tuple[int, bool, int, str]:
        modality = getattr(registry.load_data_kind(p.kind).Config, "modality", None)
        owned = modality is not None and suffix in find_modality(modality).endings
        return -p.claim.strength, not owned, p.dial.rank, p.family

    return sorted(found, key=order)


def _claim(kind: str, source: str) -> Claim | None:
    """What the kind says of the source; one that says nothing takes all of its modality."""
    module = registry.load_data_kind(kind)
    if hasattr(module, "recognize"):
        claim: Claim | None = module.recognize(source)
        return claim
    name = getattr(module.Config, "modality", None)
    if name is None or not find_modality(name).recognizes(source):
        return None
    return Claim({source_key(kind): source}, find_modality(name).title, LIKELY)


def _require_one_modality(source: str) -> None:
    """
    Raises:
        InputError: a folder holds many files of each of two modalities.
    """
    folder = Path(resolve(source))
    if not folder.is_dir():
        return
    endings = {
        ending: find_modality(name).title
        for name in registry.modalities()
        for ending in find_modality(name).endings
    }
    files = [p for p in folder.rglob("*") if not any(map(is_hidden, p.relative_to(folder).parts))]
    counts = Counter(endings[p.suffix.lower()] for p in files if p.suffix.lower() in endings)
    several = [(title, n) for title, n in counts.most_common() if n > MIXED * counts.total()]
    if len(several) > 1:
        what = " and ".join(f"{n:,} {title}" for title, n in several)
        raise InputError(
            f"{source!r} holds {what}: which of them is meant?",
            hint="name a folder of one of them, or say what for with --goal",
        )

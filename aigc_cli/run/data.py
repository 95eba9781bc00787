"""What `aigc data` does: describe data, and find what spoils training. What there is to say is the
modality's (modalities/).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_cli.catalog.find import resolve
from aigc_cli.data._paths import is_named, nearest_data
from aigc_cli.errors import InputError, OutputError, Problem
from aigc_cli.modalities import find_modality, modality_of_data, recognized
from aigc_cli.modalities._findings import Findings
from aigc_cli.modalities._modality import Modality
from aigc_cli.recipe.load import Recipe, load_recipe, require_trainable
from aigc_cli.registry import recipes
from aigc_cli.run.weights import complete

LISTED = 20  # warnings of one kind that are printed; JSON has all


def find_subject(text: str, overrides: Sequence[str]) -> tuple[Recipe | str, Modality]:
    """The recipe that `text` names, or the source of data that it is, and its modality.

    Raises:
        InputError: it is neither, or there are overrides for what is no recipe.
    """
    is_source = os.path.exists(text) or is_named(text) or resolve(text) != text
    if not is_source or Path(text).suffix in (".yaml", ".yml"):
        try:
            recipe = complete(require_trainable(load_recipe(text, overrides)))
        except InputError as error:
            if error.code != "unknown_recipe":
                raise
            raise InputError(
                f"{text!r} is no folder or file here, and no recipe",
                hint=nearest_data(text, others=recipes()),
            ) from error
        return recipe, modality_of_data(recipe.data)
    if overrides:
        raise InputError(f"{overrides[0]!r} changes a recipe, but {text!r} is none")
    return text, recognized(text)


def show(
    text: str, overrides: Sequence[str] = (), *, n: int | None = None, sheet: Path | None = None
) -> dict[str, Any]:
    """What `show_text` prints; a sheet of the first `n` things is written on request.

    Raises:
        InputError: `text` is nothing, or there are no sheets of such things; DataError: a recipe's
            data cannot be used.
        OutputError: the sheet exists already or cannot be written.
    """
    if sheet is not None and sheet.exists():
        raise OutputError(f"{sheet} exists already", hint="choose another name with -o")
    subject, modality = find_subject(text, overrides)
    return {"modality": modality.name, **modality.describe(subject, n, sheet)}


def show_text(facts: Mapping[str, Any]) -> str:
    """The facts for people."""
    modality = find_modality(facts["modality"])
    lines = [f"{facts['recipe']}: {_plain(facts['spec'])}"] if "recipe" in facts else []
    for key, part in facts["parts"].items():
        lines += [f"{key}: {part['source']}", *(f"  {line}" for line in modality.part_lines(part))]
    if "batch" in facts:
        lines.append("first batch:")
        for name, values in facts["batch"].items():
            shape = " x ".join(map(str, values["shape"]))
            limits = f"{values['min']:.3g} to {values['max']:.3g}"
            lines.append(f"  {name:<8}  {values['dtype']} {shape}, {limits}")
    for example in facts.get("examples", ()):
        lines += ["", modality.shown(example)]
    if "sheet" in facts:
        lines.append(f"sheet: {facts['sheet']}")
    return "\n".join(lines)


def _plain(spec: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in spec.items() if key != "kind" and value is not None}
    if "labels" in rest:
        rest["labels"] = len(rest["labels"])
    return ", ".join([spec["kind"], *(f"{key} {value}" for key, value in rest.items())])


def inspect(text: str, overrides: Sequence[str] = ()) -> Findings:
    """What spoils training with the data.

    Raises:
        InputError: `text` is nothing; DataError as in training.
    """
    subject, modality = find_subject(text, overrides)
    return modality.inspect(subject)


def check_text(findings: Findings) -> str:
    """The findings for people, but for what `bad` says itself."""
    modality = find_modality(findings.modality)
    lines = []
    for key, part in findings.parts.items():
        lines += modality.summary_lines(key, part)
    lines += warning_lines(findings.warnings)
    if not findings.warnings and findings.bad is None:
        lines.append("no problems found")
    return "\n".join(lines)


def warning_lines(warnings: Iterable[Problem]) -> list[str]:
    """At most LISTED warnings of each kind."""
    by_code: dict[str, list[Problem]] = {}
    for warning in warnings:
        by_code.setdefault(warning.code, []).append(warning)
    lines = []
    for code, same in by_code.items():
        lines += [f"warning: {warning}" for warning in same[:LISTED]]
        if len(same) > LISTED:
            lines.append(f"warning: and {len(same) - LISTED} more of {code}")
    return lines

"""JSON schema (draft 2020-12) of every recipe: what editors complete and check against."""

from __future__ import annotations

from typing import Any

from aigc_cli import registry
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """The schema over all families and data kinds: `family` and `data.kind` choose the sections."""
    families = {name: registry.load_family(name) for name in registry.families()}
    kinds = {name: registry.load_data_kind(name) for name in registry.data_kinds()}
    schema = _untitled(Recipe.model_json_schema(ref_template="#/$defs/{model}"))
    definitions = schema.pop("$defs")
    del definitions["Section"]  # stands for the sections that the choices below fill in
    properties = schema["properties"]
    for part in ("data", "model", "sample"):
        properties[part] = {"type": "object", "description": properties[part]["description"]}
    properties["family"]["enum"] = sorted(families)
    properties["data"] |= {"properties": {"kind": {"enum": sorted(kinds)}}, "required": ["kind"]}
    choices = []
    for name, family in families.items():
        parts = {"model": family.Config, "sample": family.Options}
        choice = _choice({"family": {"const": name}}, ["family"], parts, name, definitions)
        if not getattr(family.Model, "training_free", False):
            choice["then"]["required"] = ["data", "trainer", *choice["then"].get("required", [])]
        choices.append(choice)
    for name, kind in kinds.items():
        condition = {"data": {"properties": {"kind": {"const": name}}, "required": ["kind"]}}
        choices.append(_choice(condition, ["data"], {"data": kind.Config}, name, definitions))
    return {
        "$schema": DRAFT,
        "title": "aigc recipe",
        "description": "A whole experiment: family, data, model, trainer.",
        "type": "object",
        "properties": properties,
        "required": ["family"],
        "additionalProperties": False,
        "allOf": choices,
        "$defs": dict(sorted(definitions.items())),
    }


def _choice(
    condition: dict[str, Any],
    present: list[str],
    parts: dict[str, type[Section]],
    name: str,
    definitions: dict[str, Any],
) -> dict[str, Any]:
    """`if` the condition holds `then` the parts have these classes, which join the definitions."""
    then: dict[str, Any] = {"properties": {}}
    for part, section in parts.items():
        label = f"{name}.{part}"
        schema = _untitled(section.model_json_schema(ref_template=f"#/$defs/{label}.{{model}}"))
        for inner, definition in schema.pop("$defs", {}).items():
            definitions[f"{label}.{inner}"] = definition
        definitions[label] = schema
        then["properties"][part] = {"$ref": f"#/$defs/{label}"}
    required = [part for part, s in parts.items() if _needs(s) and part != "data"]
    if required:
        then["required"] = required
    return {"if": {"properties": condition, "required": present}, "then": then}


def _needs(section: type[Section]) -> bool:
    return any(field.is_required() for field in section.model_fields.values())


def _untitled(schema: Any) -> Any:
    """Without the titles pydantic derives from names, which only repeat them."""
    if isinstance(schema, dict):
        return {
            key: _untitled(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [_untitled(item) for item in schema] if isinstance(schema, list) else schema

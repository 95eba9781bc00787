"""The JSON schema says what the loader says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aigc_cli import registry
from aigc_cli.recipe import header
from aigc_cli.recipe.load import load_recipe
from aigc_cli.recipe.schema import recipe_schema


@pytest.fixture(scope="module")
def shipped() -> Iterator[dict[str, Any]]:
    """The schema without the families of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIGC_PATH", "")
        yield recipe_schema()


def test_the_committed_schema_is_fresh(shipped: dict[str, Any]) -> None:
    committed = json.loads((registry.RECIPES / "schema.json").read_text())
    assert committed == shipped, "run `make schema`"


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from objects(item)


def test_every_reference_leads_somewhere(shipped: dict[str, Any]) -> None:
    used = {o["$ref"] for o in objects(shipped) if isinstance(o.get("$ref"), str)}
    assert used == {f"#/$defs/{name}" for name in shipped["$defs"]}


def test_every_key_is_documented_and_no_other_is_allowed(shipped: dict[str, Any]) -> None:
    for name, definition in shipped["$defs"].items():
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            documented = (
                shipped["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else {}
            )
            assert "description" in value or "description" in documented, f"{name}.{key}"


def test_the_family_and_the_data_kind_choose_the_sections() -> None:
    schema = recipe_schema()
    blob = {"if": {"properties": {"family": {"const": "blob"}}, "required": ["family"]}}
    blob["then"] = {
        "properties": {
            "model": {"$ref": "#/$defs/blob.model"},
            "sample": {"$ref": "#/$defs/blob.sample"},
        },
        "required": ["data", "trainer"],
    }
    assert blob in schema["allOf"]
    assert schema["properties"]["family"]["enum"] == sorted(registry.families())
    lr = schema["$defs"]["blob.model"]["properties"]["lr"]
    assert lr == {
        "default": 0.0002,
        "description": "Learning rate of Adam.",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "type": "number",
    }


def valid(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """A JSON schema validator for the words that the recipe schema uses."""
    if "$ref" in schema and not valid(value, root["$defs"][schema["$ref"].split("/")[2]], root):
        return False
    if "if" in schema and valid(value, schema["if"], root):
        return valid(value, schema["then"], root)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "number": (int, float),
        "integer": int,
    }
    kind = schema.get("type")
    if kind and not isinstance(value, kinds[kind]):
        return False
    if kind in ("number", "integer") and isinstance(value, bool):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
            return False
        if not set(schema.get("required", ())) <= value.keys():
            return False
        if not all(valid(v, known[k], root) for k, v in value.items() if k in known):
            return False
    if isinstance(value, list):
        items = [*schema.get("prefixItems", ())] + [schema.get("items", {})] * len(value)
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9):
            return False
        if not all(valid(v, s, root) for v, s in zip(value, items, strict=False)):
            return False
    return (
        ("const" not in schema or value == schema["const"])
        and ("enum" not in schema or value in schema["enum"])
        and ("minimum" not in schema or value >= schema["minimum"])
        and ("maximum" not in schema or value <= schema["maximum"])
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        and ("minLength" not in schema or len(value) >= schema["minLength"])
        and ("anyOf" not in schema or any(valid(value, s, root) for s in schema["anyOf"]))
        and all(valid(value, s, root) for s in schema.get("allOf", ()))
    )


@pytest.mark.parametrize("path", sorted(registry.RECIPES.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_of_ours_says_what_it_makes_from_what_and_how_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"{header.SCHEMA}../schema.json\n")
    assert list(header.facts(text)) == list(header.KEYS)


def test_every_recipe_fits_the_schema() -> None:
    schema = recipe_schema()
    for name in registry.recipes():
        assert valid(load_recipe(name).as_dict(), schema, schema), name


@pytest.mark.parametrize(
    "change",
    [
        {"family": "blb"},
        {"model": {"lr": "fast"}},
        {"model": {"lr": 2}},
        {"model": {"wdth": 2}},
        {"model": {"betas": [0.9]}},
        {"data": {"path": "x"}},
        {"data": {"kind": "blobs"}},
        {"data": {"kind": "blobs", "path": ""}},
        {"sample": {"temperature": -1}},
        {"trainer": {"max_steps": 1.5}},
        {"trainer": {"schedule": {"name": "cosin"}}},
        {"seed": True},
        {"sead": 0},
    ],
    ids=str,
)
def test_a_wrong_recipe_does_not_fit(change: dict[str, Any]) -> None:
    schema = recipe_schema()
    good = load_recipe("blob_small").as_dict()
    assert valid(good, schema, schema)
    assert not valid(good | change, schema, schema)

"""What `aigc data` says about texts: counts in tokens, lengths, what is cut, and a few examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aigc_cli.data._stream import key_at
from aigc_cli.errors import Problem
from aigc_cli.recipe.load import Recipe
from aigc_cli.registry import load_data_kind
from aigc_cli.text.tokenizer import Tokenizer

SHOWN = 600  # characters of an example that are printed; JSON has all
EXAMPLES = 3
MANY = 0.05  # of the tokens that are unknown, or of the items that are cut, are worth a warning


def text_facts(recipe: Recipe, n: int | None) -> dict[str, Any]:
    """Spec, parts, first batch, and `n` examples of a recipe's texts. Raises as its data."""
    data = _data(recipe)
    count = min(recipe.trainer.global_batch, 16)
    keys = [key_at(recipe.seed, position, len(data.train)) for position in range(count)]
    return {
        "recipe": recipe.name,
        "spec": plain_spec(data.spec.as_dict()),
        "parts": text_parts(data),
        "batch": data.train.collate([data.train[key] for key in keys]),
        "examples": list(data.examples(EXAMPLES if n is None else n)),
    }


def text_findings(recipe: Recipe) -> tuple[dict[str, Any], list[Problem]]:
    """The parts of a recipe's texts, and what may spoil training. Raises as its data."""
    parts = text_parts(_data(recipe))
    return parts, [problem for key, part in parts.items() for problem in _warnings(key, part)]


def _data(recipe: Recipe) -> Any:
    return load_data_kind(recipe.kind).Data(recipe.data, seed=recipe.seed, bases=recipe.bases)


def text_parts(data: Any) -> dict[str, Any]:
    return {key: report.as_dict() for key, report in data.report.items()}


def plain_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with size and digest in place of each tokenizer."""
    return {key: _named(value) if "tokenizer" in key else value for key, value in spec.items()}


def _named(text: str) -> str:
    tokenizer = Tokenizer.from_json(text)
    return f"{tokenizer.digest[:12]} of {tokenizer.vocab_size:,} tokens"


def part_lines(part: Mapping[str, Any]) -> Iterator[str]:
    """What is in a part, for people."""
    yield f"{part['what']:<17} {part['items']:,}"
    share = part["unknown"] / max(part["tokens"], 1)
    unknown = f", {part['unknown']:,} unknown ({share:.2%})" if part["unknown"] else ""
    yield f"{'tokens':<17} {part['tokens']:,} for {part['bytes']:,} bytes{unknown}"
    for side, (least, half, ninety, most, longest) in part["lengths"].items():
        name = "length" if side == "tokens" else side
        yield (
            f"{name:<17} {least:,} to {longest:,}, half at most {half:,}, "
            f"90 % {ninety:,}, 99 % {most:,}"
        )
    for name, count in part["counts"].items():
        if count or name == "rows":
            yield f"{name:<17} {count:,}"


def _warnings(key: str, part: Mapping[str, Any]) -> Iterator[Problem]:
    if part["unknown"] > MANY * part["tokens"]:
        share = part["unknown"] / part["tokens"]
        yield Problem(
            f"{share:.0%} of the tokens are unknown",
            code="data.unknown",
            key=key,
            hint="raise data.tokenizer.vocab_size, or take kind bpe",
        )
    for what in ("truncated", "dropped"):
        count = part["counts"].get(what, 0)
        if count > MANY * part["items"]:
            yield Problem(
                f"{count:,} of {part['items']:,} {part['what']} are {what}",
                code=f"data.{what}",
                key=key,
                hint="raise their greatest length",
            )


def shown(example: str) -> str:
    """An example as it is printed."""
    return example if len(example) <= SHOWN else f"{example[:SHOWN]}…"

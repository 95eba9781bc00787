"""The model card: what a model is, what it has learned from and how well it does, as README.md.

Everything in it is read from the checkpoint, the run folder and the catalog; nothing is claimed
that was not measured. Mitchell et al., "Model Cards for Model Reporting", 2019,
https://arxiv.org/abs/1810.03993; the head is that of the Hugging Face hub.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_cli import __version__
from aigc_cli.catalog.builtin import PREFIX, builtins
from aigc_cli.catalog.entry import load
from aigc_cli.catalog.uses import sets_of
from aigc_cli.recipe.write import to_yaml
from aigc_cli.registry import load_family
from aigc_cli.run import history
from aigc_cli.run.base import load_whole
from aigc_cli.run.checkpoint import file_digest
from aigc_cli.run.paths import find_checkpoint

State = Mapping[str, Any]
PLACE = re.compile(r"(hf:)?(?:~|[A-Za-z]:)?[/\\](?:.*[/\\])?([^/\\]*)")
"""An absolute path, and its last name."""


def without_places(value: Any) -> Any:
    """Values of a recipe for others: of an absolute path only its last name."""
    if isinstance(value, dict):
        return {key: without_places(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_places(inner) for inner in value]
    if isinstance(value, str) and (place := PLACE.fullmatch(value)):
        return f"{place[1] or ''}{place[2]}"
    return value


def model_card(source: str, exported: Mapping[str, Any] | None = None) -> str:
    """Markdown of a run or checkpoint; `exported`: what `aigc model export` found, to be stated.

    Raises:
        InputError, CheckpointError: there is no such model.
    """
    path = find_checkpoint(source)
    state = load_whole(path)
    run = path.resolve().parent.parent
    recipe = state["recipe"]
    about = inspect.getdoc(load_family(recipe["family"])) or ""
    lines = [
        *_head(state),
        f"# {recipe.get('name') or Path(state['recipe_path'] or source).stem}",
        "",
        about.partition("\n\n")[0].replace("\n", " "),
        "",
        *_facts(state, path),
        *_data(without_places(recipe.get("data")), sets_of(recipe.get("data"))),
        *_measures(run, state),
        *_limits(state, run),
        *(_export(exported) if exported else ()),
        *_use(exported),
        *("## Recipe", "", "```yaml", to_yaml(without_places(recipe)).rstrip(), "```", ""),
    ]
    return "\n".join(lines)


def _head(state: State) -> Iterator[str]:
    yield from ("---", "library_name: aigc", f"tags: [aigc, {state['recipe']['family']}]")
    sets = sets_of(state["recipe"].get("data"))
    if sets:
        yield f"datasets: [{', '.join(name.removeprefix(PREFIX) for name in sets)}]"
    yield from ("---", "")


def _facts(state: State, path: Path) -> Iterator[str]:
    weights = sum(value.numel() for value in state["weights"].values())
    used = "their moving average is used" if state["ema"] else "used as they were last"
    yield from ("## Model", "", f"- Family: `{state['recipe']['family']}` of aigc {__version__}.")
    yield f"- {weights:,} numbers in its networks, those of training included; {used}."
    yield f"- Trained for {state['step']:,} steps."
    if start := state["recipe"].get("init_from"):
        yield f"- It began as `{without_places(start)}`, whose license and limits hold for it, too."
    yield from (f"- Checkpoint: SHA-256 `{file_digest(path)}`.", "")


def _data(data: Any, sets: Sequence[str]) -> Iterator[str]:
    """The sources, and the license of those that the catalog knows."""
    yield from ("## Data", "")
    if not data:
        yield from ("It was not trained.", "")
        return
    for key, value in data.items():
        if key.startswith(("train", "val")) and isinstance(value, (str, list, tuple)):
            yield f"- `data.{key}`: `{value}`"
    known = builtins()
    for name in sets:
        if name.startswith(PREFIX):
            license = known[name.removeprefix(PREFIX)].license
        else:
            entry = load(name)
            limits = ", which limits use" if entry.restricted else ""
            license = f"{entry.license}{limits}"
        yield f"- License of {name}: {license}."
    if not sets:
        yield "- The data is of whoever trained it; nothing here says under which license it is."
    yield ""


def _measures(run: Path, state: State) -> Iterator[str]:
    """What `aigc evaluate` found of it, or else the validation it was chosen by."""
    yield from ("## Measures", "")
    rows = {  # of what was measured again the last
        (name, row.get("data"), score.get("n"), score.get("protocol")): score
        for row in history.details(run)["evaluations"]
        if (row.get("model") or {}).get("step") == state["step"]
        for name, score in (row.get("metrics") or {}).items()
        if isinstance(score, dict)
    }
    if rows:
        yield "| metric | value | beside it | n | data | protocol |"
        yield "|---|---|---|---|---|---|"
        for (name, data, *_), score in rows.items():
            known = ("value", "n", "unit", "higher_is_better", "protocol", "ci95")
            others = {k: v for k, v in score.items() if k not in known and isinstance(v, float)}
            cells = (
                name,
                _number(score.get("value"), score.get("unit")),
                ", ".join(f"{k} {_number(v)}" for k, v in others.items()),
                score.get("n"),
                data or "of the recipe",
                score.get("protocol"),
            )
            yield f"| {' | '.join(map(str, cells))} |"
    elif state["best"]:
        best = state["best"]
        value = f"{best['metric']} {_number(best['value'])} at step {best['step']:,}"
        yield f"Validation while training: {value}."
    else:
        yield "It was not measured."
    yield ""


def _number(value: Any, unit: str | None = None) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if unit in (None, "-") else f"{text} {unit}"


def _limits(state: State, run: Path) -> Iterator[str]:
    yield from ("## Limits", "")
    spec = state["spec"]
    if "image_size" in spec:
        size = spec["image_size"]
        yield f"- It was trained on images of {size} pixels; others were not measured."
    if spec.get("labels"):
        names = ", ".join(map(str, spec["labels"][:20]))
        more = len(spec["labels"]) - 20
        names += f" and {more} more" if more > 0 else ""
        yield f"- It knows these classes and no others: {names}."
    if "context" in spec:
        yield f"- It was trained on texts of at most {spec['context']:,} tokens."
    yield "- It was measured on the data above alone, and by one training run."
    yield "- What it makes can be near to what it was trained on: that was not measured."
    yield from ("- Nobody examined it for bias or for safety.", "")


def _export(found: Mapping[str, Any]) -> Iterator[str]:
    checked = found.get("checked")
    if not checked:
        return
    yield from ("## Checked in ONNX Runtime", "")
    yield (
        f"On {checked['inputs']} held-out inputs it differs from PyTorch by "
        f"{checked['largest']:.2g} at most and {checked['mean']:.2g} in the mean, of values in "
        f"[0, 1]; {checked['tolerance']:g} was allowed. Shapes: {', '.join(checked['shapes'])}."
    )
    took = found["milliseconds"]
    yield (
        f"One call on {'x'.join(map(str, took['shape']))} takes {took['onnxruntime']} ms, in "
        f"PyTorch {took['pytorch']} ms, with {took['threads']} thread(s) of the machine it was "
        f"exported on."
    )
    if small := found.get("int8"):
        lost = ", ".join(
            f"{name} {small['quality'][name]:.4f} instead of {value:.4f}"
            for name, value in found["quality"].items()
        )
        yield (
            f"`model.int8.onnx`: {small['bytes']:,} bytes instead of {found['bytes']:,}, "
            f"{small['milliseconds']['onnxruntime']} ms beside {small['milliseconds']['pytorch']} "
            f"of PyTorch; differs by {small['difference']['mean']:.2g} in the "
            f"mean and {small['difference']['largest']:.2g} at most{f'; {lost}' if lost else ''}."
        )
    yield ""
    yield from ("| | name | shape | meaning |", "|---|---|---|---|")
    for side, ports in (("in", found["inputs"]), ("out", [found["output"]])):
        for port in ports:
            shape = " x ".join(map(str, port["shape"]))
            yield f"| {side} | `{port['name']}` | {shape} | {port['meaning']} |"
    yield ""


def _use(exported: Mapping[str, Any] | None) -> Iterator[str]:
    yield from ("## Use", "")
    if exported and exported.get("checked"):
        yield from ("```python", "import onnxruntime", "")
        yield 'session = onnxruntime.InferenceSession("model.onnx")'
        ports = ", ".join(f'"{port["name"]}": ...' for port in exported["inputs"])
        yield f"(made,) = session.run(None, {{{ports}}})  # NumPy arrays; see the table"
        yield "```"
    else:
        yield from ("```sh", "aigc sample CHECKPOINT", "aigc evaluate CHECKPOINT", "```")
    yield ""

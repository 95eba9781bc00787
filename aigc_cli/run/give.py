"""Exports of any family: a graph for ONNX Runtime, or the weights alone, each with a model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aigc_cli.errors import RunError
from aigc_cli.recipe.write import to_yaml
from aigc_cli.run.base import load_whole
from aigc_cli.run.card import model_card, without_places
from aigc_cli.run.hugging_face import new_folder
from aigc_cli.run.onnx_export import TOLERANCE, require_onnx, write_onnx
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.run.trained import load_trained


@dataclass(frozen=True)
class Asked:
    """What a user asks of an export; all but `ema` are for graphs."""

    options: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    int8: bool = False
    input: Path | None = None
    tolerance: float = TOLERANCE
    ema: bool = True


def give_model(source: str, out: Path, format: str, asked: Asked) -> dict[str, Any]:
    """Write a model as a folder, whole or not at all; returns what was written and measured, and
    `lines` that say it.

    Raises:
        AigcError: as `write_onnx` and `load_trained`. OutputError: the folder holds something.
    """
    path = find_checkpoint(source)
    if format == "onnx":
        require_onnx()
    with new_folder(out) as folder:
        if format == "onnx":
            trained = load_trained(source, asked.options, device="cpu", ema=asked.ema)
            found = write_onnx(
                trained,
                folder,
                size=asked.size,
                int8=asked.int8,
                inputs=asked.input,
                tolerance=asked.tolerance,
            )
        else:
            found = _write_weights(path, folder, ema=asked.ema)
        (folder / "README.md").write_text(model_card(source, found), encoding="utf-8")
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    report = {
        "checkpoint": str(path),
        "format": format,
        "folder": str(out),
        **found,
        "files": files,
    }
    return {**report, "lines": list(_lines(found))}


def _write_weights(path: Path, folder: Path, *, ema: bool) -> dict[str, Any]:
    """model.safetensors, with the recipe and the spec beside it; read again and compared.

    Raises:
        RunError: it does not read as it was written.
    """
    from safetensors.torch import load_file, save_file

    state = load_whole(path)
    weights = {**state["weights"], **((state["ema"] or {}) if ema else {})}
    weights = {name: value.contiguous().clone() for name, value in weights.items()}
    file = folder / "model.safetensors"
    save_file(weights, file, {"format": "pt", "family": state["recipe"]["family"]})
    again = load_file(file)
    if again.keys() != weights.keys() or not all(
        torch.equal(again[k], weights[k]) for k in weights
    ):
        raise RunError(f"{file.name} does not read as it was written")
    (folder / "recipe.yaml").write_text(to_yaml(without_places(state["recipe"])), encoding="utf-8")
    (folder / "spec.json").write_text(
        json.dumps(state["spec"], ensure_ascii=False), encoding="utf-8"
    )
    return {"tensors": len(weights), "numbers": sum(v.numel() for v in weights.values())}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What a person is told."""
    if "tensors" in found:
        yield f"{found['tensors']} tensors with {found['numbers']:,} numbers, read again and equal"
        return
    checked, took = found["checked"], found["milliseconds"]
    yield (
        f"ONNX Runtime differs by {checked['largest']:.1e} at most from PyTorch on "
        f"{checked['inputs']} held-out inputs of {len(checked['shapes'])} shapes (allowed: "
        f"{checked['tolerance']:g} of 1)"
    )
    yield (
        f"{'x'.join(map(str, took['shape']))}: {took['onnxruntime']} ms, PyTorch "
        f"{took['pytorch']} ms, {took['threads']} thread(s)"
    )
    if small := found.get("int8"):
        quality = ", ".join(
            f"{name} {small['quality'][name]:.4f} instead of {value:.4f}"
            for name, value in found["quality"].items()
        )
        yield (
            f"int8: {small['bytes']:,} bytes instead of {found['bytes']:,}, "
            f"{small['milliseconds']['onnxruntime']} ms beside {small['milliseconds']['pytorch']} "
            f"of PyTorch; differs by {small['difference']['mean']:.1e} in the "
            f"mean, {small['difference']['largest']:.1e} at most{f'; {quality}' if quality else ''}"
        )

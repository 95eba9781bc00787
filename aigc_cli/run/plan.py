"""`aigc plan`: what a run will cost, before it is spent."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.run import devices
from aigc_cli.run.build import build, check_monitor, count_steps
from aigc_cli.run.events import duration
from aigc_cli.run.rehearsal import rehearse
from aigc_cli.run.train import train


def plan(recipe: Recipe, measure: int = 0, *, try_step: bool = False) -> dict[str, Any]:
    """Parameters, bytes and steps; with `measure`, the speed and memory of that many real steps
    here; with `try_step` one real batch goes through everything that the first step runs.

    Writes nothing but a temporary folder. Raises what `train` would raise before its first step.
    """
    trainer = recipe.trainer
    processes = devices.choose_devices(trainer)
    share = devices.share_of_batch(trainer, processes)
    data, model = build(recipe)
    monitor = check_monitor(recipe, model)
    weights = sum(p.numel() for p in model.parameters())
    averaged = sum(p.numel() for name in model.averaged for p in getattr(model, name).parameters())
    kept = averaged if trainer.ema is not None else 0
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # What adapters leave as it is stays in the model that they were made for.
    left = model.unchanged if recipe.init_from is not None else frozenset()
    held = sum(t.nbytes for name, t in model.state_dict().items() if name not in left)
    networks = tuple(f"{name}." for name in model.averaged if kept)
    averages = sum(
        p.nbytes
        for name, p in model.named_parameters()
        if name not in left and name.startswith(networks)
    )
    steps = count_steps(recipe, len(data.train))
    facts: dict[str, Any] = {
        "recipe": recipe.name,
        "family": recipe.family,
        "parameters": weights,
        "state_bytes": 4 * (weights + 3 * learned + kept),  # gradients and two moments of some
        "checkpoint_bytes": held + averages + 8 * learned,
        "steps": steps,
        "epochs": round(steps * trainer.global_batch / len(data.train), 2),
        "train_items": len(data.train),
        "val_items": len(data.val),
        "device": devices.choose_device(trainer.device),
        "precision": devices.choose_precision(trainer),
        "devices": processes,
        "batch_per_device": share,
        "monitor": monitor,
    }
    if try_step:
        rehearse(recipe, data, model, share)
    if measure:
        facts |= _measure(recipe, measure, steps)
    return facts


def plan_text(facts: dict[str, Any]) -> str:
    """The plan as aligned lines."""
    rows = {
        "model": f"{facts['family']}, {facts['parameters']:,} parameters",
        "data": f"{facts['train_items']:,} training and {facts['val_items']:,} validation items",
        "length": f"{facts['steps']:,} steps, {facts['epochs']:,} epochs",
        "device": f"{facts['devices']} x {facts['device']}, {facts['precision']}, "
        f"{facts['batch_per_device']} items each per step",
        "memory": f"{facts['state_bytes'] / 1e6:,.1f} MB for weights, gradients, Adam and average; "
        "activations come on top",
        "checkpoint": f"{facts['checkpoint_bytes'] / 1e6:,.1f} MB",
        "best by": facts["monitor"],
    }
    if "seconds_per_step" in facts:
        rows["speed"] = (
            f"{facts['seconds_per_step']:.3f} s per step, {facts['samples_per_s']:.1f} samples/s"
        )
        rows["time"] = (
            f"{duration(facts['seconds'])} of training and {duration(facts['validation_s'])} "
            f"for each validation"
        )
        rows["peak memory"] = f"{facts['peak_memory_bytes'] / 1e6:,.0f} MB"
    return "\n".join(f"{name + ':':13}{text}" for name, text in rows.items())


def _peak_memory() -> int:
    """Bytes that this process had at most; those of now where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux


def _measure(recipe: Recipe, steps: int, total: int) -> dict[str, Any]:
    """Run real steps in a temporary folder; the second half is timed, when caches are warm."""
    import time

    import torch

    half = max(1, steps // 2)
    rates: list[dict[str, Any]] = []
    moments: dict[str, float] = {}

    def watch(event: dict[str, Any]) -> None:
        moments[event["event"]] = time.monotonic()
        if event["event"] == "step":
            rates.append(event)

    values = recipe.as_dict()
    values["trainer"] |= {
        "max_steps": 2 * half,
        "max_epochs": None,
        "log_every": half,
        "validate_every": 10**9,
        "preview_every": 10**9,
        "checkpoint_every": 10**9,
    }
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory(prefix="aigc-plan-") as folder:
        train(recipe_from_dict(values, recipe.path), out=Path(folder) / "run", emit=watch)
    rate = rates[-1]["samples_per_s"]
    per_step = recipe.trainer.global_batch / rate
    peak = _peak_memory()
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return {
        "seconds_per_step": per_step,
        "samples_per_s": rate,
        "seconds": per_step * total,
        "validation_s": moments["val"] - moments["tick"],
        "peak_memory_bytes": peak,
    }

"""Weights of other programs: read without trust, written as checkpoints of ours."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_cli import __version__
from aigc_cli.errors import CheckpointError
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.run.checkpoint import FORMAT, save_checkpoint
from aigc_cli.specs import Spec


def write_imported(
    out: Path, recipe: Mapping[str, Any], spec: Spec, weights: Mapping[str, Tensor]
) -> None:
    """A checkpoint at step 0 that samples, evaluates and starts runs like any other.

    Raises:
        DiskFullError, OutputError: it cannot be written.
    """
    resolved = recipe_from_dict({**recipe, "trainer": {"max_steps": 1}})
    save_checkpoint(
        {
            "format": FORMAT,
            "aigc": __version__,
            "torch": str(torch.__version__),
            "step": 0,
            "samples": 0,
            "recipe": resolved.as_dict(),
            "recipe_path": None,
            "spec": spec.as_dict(),
            "weights": dict(weights),
            "ema": None,
            "optimizers": [],
            "scaler": None,
            "best": None,
            "features": None,
        },
        out,
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name of torch's format or of safetensors; what could run code is refused.

    Raises:
        CheckpointError: damaged, pickled code, or something else than tensors by name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged, no file of weights, or one that asks to run code"
        ) from error
    for wrapper in ("state_dict", "model_state", "params_ema", "params"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no tensors by name")
    return state

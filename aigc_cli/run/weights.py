"""Weights and optimizer states as plain full tensors, whole or sharded over devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from aigc_cli.errors import CheckpointError, InputError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.run.checkpoint import load_checkpoint
from aigc_cli.run.folder import find_checkpoint

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


def is_sharded(model: GenerativeModule) -> bool:
    return any(isinstance(p, DTensor) for p in model.parameters())


def network_state(
    model: GenerativeModule, optimizers: Sequence[Optimizer]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Full weights and optimizer states; with sharded weights every process must call it."""
    if is_sharded(model):
        states = [get_optimizer_state_dict(model, o, options=FULL) for o in optimizers]
        return dict(get_model_state_dict(model, options=FULL)), states
    return dict(model.state_dict()), [o.state_dict() for o in optimizers]


def restore_network(
    model: GenerativeModule, optimizers: Sequence[Optimizer], state: dict[str, Any]
) -> None:
    """Put weights and optimizer states of a checkpoint back."""
    if is_sharded(model):
        set_model_state_dict(model, state["weights"], options=FULL)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            set_optimizer_state_dict(model, optimizer, saved, options=FULL)
        return
    load_weights(model, state["weights"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)


def full_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Sharded tensors gathered; others as they are."""
    return {k: t.full_tensor().cpu() if isinstance(t, DTensor) else t for k, t in tensors.items()}


def sharded_like(
    tensors: dict[str, torch.Tensor], like: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Inverse of `full_tensors`: each tensor spread as its namesake in `like` is."""
    return {
        k: distribute_tensor(tensors[k].to(t.device), t.device_mesh, t.placements)
        if isinstance(t, DTensor)
        else tensors[k]
        for k, t in like.items()
    }


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load exactly; nothing missing, nothing left over.

    Raises:
        CheckpointError: names the first tensor that differs, with both shapes.
    """
    own = model.state_dict()
    for key in sorted(own.keys() | weights.keys()):
        ours = tuple(own[key].shape) if key in own else "absent"
        theirs = tuple(weights[key].shape) if key in weights else "absent"
        if ours != theirs:
            raise CheckpointError(
                f"the checkpoint does not fit the model: '{key}' is {theirs} there and {ours} here",
                code="checkpoint.mismatch",
            )
    model.load_state_dict(weights)


def load_averaged(model: GenerativeModule, state: dict[str, Any], *, ema: bool) -> None:
    """Weights for sampling: the moving average where one was kept and `ema` asks for it."""
    weights = dict(state["weights"])
    if ema and state["ema"] is not None:
        weights.update(state["ema"])
    load_weights(model, weights)


def load_initial(model: GenerativeModule, source: str, bases: Sequence[Path]) -> str:
    """Start from another run's weights where names and shapes agree; says what was taken.

    Raises:
        InputError: nothing fits, or there is no such checkpoint.
    """
    places = [Path(source), *(base / source for base in bases)]
    path = find_checkpoint(next((p for p in places if p.exists()), places[0]))
    state = load_checkpoint(path)
    weights = {**state["weights"], **(state["ema"] or {})}
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    left = sorted(own.keys() - fitting.keys())
    if not fitting:
        raise InputError(
            f"init_from: nothing in {path}, family {state['recipe']['family']}, fits this model",
            hint="name a checkpoint of the same family and size",
        )
    model.load_state_dict(fitting, strict=False)
    message = f"init_from: {len(fitting)} of {len(own)} tensors from {path}"
    return f"{message}; from scratch: {', '.join(left)}" if left else message

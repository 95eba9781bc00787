"""Weights and optimizer states as plain full tensors, whole or sharded over devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from aigc_cli.models._base import GenerativeModule


def network_state(
    model: GenerativeModule, optimizers: Sequence[Optimizer]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Full weights and optimizer states; with sharded weights every process must call it."""
    states = []
    for optimizer in optimizers:
        state = optimizer.state_dict()
        state["state"] = {n: full_tensors(values) for n, values in state["state"].items()}
        states.append(state)
    return full_tensors(model.state_dict()), states


def restore_network(
    model: GenerativeModule, optimizers: Sequence[Optimizer], state: dict[str, Any]
) -> None:
    """Put weights and optimizer states of a checkpoint back, sharded as the model is."""
    own = model.state_dict()
    model.load_state_dict({k: sharded_as(v, own[k]) for k, v in state["weights"].items()})
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        moments = {
            number: {k: sharded_as(v, params[number]) for k, v in values.items()}
            for number, values in saved["state"].items()
        }
        optimizer.load_state_dict({**saved, "state": moments})


def full_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Sharded tensors gathered; everything else as it is."""
    return {k: t.full_tensor().cpu() if isinstance(t, DTensor) else t for k, t in tensors.items()}


def sharded_as(value: Any, like: torch.Tensor) -> Any:
    """A full tensor spread over the devices as `like` is, or in the memory layout of `like`, which
    fused optimizers take for granted; unchanged where the shapes differ.
    """
    if not isinstance(value, torch.Tensor) or value.shape != like.shape:
        return value
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    if value.stride() == like.stride():
        return value
    return torch.empty_like(like, dtype=value.dtype).copy_(value)

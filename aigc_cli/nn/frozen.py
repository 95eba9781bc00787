"""A network as it was: what a policy is compared with while it changes."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

N = TypeVar("N", bound=nn.Module)


def frozen_copy(network: N) -> N:
    """The same network in evaluation mode, with buffers in the place of its parameters.

    It is stored in checkpoints under the names of the original, moves between devices, and no
    optimizer, moving average or gradient finds it.
    """
    frozen = copy.deepcopy(network).eval()
    for module in frozen.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    return frozen

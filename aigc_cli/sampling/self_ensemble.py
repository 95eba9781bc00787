"""Geometric self-ensemble: Timofte et al., "Seven ways to improve example-based single image super
resolution", 2016, https://arxiv.org/abs/1511.02228 (the "+" of EDSR+)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def self_ensemble(fn: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Mean of `fn` over the 8 flips and rotations of image (B, C, H, W), each turned back.

    `fn` is called 8 times, half of them with H and W exchanged. What comes out is equivariant: a
    flipped or rotated image gives the flipped or rotated result.
    """
    total = None
    for flipped in (False, True):
        for quarter in range(4):
            view = image.flip(-1) if flipped else image
            out = fn(view.rot90(quarter, (-2, -1))).rot90(-quarter, (-2, -1))
            out = out.flip(-1) if flipped else out
            total = out if total is None else total + out
    assert total is not None
    return total / 8

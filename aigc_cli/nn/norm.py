"""Normalizations of images: fast in both layouts, and with statistics that can be taken from
elsewhere, for images cut in tiles.

Groups: Wu and He, "Group Normalization", ECCV 2018, https://arxiv.org/abs/1803.08494. Instances:
Ulyanov, Vedaldi, Lempitsky, "Instance Normalization", 2016, https://arxiv.org/abs/1607.08022. The
statistics of a reduced image for all tiles: Chen, Wang, Xie, Lu, Luo, "Towards Ultra-Resolution
Neural Style Transfer via Thumbnail Instance Normalization", AAAI 2022,
https://arxiv.org/abs/2103.11784.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5
LAST = torch.channels_last
Statistics = tuple[Tensor, Tensor]


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = EPS,
) -> Tensor:
    """(B, C, H, W) -> same, in the layout of x: the C / `groups` channels of a group together to
    mean 0 and variance 1, then times `weight` (C,) plus `bias` (C,).

    On CPUs torch takes 3 to 20 times as long for bf16 whose channels are last as two copies and
    the other layout (benchmarks/image.py, torch 2.15).
    """
    if x.device.type != "cpu" or x.is_contiguous() or not x.is_contiguous(memory_format=LAST):
        return F.group_norm(x, groups, weight, bias, eps)
    made = F.group_norm(x.contiguous(), groups, weight, bias, eps)
    return made.contiguous(memory_format=LAST)


class _Norm:
    """What `statistics_from` turns on and off in a module."""

    recording = False
    statistics: Statistics | None = None

    def by_statistics(self, x: Tensor, groups: int) -> Tensor | None:
        """x with the recorded statistics taken out; None where there are none to be used."""
        if self.statistics is not None:
            var, mean = self.statistics
            return (x - mean.to(x.dtype)) * torch.rsqrt(var + EPS).to(x.dtype)
        if self.recording:
            parts = x.float().unflatten(1, (groups, -1))
            var, mean = torch.var_mean(parts, (2, 3, 4), correction=0)
            each = x.shape[1] // groups
            self.statistics = _of_channels(var, each), _of_channels(mean, each)
        return None


def _of_channels(values: Tensor, each: int) -> Tensor:
    """(B, groups) -> (B, C, 1, 1)."""
    return values.repeat_interleave(each, 1)[..., None, None]


class InstanceNorm(_Norm, nn.Module):
    """Every channel of every image to mean 0 and variance 1; (B, C, H, W) -> same, no weights."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.by_statistics(x, x.shape[1])
        if made is not None:
            return made
        if x.device.type == "cpu":
            return group_norm(x, x.shape[1])  # the same, in half the time of torch 2.11
        return F.instance_norm(x, eps=EPS)


class GroupNorm(_Norm, nn.GroupNorm):
    """`group_norm` with a weight and a bias that are learned."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.by_statistics(x, self.num_groups)
        if made is not None:
            return torch.addcmul(self.bias[:, None, None], made, self.weight[:, None, None])
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


@contextmanager
def statistics_from(
    network: nn.Module, thumbnail: Tensor, run: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Inside, every norm of `network` uses the mean and variance that it met in run(thumbnail), so
    that neighboring tiles of an image are treated alike.
    """
    norms = [m for m in network.modules() if isinstance(m, _Norm)]
    try:
        for norm in norms:
            norm.recording = True
        run(thumbnail)
        yield
    finally:
        for norm in norms:
            norm.recording, norm.statistics = False, None

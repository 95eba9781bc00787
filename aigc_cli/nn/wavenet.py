"""Causal dilated convolutions, over whole rows at once or sample by sample from a cache.

van den Oord et al., "WaveNet", 2016, https://arxiv.org/abs/1609.03499. The cache is that of Le
Paine et al., "Fast Wavenet Generation Algorithm", 2016, https://arxiv.org/abs/1611.09482.

Shapes: B rows, T samples, R channels of the residual path, S of the skips, L layers, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hats(place: Tensor, points: int) -> Tensor:
    """Places (...) in [0, 1] -> how much each of K points that lie evenly there counts, (..., K):
    the two beside it, linearly; each row sums to 1.
    """
    at = torch.arange(points, device=place.device)
    return F.relu(1 - (place[..., None] * (points - 1) - at).abs())


class Layer(nn.Module):
    """A gated convolution of two taps, `dilation` samples apart, with biases c (B, 1 or T, 2R)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.past = nn.Linear(channels, 2 * channels, bias=False)
        self.now = nn.Linear(channels, 2 * channels)
        self.residual = nn.Linear(channels, channels)

    def forward(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B, T, R) -> the next layer's input and what is told to the skips, both (B, T, R)."""
        past = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        z = self.now(x) + self.past(past)  # (B, T, 2R)
        z = z if c is None else z + c
        a, b = z.chunk(2, -1)
        h = torch.tanh(a) * torch.sigmoid(b)
        return x + self.residual(h), h


class WaveNet(nn.Module):
    """y (B, T) on the compressed scale -> (B, T, O), output t of y up to and including t.

    With `points` K the biases of each layer are those of K points from the beginning of a recording
    to its end, for each class its own, and linear between them.
    """

    def __init__(
        self,
        *,
        channels: int,
        skip: int,
        dilations: list[int],
        outputs: int,
        classes: int,
        points: int = 0,
    ) -> None:
        super().__init__()
        self.front = nn.Linear(1, channels)
        self.layers = nn.ModuleList(Layer(channels, dilation) for dilation in dilations)
        self.skip = nn.Linear((len(dilations) + 1) * channels, skip)
        self.head = nn.Linear(skip, skip)
        self.out = nn.Linear(skip, outputs)
        biases = len(dilations) * 2 * channels
        self.classes = nn.Embedding(classes, biases) if classes else None
        self.points = points
        if points:
            self.course = nn.Embedding(max(classes, 1), points * channels)
            self.spread = nn.Linear(channels, biases, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        """Classes begin equal; the last layer small, so that all levels begin about as likely."""
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, std=0.02)
        if self.points:
            nn.init.normal_(self.course.weight, std=0.1)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    @property
    def receptive(self) -> int:
        """Samples that an output depends on."""
        return 1 + sum(layer.dilation for layer in self._layers())

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def biases(self, label: Tensor | None, rows: int) -> Tensor | None:
        """label (B,) -> what each layer adds at each point, (B, K or 1, L 2R)."""
        told = None
        if self.classes is not None and label is not None:
            told = self.classes(label)[:, None]
        if self.points:
            which = torch.zeros(rows, dtype=torch.long, device=self.out.weight.device)
            which = which if told is None or label is None else label
            course = self.spread(self.course(which).view(rows, self.points, -1))
            told = course if told is None else course + told
        return told

    def by_layer(self, label: Tensor | None, place: Tensor | None, y: Tensor) -> list[Any]:
        """What each layer adds to its input, (B, 1 or T, 2R) or None."""
        told = self.biases(label, len(y))
        if told is None:
            return [None] * len(self.layers)
        parts = told.chunk(len(self.layers), -1)
        if not self.points:
            return [*parts]
        assert place is not None
        weights = hats(place, self.points).to(told)  # (B, T, K)
        return [weights @ part for part in parts]

    def finish(self, told: Tensor) -> Tensor:
        """What all layers told the skips, and the last input, (..., (L + 1) R) -> (..., O)."""
        return self.out(F.relu(self.head(F.relu(self.skip(told)))))

    def forward(
        self, y: Tensor, label: Tensor | None = None, place: Tensor | None = None
    ) -> Tensor:
        """place (B, T) in [0, 1]: where in the recording what output t tells of is."""
        x, told = self.front(y[..., None]), []  # (B, T, R)
        for layer, c in zip(self.layers, self.by_layer(label, place, y), strict=True):
            x, h = layer(x, c)
            told.append(h)
        return self.finish(torch.cat([*told, x], -1))


class Cache:
    """The network one sample at a time: each layer remembers its last `dilation` inputs.

    What the layers' past taps add is known before the sample comes, so that one product makes it
    for all of them; a step is then five small operations a layer, whatever the dilations.
    """

    def __init__(
        self, net: WaveNet, label: Tensor | None, y: Tensor, place: Tensor | None = None
    ) -> None:
        """y (B, T), T >= 0, comes before the first step, and its place (B, T)."""
        self.net = net
        layers = net._layers()
        B, device = len(y), y.device
        self.dilations = torch.tensor([layer.dilation for layer in layers], device=device)
        ends = self.dilations.cumsum(0)
        self.first, self.time = ends - self.dilations, 0
        self.past = torch.stack([layer.past.weight.T for layer in layers])  # (L, R, 2R)
        self.now = [layer.now.weight.T for layer in layers]
        self.back = [layer.residual.weight.T for layer in layers]
        self.bias = torch.stack([layer.now.bias for layer in layers])[:, None]  # (L, 1, 2R)
        self.told = net.biases(label, B)  # (B, K or 1, L 2R)

        # The last `dilation` inputs of each layer, in a ring in which time 0 is at its beginning.
        seen = net.receptive
        place = None if place is None else place[:, -seen:]
        x, rings = net.front(y[:, -seen:, None]), []
        for layer, c in zip(layers, net.by_layer(label, place, y), strict=True):
            rings.append(F.pad(x, (0, 0, layer.dilation, 0))[:, -layer.dilation :].transpose(0, 1))
            x, _ = layer(x, c)
        self.rings = torch.cat(rings)  # (sum d, B, R)
        if not net.points:
            self.bias = self._biases(None, B)

    def _biases(self, place: Tensor | None, rows: int) -> Tensor:
        """Of each layer at these places (B,), (L, B, 2R)."""
        if self.told is None:
            return self.bias.expand(-1, rows, -1)
        told = self.told  # (B, 1, L 2R) without points
        if place is not None:
            told = torch.bmm(hats(place, self.net.points).to(told)[:, None], told)
        return self.bias + told.view(rows, len(self.now), -1).transpose(0, 1)

    def step(self, y: Tensor, place: Tensor | None = None) -> Tensor:
        """The next sample of each row, (B,), with its place (B,) -> outputs (B, O)."""
        slots = self.first + self.time % self.dilations
        bias = self._biases(place, len(y)) if self.net.points else self.bias
        before = torch.baddbmm(bias, self.rings[slots], self.past).unbind()
        x, inputs, told = self.net.front(y[:, None]), [], []  # (B, R)
        for layer, z, now, back in zip(
            self.net._layers(), before, self.now, self.back, strict=True
        ):
            inputs.append(x)
            a, b = torch.addmm(z, x, now).chunk(2, -1)
            h = torch.tanh(a) * torch.sigmoid(b)
            x = x + torch.addmm(layer.residual.bias, h, back)
            told.append(h)
        self.rings[slots] = torch.stack(inputs)
        self.time += 1
        return self.net.finish(torch.cat([*told, x], -1))

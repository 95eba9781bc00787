"""Causal dilated convolutions, over whole rows at once or sample by sample from a cache.

van den Oord et al., "WaveNet", 2016, https://arxiv.org/abs/1609.03499. The cache is that of Le
Paine et al., "Fast Wavenet Generation Algorithm", 2016, https://arxiv.org/abs/1611.09482.

Shapes: B rows, T samples, R channels of the residual path, S of the skips, L layers, O outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """A gated convolution of two taps, `dilation` samples apart; biases c (B, 2R) of a class."""

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
        z = z if c is None else z + c[:, None]
        a, b = z.chunk(2, -1)
        h = torch.tanh(a) * torch.sigmoid(b)
        return x + self.residual(h), h


class WaveNet(nn.Module):
    """y (B, T) on the compressed scale -> (B, T, O), output t of y up to and including t."""

    def __init__(
        self, *, channels: int, skip: int, dilations: list[int], outputs: int, classes: int
    ) -> None:
        super().__init__()
        self.front = nn.Linear(1, channels)
        self.layers = nn.ModuleList(Layer(channels, dilation) for dilation in dilations)
        self.skip = nn.Linear((len(dilations) + 1) * channels, skip)
        self.head = nn.Linear(skip, skip)
        self.out = nn.Linear(skip, outputs)
        self.classes = nn.Embedding(classes, len(dilations) * 2 * channels) if classes else None
        self._initialize()

    def _initialize(self) -> None:
        """Classes begin equal; the last layer small, so that all levels begin about as likely."""
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, std=0.02)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    @property
    def receptive(self) -> int:
        """Samples that an output depends on."""
        return 1 + sum(layer.dilation for layer in self._layers())

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def biases(self, label: Tensor | None) -> list[Tensor | None]:
        """label (B,) -> what each layer adds, (B, 2R)."""
        if self.classes is None or label is None:
            return [None] * len(self.layers)
        return [*self.classes(label).chunk(len(self.layers), -1)]

    def finish(self, told: Tensor) -> Tensor:
        """What all layers told the skips, and the last input, (..., (L + 1) R) -> (..., O)."""
        return self.out(F.relu(self.head(F.relu(self.skip(told)))))

    def forward(self, y: Tensor, label: Tensor | None = None) -> Tensor:
        x, told = self.front(y[..., None]), []  # (B, T, R)
        for layer, c in zip(self.layers, self.biases(label), strict=True):
            x, h = layer(x, c)
            told.append(h)
        return self.finish(torch.cat([*told, x], -1))


class Cache:
    """The network one sample at a time: each layer remembers its last `dilation` inputs.

    What the layers' past taps add is known before the sample comes, so that one product makes it
    for all of them; a step is then five small operations a layer, whatever the dilations.
    """

    def __init__(self, net: WaveNet, label: Tensor | None, y: Tensor) -> None:
        """y (B, T), T >= 0, comes before the first step."""
        self.net = net
        layers = net._layers()
        B, device = len(y), y.device
        self.dilations = torch.tensor([layer.dilation for layer in layers], device=device)
        ends = self.dilations.cumsum(0)
        self.first, self.time = ends - self.dilations, 0
        self.past = torch.stack([layer.past.weight.T for layer in layers])  # (L, R, 2R)
        self.now = [layer.now.weight.T for layer in layers]
        self.back = [layer.residual.weight.T for layer in layers]
        self.bias = torch.stack([
            layer.now.bias.expand(B, -1) if c is None else layer.now.bias + c
            for layer, c in zip(layers, net.biases(label), strict=True)
        ])  # (L, B, 2R)  # fmt: skip

        # The last `dilation` inputs of each layer, in a ring in which time 0 is at its beginning.
        x, rings = net.front(y[:, -net.receptive :, None]), []
        for layer, c in zip(layers, net.biases(label), strict=True):
            rings.append(F.pad(x, (0, 0, layer.dilation, 0))[:, -layer.dilation :].transpose(0, 1))
            x, _ = layer(x, c)
        self.rings = torch.cat(rings)  # (sum d, B, R)

    def step(self, y: Tensor) -> Tensor:
        """The next sample of each row, (B,) -> outputs (B, O)."""
        slots = self.first + self.time % self.dilations
        before = torch.baddbmm(self.bias, self.rings[slots], self.past).unbind()
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

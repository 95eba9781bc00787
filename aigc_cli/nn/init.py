"""Initial weights that papers name and torch does not have as one call."""

from __future__ import annotations

from torch import nn

LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Weights N(0, std) and biases 0 in convolutions and linear layers, scales N(1, std) in
    normalizations, everywhere inside `module`.

    DCGAN (Radford et al. 2016, section 4), kept by pix2pix and CycleGAN.
    """
    for layer in module.modules():
        if isinstance(layer, LINEAR):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, NORMS) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, std)
            nn.init.zeros_(layer.bias)

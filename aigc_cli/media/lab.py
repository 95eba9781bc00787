"""CIE 1976 L*a*b*: lightness apart from color, in steps that look alike.

sRGB of IEC 61966-2-1, the white of D65 for the 2 degree observer, and the constants of CIE 15, as
scikit-image has them.
"""

from __future__ import annotations

import torch
from torch import Tensor

_XYZ = torch.tensor(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_WHITE = torch.tensor([0.95047, 1.0, 1.08883])
_TO_WHITE = _XYZ / _WHITE[:, None]  # linear RGB -> XYZ as multiples of the white
_FROM_WHITE = torch.linalg.inv(_TO_WHITE.double()).float()
_CUBE, _SLOPE = 0.008856, 7.787  # below the first, the cube root is a straight line


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB (..., 3, H, W) in [-1, 1] -> L in [0, 100], a and b in about [-110, 100], float32."""
    rgb = (images.float() + 1) / 2
    linear = torch.where(rgb > 0.04045, ((rgb.clamp_min(0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mix(_TO_WHITE, linear)
    f = torch.where(xyz > _CUBE, xyz.clamp_min(_CUBE) ** (1 / 3), _SLOPE * xyz + 16 / 116)
    x, y, z = f.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Inverse of `rgb_to_lab`; colors that sRGB does not have are clipped, channel by channel."""
    L, a, b = lab.float().unbind(-3)
    y = (L + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp_min(0)], dim=-3)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / _SLOPE)
    linear = _mix(_FROM_WHITE, xyz).clamp(0, 1)
    gamma = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, gamma, 12.92 * linear).mul_(2).sub_(1).clamp_(-1, 1)


def _mix(matrix: Tensor, images: Tensor) -> Tensor:
    """matrix (3, 3) times the color of every pixel, in full precision whatever trains."""
    with torch.autocast(images.device.type, enabled=False):
        return torch.einsum("ij,...jhw->...ihw", matrix.to(images.device), images)

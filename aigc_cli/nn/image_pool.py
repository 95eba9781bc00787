"""A history of generated images, so that discriminators do not forget.

Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training",
CVPR 2017, section 2.3, https://arxiv.org/abs/1612.07828, in the form of Zhu et al. 2017 (CycleGAN).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Keeps `size` images. The first are kept and returned as they are. After that each image
    is returned, or, half of the times, takes the place of a kept one, which is returned instead.

    Images and their number are buffers, so a checkpoint has them; nothing else is remembered.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, images: Tensor, choices: Tensor) -> Tensor:
        """What the discriminator sees in place of `images` (B, ...), one image after the other.

        choices: (B, 2) uniform in [0, 1): whether to exchange, and for which.
        """
        if self.size == 0:
            return images
        images = images.to(self.images.dtype)
        swap = choices[:, 0] < 0.5
        slots = (choices[:, 1] * self.size).long()
        shown = []
        for b in range(len(images)):  # no value is read back, so a GPU does not wait
            full = self.filled >= self.size
            slot = torch.where(full, slots[b], self.filled)  # (1,)
            new, old = images[b : b + 1], self.images[slot]
            shown.append(torch.where(full & swap[b], old, new))
            self.images[slot] = torch.where(full & ~swap[b], old, new)
            self.filled += ~full
        return torch.cat(shown)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Take the number only together with the images, which `init_from` leaves out when their
        size differs.
        """
        if f"{prefix}images" not in state:
            state = {k: v for k, v in state.items() if k != f"{prefix}filled"}
        super()._load_from_state_dict(state, prefix, *rest)

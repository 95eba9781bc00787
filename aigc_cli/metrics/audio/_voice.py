"""Voices, as the weights of the package Resemblyzer know them: `aigc model get resemblyzer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.catalog.weights import find_entry, find_model
from aigc_cli.metrics._things import Extractor, Features
from aigc_cli.nn.voice import SAMPLE_RATE, VoiceEncoder, stretches

NAME = "resemblyzer"
SHA256 = find_entry(NAME)[1].sha256


class Voices(Extractor):
    """Mean over stretches of 1.6 s of vectors of length 1, again of length 1: 256 numbers."""

    stamp = f"{NAME} {SHA256[:12]}: voices, silence kept"
    resize = f"resampled to {SAMPLE_RATE:,} Hz"
    layers = ("voice",)
    labels = None
    digest = f"{NAME} {SHA256} 1"

    def __init__(self) -> None:
        """
        Raises:
            MissingError: its weights were not got yet.
        """
        from safetensors.torch import load_file

        self.net = VoiceEncoder().eval()
        self.net.load_state_dict(load_file(find_model(NAME) / "model.safetensors"))

    @torch.no_grad()
    def see(self, things: Sequence[Any]) -> Iterator[Features]:
        for sound in things:
            parts = self.net(stretches(torch.from_numpy(sound.at(SAMPLE_RATE).samples).float()))
            yield Features(F.normalize(parts.mean(0), dim=0)[None])

    def __call__(self, images: Tensor) -> NoReturn:
        raise TypeError("sounds are seen one by one")

    def distance(self, a: Tensor, b: Tensor) -> NoReturn:
        raise TypeError("sounds have no perceptual distance")

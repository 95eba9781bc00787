"""The outer pixels of whole images, in every family that takes images of any size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from aigc_cli.models import _tiles
from aigc_cli.models.image import _color
from aigc_cli.registry import load_family
from aigc_cli.run.build import attach_networks
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec, PairSpec, UnpairedSpec

UNPAIRED = UnpairedSpec(channels=3, image_size=32)
PAIRED = PairSpec(source_channels=3, target_channels=3, image_size=32)
PICTURES = ImageSpec(channels=3, image_size=32, labels=None)
FAMILIES = {
    "adain": (UNPAIRED, dict(load_family("adain").Config.TINY)),
    "colorize": (PICTURES, {"num_features": 8, "depth": 1}),
    "colorize_gan": (PICTURES, {"num_features": 8, "disc_features": 4, "disc_layers": 1}),
    "cvae_translate": (PAIRED, {"num_features": 8, "num_downs": 2}),
    "cyclegan": (UNPAIRED, {"num_features": 8, "num_blocks": 2}),
    "munit": (UNPAIRED, {"num_features": 8, "num_blocks": 2, "mlp_dim": 8}),
    "pix2pix": (PAIRED, {"num_features": 8, "num_downs": 3}),
    "style_fast": (UNPAIRED, {"num_features": 8, "num_blocks": 2, "features": "random:cnn"}),
}  # and EDSR: tests/models/test_edsr.py
RING = 4


def options_for(name: str, image: Tensor) -> dict[str, object]:
    """Under which a crop is treated as in the whole, but for what is around it."""
    size = {"size": min(image.shape[1:])}  # not reduced
    return {"adain": {"strength": 0.0}, "colorize": size, "colorize_gan": size}.get(name, {})


def answers(
    name: str, images: list[Tensor], border: int, patch: pytest.MonkeyPatch
) -> list[Tensor]:
    """What a new model makes of images (3, H, W), with so much context around them."""
    torch.manual_seed(0)
    family, (spec, config) = load_family(name), FAMILIES[name]
    model = family.Model(family.Config(**config), spec).eval()
    if "features" in config:
        attach_networks(model, SimpleNamespace(model=model.config, bases=()))
    for module in (_tiles, _color):
        patch.setattr(module, "BORDER", border)
    style = [photo(40, 40, seed=5)] * model.reference_count[0]
    with torch.no_grad():
        return [
            model.sample(
                SampleNoise(0, 0, 1), family.Options(**options_for(name, image)), image, style
            )[0]
            for image in images
        ]


def photo(H: int, W: int, seed: int = 1) -> Tensor:
    """Smooth noise in color, with something at all scales."""
    random = torch.Generator().manual_seed(seed)
    parts = [torch.randn(1, 3, H // n + 2, W // n + 2, generator=random) for n in (2, 6, 20)]
    size = [torch.nn.functional.interpolate(p, size=(H, W), mode="bicubic") for p in parts]
    return torch.stack(size).mean(0)[0].clamp(-1, 1)


def ring(x: Tensor) -> Tensor:
    """The outer pixels of (C, H, W), flat."""
    outer = torch.ones(x.shape[1:], dtype=torch.bool)
    outer[RING:-RING, RING:-RING] = False
    return x[:, outer]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_ring_of_a_crop_is_as_in_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what the model makes of the photograph around the crop, with and without context."""
    whole = photo(112, 112)
    crop = whole[:, 24:72, 32:80]
    errors = []
    for border in (0, 8):
        truth, made = answers(name, [whole, crop], border, monkeypatch)
        error = made - truth[:, 24:72, 32:80]
        errors.append(float(ring(error).square().mean() / truth.var()))
    assert errors[1] < 0.9 * errors[0], errors


@pytest.mark.parametrize("name", FAMILIES)
def test_white_has_no_frame(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the outer pixels are from the mean of the inner ones, with and without context."""
    white = torch.ones(3, 64, 64)
    frames = []
    for border in (0, 8):
        (made,) = answers(name, [white], border, monkeypatch)
        inside = made[:, RING:-RING, RING:-RING].mean((1, 2))
        frames.append(float((ring(made) - inside[:, None]).abs().mean()))
    assert frames[1] < max(0.9 * frames[0], 1 / 255), frames

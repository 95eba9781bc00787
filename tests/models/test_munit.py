"""MUNIT: layers of the paper, what a style does, several outputs, references."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aigc_cli.errors import InputError
from aigc_cli.models import _tiles
from aigc_cli.models._base import Batch, Run, _Noise
from aigc_cli.models.image.munit import (
    Config,
    ContentEncoder,
    Decoder,
    Model,
    Options,
    ResidualBlock,
    StyleEncoder,
)
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import UnpairedSpec

TINY: dict[str, Any] = {
    "num_features": 4,
    "num_blocks": 1,
    "mlp_dim": 8,
    "discriminator_features": 4,
}


def model(size: int = 16, *, global_batch: int = 2, **config: Any) -> Model:
    torch.manual_seed(0)
    made = Model(Config(**{**TINY, **config}), UnpairedSpec(channels=3, image_size=size))
    made.prepare(Run(Trainer(max_steps=9, global_batch=global_batch), seed=0, max_steps=9))
    return made


def batch(count: int = 2, size: int = 16, seed: int = 1) -> Batch:
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(count, 3, size, size, generator=random) * 2 - 1 for _ in "ab")
    return {"a": a, "b": b}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_numbers_of_weights_follow_from_the_papers_layers() -> None:
    """Appendix B: content c7s1-64, d128, d256, R256 x 4; style c7s1-64, d128, d256, d256, d256,
    GAP, fc8; decoder R256 x 4, u128, u64, c7s1-3; discriminators d64, d128, d256, d512.
    """
    with torch.device("meta"):
        made = Model(Config(), UnpairedSpec(channels=3, image_size=256))
    blocks = 4 * 2 * 9 * 256 * 256
    assert count(made.content_a) == 49 * 3 * 64 + 16 * 64 * 128 + 16 * 128 * 256 + blocks
    assert count(made.style_a) == (
        (49 * 3 + 1) * 64 + (16 * 64 + 1) * 128 + (16 * 128 + 1) * 256
        + 2 * (16 * 256 + 1) * 256 + (256 + 1) * 8
    )  # fmt: skip
    mlp = (8 + 1) * 256 + (256 + 1) * 256 + (256 + 1) * 4 * 4 * 256
    up = (25 * 256 + 1 + 2) * 128 + (25 * 128 + 1 + 2) * 64 + (49 * 64 + 1) * 3
    assert count(made.decoder_a) == blocks + mlp + up
    judge = (48 + 1) * 64 + (16 * 64 + 1) * 128 + (16 * 128 + 1) * 256 + (16 * 256 + 1) * 512 + 513
    assert count(made.discriminator_a) == 3 * judge


def test_content_is_a_quarter_of_the_side_and_style_a_vector() -> None:
    image = torch.rand(2, 3, 16, 24)
    assert ContentEncoder(3, 4, 1)(image).shape == (2, 16, 4, 6)
    assert StyleEncoder(3, 4, 8, 4)(image).shape == (2, 8)
    content = torch.rand(2, 16, 4, 6)
    made = Decoder(3, 4, 1, 8, 8)(content, torch.randn(2, 8))
    assert made.shape == (2, 3, 16, 24)
    assert made.abs().max() <= 1


def test_content_does_not_see_contrast_and_brightness() -> None:
    """Instance normalization is what takes the style away."""
    encoder = ContentEncoder(3, 4, 1)
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(encoder(3 * image), encoder(image), atol=1e-3, rtol=1e-3)


def test_a_style_is_mean_and_deviation() -> None:
    """Of the last normalization: x + branch, whose channels have exactly these moments."""
    block, x = ResidualBlock(4), torch.randn(3, 4, 6, 6)
    style = torch.randn(3, 16)
    branch = block(x, style) - x
    _, _, mean, std = style.chunk(4, dim=1)
    torch.testing.assert_close(branch.mean((2, 3)), mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(branch.std((2, 3), correction=0), std.abs(), atol=1e-3, rtol=1e-3)


def test_losses_are_the_sums_written_out() -> None:
    made, data = model(cycle_weight=2.0), batch()
    assert made.run is not None
    made._noise = _Noise(0, made.run, torch.device("cpu"))
    terms = made.generator_loss(data)
    discriminators = made.discriminator_loss(data)["loss"]

    made._noise = _Noise(0, made.run, torch.device("cpu"))
    drawn = made.randn(2, 2, 8)
    a, b = data["a"], data["b"]
    c_a, c_b, s_a, s_b = made.content_a(a), made.content_b(b), made.style_a(a), made.style_b(b)
    fake_a, fake_b = made.decoder_a(c_b, drawn[:, 0]), made.decoder_b(c_a, drawn[:, 1])
    l1 = nn.functional.l1_loss
    expected = (
        10 * (l1(made.decoder_a(c_a, s_a), a) + l1(made.decoder_b(c_b, s_b), b))
        + l1(made.content_b(fake_b), c_a) + l1(made.content_a(fake_a), c_b)
        + l1(made.style_a(fake_a), drawn[:, 0]) + l1(made.style_b(fake_b), drawn[:, 1])
        + 2 * l1(made.decoder_a(made.content_b(fake_b), s_a), a)
        + 2 * l1(made.decoder_b(made.content_a(fake_a), s_b), b)
    )  # fmt: skip
    judged = torch.zeros(())
    for net, real, fake in ((made.discriminator_a, a, fake_a), (made.discriminator_b, b, fake_b)):
        for says_real, says_fake in zip(net(real), net(fake), strict=True):
            expected = expected + (says_fake - 1).square().mean()
            judged = judged + (says_real - 1).square().mean() + says_fake.square().mean()
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(discriminators, judged)


def test_each_picture_is_encoded_once_and_fakes_are_made_once() -> None:
    """The authors' code does both twice."""
    made, data = model(), batch()
    assert made.run is not None
    made._noise = _Noise(0, made.run, torch.device("cpu"))
    seen: dict[str, int] = {}
    for name in made.averaged:
        getattr(made, name).register_forward_hook(
            lambda *_, name=name: seen.update({name: seen.get(name, 0) + 1})
        )
    for phase in made.phases():
        phase.loss(data)
    # content and style: of the real image, and again of the fake one
    assert seen == {
        "content_a": 2, "content_b": 2, "style_a": 2, "style_b": 2, "decoder_a": 1, "decoder_b": 1,
    }  # fmt: skip


def test_outputs_differ_and_do_not_depend_on_how_many_are_asked_for() -> None:
    made, image = model().eval(), torch.rand(3, 18, 22) * 2 - 1
    four = made.sample(SampleNoise(0, 0, 4), Options(), image)
    assert four.shape == (4, 3, 18, 22)
    assert (four[0] - four[1]).abs().mean() > 1e-3
    last = made.sample(SampleNoise(0, 3, 1), Options(), image)
    torch.testing.assert_close(last[0], four[3])


def test_a_reference_gives_the_style_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "BORDER", 0)  # the network alone
    made, image = model().eval(), torch.rand(3, 16, 16) * 2 - 1
    reference = torch.rand(3, 16, 16) * 2 - 1
    two = made.sample(SampleNoise(0, 0, 2), Options(), image, [reference])
    expected = made.decoder_b(made.content_a(image[None]), made.style_b(reference[None]))
    torch.testing.assert_close(two, expected.expand(2, -1, -1, -1))
    back = made.sample(SampleNoise(0, 0, 1), Options(direction="b2a"), image, [reference])
    expected = made.decoder_a(made.content_b(image[None]), made.style_a(reference[None]))
    torch.testing.assert_close(back, expected)
    for size in ((5, 7), (100, 31)):
        styled = made.sample(SampleNoise(0, 0, 1), Options(), image, [torch.rand(3, *size)])
        assert styled.shape == (1, 3, 16, 16)


def test_large_pictures_go_through_in_tiles() -> None:
    made, image = model().eval(), torch.rand(3, 70, 50) * 2 - 1
    whole = made.sample(SampleNoise(0, 0, 1), Options(tile=0), image)
    tiles = made.sample(SampleNoise(0, 0, 1), Options(tile=48, overlap=8), image)
    assert tiles.shape == whole.shape
    assert torch.isfinite(tiles).all()


def test_measures_know_equal_outputs_from_different_ones() -> None:
    made, data = model().eval(), batch()
    made._count = 0
    with torch.no_grad():
        values = made.measure(data, Options())
        assert made.measures is not None
        assert set(values) == set(made.measures)
        assert all(value.shape == (2,) for value in values.values())
        assert (values["diversity"] > 0).all()
        others = made.baselines(data)["other images"]
        content = made.content_a(data["a"])
        apart = (content[0] - content[1]).abs().mean()
        torch.testing.assert_close(others["content_l1"], apart.expand(2))
        assert (others["diversity"] > 0).all()
        for parameter in made.decoder_b.mlp.parameters():
            parameter.zero_()  # then no style has any effect
        assert made.measure(data, Options())["diversity"].abs().max() < 1e-6


@pytest.mark.parametrize(
    ("size", "config"),
    [(8, {"discriminator_layers": 4}), (8, {"discriminator_scales": 4}), (18, {})],
)
def test_sizes_that_cannot_work_are_refused(size: int, config: Any) -> None:
    with pytest.raises(InputError, match=f"data.image_size={size}"):
        model(size, **config)

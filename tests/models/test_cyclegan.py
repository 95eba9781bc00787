"""CycleGAN: published sizes, the step against a loop written out, pools, any size."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models import _tiles
from aigc_cli.models._base import Batch, Run, _Noise
from aigc_cli.models.image.cyclegan import Config, Model, Options
from aigc_cli.nn.norm import GroupNorm, InstanceNorm, statistics_from
from aigc_cli.nn.resnet_generator import ResnetGenerator, keep_light_light, upsampling
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.iteration import Iteration
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import UnpairedSpec

TINY: dict[str, Any] = {"num_features": 4, "num_blocks": 1, "discriminator_features": 4}


def model(size: int = 16, *, global_batch: int = 4, accumulate: int = 1, **config: Any) -> Model:
    torch.manual_seed(0)
    made = Model(Config(**{**TINY, **config}), UnpairedSpec(channels=3, image_size=size))
    trainer = Trainer(max_steps=9, global_batch=global_batch, accumulate=accumulate)
    made.prepare(Run(trainer, seed=0, max_steps=9))
    return made


def batch(count: int = 4, size: int = 16, seed: int = 1) -> Batch:
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(count, 3, size, size, generator=random) * 2 - 1 for _ in "ab")
    return {"a": a, "b": b}


def step(made: Model, data: Batch) -> None:
    """One training iteration."""
    if not hasattr(made, "hand"):
        made.hand = made.configure_optimizers()
    Iteration(made, made.hand)(data)


@pytest.mark.parametrize(("blocks", "published"), [(9, 11_378_179), (6, 7_837_699)])
def test_number_of_weights_is_the_published_one(blocks: int, published: int) -> None:
    """The authors' code prints 11.378 M (9 blocks) and 7.838 M (6), with biases that do nothing."""
    with torch.device("meta"):
        network = ResnetGenerator(3, 3, blocks=blocks)
    idle = 64 + 128 + 256 + 2 * blocks * 256 + 128 + 64  # before instance normalization
    assert sum(p.numel() for p in network.parameters()) + idle == published


@pytest.mark.parametrize(
    ("size", "blocks", "patch"), [(256, 9, 30), (128, 6, 14), (64, 6, 14), (32, 6, 14)]
)
def test_small_pictures_get_small_networks(size: int, blocks: int, patch: int) -> None:
    narrow = Config(num_features=4, discriminator_features=4)
    made = Model(narrow, UnpairedSpec(channels=3, image_size=size))
    found = made.discriminator_a(torch.empty(1, 3, size, size)).shape
    names = [type(m).__name__ for m in made.generator_ab.modules()]
    assert names.count("ResnetBlock") == blocks
    assert found == (1, 1, patch, patch)


def test_instance_norm_is_that_of_torch() -> None:
    x = torch.randn(2, 5, 6, 7) * 3 + 1
    torch.testing.assert_close(InstanceNorm()(x), torch.nn.InstanceNorm2d(5)(x))


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_generator_keeps_the_size_and_the_range(upsample: Any) -> None:
    net = ResnetGenerator(1, 3, features=4, blocks=1, upsample=upsample)
    made = net(torch.rand(2, 1, 12, 20) * 2 - 1)
    assert made.shape == (2, 3, 12, 20)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_new_generators_keep_light_light(channels: int) -> None:
    """Of a generator and its negative both become the one that does."""
    slope = torch.linspace(-1, 1, 32).expand(1, channels, 32, 32)
    slopes = torch.cat([slope, -slope, slope.mT, -slope.mT])
    likeness = torch.zeros(())
    for seed in range(8):
        torch.manual_seed(seed)
        net = ResnetGenerator(channels, channels, features=8, blocks=1)
        negative = copy.deepcopy(net)
        with torch.no_grad():
            negative.tail.weight.neg_()
        keep_light_light(net)
        keep_light_light(negative)
        assert torch.equal(net.tail.weight, negative.tail.weight)
        with torch.no_grad():
            likeness += (net(slopes) * slopes).mean()
    assert likeness > 0


def test_resize_leaves_no_blocks() -> None:
    """A slope stays a slope: neighbors differ by the same everywhere but at the border."""
    enlarge, conv = upsampling(1, 1, "resize")
    assert isinstance(conv, torch.nn.Conv2d)
    torch.nn.init.dirac_(conv.weight)
    steps = conv(enlarge(torch.arange(8.0).expand(1, 1, 8, 8)))[0, 0, 2:-2, 2:-2].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5))


def test_generator_loss_is_the_sum_written_out() -> None:
    made, data = model(), batch()
    assert made.run is not None
    made._noise = _Noise(0, made.run, torch.device("cpu"))
    a, b, ab, ba = data["a"], data["b"], made.generator_ab, made.generator_ba
    fake_b, fake_a = ab(a), ba(b)
    expected = (
        (made.discriminator_b(fake_b) - 1).square().mean()
        + (made.discriminator_a(fake_a) - 1).square().mean()
        + 10 * ((ba(fake_b) - a).abs().mean() + (ab(fake_a) - b).abs().mean())
        + 5 * ((ba(a) - a).abs().mean() + (ab(b) - b).abs().mean())
    )
    torch.testing.assert_close(made.generator_loss(data)["loss"], expected)
    expected = sum(
        ((net(real) - 1).square().mean() + net(fake).square().mean()) / 2
        for net, real, fake in (
            (made.discriminator_a, a, fake_a),
            (made.discriminator_b, b, fake_b),
        )
    )
    torch.testing.assert_close(made.discriminator_loss(data)["loss"], expected)


def test_discriminators_learn_from_the_fakes_made_before_the_generators_moved() -> None:
    made, data = model(), batch()
    with torch.no_grad():
        fake_b = made.generator_ab(data["a"])
    step(made, data)
    with torch.no_grad():
        assert not torch.allclose(made.generator_ab(data["a"]), fake_b)
    torch.testing.assert_close(made.pool_b.images[:4], fake_b)
    assert made.pool_b.filled.item() == 4
    assert not made._stashed
    assert not made._pooled


def test_discriminators_see_augmented_pictures_only() -> None:
    """Holes are 0, and no image of the batch has a 0."""
    made, data = model(augment=("cutout",), identity_weight=0.0), batch()
    assert made.run is not None
    made._noise = _Noise(0, made.run, torch.device("cpu"))
    holes = []
    for D in (made.discriminator_a, made.discriminator_b):
        D.register_forward_pre_hook(lambda _, x: holes.append((x[0] == 0).any((1, 2, 3))))
    made.generator_loss(data)
    made.discriminator_loss(data)
    assert [len(x) for x in holes] == [4, 4, 8, 8]
    assert torch.cat(holes).all()


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("augment", [(), ("color", "cutout")])
def test_parts_of_a_batch_fill_the_pools_as_the_whole(parts: int, augment: Any) -> None:
    """Also once the pool is full and images are exchanged. The rate is small, since Adam makes
    much of gradients that differ by rounding.
    """
    whole, cut = (model(pool_size=6, accumulate=n, augment=augment, lr=1e-5) for n in (1, parts))
    for seed in range(3):
        step(whole, batch(seed=seed))
        step(cut, batch(seed=seed))
    assert whole.pool_a.filled.item() == 6
    for pool, other in ((whole.pool_a, cut.pool_a), (whole.pool_b, cut.pool_b)):
        torch.testing.assert_close(other.images, pool.images, atol=1e-3, rtol=1e-3)


def test_devices_keep_equal_pools_and_see_their_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices of two images against one of four, with `all_gather` replaced by the truth."""
    fake = torch.rand(4, 3, 16, 16)
    choices = torch.rand(4, 4)
    one = model(pool_size=2)
    shown = one.pooled(fake, fake, choices)
    pieces = []
    for rank in range(2):
        made = model(pool_size=2)
        assert made.run is not None
        made.run = Run(made.run.trainer, 0, 9, rank, 2)
        whole = iter([fake, fake, choices])

        def gather(parts: list[Tensor], mine: Tensor, whole: Any = whole) -> None:
            for part, value in zip(parts, next(whole).chunk(2), strict=True):
                part.copy_(value)

        monkeypatch.setattr(torch.distributed, "all_gather", gather)
        mine = slice(2 * rank, 2 * rank + 2)
        pieces.append(made.pooled(fake[mine], fake[mine], choices[mine]))
        assert torch.equal(made.pool_a.images, one.pool_a.images)
    assert torch.equal(torch.cat([p[0] for p in pieces]), shown[0])
    assert torch.equal(torch.cat([p[1] for p in pieces]), shown[1])


def test_a_restored_run_continues_bit_for_bit() -> None:
    straight, first = model(pool_size=3), model(pool_size=3)
    for seed in range(4):
        step(straight, batch(seed=seed))
    for seed in range(2):
        step(first, batch(seed=seed))
    second = model(pool_size=3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.step = first.step
    with torch.no_grad():
        step_optimizers(first, second)
    for seed in (2, 3):
        step(second, batch(seed=seed))
    for name, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def step_optimizers(source: Model, target: Model) -> None:
    """Give `target` the optimizers' state of `source`."""
    target.hand = target.configure_optimizers()
    for mine, theirs in zip(target.hand, source.hand, strict=True):
        mine.load_state_dict(copy.deepcopy(theirs.state_dict()))


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (3, 30), (1, 1)])
def test_any_size_is_translated_and_kept(size: tuple[int, int]) -> None:
    made = model().eval()
    image = torch.rand(3, *size) * 2 - 1
    for direction in ("a2b", "b2a"):
        options = Options(direction=direction)  # type: ignore[arg-type]
        assert made.sample(SampleNoise(0, 0, 2), options, image).shape == (2, 3, *size)


def test_directions_are_different_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "BORDER", 0)  # the network alone
    made, image = model().eval(), torch.rand(3, 16, 16)
    there = made.sample(SampleNoise(0, 0, 1), Options(), image)
    torch.testing.assert_close(there, made.generator_ab(image[None]))
    back = made.sample(SampleNoise(0, 0, 1), Options(direction="b2a"), image)
    torch.testing.assert_close(back, made.generator_ba(image[None]))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_tiles_are_normalized_alike(norm: str) -> None:
    """One half of an image is bright, one dark. Tiles normalized each by itself make both equally
    gray; with the statistics of the thumbnail the result stays close to that of the whole.
    """
    made = model(norm=norm).eval()
    image = torch.cat([torch.full((3, 64, 96), 0.8), torch.full((3, 64, 96), -0.8)], 2)
    image = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    whole = made.sample(SampleNoise(0, 0, 1), Options(tile=0), image)
    tiles = made.sample(SampleNoise(0, 0, 1), Options(tile=64, overlap=8), image)
    blind = made.generator_ab(image[None, :, :, :64])
    error = (tiles - whole)[..., 8:56].abs().mean()
    assert error < 0.5 * (blind - whole[..., :64])[..., 8:56].abs().mean()
    assert all(
        m.statistics is None for m in made.modules() if isinstance(m, (InstanceNorm, GroupNorm))
    )


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_statistics_of_the_picture_itself_change_nothing(norm: Any) -> None:
    net = ResnetGenerator(3, 3, features=8, blocks=2, norm=norm).eval()
    image = torch.rand(1, 3, 16, 24) * 2 - 1
    whole = net(image)
    with statistics_from(net, image, net):
        torch.testing.assert_close(net(image), whole, atol=1e-4, rtol=1e-4)


def test_health_names_what_went_wrong() -> None:
    made = model()
    fine = {"g_luma_ab": 0.6, "g_luma_ba": 0.5, "g_change_ab": 0.3, "g_change_ba": 0.2}
    fine |= {"d_a": 0.2, "d_b": 0.15}
    assert made.health(fine) == []
    bad = {**fine, "g_luma_ab": -0.8, "g_change_ba": 0.001, "d_b": 0.001}
    assert made.health(bad) == [
        "colors inverted (ab)", "identity mapping (ba)", "discriminator wins (b)",
    ]  # fmt: skip


def test_inverted_colors_are_measured() -> None:
    made, data = model(), batch()
    terms = made.seen(data, -data["b"], data["a"])
    assert terms["luma_ba"].item() == pytest.approx(-1, abs=1e-5)
    assert terms["luma_ab"].item() == pytest.approx(1, abs=1e-5)
    assert terms["change_ab"].item() == 0


def test_validation_tells_good_fakes_from_bad() -> None:
    """Fakes that are images of the target domain are closer to it than untouched sources."""
    made = model(features="none")
    red, blue = torch.full((8, 3, 16, 16), -0.5), torch.full((8, 3, 16, 16), -0.5)
    red[:, 0], blue[:, 2] = 0.8, 0.8
    noise = 0.1 * torch.randn(4, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    data = {"a": red + noise[0], "b": blue + noise[1]}
    unchanged = made.baselines(data)["identity"]["block_kid"]
    made.there_and_back = lambda *_: {  # type: ignore[method-assign, assignment]
        "fake_a": red + noise[2], "fake_b": blue + noise[3], "cycle_a": red, "cycle_b": blue,
    }  # fmt: skip
    values = made.evaluate_batch(data)
    assert values["block_kid"].shape == (8,)
    assert abs(values["block_kid"][0]) < 0.05 * unchanged[0]
    assert (values["cycle_l1"] < 0.1).all()


@pytest.mark.parametrize(
    ("size", "config", "text"),
    [
        (30, {}, "data.image_size=30: this family needs a multiple of 4, at least 8"),
        (4, {}, "data.image_size=4: this family needs a multiple of 4, at least 8"),
        (16, {"discriminator_layers": 3}, "needs images of 24 pixels or more"),
    ],
)
def test_sizes_that_cannot_work_are_refused(size: int, config: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        model(size, **config)

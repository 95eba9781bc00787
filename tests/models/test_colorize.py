"""Color bins, prior, weights, the paper's network, and images of any size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from aigc_cli.errors import DataError, RecipeError
from aigc_cli.media.lab import lab_to_rgb, rgb_to_lab
from aigc_cli.models._base import Run
from aigc_cli.models.image._color import gamut
from aigc_cli.models.image.colorize import Config, Model, Options
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

SMALL = Config(num_features=4, depth=1)


def model(config: Config = SMALL, size: int = 16) -> Model:
    torch.manual_seed(0)
    made = Model(config, ImageSpec(channels=3, image_size=size)).eval()
    made.run = Run(Trainer(max_steps=1, global_batch=2), seed=0, max_steps=1)
    return made


def colors(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def picture(ab: tuple[float, float], size: int = 16) -> torch.Tensor:
    """One image (1, 3, S, S) of a single color of lightness 60."""
    return lab_to_rgb(torch.tensor([60.0, *ab]).view(1, 3, 1, 1).expand(1, 3, size, size))


def test_number_of_weights_is_that_of_the_published_network() -> None:
    """The sum over the layers of the authors' prototxt, written out; only the classes differ."""
    with torch.device("meta"):
        network = Model(Config(), ImageSpec(channels=3, image_size=176)).net
    widths = [(1, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), *[(512, 512, 3)] * 3]
    expected = sum(
        9 * cin * cout + cout + (n - 1) * (9 * cout * cout + cout) + 2 * cout
        for cin, cout, n in widths
    )
    expected += 16 * 512 * 256 + 256 + 2 * (9 * 256 * 256 + 256) + 256 * len(gamut()) + len(gamut())
    assert sum(p.numel() for p in network.parameters()) == expected


def test_bins_are_those_of_every_srgb_color() -> None:
    """Against scikit-image over the whole cube, not only its faces."""
    assert gamut().shape == (261, 2)
    level = np.linspace(0, 1, 52)
    cube = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1)
    cells = np.unique(np.floor(rgb2lab(cube)[..., 1:].reshape(-1, 2) / 10 + 0.5), axis=0)
    known = set(map(tuple, (gamut() / 10).long().tolist()))
    assert set(map(tuple, cells.astype(int).tolist())) <= known


def test_nearest_bin_equals_a_search() -> None:
    ab = rgb_to_lab(colors(0, 2, 3, 20, 20))[:, 1:]
    network = model()
    expected = torch.cdist(ab.permute(0, 2, 3, 1), network.bins).argmin(-1)
    assert torch.equal(network.nearest(ab), expected)


def test_soft_labels_are_gaussian_over_the_five_nearest_bins() -> None:
    network = model()
    index, label = network.soft_labels(torch.tensor([3.0, 1.0]).view(1, 2, 1, 1))
    found = {
        tuple(network.bins[i].int().tolist()): float(w)
        for i, w in zip(index.flatten(), label.flatten(), strict=True)
    }
    near = [(0, 0), (10, 0), (0, 10), (-10, 0), (0, -10)]
    near.sort(key=lambda c: (c[0] - 3) ** 2 + (c[1] - 1) ** 2)
    candidates = sorted(
        itertools.product((-10, 0, 10), repeat=2), key=lambda c: (c[0] - 3) ** 2 + (c[1] - 1) ** 2
    )[:5]
    raw = {c: np.exp(-((c[0] - 3) ** 2 + (c[1] - 1) ** 2) / 50) for c in candidates}
    assert found == pytest.approx({c: v / sum(raw.values()) for c, v in raw.items()}, abs=1e-5)
    assert tuple(network.bins[index[0, 0, 0, 0]].int().tolist()) == (0, 0)


def test_weights_follow_equation_4() -> None:
    network = model()
    assert network.class_weights(0.5).tolist() == pytest.approx([1.0] * 261)  # nothing counted
    network.count(torch.cat([picture((40, 30)), picture((40, 30)), picture((-20, 20))]))
    p = network.prior()
    assert float(p.sum()) == pytest.approx(1)
    for uniform in (0.0, 0.5, 1.0):
        w = network.class_weights(uniform)
        expected = 1 / ((1 - uniform) * p + uniform / 261)
        torch.testing.assert_close(w, expected / (p * expected).sum())
        assert float((p * w).sum()) == pytest.approx(1)
    assert network.class_weights(1.0).tolist() == pytest.approx([1.0] * 261)
    often, rare, never = (
        int(network.nearest(torch.tensor(ab).view(1, 2, 1, 1)))
        for ab in ((40.0, 30.0), (-20.0, 20.0), (80.0, -60.0))
    )
    w = network.class_weights(0.0)
    assert w[often] < w[rare] < w[never] < float("inf")


def test_statistics_of_colors_are_exact_and_part_of_the_weights() -> None:
    network, pictures = model(), torch.cat([picture((40, 30)), picture((-20, 20)), picture((0, 0))])
    network.count(pictures[:1])
    network.count(pictures[1:])
    whole = model()
    whole.count(pictures)
    for name in ("histogram", "chroma_sum", "pictures"):
        assert torch.equal(getattr(network, name), getattr(whole, name))
        assert name in network.state_dict()
    assert network.pictures.tolist() == [3, 2]
    assert int(network.histogram.sum()) == 3 * 16 * 16
    torch.testing.assert_close(
        network.mean_chroma(), torch.tensor([20 / 3, 50 / 3]), atol=0.1, rtol=0
    )


def test_gray_pictures_have_no_loss() -> None:
    network = model().train()
    gray = colors(1, 2, 1, 16, 16).expand(-1, 3, -1, -1)
    assert float(network.loss({"image": gray})["loss"].detach()) == 0
    color = torch.cat([gray[:1], picture((40, 30))])
    assert float(network.loss({"image": color})["loss"].detach()) > 0


def test_loss_is_the_weighted_soft_cross_entropy() -> None:
    """By a dense one-by-one computation."""
    network, images = model(), colors(2, 2, 3, 16, 16)
    network.count(images)
    lab = rgb_to_lab(images)
    logits = network.net(lab[:, :1])
    index, label = network.soft_labels(lab[:, 1:, ::4, ::4])
    dense = torch.zeros_like(logits).scatter(1, index, label)
    entropy = -(dense * logits.log_softmax(1)).sum(1)
    w = network.class_weights(0.5)[dense.argmax(1)]
    torch.testing.assert_close(network.loss({"image": images})["loss"], (w * entropy).mean())


def test_annealed_mean_goes_from_the_mean_to_the_mode() -> None:
    network, L = model(), torch.full((1, 1, 16, 16), 50.0)
    network.net.head[-1].bias.data[[100, 200]] = torch.tensor([9.0, 8.0])
    logits = network.net(L)
    p = logits.softmax(1)
    mean = torch.einsum("bqhw,qc->bchw", p, network.bins)
    torch.testing.assert_close(network.chroma(L, Options(temperature=1.0)), mean)
    mode = network.bins[logits.argmax(1)].movedim(-1, 1)
    torch.testing.assert_close(
        network.chroma(L, Options(temperature=0.01)), mode, atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (33, 50), (9, 90), (600, 40)])
def test_pictures_of_any_size_keep_their_lightness(channels: int, size: tuple[int, int]) -> None:
    network = model()
    image = colors(3, channels, *size) * 0.5
    with torch.no_grad():
        made = network.sample(SampleNoise(0, 0, 2), Options(), image)
    assert made.shape == (2, 3, *size)
    L = rgb_to_lab(image.expand(3, -1, -1))[0]
    in_gamut = (made[0].abs() < 1).all(0)
    assert in_gamut.float().mean() > 0.9
    torch.testing.assert_close(rgb_to_lab(made[0])[0][in_gamut], L[in_gamut], atol=0.05, rtol=0)


def test_chroma_is_that_of_the_reduced_picture_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, seen = model(), []
    monkeypatch.setattr(
        network.net, "forward", lambda L: seen.append(L.shape) or torch.zeros(1, 261, 4, 4)
    )
    network.sample(SampleNoise(0, 0, 1), Options(), colors(4, 1, 300, 2000))
    network.sample(SampleNoise(0, 0, 1), Options(size=32), colors(4, 1, 300, 400))
    assert seen == [(1, 1, 10 + 16, 64 + 16), (1, 1, 32 + 16, 43 + 16)]


def test_original_is_perfect_and_baselines_have_the_same_measures() -> None:
    network = model()
    batch = {"image": torch.cat([picture((40, 30)), picture((-20, 20))])}
    network.count(batch["image"])
    lab = rgb_to_lab(batch["image"])
    best = network._compare(lab[:, :1], lab[:, 1:], batch["image"])
    assert best["auc"].tolist() == pytest.approx([100, 100], abs=0.01)
    assert best["auc_rebalanced"].tolist() == pytest.approx([100, 100], abs=0.01)
    assert best["psnr_rgb"].min() > 60
    baselines = network.baselines(batch)
    assert set(baselines) == {"gray", "mean color"}
    assert all(set(values) == set(network.metrics) for values in baselines.values())
    expected = [100 * (1 - np.hypot(*ab) / 150) for ab in ((40, 30), (-20, 20))]
    assert baselines["gray"]["auc"].tolist() == pytest.approx(expected, abs=0.01)
    assert baselines["gray"]["colorfulness"].tolist() == pytest.approx([0, 0], abs=0.1)


def test_a_gray_recipe_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        Model(SMALL, ImageSpec(channels=1, image_size=16))
    assert str(caught.value) == (
        "data.channels: gray images for a color recipe, set data.channels=3"
    )


def test_training_pictures_without_any_color_are_refused() -> None:
    network, gray = model(), colors(5, 20, 1, 8, 8).expand(-1, 3, -1, -1)
    network.count(gray)
    with pytest.raises(DataError, match=r"data\.train: gray images .* no color in the first 40"):
        network.count(gray)
    network = model()
    network.count(torch.cat([gray, picture((40, 30), size=8)]))
    network.count(gray)

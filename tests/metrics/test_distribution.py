"""FID, KID, inception score, precision and recall, copies and diversity: closed forms, torchmetrics
and formulas written out.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from aigc_cli.metrics._frechet import Gaussian, fid, frechet_distance, gaussian
from aigc_cli.metrics.image import _neighbors as neighbors
from aigc_cli.metrics.image._diversity import draw_pairs, mean_distance, mean_distance_within
from aigc_cli.metrics.image._inception_score import inception_score
from aigc_cli.metrics.image._neighbors import copies, nearest, nearest_others
from aigc_cli.metrics.image.kid import kid, kid_block
from aigc_cli.metrics.image.prdc import prdc

SAVES = pytest.mark.filterwarnings("ignore:Metric .* will save all", "ignore:std")


class Pass(nn.Module):
    """The features themselves, for torchmetrics."""

    num_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return x


def features(N: int = 200, D: int = 16, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=generator, dtype=torch.float64)
    return torch.randn(N, D, generator=generator, dtype=torch.float64) @ mixing / D**0.5 + shift


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    """Where covariances commute it is |mu - m|^2 + sum (sqrt(s) - sqrt(c))^2."""
    basis = torch.linalg.qr(features(6, 6))[0]
    s, c = torch.tensor([4.0, 1, 9, 0, 2, 0]).double(), torch.tensor([1.0, 1, 4, 2, 0, 0]).double()
    mu, m = features(1, 6)[0], features(1, 6, seed=1)[0]
    a = Gaussian(mu, basis * s @ basis.T)
    b = Gaussian(m, basis * c @ basis.T)
    expected = (mu - m).square().sum() + (s.sqrt() - c.sqrt()).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-7)  # roots of 1e-16
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("N", [200, 10], ids=["full rank", "fewer images than features"])
def test_fid_equals_torchmetrics_and_the_matrix_root(N: int) -> None:
    real, fake = features(N), features(N + 7, shift=0.3, seed=1)
    theirs = FrechetInceptionDistance(Pass(), normalize=True, input_img_size=(16,))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    ours = fid(real, fake)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-5)
    (mu, S), (m, C) = (x.numpy() for x in gaussian(real)), (x.numpy() for x in gaussian(fake))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = scipy.linalg.sqrtm(S @ C)
    written = ((mu - m) ** 2).sum() + np.trace(S + C) - 2 * np.trace(root).real
    assert ours == pytest.approx(written, rel=1e-5)
    assert np.allclose(S, np.cov(real.numpy(), rowvar=False))


@SAVES
def test_kid_equals_torchmetrics() -> None:
    real, fake = features(), features(200, shift=0.3, seed=1)
    theirs = KernelInceptionDistance(Pass(), subsets=3, subset_size=200)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    mean, _ = theirs.compute()
    assert float(kid_block(real, fake)) == pytest.approx(float(mean), rel=1e-6)
    assert kid(real, fake, subsets=3, subset_size=200).mean == pytest.approx(float(mean), rel=1e-6)
    one = poly_mmd(real[:50], fake[50:100])
    assert float(kid_block(real[:50], fake[50:100])) == pytest.approx(float(one), rel=1e-6)


def test_kid_is_unbiased_and_one_value_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides of different length, against the sums over pairs written out."""
    x, y = features(9, 3), features(7, 3, shift=1, seed=2)

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within = [
        np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (x, y)
    ]
    expected = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert float(kid_block(x, y)) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("aigc_cli.metrics.image.kid.ROWS", 2)
    assert float(kid_block(x, y)) == pytest.approx(expected, rel=1e-9)
    same = [
        float(kid_block(features(20, 3, seed=n), features(40, 3, seed=n)[20:])) for n in range(50)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / 50**0.5, "zero for equal distributions"
    assert min(same) < 0 < max(same)


def test_kid_leads_a_model_by_its_gradient() -> None:
    real, fake = features().float(), features(seed=3, shift=2.0).float().requires_grad_()
    before = kid_block(real, fake)
    (gradient,) = torch.autograd.grad(before, fake)
    assert kid_block(real, fake - 10 * gradient) < before


@SAVES
def test_inception_score_equals_torchmetrics_and_its_bounds() -> None:
    logits = 3 * features(200, 16)
    theirs = InceptionScore(Pass(), splits=1)
    theirs.update(logits)
    assert inception_score(logits, splits=1).mean == pytest.approx(
        float(theirs.compute()[0]), rel=1e-6
    )
    sure = 1000 * torch.eye(10).repeat(30, 1)
    assert inception_score(sure, splits=1).mean == pytest.approx(10)
    assert inception_score(torch.zeros(30, 10)).mean == pytest.approx(1)
    ordered = sure.view(30, 10, 10).transpose(0, 1).flatten(0, 1)  # one class after the other
    assert inception_score(ordered, seed=None).mean == pytest.approx(1)
    assert inception_score(ordered).mean > 8
    assert inception_score(sure[:3]).mean == pytest.approx(3), "fewer images than splits"


@pytest.mark.parametrize("cells", [1 << 24, 300])
def test_prdc_equals_the_definitions(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "CELLS", cells)
    real, fake = features(60, 4).numpy(), features(50, 4, shift=0.5, seed=1).numpy()

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    def radius(a: np.ndarray, k: int) -> np.ndarray:
        return np.sort(apart(a, a), axis=1)[:, k]  # column 0 is the point itself

    d = apart(real, fake)
    within, wide = d <= radius(real, 3)[:, None], d <= radius(real, 5)[:, None]
    expected = (
        within.any(0).mean(),
        (d <= radius(fake, 3)[None]).any(1).mean(),
        wide.sum(0).mean() / 5,
        wide.any(1).mean(),
    )
    assert prdc(torch.tensor(real), torch.tensor(fake)) == pytest.approx(expected)
    assert 0 < expected[0] < 1, "a case that tells the difference"


def test_prdc_knows_bad_from_narrow() -> None:
    real = features(300, 4)
    far = prdc(real, features(300, 4, shift=50))
    assert far == pytest.approx((0, 0, 0, 0))
    narrow = prdc(real, real[:1] + 1e-3 * features(300, 4, seed=2))
    assert narrow.precision == 1
    assert narrow.recall < 0.1
    assert narrow.coverage < 0.1


def test_nearest_neighbors_are_exact_and_never_oneself() -> None:
    x, base = features(20, 3), features(30, 3, seed=1)
    expected = torch.cdist(x, base).sort(1)
    found = nearest(x, base, 3)
    assert torch.equal(found.index, expected.indices[:, :3])
    others = nearest_others(x, 2)
    assert (others.index != torch.arange(20)[:, None]).all()
    assert others.distance.allclose(torch.cdist(x, x).sort(1).values[:, 1:3])
    with pytest.raises(ValueError, match="have no 31 nearest"):
        nearest(x, base, 31)


def test_copies_are_found_and_fresh_pictures_are_none() -> None:
    train, fresh = features(1000, 4), features(1000 + 400, 4)[1000:]
    honest = copies(train, fresh).share
    assert honest == pytest.approx(0.05, abs=0.04)
    mixed = torch.cat([fresh[:200], train[::5] + 1e-4])
    found = copies(train, mixed, k=3)
    assert found.share == pytest.approx(0.5 + honest / 2, abs=0.03)
    assert torch.equal(found.index[200:, 0], torch.arange(0, 1000, 5))
    assert found.index.shape == (400, 3)


def test_diversity_is_the_mean_over_pairs() -> None:
    images = torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))

    assert mean_distance(images, apart) == pytest.approx(2)  # 1, 3 and 2
    assert mean_distance_within(torch.stack([images, 0 * images]), apart).tolist() == [2, 0]
    with pytest.raises(ValueError, match="2 or more"):
        mean_distance(images[:1], apart)
    a, b = draw_pairs(40, 100, seed=1)
    assert len({*zip(a.tolist(), b.tolist(), strict=True)}) == 100
    assert (a < b).all()


@pytest.mark.parametrize("M", [0, 1])
def test_one_picture_has_no_distribution(M: int) -> None:
    with pytest.raises(ValueError, match="2 or more"):
        fid(features(M), features(9))
    with pytest.raises(ValueError, match="2 or more"):
        kid_block(features(M), features(9))

"""FID, KID, inception score, precision and recall against the libraries that others report with,
on the same features, and their network on the same weights; where they are installed.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.metrics._frechet import fid, gaussian
from aigc_cli.metrics.image._inception_score import inception_score
from aigc_cli.metrics.image.kid import kid
from aigc_cli.metrics.image.prdc import prdc
from aigc_cli.nn.fid_inception import FILES, FIDInception, fid_inception

REL = 1e-3


def peer(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        return pytest.importorskip(module)


def features(N: int, D: int = 24, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=generator, dtype=torch.float64)
    return torch.randn(N, D, generator=generator, dtype=torch.float64) @ mixing / D**0.5 + shift


REAL, FAKE = features(300), features(280, shift=0.2, seed=1)


def test_fid_equals_torch_fidelity() -> None:
    theirs = peer("torch_fidelity.metric_fid")
    sides = [theirs.fid_features_to_statistics(x) for x in (REAL, FAKE)]
    (value,) = theirs.fid_statistics_to_metric(*sides, verbose=False).values()
    assert fid(REAL, FAKE) == pytest.approx(value, rel=REL)


def test_kid_equals_torch_fidelity() -> None:
    """One subset of all rows, so that no draw differs."""
    theirs = peer("torch_fidelity.metric_kid")
    found = theirs.kid_features_to_metric(
        REAL[:280], FAKE, kid_subsets=1, kid_subset_size=280, rng_seed=0, verbose=False
    )
    ours = kid(REAL[:280], FAKE, subsets=1, subset_size=280)
    assert ours.mean == pytest.approx(found["kernel_inception_distance_mean"], rel=REL)


def test_inception_score_equals_torch_fidelity() -> None:
    theirs = peer("torch_fidelity.metric_isc")
    logits = 3 * REAL
    found = theirs.isc_features_to_metric(logits, splits=5, shuffle=False)
    ours = inception_score(logits, splits=5, seed=None)
    assert ours.mean == pytest.approx(found["inception_score_mean"], rel=REL)
    assert ours.std == pytest.approx(found["inception_score_std"], rel=REL)


def test_precision_and_recall_equal_torch_fidelity() -> None:
    theirs = peer("torch_fidelity.metric_prc")
    found = theirs.prc_features_to_metric(
        FAKE, REAL, prc_neighborhood=3, prc_batch_size=64, save_cpu_ram=False, verbose=False
    )
    ours = prdc(REAL, FAKE, k=3)
    assert 0 < ours.recall < 1
    assert ours.precision == pytest.approx(found["precision"], rel=REL)
    assert ours.recall == pytest.approx(found["recall"], rel=REL)


def test_fid_and_kid_equal_clean_fid() -> None:
    theirs = peer("cleanfid.fid")
    statistics = [x.numpy() for side in (REAL, FAKE) for x in gaussian(side)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the matrix root
        assert fid(REAL, FAKE) == pytest.approx(theirs.frechet_distance(*statistics), rel=REL)
    value = theirs.kernel_distance(REAL[:280].numpy(), FAKE.numpy(), num_subsets=1)
    assert kid(REAL[:280], FAKE, subsets=1).mean == pytest.approx(value, rel=REL)


@pytest.mark.slow
def test_the_network_is_torch_fidelitys(tmp_path: Path) -> None:
    """Resize, features and logits, with random weights of the usual size in every layer."""
    theirs = peer("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    network = FIDInception()
    for name, weight in network.named_parameters():
        if weight.ndim == 4:
            torch.nn.init.normal_(weight, std=math.sqrt(2 / weight[0].numel()))
        elif not name.startswith("fc"):
            torch.nn.init.normal_(weight, 0.5, 0.1)
    torch.save(dict(network.state_dict()), tmp_path / FILES[0])
    names = ["2048", "logits_unbiased"]
    reference = theirs.FeatureExtractorInceptionV3(
        "inception", names, feature_extractor_weights_path=str(tmp_path / FILES[0])
    )
    levels = torch.randint(0, 256, (2, 3, 37, 50), dtype=torch.uint8)
    with torch.no_grad():
        expected = dict(zip(names, reference(levels), strict=True))
        ours = fid_inception(folder=tmp_path)(levels / 127.5 - 1)
    for layer, name in (("pooled", "2048"), ("logits", "logits_unbiased")):
        scale = float(expected[name].abs().max())
        assert scale > 1e-6
        torch.testing.assert_close(ours[layer], expected[name], rtol=REL, atol=1e-4 * scale)

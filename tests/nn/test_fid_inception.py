"""FID's Inception: the resize written out, names and shapes of the published file, bad files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from aigc_cli.errors import CheckpointError, MissingError
from aigc_cli.nn.fid_inception import (
    FILES,
    FIDInception,
    bicubic,
    bilinear_tensorflow,
    fid_inception,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights under the published name."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(dict(FIDInception().state_dict()), folder / FILES[0])
    return folder


@pytest.mark.parametrize("H, W, size", [(2, 3, 5), (7, 5, 4), (5, 5, 5), (1, 9, 6)])
def test_the_resize_is_the_formula_of_tensorflow_1(H: int, W: int, size: int) -> None:
    """Read at i H / size: no half pixel, the last row and column repeat."""
    x = torch.rand(2, 3, H, W, generator=torch.Generator().manual_seed(0))
    out = bilinear_tensorflow(x, size)
    for i in range(size):
        for j in range(size):
            v, u = i * H / size, j * W / size
            top, left = int(v), int(u)
            a, b = v - top, u - left
            down, right = min(top + 1, H - 1), min(left + 1, W - 1)
            expected = (
                (1 - a) * (1 - b) * x[..., top, left]
                + (1 - a) * b * x[..., top, right]
                + a * (1 - b) * x[..., down, left]
                + a * b * x[..., down, right]
            )
            assert out[..., i, j].allclose(expected, atol=1e-6)


@pytest.mark.parametrize("side", [40, 400])
def test_the_clean_resize_is_pillows(side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side)).astype(np.float32)
    expected = Image.fromarray(pixels).resize((299, 299), Image.Resampling.BICUBIC)
    ours = bicubic(torch.from_numpy(pixels)[None, None], 299)[0, 0].numpy()
    assert np.abs(ours - np.asarray(expected).clip(0, 255)).max() < 0.02


def test_parameters_have_the_published_names_and_shapes() -> None:
    """They are torchvision's but for the classes and the branch that only trains."""
    with torch.device("meta"):
        theirs = torchvision.models.inception_v3(weights=None, init_weights=False, num_classes=1008)
        ours = FIDInception()
    expected = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("AuxLogits")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected


def test_gray_counts_as_three_equal_channels_and_bad_pooling_would_show(weights: Path) -> None:
    network = fid_inception(folder=weights)
    gray = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        one = network(gray)
        three = network(gray.expand(-1, 3, -1, -1))
        network.Mixed_7c.pool = "average"
        other = network(gray, ["pooled"])
    assert one["pooled"].shape == (2, 2048)
    assert one["logits"].shape == (2, 1008)
    assert torch.equal(one["pooled"], three["pooled"])
    assert one["logits"].allclose(one["pooled"] @ network.fc.weight.T)
    assert set(other) == {"pooled"}
    assert not other["pooled"].allclose(one["pooled"], rtol=1e-3)
    assert not any(p.requires_grad for p in network.parameters())
    assert network.stamp == f"inception {FILES[0]}"


def test_a_missing_or_foreign_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("AIGC_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingError, match=FILES[0]) as missing:
        fid_inception()
    assert str(tmp_path) in missing.value.message
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / FILES[1])
    with pytest.raises(CheckpointError, match="weights of another network"):
        fid_inception()
    (tmp_path / FILES[1]).write_text("no weights")
    with pytest.raises(CheckpointError, match="damaged"):
        fid_inception()

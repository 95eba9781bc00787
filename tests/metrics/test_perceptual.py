"""LPIPS and DISTS with random backbones, against torchmetrics and formulas written out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _LPIPS, ScalingLayer

from aigc_cli.errors import CheckpointError, MissingError
from aigc_cli.metrics._networks import ALEXNET, VGG16, alexnet, load_state, published, vgg16
from aigc_cli.metrics.find import open_metrics
from aigc_cli.metrics.image import dists, lpips
from aigc_cli.metrics.image.dists import DISTS
from aigc_cli.metrics.image.lpips import LPIPS

WIDTHS = (3, 64, 128, 256, 512, 512)


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Weights of the developer's own are out of sight, and none are remembered."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no torch home"))
    monkeypatch.delenv("AIGC_WEIGHTS", raising=False)
    lpips.network.cache_clear()
    dists.network.cache_clear()
    yield
    lpips.network.cache_clear()
    dists.network.cache_clear()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both backbones as torchvision stores them, drawn so that no layer dies out."""
    folder = tmp_path_factory.mktemp("weights ü")
    torch.manual_seed(0)
    for file, network in ((ALEXNET, alexnet()), (VGG16, vgg16())):
        for module in network:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        state = {f"features.{k}": v for k, v in network.state_dict().items()}
        torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, folder / file)
    return folder


def pictures(B: int = 2, size: int = 64, lowest: float = -1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(B, 3, size, size, generator=generator)
    y = (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return tuple(image * (1 - lowest) + lowest for image in (x, y))


@pytest.mark.parametrize("ours, theirs", [(alexnet, "alexnet"), (vgg16, "vgg16")])
def test_backbones_have_torchvisions_names_and_shapes(
    ours: Callable[[], nn.Sequential], theirs: str
) -> None:
    with torch.device("meta"):
        expected = getattr(torchvision.models, theirs)().features.state_dict()
        found = ours().state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_equals_torchmetrics(net: str, weights: Path) -> None:
    ours = LPIPS(net, folder=weights)  # type: ignore[arg-type]
    with torch.device("meta"):
        theirs = _LPIPS(pretrained=False, net=net, pnet_rand=True)
    theirs.scaling_layer = ScalingLayer()
    backbone = torch.load(weights / (ALEXNET if net == "alex" else VGG16), weights_only=True)
    state = {}
    for key in theirs.net.state_dict():
        state[f"net.{key}"] = backbone["features." + key.split(".", 1)[1]]
    for i, head in enumerate(ours.heads):
        for key in (f"lin{i}.model.1.weight", f"lins.{i}.model.1.weight"):
            state[key] = head.weight
    theirs.load_state_dict(state, assign=True)
    x, y = pictures()
    with torch.no_grad():
        expected = theirs(x, y).flatten()
        found = ours(x, y)
    assert expected.min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def reference_dists(x: Tensor, y: Tensor, weights: Path, alpha: Tensor, beta: Tensor) -> float:
    """One pair in float64, channel by channel; L2 pooling as a loop over its nine taps."""
    state = torch.load(weights / VGG16, weights_only=True)
    window = np.outer(np.hanning(5)[1:-1], np.hanning(5)[1:-1])
    window /= window.sum()

    def features(image: Tensor) -> list[np.ndarray]:
        maps = [image.double().numpy()]
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        h = ((image - mean[:, None, None]) / std[:, None, None]).double()
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            if block[0]:
                padded = np.pad(h.numpy(), ((0, 0), (1, 1), (1, 1))) ** 2
                H, W = h.shape[1:]
                taps = [
                    window[i, j] * padded[:, i : i + H : 2, j : j + W : 2]
                    for i in range(3)
                    for j in range(3)
                ]
                h = torch.from_numpy(np.sqrt(sum(taps) + 1e-12))
            for i in block:
                weight, bias = state[f"features.{i}.weight"], state[f"features.{i}.bias"]
                h = torch.relu(torch.conv2d(h[None], weight.double(), bias.double(), padding=1))[0]
            maps.append(h.numpy())
        return maps

    scores = []
    for a, b in zip(features(x), features(y), strict=True):
        for p, q in zip(a, b, strict=True):
            covariance = np.mean(p * q) - p.mean() * q.mean()
            texture = (2 * p.mean() * q.mean() + 1e-6) / (p.mean() ** 2 + q.mean() ** 2 + 1e-6)
            scores.append((texture, (2 * covariance + 1e-6) / (p.var() + q.var() + 1e-6)))
    texture, structure = np.array(scores).T
    a, b = alpha.flatten().double().numpy(), beta.flatten().double().numpy()
    return float(1 - (a @ texture + b @ structure) / (a.sum() + b.sum()))


def test_dists_equals_the_formula_written_out(weights: Path, tmp_path: Path) -> None:
    alpha, beta = torch.rand(2, 1, sum(WIDTHS), 1, 1).unbind()
    torch.save({"alpha": alpha, "beta": beta}, tmp_path / "dists.pt")
    (tmp_path / VGG16).symlink_to(weights / VGG16)
    x, y = pictures(size=37, lowest=0.0)
    with torch.no_grad():
        found = DISTS(tmp_path)(x, y)
    expected = [reference_dists(*p, weights, alpha, beta) for p in zip(x, y, strict=True)]
    assert min(expected) > 1e-3
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("metric, lowest", [(LPIPS, -1.0), (DISTS, 0.0)])
def test_distances_are_zero_for_equals_symmetric_and_in_range(
    metric: Callable[..., nn.Module], lowest: float, weights: Path
) -> None:
    network = metric(folder=weights)
    x, y = pictures(lowest=lowest)
    with torch.no_grad():
        torch.testing.assert_close(network(x, x), torch.zeros(2), atol=1e-6, rtol=0)
        forth, back = network(x, y), network(y, x)
        nearer = network(x, x + 0.1 * (y - x))
    torch.testing.assert_close(forth, back)
    assert (nearer > 0).all()
    assert (nearer < forth).all()
    assert (forth <= 1).all()
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_table_reads_the_folder_of_the_environment(
    name: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_WEIGHTS", str(weights))
    [metric] = open_metrics([name])
    metric.prepare()
    preds, target = np.random.default_rng(0).integers(0, 256, (2, 40, 36, 3)).astype(np.uint8)
    value = metric.compute(preds, target)
    lowest = -1.0 if name == "lpips" else 0.0
    x, y = (
        torch.from_numpy(p / 255).float().permute(2, 0, 1)[None] * (1 - lowest) + lowest
        for p in (preds, target)
    )
    network = (LPIPS if name == "lpips" else DISTS)(folder=weights)
    with torch.no_grad():
        assert value == pytest.approx(network(x, y).item(), rel=1e-4)
    assert metric.compute(target, target) == pytest.approx(0, abs=1e-6)


def test_the_place_of_torchvisions_downloads_is_searched(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / ALEXNET).symlink_to(weights / ALEXNET)
    assert LPIPS("alex")(*pictures()).shape == (2,)


@pytest.mark.parametrize("name, file", [("lpips", ALEXNET), ("dists", VGG16)])
def test_absent_weights_say_which_file_goes_where(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_WEIGHTS", str(tmp_path / "w"))
    with pytest.raises(MissingError) as caught:
        open_metrics([name])[0].prepare()
    assert caught.value.message == f"the weights {file} are not in {tmp_path / 'w'}"
    assert caught.value.hint is not None
    assert "torchvision.models." in caught.value.hint
    assert "AIGC_WEIGHTS" in caught.value.hint
    assert caught.value.exit_code == 5


def test_published_weights_are_fetched_when_asked_and_only_as_published(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder in the place of the network."""
    digits = hashlib.sha256((weights / ALEXNET).read_bytes()).hexdigest()[:8]
    shop, home = tmp_path / "shop", tmp_path / "w"
    shop.mkdir()
    good, bad = f"alexnet-{digits}.pth", "alexnet-00000000.pth"
    for name in (good, bad):
        (shop / name).symlink_to(weights / ALEXNET)
        monkeypatch.setitem(published(), name, f"{shop.as_uri()}/{name}")
    with pytest.raises(MissingError, match="are not in") as caught:
        load_state(good, home, [], how="put it there")
    assert str(caught.value.hint).endswith(", or AIGC_DOWNLOAD=1 to fetch it")
    monkeypatch.setenv("AIGC_DOWNLOAD", "1")
    assert set(load_state(good, home, [], how="")) == set(torch.load(weights / ALEXNET))
    with pytest.raises(CheckpointError, match="is not the file of this name"):
        load_state(bad, home, [], how="")
    monkeypatch.setitem(published(), "vgg-1.pth", (tmp_path / "nowhere/vgg-1.pth").as_uri())
    with pytest.raises(MissingError, match="cannot be fetched"):
        load_state("vgg-1.pth", home, [], how="")
    assert [path.name for path in home.iterdir()] == [good]


class _Marker:
    """Unpickled carelessly, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("fault", ["truncated", "text", "another network", "a list", "hostile"])
def test_damaged_and_foreign_weights_are_refused(fault: str, weights: Path, tmp_path: Path) -> None:
    file = tmp_path / ALEXNET
    match fault:
        case "truncated":
            file.write_bytes((weights / ALEXNET).read_bytes()[:5000])
        case "text":
            file.write_text("not weights")
        case "another network":
            file.symlink_to(weights / VGG16)
        case "a list":
            torch.save([torch.zeros(1)], file)
        case "hostile":
            torch.save({"features.0.weight": _Marker(tmp_path / "ran")}, file)
    with pytest.raises(CheckpointError) as caught:
        LPIPS("alex", folder=tmp_path)
    assert ALEXNET in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()

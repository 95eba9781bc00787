"""Weights in their authors' layouts: equal answers, and what fits no layout.

The networks here are written from the papers with the authors' names of tensors, apart from ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from aigc_cli.errors import CheckpointError, InputError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.registry import load_data_kind
from aigc_cli.run.checkpoint import load_checkpoint
from aigc_cli.run.published import import_published
from aigc_cli.run.train import train
from aigc_cli.run.trained import load_trained

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])


def opened(file: Path, tmp_path: Path, family: str | None = None) -> GenerativeModule:
    out = tmp_path / f"{file.name}.ckpt"
    import_published(file, out, family)
    return load_trained(str(out)).model


# EDSR of EDSR-PyTorch.


def edsr_state(scale: int, top: float = 255.0) -> dict[str, Tensor]:
    torch.manual_seed(scale)
    D, blocks = 6, 2

    def conv(channels: int, out: int) -> tuple[Tensor, Tensor]:
        return torch.randn(out, channels, 3, 3) * (9 * channels) ** -0.5, torch.randn(out) * 0.1

    layers = {"head.0": conv(3, D)}
    layers |= {f"body.{n}.body.{i}": conv(D, D) for n in range(blocks) for i in (0, 2)}
    layers[f"body.{blocks}"] = conv(D, D)
    steps = {2: [(0, 4)], 3: [(0, 9)], 4: [(0, 4), (2, 4)]}[scale]
    layers |= {f"tail.0.{n}": conv(D, D * factor) for n, factor in steps}
    layers["tail.1"] = conv(D, 3)
    eye = torch.eye(3)[:, :, None, None]
    layers |= {"sub_mean": (eye, -top * MEAN), "add_mean": (eye.clone(), top * MEAN)}
    return {f"{name}.{k}": v for name, pair in layers.items()
            for k, v in zip(("weight", "bias"), pair, strict=True)}  # fmt: skip


def edsr_forward(state: dict[str, Tensor], x: Tensor, scale: int) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    x = first = conv("head.0", conv("sub_mean", x))
    for n in range(2):
        x = x + conv(f"body.{n}.body.2", conv(f"body.{n}.body.0", x).relu())
    x = first + conv("body.2", x)
    for n, factor in {2: [(0, 2)], 3: [(0, 3)], 4: [(0, 2), (2, 2)]}[scale]:
        x = F.pixel_shuffle(conv(f"tail.0.{n}", x), factor)
    return conv("add_mean", conv("tail.1", x))


@pytest.mark.parametrize(("scale", "top"), [(2, 255.0), (3, 255.0), (4, 255.0), (2, 1.0)])
def test_edsr_upscales_as_its_authors_network(tmp_path: Path, scale: int, top: float) -> None:
    state = edsr_state(scale, top)
    torch.save(state, tmp_path / "edsr.pt")
    model = opened(tmp_path / "edsr.pt", tmp_path)
    x = torch.rand(1, 3, 7, 5)
    expected = edsr_forward(state, x * top, scale) / top * 2 - 1
    with torch.no_grad():
        assert_close(model.net(x * 2 - 1), expected, rtol=1e-4, atol=1e-4)


# The U-Net, ResNet and PatchGAN of pytorch-CycleGAN-and-pix2pix.


class Block(nn.Module):
    """One level of the U-Net around the next: `model` is what its authors' is."""

    def __init__(self, outer: int, inner: int, sub: nn.Module | None, norm: str, *, top: int = 0):
        super().__init__()
        bias, normed = norm == "instance", {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
        down = nn.Conv2d(top or outer, inner, 4, 2, 1, bias=bias)
        wide = inner if sub is None else 2 * inner
        up = nn.ConvTranspose2d(wide, outer, 4, 2, 1, bias=bias or bool(top))
        between = [] if sub is None else [sub]
        self.top = top
        if top:
            layers = [down, *between, nn.ReLU(), up, nn.Tanh()]
        else:
            norm_down = [] if sub is None else [normed[norm](inner)]
            layers = [nn.LeakyReLU(0.2), down, *norm_down, *between]
            layers += [nn.ReLU(), up, normed[norm](outer)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made if self.top else torch.cat([x, made], 1)


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


def unet(norm: str, downs: int = 5, D: int = 4) -> nn.Module:
    widths = [min(D * 2**n, 8 * D) for n in range(downs)]
    block: nn.Module | None = None
    for n in range(downs - 1, 0, -1):
        block = Block(widths[n - 1], widths[n], block, norm)
    return Wrapped(Block(3, widths[0], block, norm, top=3))


class Residual(nn.Module):
    def __init__(self, D: int, dropout: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(1), nn.Conv2d(D, D, 3), nn.InstanceNorm2d(D)]
        layers += [nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(D, D, 3), nn.InstanceNorm2d(D)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.conv_block(x)
        return made


def resnet(*, dropout: bool = False, blocks: int = 2, D: int = 4) -> nn.Module:
    def norm(channels: int) -> list[nn.Module]:
        return [nn.InstanceNorm2d(channels), nn.ReLU()]

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, D, 7), *norm(D)]
    for width in (D, 2 * D):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), *norm(2 * width)]
    layers += [Residual(4 * D, dropout) for _ in range(blocks)]
    for width in (4 * D, 2 * D):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), *norm(width // 2)]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(D, 3, 7), nn.Tanh()]
    return Wrapped(nn.Sequential(*layers))


def patchgan(channels: int, norm: str, D: int = 4) -> nn.Module:
    normed = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}[norm]
    bias = norm == "instance"
    layers: list[nn.Module] = [nn.Conv2d(channels, D, 4, 2, 1), nn.LeakyReLU(0.2)]
    for width, stride in ((D, 2), (2 * D, 2), (4 * D, 1)):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1, bias=bias), normed(2 * width)]
        layers += [nn.LeakyReLU(0.2)]
    return Wrapped(nn.Sequential(*layers, nn.Conv2d(8 * D, 1, 4, 1, 1)))


def random_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """Large enough that every layer matters, and statistics that are neither 0 nor 1."""
    random = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=random)
            value.copy_(0.5 + noise.abs() if "running_var" in name else 0.3 * noise)
    return network.eval()


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_pix2pix_translates_as_its_authors_network(tmp_path: Path, norm: str) -> None:
    theirs, judge = random_weights(unet(norm)), random_weights(patchgan(6, norm), 1)
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    torch.save(judge.state_dict(), tmp_path / "latest_net_D.pth")
    alone = opened(tmp_path / "latest_net_G.pth", tmp_path)
    model = opened(tmp_path, tmp_path, "pix2pix")
    x, pair = torch.rand(1, 3, 32, 32) * 2 - 1, torch.rand(1, 6, 32, 32)
    with torch.no_grad():
        assert_close(model.generator(x), theirs(x), rtol=1e-4, atol=1e-5)
        assert_close(alone.generator(x), theirs(x), rtol=1e-4, atol=1e-5)
        assert_close(model.discriminator(pair), judge(pair), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dropout", [False, True])
def test_cyclegan_translates_as_its_authors_networks(tmp_path: Path, dropout: bool) -> None:
    nets = {name: random_weights(resnet(dropout=dropout), n) for n, name in enumerate("AB")}
    judges = {name: random_weights(patchgan(3, "instance"), 5 + n) for n, name in enumerate("AB")}
    for age in ("5", "latest"):
        for name in "AB":
            state = nets[name].state_dict()
            state = state if age == "latest" else {k: 0 * v for k, v in state.items()}
            torch.save(state, tmp_path / f"{age}_net_G_{name}.pth")
            torch.save(judges[name].state_dict(), tmp_path / f"{age}_net_D_{name}.pth")
    model = opened(tmp_path, tmp_path)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert_close(model.generator_ab(x), nets["A"](x), rtol=1e-4, atol=1e-5)
        assert_close(model.generator_ba(x), nets["B"](x), rtol=1e-4, atol=1e-5)
        assert_close(model.discriminator_b(x), judges["A"](x), rtol=1e-4, atol=1e-4)
        assert_close(model.discriminator_a(x), judges["B"](x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["edsr", "pix2pix", "cyclegan"])
def test_what_was_imported_trains_further(tmp_path: Path, family: str) -> None:
    """Every tensor of theirs is where the run starts, and each is moved a little by a step."""
    source = tmp_path / "weights"
    source.mkdir()
    nets = {
        "pix2pix": {"G": unet("batch"), "D": patchgan(6, "batch")},
        "cyclegan": {
            f"{net}_{side}": of()
            for side in "AB"
            for net, of in {"G": resnet, "D": lambda: patchgan(3, "instance")}.items()
        },
    }
    for name, net in nets.get(family, {}).items():
        torch.save(random_weights(net).state_dict(), source / f"latest_net_{name}.pth")
    if family == "edsr":
        source = source / "edsr.pt"
        torch.save(edsr_state(2), source)
    start = tmp_path / "start.ckpt"
    assert not import_published(source, start, None if family == "edsr" else family)["new"]
    state = load_checkpoint(start)
    kind = load_data_kind(state["recipe"]["data"]["kind"])
    size = {"patch_size": 8} if family == "edsr" else {"image_size": 32}
    values = {
        "family": family, "model": state["recipe"]["model"], "init_from": str(start),
        "data": kind.example(tmp_path / "data") | size,
        "trainer": {"max_steps": 1, "global_batch": 1, "precision": "fp32"},
    }  # fmt: skip
    said = list[str]()
    recipe = recipe_from_dict(values)
    train(recipe, out=tmp_path / "run", emit=lambda e: said.append(str(e.get("message"))))
    theirs = sum(not name.endswith(".images") for name in state["weights"])  # of a pool
    assert any(text.startswith(f"init_from: {theirs} of ") for text in said), said
    after = load_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["weights"]
    for name, value in state["weights"].items():
        if value.is_floating_point() and name.endswith("weight"):
            assert (after[name] - value).abs().max() < 0.01, name
    assert any(not torch.equal(after[name], value) for name, value in state["weights"].items())


def test_a_generator_alone_is_one_direction_and_the_rest_begins_anew(tmp_path: Path) -> None:
    older = resnet().state_dict()  # of DataParallel, with what norms counted before torch 0.4
    older = {**older, "model.2.running_mean": torch.zeros(4), "model.2.running_var": torch.ones(4)}
    torch.save(OrderedDict((f"module.{k}", v) for k, v in older.items()), tmp_path / "a.pth")
    report = import_published(tmp_path / "a.pth", tmp_path / "a.ckpt")
    assert report["family"] == "cyclegan"
    assert report["new"] == ["generator_ba", "discriminator_a", "discriminator_b"]


Spoil = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {**s, "tail.2.weight": s["tail.1.weight"]}, "nearest is edsr, but for tail.2."),
        (
            lambda s: {k: v for k, v in s.items() if "body.1.body.2" not in k},
            r"edsr, but for body.1.body.2.weight \(absent\), body.1.body.2.bias \(absent\)$",
        ),
        (lambda s: {f"net.{k}": v for k, v in s.items()}, r"and \d+ more$"),
        (lambda s: {**s, "head.0.bias": torch.zeros(5)}, r"net.head.bias is \(5,\) there and \(6,"),
        (lambda s: {**s, "add_mean.bias": torch.full((3,), 99.0)}, "another mean color"),
        (lambda s: {}, "its 0 tensors are those of no family"),
    ],
)  # fmt: skip
def test_weights_of_no_family_are_refused_with_the_nearest(
    tmp_path: Path, spoil: Spoil, message: str
) -> None:
    state = {name: value.clone() for name, value in spoil(edsr_state(2)).items()}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=message):
        import_published(tmp_path / "other.safetensors", tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()


def test_a_family_that_was_asked_for_must_fit(tmp_path: Path) -> None:
    torch.save(edsr_state(2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="nearest is pix2pix, but for head"):
        import_published(tmp_path / "a.pt", tmp_path / "a.ckpt", "pix2pix")
    with pytest.raises(InputError, match="--family: no layout of dcgan is known"):
        import_published(tmp_path / "a.pt", tmp_path / "a.ckpt", "dcgan")


def test_pickled_code_and_damage_are_refused(tmp_path: Path) -> None:
    torch.save({"head.0.weight": Path("code")}, tmp_path / "code.pt")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    for name in ("code.pt", "cut.pth"):
        with pytest.raises(CheckpointError, match="damaged, no file of weights, or one that asks"):
            import_published(tmp_path / name, tmp_path / "a.ckpt")

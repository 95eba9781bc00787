"""Other projects' super-resolution through spandrel, against ESRGAN written from its paper."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import CheckpointError, InputError, MissingError
from aigc_cli.models.image._super_resolution import SuperResolutionOptions
from aigc_cli.run import super_resolver
from aigc_cli.run.super_resolver import open_super_resolver
from aigc_cli.run.trained import load_trained

pytest.importorskip("spandrel")
D, GROWTH = 8, 32


def esrgan() -> dict[str, Tensor]:
    """One block, x4, with the names of BasicSR."""
    random = torch.Generator().manual_seed(0)
    sizes = {"conv_first": (3, D), "conv_body": (D, D), "conv_up1": (D, D), "conv_up2": (D, D)}
    sizes |= {"conv_hr": (D, D), "conv_last": (D, 3)}
    for r in (1, 2, 3):
        for c in range(1, 6):
            out = GROWTH if c < 5 else D
            sizes[f"body.0.rdb{r}.conv{c}"] = (D + (c - 1) * GROWTH, out)
    state = {}
    for name, (channels, out) in sizes.items():
        state[f"{name}.weight"] = torch.randn(out, channels, 3, 3, generator=random) * 0.05
        state[f"{name}.bias"] = torch.randn(out, generator=random) * 0.05
    return state


def forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Wang et al., 2018, figures 3 and 4: dense blocks in residual blocks, both scaled by 0.2."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    first = block = conv("conv_first", x)
    for r in (1, 2, 3):
        seen = [block]
        for c in range(1, 5):
            seen.append(F.leaky_relu(conv(f"body.0.rdb{r}.conv{c}", torch.cat(seen, 1)), 0.2))
        block = block + 0.2 * conv(f"body.0.rdb{r}.conv5", torch.cat(seen, 1))
    x = first + conv("conv_body", first + 0.2 * block)
    for name in ("conv_up1", "conv_up2"):
        x = F.leaky_relu(conv(name, F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
    return conv("conv_last", F.leaky_relu(conv("conv_hr", x), 0.2)).clamp(0, 1)


def test_a_file_of_weights_upscales_as_the_network_of_its_paper(tmp_path: Path) -> None:
    torch.save({"params_ema": esrgan()}, tmp_path / "esrgan.pth")
    trained = load_trained(str(tmp_path / "esrgan.pth"), ["tile=0"], device="cpu")
    x = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        made = trained.model.net(x * 2 - 1)  # type: ignore[operator]
    torch.testing.assert_close(made, forward(esrgan(), x) * 2 - 1, rtol=1e-4, atol=1e-5)
    made = trained.model.super_resolve(x, SuperResolutionOptions())  # type: ignore[operator]
    assert made.shape == (2, 3, 36, 28)
    assert trained.describe()["family"] == "ESRGAN"
    assert trained.recipe.sample.tile == 0  # type: ignore[attr-defined]
    assert trained.model.facts["architecture"] == "ESRGAN"  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # of spandrel's code
@pytest.mark.parametrize(("upsampler", "scale"), [("pixelshuffledirect", 2), ("nearest+conv", 4)])
def test_a_transformer_loads_by_the_names_of_its_authors(
    upsampler: str, scale: int, tmp_path: Path
) -> None:
    """SwinIR with the names of its repository; its buffers say the size of its windows."""
    arch = pytest.importorskip("spandrel.architectures.SwinIR.__arch.SwinIR")
    swinir = arch.SwinIR(
        img_size=16, embed_dim=12, depths=[2], num_heads=[2], window_size=8, mlp_ratio=2,
        upscale=scale, img_range=1.0, upsampler=upsampler, resi_connection="1conv",
    ).eval()  # fmt: skip
    assert "layers.0.residual_group.blocks.1.attn.relative_position_index" in swinir.state_dict()
    file = tmp_path / "swinir.pth"
    torch.save({"params": swinir.state_dict()}, file)
    model, recipe, spec = open_super_resolver(file)
    assert (spec.scale, recipe.family) == (scale, "SwinIR")
    x = torch.rand(1, 3, 11, 9)  # no multiple of a window
    with torch.no_grad():
        made, expected = model.net(x * 2 - 1), swinir(x).clamp(0, 1) * 2 - 1  # type: ignore[operator]
    torch.testing.assert_close(made, expected)
    state = {k: v for k, v in swinir.state_dict().items() if "relative_position_index" not in k}
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="spandrel knows no network"):
        open_super_resolver(file)


def test_what_is_no_such_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.pth"
    torch.save({"some.weight": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match="no network with its 1 tensors, such as some"):
        open_super_resolver(file)
    state = {k: v for k, v in esrgan().items() if "rdb2.conv3" not in k}
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="tensors are absent or have other shapes"):
        open_super_resolver(file)
    torch.save({"code": Path("x")}, file)
    with pytest.raises(CheckpointError, match="asks to run code"):
        open_super_resolver(file)
    monkeypatch.setattr(super_resolver.importlib.util, "find_spec", lambda name: None)
    torch.save(esrgan(), file)
    with pytest.raises(MissingError) as caught:
        open_super_resolver(file)
    assert caught.value.hint == 'pip install "aigc-cli[spandrel]"'
    names = ["head.0", "body.0.body.0", "body.0.body.2", "body.1", "tail.0.0", "tail.1"]
    names += ["sub_mean", "add_mean"]
    torch.save({f"{n}.{kind}": torch.zeros(2) for n in names for kind in ("weight", "bias")}, file)
    with pytest.raises(InputError, match="weights of edsr, not yet a checkpoint"):
        open_super_resolver(file)

"""Weights of images' networks in the layouts of their authors, as checkpoints of our families.

| layout | family | where it comes from |
|---|---|---|
| EDSR | edsr | github.com/sanghyun-son/EDSR-PyTorch, rgb_range 255 or 1 |
| U-Net | pix2pix | github.com/junyanz/pytorch-CycleGAN-and-pix2pix, `unet_256` and the like |
| ResNet | cyclegan | the same, `resnet_6blocks`, `resnet_9blocks` |

A layout is a function of the names and shapes in a file: it says which names belong to such a
network and what becomes of each, so that a file either fits to the last name or is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_cli.errors import CheckpointError, InputError, did_you_mean
from aigc_cli.nn.edsr import DIV2K_MEAN
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.registry import load_family
from aigc_cli.run.imported import read_tensors, write_imported
from aigc_cli.specs import Spec
from aigc_cli.specs.image import PairSpec, SuperResolutionSpec, UnpairedSpec

State = Mapping[str, Tensor]
Change = Callable[[Tensor], Tensor]
ENDINGS = (".pt", ".pth", ".safetensors")
SHOWN = 3  # names in a message


@dataclass
class Layout:
    """What a file of this layout has, and what becomes of it."""

    family: str
    names: dict[str, str | None] = field(default_factory=dict)
    """Name there -> name in our network; None for what has no effect or no counterpart."""
    changes: dict[str, Change] = field(default_factory=dict)
    """By our name: what is done to the values."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe's section `model`."""
    data: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe's section `data`."""
    spec: Spec | None = None

    def unlike(self, state: State) -> list[str]:
        """Names that stand on one side only, those of the file first."""
        extra = [name for name in state if name not in self.names]
        return extra + [f"{name} (absent)" for name in self.names if name not in state]

    def take(self, state: State) -> dict[str, Tensor]:
        """Our weights by name."""
        kept = {new: state[old] for old, new in self.names.items() if new is not None}
        return {new: self.changes.get(new, _same)(value) for new, value in kept.items()}

    def add(self, old: str, new: str | None, *kinds: str) -> None:
        """The tensors `old.KIND` become `new.KIND`."""
        for kind in kinds or ("weight", "bias"):
            self.names[f"{old}.{kind}"] = None if new is None else f"{new}.{kind}"


def _same(value: Tensor) -> Tensor:
    return value


def _shape(state: State, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor; the default where there is none, so that a file that is nearly right fits
    nearly.
    """
    found = tuple(state[name].shape) if name in state else ()
    return found if len(found) == len(default) else default


def _count(state: State, pattern: str) -> int:
    return len({m[1] for name in state if (m := re.fullmatch(pattern, name))})


def edsr(state: State) -> Layout:
    """head.0, body.N.body.0 and .2, body.LAST, tail.0.0 (and .2 for x4), tail.1; the mean color is
    that of DIV2K, in gray levels or in [0, 1].
    """
    made = Layout("edsr")
    blocks = _count(state, r"body\.(\d+)\.body\.0\.weight") or 1
    D, channels = _shape(state, "head.0.weight", (64, 3, 3, 3))[:2]
    made.add("head.0", "net.head")
    for n in range(blocks):
        made.add(f"body.{n}.body.0", f"net.body.{n}.conv1")
        made.add(f"body.{n}.body.2", f"net.body.{n}.conv2")
    made.add(f"body.{blocks}", f"net.body.{blocks}")
    wide = _shape(state, "tail.0.0.weight", (4 * D, D, 3, 3))[0]
    scale = 3 if wide == 9 * D else 4 if "tail.0.2.weight" in state else 2
    for n in (0, 2) if scale == 4 else (0,):
        made.add(f"tail.0.{n}", f"net.upsample.{n}")
    made.add("tail.1", "net.tail")
    made.add("sub_mean", None)
    made.add("add_mean", None)
    if "add_mean.bias" in state and float(state["add_mean.bias"].abs().max()) <= 1:
        made.changes = {  # of a network for colors in [0, 1]; ours has gray levels
            "net.head.weight": lambda w: w / 255,
            "net.tail.weight": lambda w: w * 255,
            "net.tail.bias": lambda b: b * 255,
        }
    # Not in the file: 0.1 in the published network of 256 features, 1 in the baseline.
    made.model = {"num_blocks": blocks, "num_features": D}
    made.model["residual_scale"] = 0.1 if D >= 256 else 1.0
    made.data = {"kind": "super_resolution", "scale": scale}
    made.spec = SuperResolutionSpec(channels, scale)
    return made


def _mean_color(state: State) -> bool:
    """Whether an EDSR subtracts the mean color of DIV2K, which ours has built in."""
    bias = state["add_mean.bias"]
    mean = torch.tensor(DIV2K_MEAN) * (1 if float(bias.abs().max()) <= 1 else 255)
    return bias.shape == mean.shape and torch.allclose(bias, mean, rtol=1e-3)


BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def unet(state: State) -> Layout:
    """Nested blocks model.model.1.model.3. ...: a convolution on the way down, one on the way up,
    and batch normalization, or instance normalization, which has no weights.
    """
    made = Layout("pix2pix")
    batch = any(name.endswith("running_mean") for name in state)
    inner = [0, *(n for n in range(1, 12) if f"{_nest(n)}1.weight" in state)]
    downs = max(2, len(inner))
    kinds = ("weight",) if batch else ("weight", "bias")
    widths = _shape(state, "model.model.0.weight", (64, 3, 4, 4))
    for n in range(downs):
        place, deepest = _nest(n), n == downs - 1
        down, up = (place + i for i in (("0", "3") if n == 0 else ("1", "3" if deepest else "5")))
        own_down = "generator.downs.0" if n == 0 else f"generator.downs.{n}.1"
        own_up = "generator.head.1" if n == 0 else f"generator.ups.{downs - 1 - n}.1"
        normed_down = 0 < n < downs - 1
        made.add(down, own_down, "weight")
        made.add(up, own_up, "weight")
        if not batch:  # a bias before an instance normalization has no effect
            made.add(down, None if normed_down else own_down, "bias")
        if n == 0:
            made.add(up, own_up, "bias")
        elif "bias" in kinds:
            made.add(up, None, "bias")
        if batch and normed_down:
            made.add(place + "2", f"generator.downs.{n}.2", *BATCH_NORM)
        if batch and n:
            normed = place + ("4" if deepest else "6")
            made.add(normed, f"generator.ups.{downs - 1 - n}.2", *BATCH_NORM)
        if not deepest:  # what skips comes first there and last here
            made.changes[f"{own_up}.weight"] = lambda w: torch.cat(w.chunk(2)[::-1])
    out = _shape(state, "model.model.3.weight", (2 * widths[0], 3, 4, 4))[1]
    made.model = {
        "num_features": widths[0],
        "num_downs": downs,
        "norm": "batch" if batch else "instance",
    }
    made.data = {"kind": "image_pairs", "image_size": 2**downs}
    made.spec = PairSpec(widths[1], out, 2**downs)
    return made


def _nest(n: int) -> str:
    """Where the n-th block of the U-Net stands, from outside."""
    return "model.model." + ("" if n == 0 else "1.model." + "3.model." * (n - 1))


def resnet(state: State) -> Layout:
    """model.1, 4 and 7, blocks model.N.conv_block, two transpose convolutions, the last one."""
    made = Layout("cyclegan")
    blocks = _count(state, r"model\.(\d+)\.conv_block\.1\.weight") or 1
    D, channels = _shape(state, "model.1.weight", (64, 3, 7, 7))[:2]
    second = 6 if any(".conv_block.6." in name for name in state) else 5  # behind a dropout
    chain = [("model.1", "layers.0"), ("model.4", "layers.3"), ("model.7", "layers.6")]
    for n in range(blocks):
        chain += [
            (f"model.{10 + n}.conv_block.1", f"layers.{9 + n}.branch.0"),
            (f"model.{10 + n}.conv_block.{second}", f"layers.{9 + n}.branch.3"),
        ]
    chain += [
        (f"model.{10 + blocks}", f"layers.{9 + blocks}"),
        (f"model.{13 + blocks}", f"layers.{12 + blocks}"),
    ]
    for old, new in chain:
        made.add(old, f"generator_ab.{new}", "weight")
        made.add(old, None, "bias")  # before an instance normalization it has no effect
    made.add(f"model.{17 + blocks}", "generator_ab.tail")
    size = 256 if blocks >= 9 else 128
    made.model = {"num_features": D, "num_blocks": blocks}
    made.data = {"kind": "unpaired_images", "image_size": size}
    made.spec = UnpairedSpec(channels, size)
    return made


LAYOUTS: dict[str, Callable[[State], Layout]] = {
    "edsr": edsr,
    "pix2pix": unet,
    "cyclegan": resnet,
}
PARTS = {
    "pix2pix": {"G": "generator", "D": "discriminator"},
    "cyclegan": {
        "G_A": "generator_ab",
        "G_B": "generator_ba",
        "D_A": "discriminator_b",  # it judges what G_A makes of A
        "D_B": "discriminator_a",
    },
}
"""Files `latest_net_PART.pth` of a folder, and the networks of ours."""


def is_published(path: Path) -> bool:
    """Whether this may be such a file, or a folder of them."""
    return (path.is_file() and path.suffix in ENDINGS) or bool(_folder(path))


def _folder(path: Path) -> dict[str, Path]:
    """Files by part of the newest state in a folder: `latest`, or the last epoch."""
    found = {
        (m[1], m[2]): file
        for file in (path.glob("*_net_*.pth") if path.is_dir() else ())
        if (m := re.fullmatch(r"(latest|\d+)_net_([GD](?:_[AB])?)\.pth", file.name))
    }
    ages = sorted({age for age, _ in found}, key=lambda age: (age == "latest", age.zfill(9)))
    return {part: file for (age, part), file in found.items() if age == ages[-1]}


def import_published(path: Path, out: Path, family: str | None = None) -> dict[str, Any]:
    """Write the networks of a file or folder as a checkpoint; what is not there begins anew.

    Raises:
        InputError: the family has no such layout. CheckpointError: damaged, or other names or
            shapes than those of any layout.
    """
    if family is not None and family not in LAYOUTS:
        hint = did_you_mean(family, LAYOUTS)
        raise InputError(f"--family: no layout of {family} is known", hint=hint)
    files = _folder(path) or {"": path}
    main = next((p for p in ("", "G", "G_A", "G_B") if p in files), None)
    if main is None:
        raise InputError(f"{path}: a folder without *_net_G.pth or *_net_G_A.pth")
    state = _read(files[main])
    layout = match_layout(state, files[main], family)
    if layout.family == "edsr" and not _mean_color(state):
        raise CheckpointError(f"{files[main]}: an EDSR with another mean color than DIV2K's")
    names = PARTS.get(layout.family, {})
    others = {part: _read(f) for part, f in files.items() if part != main and part in names}
    if judge := next((others[part] for part in others if part.startswith("D")), None):
        layout.model |= _sizes(layout.family, judge)
    recipe = {
        "family": layout.family,
        "data": {**layout.data, "train": str(path)},
        "model": layout.model,
    }
    resolved = recipe_from_dict({**recipe, "trainer": {"max_steps": 1}})
    assert layout.spec is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_family(layout.family).Model(resolved.model, layout.spec)
    weights = layout.take(state)
    if main == "G_B":
        weights = _moved(weights, "generator_ab", "generator_ba")
    for part, other in others.items():
        weights |= _part(part, other, files[part], layout)
    own = model.state_dict()
    for name, value in weights.items():
        here = tuple(own[name].shape) if name in own else "absent"
        if here != tuple(value.shape):
            raise CheckpointError(f"{path}: {name} is {tuple(value.shape)} there and {here} here")
    networks = dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters())
    taken = {name.split(".")[0] for name in weights}
    zeros = {  # a bias that theirs has not
        name: torch.zeros_like(value)
        for name, value in own.items()
        if name.split(".")[0] in taken and name not in weights and name.endswith("bias")
    }
    write_imported(out, recipe, layout.spec, {**own, **zeros, **weights})
    return {
        "checkpoint": str(out),
        "family": layout.family,
        "parameters": sum(p.numel() for p in model.parameters()),
        "model": layout.model,
        "new": [name for name in networks if name not in taken],
    }


def _sizes(family: str, judge: State) -> dict[str, int]:
    """Fields of a PatchGAN: channels of the first convolution, and strided layers."""
    first = _shape(judge, "model.0.weight", (64, 3, 4, 4))[0]
    layers = sum(value.ndim == 4 for value in judge.values()) - 2
    if family == "pix2pix":
        return {"patch_layers": max(1, layers)}
    return {"discriminator_features": first, "discriminator_layers": max(1, layers)}


def _part(part: str, state: State, file: Path, layout: Layout) -> dict[str, Tensor]:
    """Another generator, or a discriminator, whose layers are numbered as ours."""
    target = PARTS[layout.family][part]
    if part.startswith("G"):
        return _moved(match_layout(state, file, layout.family).take(state), "generator_ab", target)
    return {f"{target}.{k.replace('model.', 'blocks.', 1)}": v for k, v in state.items()}


def _moved(weights: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {name.replace(old, new, 1): value for name, value in weights.items()}


def _read(file: Path) -> dict[str, Tensor]:
    """Without the prefix of DataParallel, and what older instance normalizations counted."""
    state = {k: v.float() if v.is_floating_point() else v for k, v in read_tensors(file).items()}
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    counted = [n for n in state if n.endswith("running_mean") and _affine(n) not in state]
    for name in counted:
        for kind in BATCH_NORM[2:]:
            state.pop(name.replace("running_mean", kind), None)
    return state


def _affine(name: str) -> str:
    return name.replace("running_mean", "weight")


def match_layout(state: State, file: Path, family: str | None = None) -> Layout:
    """The layout that has exactly these names.

    Raises:
        CheckpointError: there is none; names the nearest, and the first names that differ.
    """
    layouts = [LAYOUTS[name](state) for name in ([family] if family else LAYOUTS)]
    nearest = min(layouts, key=lambda layout: len(layout.unlike(state)) / len(layout.names))
    if names := nearest.unlike(state):
        more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        raise CheckpointError(
            f"{file}: its {len(state):,} tensors are those of no family; nearest is "
            f"{nearest.family}, but for {', '.join(names[:SHOWN])}{more}",
            hint="read here: EDSR of EDSR-PyTorch, and generators of pix2pix and CycleGAN",
        )
    return nearest

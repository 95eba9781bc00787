"""The pretrained networks behind LPIPS, DISTS and features, read from local files; downloaded only
where AIGC_DOWNLOAD=1 asks for it.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from aigc_cli.errors import CheckpointError, MissingError
from aigc_cli.nn.classifier import vgg

ALEXNET = "alexnet-owt-7be5be79.pth"
VGG16 = "vgg16-397923af.pth"
VGG19 = "vgg19-dcbb9e9d.pth"
"""Names that torchvision gives to its ImageNet weights."""
INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
"""Name that pytorch-fid gives to those of FID."""

_TORCHMETRICS = importlib.util.find_spec("torchmetrics")  # without importing it


@cache
def published() -> dict[str, str]:
    """Where each file comes from; the digits at the end of its name begin its SHA-256."""
    from torchvision import models  # here, since it takes longer to import than all of ours

    enums = (models.AlexNet_Weights, models.VGG16_Weights, models.VGG19_Weights)
    urls = [str(weights.IMAGENET1K_V1.url) for weights in enums]
    urls.append(
        f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION}"
    )
    return {url.rpartition("/")[2]: url for url in urls}


def alexnet() -> nn.Sequential:
    """Layers and indices as `features` of torchvision's AlexNet (Krizhevsky, 2014)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def vgg16() -> nn.Sequential:
    """Layers and indices as `features` of torchvision's VGG16 (Simonyan and Zisserman, 2015)."""
    return nn.Sequential(*vgg("vgg16"))


def stages(features: nn.Sequential, ends: Sequence[int]) -> nn.ModuleList:
    """Cut a chain of layers behind the given indices."""
    starts = [0, *ends[:-1]]
    return nn.ModuleList(features[a:b] for a, b in zip(starts, ends, strict=True))


def load_backbone(features: nn.Sequential, file: str, folder: Path | None) -> None:
    """Fill a network from the `features` of torchvision's file.

    Raises:
        MissingError, CheckpointError: as `load_state`.
    """
    model = "alexnet" if file == ALEXNET else "vgg16"
    command = f"import torchvision; torchvision.models.{model}(weights='DEFAULT')"
    places = [Path(torch.hub.get_dir()) / "checkpoints" / file]
    state = load_state(file, folder, places, how=f'download it with python -c "{command}"')
    prefix = "features."
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    fill(features, state, file)


def load_head(file: str, packaged: str, folder: Path | None) -> dict[str, Tensor]:
    """The published weights on top of a backbone; torchmetrics brings a copy of them.

    Raises:
        MissingError, CheckpointError: as `load_state`.
    """
    places = []
    if _TORCHMETRICS and _TORCHMETRICS.origin:
        places = [Path(_TORCHMETRICS.origin).parent / "functional" / "image" / packaged]
    return load_state(file, folder, places, how="torchmetrics usually brings it")


def load_state(
    file: str, folder: Path | None, others: Sequence[Path], *, how: str
) -> dict[str, Tensor]:
    """Tensors of a file in `folder` (or in the one that AIGC_WEIGHTS names), or else in `others`;
    with AIGC_DOWNLOAD=1 a published file that is in none of them is fetched into the folder.

    Raises:
        MissingError: the file is in none of them, or cannot be fetched.
        CheckpointError: it is damaged, or holds something else than tensors.
    """
    named = folder or Path(os.environ.get("AIGC_WEIGHTS") or "weights")
    found = [path for path in (named / file, *others) if path.is_file()]
    if not found and file in published() and os.environ.get("AIGC_DOWNLOAD") == "1":
        found = [_fetch(file, named)]
    if not found:
        fetched = ", or AIGC_DOWNLOAD=1 to fetch it" if file in published() else ""
        raise MissingError(
            f"the weights {file} are not in {named}",
            hint=f"{how}, or set AIGC_WEIGHTS to the folder that has it{fetched}",
        )
    try:
        state = torch.load(found[0], map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{found[0]}: damaged, or no file of weights") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{found[0]}: holds no weights by name")
    return state


def _fetch(file: str, folder: Path) -> Path:
    """Download a published file whole or not at all, and compare its hash with its name."""
    address, target = published()[file], folder / file
    digits = Path(file).stem.rpartition("-")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(target), digits, progress=False)
    except OSError as error:
        raise MissingError(
            f"{address} cannot be fetched: {error}", hint=f"put the file into {folder}"
        ) from error
    except RuntimeError as error:
        raise CheckpointError(f"{address}: is not the file of this name ({error})") from error
    return target


def fill(module: nn.Module, state: dict[str, Tensor], file: str) -> None:
    """Load every parameter, and freeze them.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{file}: weights of another network ({reason})") from error
    module.requires_grad_(False)

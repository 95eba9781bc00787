"""Features of many images: which network, in shares over processes, kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.data._cache import cache_folder, digest
from aigc_cli.errors import InputError, MissingError
from aigc_cli.metrics._things import Extractor, Features, Things
from aigc_cli.nn.features import perceptual_distance
from aigc_cli.nn.fid_inception import fid_inception
from aigc_cli.registry import load_family
from aigc_cli.run.checkpoint import load_checkpoint
from aigc_cli.run.devices import World, choose_device, find_world
from aigc_cli.run.features import open_features
from aigc_cli.run.paths import find_checkpoint

VERSION = 1  # raise it when the same images would get other features
INCEPTION = {"inception": "tensorflow", "inception:clean": "clean"}
RESIZES = {
    "tensorflow": "bilinear to 299 as TensorFlow 1, not antialiased",
    "clean": "bicubic to 299, antialiased (clean-fid)",
}

log = logging.getLogger(__name__)


class Network(Extractor):
    """A frozen network and how images come to its size."""

    levels = "8 bit"

    def __init__(self, network: Any, resize: str, labels: tuple[str, ...] | None) -> None:
        self.network, self.resize, self.labels = network, resize, labels
        self.stamp: str = network.stamp
        has_head = "logits" in network.layers
        self.layers = ("pooled", "logits") if has_head else (network.layers[-1],)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.network.parameters()).device
        return device

    @cached_property
    def digest(self) -> str:
        """Of the weights and of all that becomes of an image."""
        state = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.network.state_dict().items()):
            state.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest([VERSION, self.resize, self.layers, state.hexdigest()])

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """images (B, C, H, W) in [-1, 1]."""
        images = images.to(self.device)
        size = getattr(self.network, "image_size", None)
        if size and images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
            images = images.clamp(-1, 1)
        found = self.network(images, self.layers)
        pooled = found[self.layers[0]].float().cpu()
        if pooled.ndim == 4:
            pooled = pooled.mean((2, 3))
        return Features(pooled, found["logits"].float().cpu() if "logits" in found else None)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """See `perceptual_distance`: (B, C, H, W) twice -> (B,)."""
        with torch.inference_mode():
            return perceptual_distance(self.network, a.to(self.device), b.to(self.device)).cpu()


class Embedding(Extractor):
    """A classifier that embeds things itself, whatever they are."""

    resize = "as the classifier takes it"
    layers = ("pooled", "logits")

    def __init__(self, trained: Any) -> None:
        self.model = trained.model
        self.labels = tuple(self.model.spec.labels)
        self._digest = digest([VERSION, trained.digest])
        name = trained.checkpoint.name if trained.checkpoint else "weights"
        self.stamp = f"{trained.recipe.family} {trained.recipe.name} {name}"

    @property
    def digest(self) -> str:
        return self._digest

    def see(self, things: Sequence[Any]) -> Iterator[Features]:
        with torch.inference_mode():
            pooled, logits = self.model.embed(things)
        yield Features(pooled.float().cpu(), logits.float().cpu())

    def __call__(self, images: Tensor) -> NoReturn:
        raise TypeError("things are seen as they are")

    def distance(self, a: Tensor, b: Tensor) -> NoReturn:
        raise TypeError("there is no perceptual distance of such things")


def _embedding(text: str, device: str, bases: Sequence[Path]) -> Embedding | None:
    """Of a run whose family embeds things; None where the text names something else."""
    place = _place(text, bases)
    if not Path(place).exists():
        return None
    from aigc_cli.run.trained import load_trained

    family = load_checkpoint(find_checkpoint(place))["recipe"].get("family")
    if not getattr(load_family(str(family)).Model, "embeds", False):
        return None
    return Embedding(load_trained(place, device=device))


def open_extractor(text: str, device: str = "auto", bases: Sequence[Path] = ()) -> Extractor:
    """`inception`, `inception:clean`, a classifier's run or checkpoint, or any feature network.

    Raises:
        MissingError: published weights are absent. InputError: there is no such network or run.
        CheckpointError: the file is something else.
    """
    network: nn.Module
    labels = None
    if text in INCEPTION:
        try:
            network = fid_inception("clean" if text.endswith("clean") else "tensorflow")
        except MissingError as error:
            hint = f"{error.hint}; or judge by a classifier of your own: extractor=RUN"
            raise MissingError(error.message, hint=hint) from error
        resize = RESIZES[INCEPTION[text]]
    elif text.startswith("inception"):
        raise InputError(
            f"extractor={text}: no such network", hint=f"choose from: {', '.join(INCEPTION)}"
        )
    elif found := _embedding(text, device, bases):
        return found
    else:
        network = open_features(text, bases)
        if "logits" in network.layers:
            spec = load_checkpoint(find_checkpoint(_place(text, bases)))["spec"]
            labels = tuple(spec["labels"]) if spec.get("labels") else None
        size = network.image_size
        resize = f"bicubic to {size}, antialiased, where they differ" if size else "none"
    return Network(network.to(choose_device(device)), resize, labels)


def _place(text: str, bases: Sequence[Path]) -> str:
    return next((str(b / text) for b in (Path(), *bases) if (b / text).exists()), text)


def extract(
    extractor: Extractor,
    things: Things,
    *,
    batch_size: int = 64,
    seen: Callable[[int], None] = lambda count: None,
) -> Features:
    """Features of all images in order, the same on every process; each computes its share.

    Those of images with a key are kept in the cache folder.
    """
    key = things.key()
    path = _cache_file(extractor, key) if key is not None else None
    if (kept := _agree(_load(path))) is not None:
        return kept
    world = find_world()
    first, end = (len(things) * (world.rank + i) // world.size for i in (0, 1))
    parts: list[Features] = []
    for start in range(first, end, batch_size):
        numbers = range(start, min(start + batch_size, end))
        parts += extractor.see(things.read(numbers))
        seen(len(numbers))
    found = _gather(parts)
    if path is not None and world.rank == 0:
        _save(path, found)
    return found


# Processes. Features are small beside images, so they meet on the CPU, through gloo.


@contextmanager
def processes() -> Iterator[World]:
    """Joined to the other processes of the command, if it was started in several."""
    world = find_world()
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(world.rank % torch.cuda.device_count())
    dist.init_process_group("gloo")
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _gather(parts: list[Features]) -> Features:
    """The shares of all processes, in their order."""
    shares: list[Any] = [[(part.pooled, part.logits) for part in parts]]
    if dist.is_initialized():
        shares = [None] * dist.get_world_size()
        dist.all_gather_object(shares, [(part.pooled, part.logits) for part in parts])
    rows = [row for share in shares for row in share]
    logits = None if rows[0][1] is None else torch.cat([logits for _, logits in rows])
    return Features(torch.cat([pooled for pooled, _ in rows]), logits)


def _agree(kept: Features | None) -> Features | None:
    """What the first process found in the cache: all must take the same way."""
    if not dist.is_initialized():
        return kept
    told = [(kept.pooled, kept.logits) if kept is not None and dist.get_rank() == 0 else None]
    dist.broadcast_object_list(told)
    return None if told[0] is None else Features(*told[0])


# Features on disk.


def _cache_file(extractor: Extractor, key: Sequence[str]) -> Path | None:
    folder = cache_folder("auto")
    return folder and folder / "features" / f"{digest([extractor.digest, *key])}.npz"


def _load(path: Path | None) -> Features | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays}
        return Features(tensors["pooled"], tensors.get("logits"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and made again: %s", path, error)
        return None


def _save(path: Path, features: Features) -> None:
    arrays: dict[str, Any] = {"pooled": features.pooled.numpy()}
    if features.logits is not None:
        arrays["logits"] = features.logits.numpy()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez(file, **arrays)
        os.replace(file.name, path)
    except OSError as error:  # a full disk: the features stand all the same
        Path(file.name).unlink(missing_ok=True)
        log.warning("features are not kept: %s", error)

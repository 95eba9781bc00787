"""Super-resolution networks of other projects, by the library spandrel: ESRGAN, SwinIR, RCAN, HAT
and some forty more, known by the names of the tensors in a file.

They sample and are measured as ours; what trains further is imported instead (published.py).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aigc_cli.errors import CheckpointError, InputError, MissingError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.image._super_resolution import SuperResolutionModule
from aigc_cli.nn.edsr import Precision
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.recipe.sections import Section
from aigc_cli.run.imported import read_tensors
from aigc_cli.run.published import LAYOUTS, SHOWN
from aigc_cli.specs.image import SuperResolutionSpec

SCALES = (2, 3, 4)


class Network(nn.Module):
    """Low-resolution image (B, C, h, w) in [-1, 1] -> (B, C, s h, s w)."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network: nn.Module = descriptor.model
        self.call = descriptor  # fills up to the sides that the network needs, and cuts again

    def forward(self, low: Tensor) -> Tensor:
        made: Tensor = torch.cat([self.call(image[None]) for image in (low + 1) / 2])
        return made * 2 - 1

    @contextmanager
    def multiplying(self, precision: Precision) -> Iterator[None]:
        """Always in fp32."""
        yield

    def fastest(self, low: Tensor) -> tuple[Precision, float]:
        return "fp32", 0.0


class Model(SuperResolutionModule):
    """A network that is used as it is."""

    def __init__(self, network: Network, spec: SuperResolutionSpec, architecture: str) -> None:
        super().__init__(Section(), spec)
        self.net = network  # type: ignore[assignment]
        self.architecture = architecture

    def _precision(self, low: Tensor, options: Any) -> Precision:
        self.facts = {"precision": "fp32", "architecture": self.architecture}
        return "fp32"

    def loss(self, batch: Batch) -> Terms:
        raise NotImplementedError("it is not trained")

    def configure_optimizers(self) -> Optimizer:
        raise NotImplementedError("it is not trained")


def open_super_resolver(
    path: Path, options: Sequence[str] = ()
) -> tuple[Model, Recipe, SuperResolutionSpec]:
    """The network in a file of weights, and a recipe that holds its options.

    Raises:
        MissingError: spandrel is absent. CheckpointError: damaged, or no architecture that it
            knows. InputError: a network that does something else, or that is imported instead.
    """
    state = read_tensors(path)
    if fits := next((name for name, of in LAYOUTS.items() if not of(state).unlike(state)), None):
        raise InputError(
            f"{path}: weights of {fits}, not yet a checkpoint",
            hint=f"aigc model import {path} --out {path.stem}.ckpt",
        )
    if importlib.util.find_spec("spandrel") is None:
        raise MissingError(
            f"{path}: weights of other projects' super-resolution are read by the package spandrel",
            hint='pip install "aigc-cli[spandrel]"',
        )
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    try:
        with warnings.catch_warnings():  # of torch, about the code of these networks
            warnings.simplefilter("ignore")
            found = ModelLoader("cpu").load_from_state_dict(dict(state))
    except UnsupportedModelError as error:
        names = ", ".join(list(state)[:SHOWN])
        raise CheckpointError(
            f"{path}: spandrel knows no network with its {len(state):,} tensors, such as {names}"
        ) from error
    except (RuntimeError, KeyError, ValueError, AssertionError, IndexError) as error:
        reason = str(error).splitlines()[-1].strip()[:150] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: tensors are absent or have other shapes: {reason}"
        ) from error
    name = found.architecture.name
    if not isinstance(found, ImageModelDescriptor) or found.scale not in SCALES:
        raise InputError(
            f"{path}: a {name} of scale {found.scale}; what is read upscales 2, 3 or 4 times"
        )
    if found.input_channels != found.output_channels or found.input_channels not in (1, 3):
        raise InputError(
            f"{path}: a {name} of {found.input_channels} channels to {found.output_channels}"
        )
    spec = SuperResolutionSpec(found.input_channels, found.scale)
    data = {"kind": "super_resolution", "scale": found.scale, "train": str(path)}
    recipe = recipe_from_dict(
        {"family": "edsr", "data": data, "trainer": {"max_steps": 1}}, path, options
    ).model_copy(update={"family": name})
    return Model(Network(found), spec, name), recipe, spec

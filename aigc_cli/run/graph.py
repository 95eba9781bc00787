"""A trained model as a function of tensors, for programs that run graphs: ONNX Runtime and such.

What is exported is `sample` itself with the options that were asked for: the image that is given,
the class, and whatever is drawn become inputs. So no family knows of graphs, and a graph computes
what `aigc sample` writes, but for tiles: it takes whole images, one at a time, and as many draws as
fit. A classifier's graph is its `classify`; a detector's tells the boxes of all places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._classifier import ClassifierModule
from aigc_cli.models._image import ImageModule
from aigc_cli.models.vision._detector import DenseModule, DetectorModule
from aigc_cli.recipe.sections import Section
from aigc_cli.run.trained import Trained
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

ANY_SIZE = (52, 60)
"""Pixels of the image that a graph of any size is made with; sides that no family is trained at."""
WHOLE = {"tile": 0, "precision": "fp32"}
"""Options that cut an image or choose by its content, which a graph cannot."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph."""

    name: str
    shape: tuple[int | str, ...]
    """A word is a size that may vary."""
    meaning: str


def _as_it_is(image: Tensor) -> Tensor:
    return image


@dataclass(frozen=True)
class Graph:
    """`module(*inputs) -> output`; images are (1 or n, C, H, W) in [0, 1]."""

    module: nn.Module
    inputs: tuple[Port, ...]
    output: Port
    takes_image: bool
    """Whether the first input is an image; otherwise all is drawn."""
    size: tuple[int, int] | None
    """Of the image that is given, where it may not vary."""
    classes: tuple[str, ...] = ()
    fit: Callable[[Tensor], Tensor] = _as_it_is
    """An image (C, h, w) as the graph takes it."""

    def example(self, count: int = 2) -> tuple[Tensor, ...]:
        """Inputs to make the graph with."""
        sizes = {"n": count, "height": ANY_SIZE[0], "width": ANY_SIZE[1]}
        random = torch.Generator().manual_seed(0)
        found = []
        for port in self.inputs:
            shape = [
                size if isinstance(size, int) else sizes[size.rstrip("0123456789")]
                for size in port.shape
            ]
            is_class = port.name == "label"
            found.append(
                torch.zeros(shape, dtype=torch.int64)
                if is_class
                else torch.rand(shape, generator=random)
            )
        return tuple(found)

    def varying(self) -> tuple[dict[int, Any], ...]:
        """The axes of each input that may vary, as torch.export takes them."""
        free = torch.export.Dim.DYNAMIC
        return tuple(
            {axis: free for axis, size in enumerate(port.shape) if isinstance(size, str)}
            for port in self.inputs
        )


def graph_of(trained: Trained, size: tuple[int, int] | None = None) -> Graph:
    """The graph of a model whose images, or whose classes or boxes of images, other programs can
    compute; of images of one `size` (height, width), or of any.

    Raises:
        InputError: the family has none.
    """
    model, family = trained.model, trained.recipe.family
    if isinstance(model, ClassifierModule) and isinstance(model.spec, ImageSpec):
        return _classifying(model, size)
    if isinstance(model, DenseModule):
        return _detecting(model, size)
    if isinstance(model, DetectorModule):
        raise InputError(
            f"family '{family}' looks at as many regions as it proposes, which a graph cannot",
            hint="yolo and ssd look once, and their runs can be exported",
        )
    if model.training_free:
        raise InputError(
            f"family '{family}' has no network to export: it optimizes each image anew",
            hint="style_fast learns one style, and its runs can be exported",
        )
    if not isinstance(model, ImageModule):
        raise InputError(
            f"--format onnx is for images, and for classes or boxes of them, not for '{family}'",
            hint="--format hf is for language models, --format safetensors for all",
        )
    changed = {k: v for k, v in WHOLE.items() if k in type(trained.recipe.sample).model_fields}
    return _sampling(model, trained.recipe.sample.model_copy(update=changed), size)


def _classifying(model: ClassifierModule, size: tuple[int, int] | None) -> Graph:
    spec = cast(Any, model.spec)
    side = spec.image_size
    if size not in (None, (side, side)):
        raise InputError(f"--size: the classifier takes images of {side} x {side} pixels only")
    shape = ("n", spec.channels, side, side)
    image = Port("image", shape, f"RGB or gray in [0, 1], brought to {side} x {side} pixels")
    output = Port("probabilities", ("n", len(spec.labels)), "of the classes, in their order")
    return Graph(Classifying(model), (image,), output, True, (side, side), tuple(spec.labels or ()))


def _detecting(model: DenseModule, size: tuple[int, int] | None) -> Graph:
    H, W = model.canvas
    if size not in (None, (H, W)):
        raise InputError(f"--size: the detector takes images of {H} x {W} pixels only")
    with torch.no_grad():
        places = model.dense(torch.zeros(1, 3, H, W))[0].shape[1]
    image = Port("image", ("n", 3, H, W), f"RGB in [0, 1], at the upper left of {H} x {W} pixels")
    meaning = (
        "of each place left, top, right, bottom as parts of the sides, and the score of each class"
    )
    output = Port("boxes", ("n", places, 4 + len(model.labels)), meaning)
    return Graph(
        Detecting(model), (image,), output, True, (H, W), tuple(model.labels),
        lambda image: model.fit(image)[0],
    )  # fmt: skip


def _sampling(model: ImageModule, options: Section, size: tuple[int, int] | None) -> Graph:
    """Find what `sample` draws by calling it, then describe its inputs and output."""
    takes = model.takes is not None and not model.input_optional
    references = model.reference_count[0]
    labeled = model.conditional and getattr(options, "label", None) is None
    if size is not None and not takes:
        raise InputError("--size is for families that are given an image")
    C, (H, W) = getattr(model.spec, "input_channels", 3), size or ANY_SIZE
    probe = _Probe(1 if takes else 2)
    label = torch.zeros(probe.count, dtype=torch.int64)
    given = torch.zeros(C, H, W) if takes else None
    with torch.no_grad(), _labels(model, label if labeled else None, options):
        around = [torch.zeros(C, *ANY_SIZE).add_(torch.rand(ANY_SIZE))] * references
        made = model.sample(cast(SampleNoise, probe), options, given, around)

    # One port for each input, in the order in which `Sampling` takes them.
    whole: tuple[int | str, ...] = ("height", "width") if size is None else size
    count: int | str = 1 if takes else "n"
    inputs = [Port("image", (1, C, *whole), "what is worked on, in [0, 1]")] if takes else []
    inputs += [
        Port(f"reference{i + 1}", (1, C, f"height{i + 1}", f"width{i + 1}"), "such as the style")
        for i in range(references)
    ]
    if labeled:
        inputs.append(Port("label", (count,), "number of the class of each"))
    inputs += [
        Port(f"noise{number + 1}", (count, *shape), "standard normal")
        for number, shape in enumerate(probe.drawn)
    ]
    scale = made.shape[-2] // H if takes else 1
    sides = made.shape[-2:]
    if takes and size is None:
        times = f"{scale}*" if scale > 1 else ""
        out: tuple[int | str, ...] = (f"{times}height", f"{times}width")
    else:
        out = (int(sides[0]), int(sides[1]))
    output = Port("output", (count, made.shape[1], *out), "what is made, in [0, 1]")
    module = Sampling(model, options, takes=takes, references=references, labeled=labeled)
    labels = getattr(model.spec, "labels", None) if labeled else None
    return Graph(module, tuple(inputs), output, takes, size, tuple(labels or ()))


class Sampling(nn.Module):
    """`model.sample` as a function of tensors, of images in [0, 1]."""

    def __init__(
        self,
        model: ImageModule,
        options: Section,
        *,
        takes: bool,
        references: int,
        labeled: bool,
    ) -> None:
        super().__init__()
        self.model, self.options = model, options
        self.takes, self.references, self.labeled = takes, references, labeled
        for name, network in model.frozen_networks.items():
            if isinstance(network, nn.Module):  # so that its weights are found
                self.add_module(name, network)

    def forward(self, *inputs: Tensor) -> Tensor:
        rest = list(inputs)
        given = rest.pop(0)[0] * 2 - 1 if self.takes else None
        references = [rest.pop(0)[0] * 2 - 1 for _ in range(self.references)]
        label = rest.pop(0) if self.labeled else None
        count = 1 if self.takes else rest[0].shape[0]
        noise = cast(SampleNoise, _Given(rest, count))
        with _labels(self.model, label, self.options):
            made = self.model.sample(noise, self.options, given, references)
        return ((made + 1) / 2).clamp(0, 1)


class Classifying(nn.Module):
    """`model.classify`, of images in [0, 1]."""

    def __init__(self, model: ClassifierModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.classify({"image": image * 2 - 1})


class Detecting(nn.Module):
    """`model.dense`, of images (n, 3, H, W) in [0, 1] -> (n, A, 4 + K)."""

    def __init__(self, model: DenseModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        boxes, scores = self.model.dense(image * 2 - 1)
        sides = torch.tensor([*reversed(self.model.canvas)] * 2)
        return torch.cat([boxes / sides, scores], -1)


class _Probe:
    """Stands for `SampleNoise` in a first call, which shows what is drawn."""

    first = 0

    def __init__(self, count: int) -> None:
        self.count = count
        self.drawn: list[tuple[int, ...]] = []

    def randn(self, *shape: int) -> Tensor:
        self.drawn.append(shape)
        return torch.zeros(self.count, *shape)


class _Given:
    """Stands for `SampleNoise` while a graph is made: each draw is one of its inputs."""

    first = 0

    def __init__(self, draws: Sequence[Tensor], count: int) -> None:
        self.draws, self.count = iter(draws), count

    def randn(self, *shape: int) -> Tensor:
        return next(self.draws)


@contextmanager
def _labels(model: ImageModule, label: Tensor | None, options: Section) -> Iterator[None]:
    """Inside, the classes of samples are the given ones; those of the options without."""
    usual = type(model).labels_of

    def labels_of(_options: Any, first: int, n: int) -> Tensor | None:
        if label is not None:
            return label
        one = usual(model, options, first, 1)
        return None if one is None else one.expand(n)

    replaced: Callable[..., Tensor | None] = labels_of
    model.labels_of = replaced  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.labels_of

"""`aigc model export --format onnx`: a graph that its own runtime has run before it is given away.

Nothing is left behind unless ONNX Runtime computes, on inputs that training did not see, what the
model computes here, within a tolerance that the card states. int8 (`--int8`) is measured against
what should come out where that is known, and against the graph in fp32.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aigc_cli import __version__
from aigc_cli.data._stream import key_at
from aigc_cli.errors import AigcError, InputError, MissingError, RunError
from aigc_cli.modalities import find_modality
from aigc_cli.modalities._modality import Task
from aigc_cli.models._base import Batch
from aigc_cli.registry import load_data_kind
from aigc_cli.run.graph import Graph, graph_of
from aigc_cli.run.trained import Trained

TOLERANCE = 1e-3
"""Largest difference of any value in [0, 1]: a quarter of a level of 256."""
HELD_OUT = 16
"""Items that a graph is checked with, and as many that int8 is fitted to."""
FEWEST = 8
REPEATS = 5
SMALLEST = 12  # pixels of a side that a cut image keeps

Arrays = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Probe:
    """Inputs of a graph, and what should come out where that is known."""

    inputs: tuple[Tensor, ...]
    truth: Tensor | None = None
    """(1, C, H, W) in [0, 1], or the class (1,)."""

    @property
    def arrays(self) -> Arrays:
        return [x.contiguous().numpy() for x in self.inputs]


def require_onnx() -> None:
    """
    Raises:
        MissingError: a package of the extra is absent.
    """
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if missing:
        raise MissingError(
            f"--format onnx needs {', '.join(missing)}, which is not installed",
            hint='pip install "aigc-cli[onnx]"',
        )


def write_onnx(
    trained: Trained,
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    int8: bool = False,
    inputs: Path | None = None,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write model.onnx, and model.int8.onnx, into a folder; returns what was measured of them.

    `inputs`: images to check with, where the recipe's validation data is not here.

    Raises:
        InputError: the family has no graph, or there is nothing to check it with. RunError: the
            runtime computes something else, or cannot run it. MissingError: the extra is absent.
    """
    require_onnx()
    graph = graph_of(trained, size)
    held_out = probes(trained, graph, inputs)
    path = folder / "model.onnx"
    begun = time.monotonic()
    _export(graph, path, trained)
    seconds = round(time.monotonic() - begun, 1)
    found = check(graph, path, held_out)
    if found["largest"] > tolerance:
        raise RunError(
            f"ONNX Runtime differs by {found['largest']:.2g} from PyTorch on {found['inputs']} "
            f"held-out inputs, and {tolerance:g} was allowed: nothing was exported",
            hint="if that is near enough for you, say so with --tolerance",
        )
    report = {
        "inputs": [
            {"name": p.name, "shape": list(p.shape), "meaning": p.meaning} for p in graph.inputs
        ],
        "output": {
            "name": graph.output.name,
            "shape": list(graph.output.shape),
            "meaning": graph.output.meaning,
        },
        "bytes": path.stat().st_size,
        "export_seconds": seconds,
        "checked": {**found, "tolerance": tolerance},
        "quality": quality(graph, path, held_out),
        "milliseconds": times(graph, path, held_out[0]),
    }
    if int8:
        small = folder / "model.int8.onnx"
        _quantize(path, small, probes(trained, graph, inputs, training=True))
        report["int8"] = {
            "bytes": small.stat().st_size,
            "difference": check(graph, small, held_out),
            "quality": quality(graph, small, held_out),
            "milliseconds": times(graph, small, held_out[0]),
        }
    return report


def probes(
    trained: Trained, graph: Graph, source: Path | None, *, training: bool = False
) -> list[Probe]:
    """Inputs that training did not see; of a graph of any size also pieces of other sizes. With
    `training`, such as it did see, to fit int8 to.

    Raises:
        InputError: the family is given images, and there are none.
    """
    if not graph.takes_image:
        first = 10_000 if training else 0
        return [_drawn(graph, first + number) for number in range(4)]
    seen = _from_files(trained, source) if source else _from_data(trained, training=training)
    items = [(graph.fit(given), references, truth) for given, references, truth in seen]
    if graph.size is None:  # several pieces of each, where they are few
        items *= -(-FEWEST // len(items))
    found: list[Probe] = []
    for number, (given, references, truth) in enumerate(items):
        images = [given, *references]
        if graph.size is None:
            images, truth = _cut(images, truth, number)
        elif tuple(given.shape[-2:]) != graph.size:
            raise InputError(
                f"--size {graph.size[0]}x{graph.size[1]}: the images to check with have "
                f"{given.shape[-2]} x {given.shape[-1]} pixels",
                hint="name others of that size with --input",
            )
        noise = [
            _noise(port.shape[1:], number)[None]
            for port in graph.inputs
            if port.name.startswith("noise")
        ]
        found.append(Probe((*[(x[None] + 1) / 2 for x in images], *noise), truth))
    return found


def _from_data(
    trained: Trained, *, training: bool
) -> Iterator[tuple[Tensor, Sequence[Tensor], Tensor | None]]:
    """Inputs as the family is shown its items, and what is known of them.

    Raises:
        InputError: the recipe's data is not here.
    """
    recipe, model = trained.recipe, trained.model
    try:
        kind = load_data_kind(recipe.kind)
        spec = {} if training else {"spec": trained.spec}
        data = kind.Data(recipe.data, seed=recipe.seed, bases=recipe.bases, **spec)
    except AigcError as error:
        raise InputError(
            "an export is checked on validation data, and the recipe's is not here",
            hint="name images with --input DIR",
        ) from error
    items = data.train if training else data.val
    for number in range(min(HELD_OUT, len(items))):
        key = key_at(recipe.seed, number, len(items)) if training else number
        loader = DataLoader(
            items, batch_sampler=[[key]], collate_fn=getattr(items, "collate", None)
        )
        batch: Batch = next(iter(loader))
        example = model.example(batch, recipe.sample)
        assert example is not None
        truth = batch.get("label")
        if model.makes != "labels":
            known = example.beside.get("original", example.beside.get("target"))
            truth = None if known is None else (known[None] + 1) / 2
        yield example.given, example.references, truth


def _from_files(
    trained: Trained, source: Path
) -> Iterator[tuple[Tensor, Sequence[Tensor], Tensor | None]]:
    """The images in a file or folder, each also as the reference where the family needs one."""
    modality = find_modality(str(trained.model.takes))
    task = Task(trained.model, trained.recipe)
    opened = modality.open(source, task, None)
    for number in range(min(HELD_OUT, len(opened))):
        one = opened[number]
        given = modality.fitted([one], task)[0] if trained.model.makes == "labels" else one.given
        yield given, [one.given] * trained.model.reference_count[0], None


def _cut(
    images: list[Tensor], truth: Tensor | None, number: int
) -> tuple[list[Tensor], Tensor | None]:
    """The first image without its last rows and columns, a few more for each: other sizes, and none
    that the network was trained at, where families leave out the context around an image.
    """
    given = images[0]
    H, W = (
        max(SMALLEST, side - 1 - number * step)
        for side, step in zip(given.shape[-2:], (1, 2), strict=True)
    )
    H, W = min(H, given.shape[-2]), min(W, given.shape[-1])
    if truth is not None:
        scale = truth.shape[-1] // given.shape[-1]
        truth = truth[..., : scale * H, : scale * W]
    return [given[..., :H, :W], *images[1:]], truth


def _drawn(graph: Graph, seed: int) -> Probe:
    inputs = []
    for port in graph.inputs:
        shape = [4 if size == "n" else int(size) for size in port.shape]
        if port.name == "label":
            inputs.append((torch.arange(4) + seed) % len(graph.classes))
        else:
            inputs.append(_noise(shape, seed))
    return Probe(tuple(inputs))


def _noise(shape: Sequence[int | str], seed: int) -> Tensor:
    return torch.randn([int(s) for s in shape], generator=torch.Generator().manual_seed(seed))


def _export(graph: Graph, path: Path, trained: Trained) -> None:
    """Trace and write the graph, with what it is in its metadata.

    Raises:
        RunError: the exporter cannot.
    """
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                graph.module,
                graph.example(),
                dynamo=True,
                verbose=False,
                input_names=[port.name for port in graph.inputs],
                output_names=[graph.output.name],
                dynamic_shapes=_shapes(graph),
            )
            assert program is not None
            facts = {
                "producer": f"aigc {__version__}",
                "family": trained.recipe.family,
                "recipe": trained.recipe.name,
                "weights": trained.weights,
                "options": json.dumps(trained.recipe.sample.model_dump(mode="json")),
                "classes": json.dumps(graph.classes, ensure_ascii=False),
            }
            program.model.metadata_props.update(facts)
            program.save(path)
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1][:200] if str(error) else type(error).__name__
        raise RunError(f"the exporter of PyTorch cannot trace this model: {reason}") from error


def _shapes(graph: Graph) -> Any:
    varying = graph.varying()
    return varying if len(varying) == 1 and graph.takes_image and graph.classes else (varying,)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _session(path: Path) -> Any:
    """
    Raises:
        RunError: the runtime refuses the file.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise RunError(f"ONNX Runtime cannot open the graph: {str(error)[:200]}") from error


def _answer(session: Any, arrays: Arrays) -> np.ndarray[Any, Any]:
    names = [port.name for port in session.get_inputs()]
    made: np.ndarray[Any, Any] = session.run(None, dict(zip(names, arrays, strict=True)))[0]
    return made


@torch.no_grad()
def check(graph: Graph, path: Path, held_out: Sequence[Probe]) -> dict[str, Any]:
    """How far the runtime is from PyTorch: the largest and the mean difference of values in [0, 1].

    Raises:
        RunError: it cannot run an input, or returns another shape.
    """
    session = _session(path)
    largest, total, count = 0.0, 0.0, 0
    for probe in held_out:
        wanted = graph.module(*probe.inputs).numpy()
        try:
            made = _answer(session, probe.arrays)
        except Exception as error:
            raise RunError(
                f"ONNX Runtime fails on an input of {list(probe.inputs[0].shape)}: "
                f"{str(error)[:200]}"
            ) from error
        if made.shape != wanted.shape:
            raise RunError(f"ONNX Runtime makes {made.shape} of what becomes {wanted.shape} here")
        difference = np.abs(made - wanted)
        largest = max(largest, float(difference.max()))
        total, count = total + float(difference.sum()), count + difference.size
    sizes = sorted({"x".join(map(str, probe.inputs[0].shape)) for probe in held_out})
    return {"largest": largest, "mean": total / count, "inputs": len(held_out), "shapes": sizes}


def quality(graph: Graph, path: Path, held_out: Sequence[Probe]) -> dict[str, float]:
    """What the graph is worth where that is known: PSNR in dB against what should come out, of all
    pixels of 8 bits together, or the share of classes that are right.
    """
    known = [probe for probe in held_out if probe.truth is not None]
    if not known:
        return {}
    session = _session(path)
    made = [_answer(session, probe.arrays) for probe in known]
    if graph.output.name == "probabilities":
        right = [
            int(m.argmax()) == int(p.truth)
            for m, p in zip(made, known, strict=True)
            if p.truth is not None
        ]
        return {"accuracy": sum(right) / len(right)}
    squares = [
        np.square((m * 255).round() - (p.truth.numpy() * 255).round()).ravel()
        for m, p in zip(made, known, strict=True)
        if p.truth is not None and p.truth.shape == m.shape
    ]
    if not squares:
        return {}
    error = float(np.concatenate(squares).mean())
    return {"psnr_rgb": 100.0 if error == 0 else float(10 * np.log10(255**2 / error))}


@torch.no_grad()
def times(graph: Graph, path: Path, probe: Probe) -> dict[str, Any]:
    """Milliseconds of one call, the median of some, taken in turn with PyTorch's."""
    session, arrays = _session(path), probe.arrays
    found: dict[str, list[float]] = {"onnxruntime": [], "pytorch": []}
    for _ in range(REPEATS + 1):
        for name, call in (
            ("onnxruntime", lambda: _answer(session, arrays)),
            ("pytorch", lambda: graph.module(*probe.inputs)),
        ):
            begun = time.perf_counter()
            call()
            found[name].append(1000 * (time.perf_counter() - begun))
    medians = {name: round(float(np.median(each[1:])), 2) for name, each in found.items()}
    return {**medians, "shape": list(probe.inputs[0].shape), "threads": torch.get_num_threads()}


def _quantize(path: Path, out: Path, seen: Sequence[Probe]) -> None:
    """int8 weights and activations, whose ranges are those on a few training inputs."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            names = [port.name for port in _session(path).get_inputs()]
            self.rows = iter([dict(zip(names, probe.arrays, strict=True)) for probe in seen])

        def get_next(self) -> Any:
            return next(self.rows, None)

    ready = out.with_suffix(".tmp")
    with _quietly():
        quant_pre_process(path, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            out,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul"],
        )
    ready.unlink()

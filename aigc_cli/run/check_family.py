"""`aigc model check`: what every family promises, tried on its smallest network and real files.

Each check is a function that returns a sentence of what it saw, or raises `Broken` with a sentence
of what is wrong; whatever else a family raises is told with its file and line.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isclose
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from aigc_cli.data._stream import key_at
from aigc_cli.errors import AigcError, InputError
from aigc_cli.media.image import SUFFIXES, read_image
from aigc_cli.modalities import find_modality
from aigc_cli.models._base import Batch, GenerativeModule, Run, _Noise
from aigc_cli.recipe.example import example_recipe
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.registry import load_family
from aigc_cli.run.build import attach_networks, build
from aigc_cli.run.checkpoint import load_checkpoint
from aigc_cli.run.request import Request
from aigc_cli.run.sample import sample
from aigc_cli.run.train import train
from aigc_cli.specs import spec_from_dict


class Broken(Exception):
    """A promise that is not kept, in one sentence."""


class Skipped(Exception):
    """Why a check does not apply."""


@dataclass(frozen=True)
class Finding:
    """How one check ended."""

    name: str
    status: str
    """ok, failed or skipped."""
    message: str

    def __str__(self) -> str:
        return f"{self.status:<8}{self.name:<14}{self.message}"


@dataclass
class Case:
    """A family with its example; runs are trained when a check first needs them."""

    family: ModuleType
    recipe: Recipe
    folder: Path
    _runs: dict[str, Path] = field(default_factory=dict)

    def build(self) -> tuple[Any, GenerativeModule]:
        """The data, and the model with its initial weights and frozen networks."""
        data, model = build(self.recipe)
        attach_networks(model, self.recipe)
        model.run = Run(self.recipe.trainer, self.recipe.seed, max_steps=1)
        return data, model

    def run(self, name: str, *, resume: bool = False, **trainer: Any) -> Path:
        """The folder of a run of the recipe with other values of its trainer."""
        key = json.dumps([name, trainer])
        if key not in self._runs:
            resolved = self.recipe.as_dict()
            resolved["trainer"] |= trainer
            out = self.folder / "runs" / name
            recipe = recipe_from_dict(resolved)
            self._runs[key] = train(recipe, out=out, resume=str(out) if resume else None).folder
        return self._runs[key]

    @property
    def trained(self) -> str:
        """What `aigc sample` takes: a run of all steps, or the recipe where nothing is trained."""
        if self.recipe.is_trained:
            return str(self.run("whole"))
        path = self.folder / "recipe.yaml"
        path.write_text(json.dumps(self.recipe.as_dict()))
        return str(path)

    def sample(self, out: str, source: str | None = None, **changed: Any) -> dict[str, bytes]:
        """The files of a few samples by name, without the record of them."""
        where = self.folder / out
        request = replace(self.request(), out=where, **changed)
        record = sample(source or self.trained, request, device="cpu")
        return {item["path"]: (where / item["path"]).read_bytes() for item in record["items"]}

    def request(self) -> Request:
        """What the family needs to make something, of files of the modality that it takes."""
        model, nothing = self.family.Model, Request(out=self.folder, overwrite=True)
        if model.takes is None:
            return replace(nothing, count=3)
        place = self.folder / "given"
        place.mkdir(exist_ok=True)
        given = find_modality(model.takes).example_files(place)
        least = 0 if model.training_free is False else model.reference_count[0]
        return replace(nothing, input=given[0], references=(given[-1],) * least)


# -- the checks ------------------------------------------------------------------------------------


def contract(case: Case) -> str:
    """What the classes of the file must have."""
    family = case.family
    wrong = [
        f"{section.__name__}.{name} has no text under it"
        for section in (family.Config, family.Options)
        for name, one in section.model_fields.items()
        if not one.description
    ]
    for section in (family.Config, family.Options):
        section()  # every field has a default
    for name in ("accepts", "metrics", "averaged"):
        if not hasattr(family.Model, name) and not family.Model.training_free:
            wrong.append(f"Model.{name} is missing")
    if wrong:
        raise Broken("; ".join(wrong))
    fields = len(family.Config.model_fields) + len(family.Options.model_fields)
    return f"Config, Options and Model, {fields} documented keys"


def building(case: Case) -> str:
    """The initial weights follow from the seed, and the spec goes through a checkpoint."""
    (data, model), (_, again) = case.build(), case.build()
    _same(model.state_dict(), again.state_dict(), "built twice from one seed")
    if spec_from_dict(json.loads(json.dumps(data.spec.as_dict()))) != data.spec:
        raise Broken(f"{type(data.spec).__name__} is another one after it was written and read")
    if missing := sorted(set(model.averaged) - set(model.networks())):
        raise Broken(f"Model.averaged names {missing[0]!r}, which is no network with weights")
    return f"{sum(p.numel() for p in model.parameters()):,} weights, on data of {data.spec.kind}"


def gradients(case: Case) -> str:
    """Every weight has an optimizer, and a gradient of some loss."""
    data, model = case.build()
    made = model.configure_optimizers()
    optimizers: list[Any] = made if isinstance(made, list) else [made]
    owned = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in learned.items():
        if owned.count(id(parameter)) != 1:
            raise Broken(f"{name} is in {owned.count(id(parameter))} optimizers, not in one")
    phases = model.phases()
    if unknown := {phase.optimizer for phase in phases} - set(range(len(optimizers))):
        raise Broken(f"a phase uses optimizer {min(unknown)}, and there are {len(optimizers)}")
    for terms in _losses(model, data):
        terms["loss"].backward()
    for name, parameter in learned.items():
        if parameter.grad is None or not parameter.grad.abs().sum() > 0:
            raise Broken(f"{name} receives no gradient")
    return f"{len(learned)} tensors of weights, {len(phases)} phases"


def purity(case: Case) -> str:
    """The loss follows from weights, batch and seed."""
    (data, one), (_, other) = case.build(), case.build()
    terms = 0
    for first, second in zip(_losses(one, data), _losses(other, data), strict=True):
        _same(first, second, "computed twice")
        for name, value in first.items():
            if not value.isfinite().all():
                raise Broken(f"loss term {name!r} is {value.tolist()} in the first step")
        terms += len(first)
    return f"{terms} loss terms are the same again, and finite"


def validation(case: Case) -> str:
    """`evaluate_batch` has a value for each item under each promised name."""
    data, model = case.build()
    items = [data.val[i] for i in range(min(data.val_batch_size or 2, 2, len(data.val)))]
    batch = getattr(data.val, "collate", default_collate)(items)
    with torch.no_grad():
        values = model.eval().evaluate_batch(batch)
    promised = set(model.counted or model.metrics)
    if set(values) != promised:
        raise Broken(f"evaluate_batch returns {_names(values)}, promised are {_names(promised)}")
    for name, value in values.items():
        if value.shape != (len(items),):
            raise Broken(f"{name!r} has shape {tuple(value.shape)} for {len(items)} items")
    means = model.summarize({name: float(value.double().mean()) for name, value in values.items()})
    if missing := set(model.metrics) - set(means):
        raise Broken(f"summarize returns no {_names(missing)}")
    return f"{_names(model.metrics)} of each item"


def accumulation(case: Case) -> str:
    """A batch in two parts gives the step of the whole batch."""
    _, model = case.build()
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise Skipped("batch normalization sees one part at a time")
    settings: dict[str, Any] = {"max_steps": 1, "global_batch": 4, "clip_norm": 1e6}
    whole = _first_row(case.run("at once", **settings))
    parts = _first_row(case.run("in parts", accumulate=2, **settings))
    for key, value in whole.items():
        summed = key == "train/loss" or key.endswith(("_loss", "grad_norm"))
        if summed and not isclose(value, parts[key], rel_tol=1e-3, abs_tol=1e-5):
            raise Broken(f"{key} is {value:.6g} at once and {parts[key]:.6g} in two parts")
    return "4 items at once are 2 and 2"


def resuming(case: Case) -> str:
    """A run that was cut and continued has the bits of the whole one."""
    whole = load_checkpoint(case.run("whole") / "checkpoints/last.ckpt")
    case.run("cut", max_steps=2)
    cut = load_checkpoint(case.run("cut", resume=True) / "checkpoints/last.ckpt")
    for part in ("step", "weights", "ema", "optimizers"):
        _same(whole[part], cut[part], part)
    return f"{whole['step']} steps are 2 and {whole['step'] - 2}, bit for bit"


def sampling(case: Case) -> str:
    """The same seed gives the same files, another one others."""
    first = case.sample("first")
    if not first:
        raise Broken("nothing was written")
    if different := [name for name, data in case.sample("again").items() if first[name] != data]:
        raise Broken(f"{different[0]} is another one with the same seed")
    images = {name: _pixels(name, first[name]) for name in first if Path(name).suffix in SUFFIXES}
    drawn = case.family.Model.takes is None and bool(images)  # texts may be the same, greedily
    if drawn:
        other = case.sample("other", seed=1)
        if all(pixels == _pixels(name, other[name]) for name, pixels in images.items()):
            raise Broken("the same with seed 0 and seed 1")
    return f"{len(first)} files, the same again" + (", others with another seed" if drawn else "")


def batch_sizes(case: Case) -> str:
    """Samples do not depend on those made beside them."""
    together, alone = case.sample("together"), case.sample("alone", batch_size=1)
    for name, data in together.items():
        if not _alike(name, data, alone[name]):
            raise Broken(f"{name} is another one when it is made alone")
    return "made together or one by one"


def checkpoint(case: Case) -> str:
    """The checkpoint alone makes the same, without its run and its data."""
    first = case.sample("first")
    moved = case.folder / "moved.ckpt"
    shutil.copyfile(Path(case.trained) / "checkpoints/best.ckpt", moved)
    shutil.move(case.folder / "data", case.folder / "hidden")
    try:
        again = case.sample("moved", str(moved))
    finally:
        shutil.move(case.folder / "hidden", case.folder / "data")
    if again != first:
        raise Broken("samples of the copied checkpoint are others than those of the run")
    return "one file makes the same samples, without run and data"


UNTRAINED: dict[str, Callable[[Case], str]] = {"contract": contract, "sampling": sampling}
CHECKS: dict[str, Callable[[Case], str]] = {
    "contract": contract,
    "building": building,
    "gradients": gradients,
    "loss": purity,
    "validation": validation,
    "accumulation": accumulation,
    "resuming": resuming,
    "sampling": sampling,
    "batch size": batch_sizes,
    "checkpoint": checkpoint,
}


def check_family(name: str, folder: Path) -> Iterator[Finding]:
    """Each check in turn; what they write lies below `folder`.

    Raises:
        InputError: the family is unknown, its file cannot be imported, or nothing is there to train
            on.
    """
    family = load_family(name)
    case = Case(family, example_recipe(name, folder / "data"), folder)
    for title, check in (CHECKS if case.recipe.is_trained else UNTRAINED).items():
        yield _tried(title, check, case)


def _tried(title: str, check: Callable[[Case], str], case: Case) -> Finding:
    try:
        return Finding(title, "ok", check(case))
    except Skipped as reason:
        return Finding(title, "skipped", str(reason))
    except (Broken, AigcError) as error:
        return Finding(title, "failed", str(error))
    except Exception as error:  # the family's own, of any type
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Finding(title, "failed", f"{_place(error, case.family)}{what}")


class BrokenFamilyError(InputError):
    """Some checks of a family failed; each is told beside this."""

    code = "broken_family"


# -- helpers ---------------------------------------------------------------------------------------


def _losses(model: GenerativeModule, data: Any) -> Iterator[dict[str, torch.Tensor]]:
    """The terms of each phase for the first two training items."""
    assert model.run is not None
    torch.manual_seed(0)
    batch = model.expand(_batch(data, 2))
    for number, phase in enumerate(model.phases()):
        model._noise = _Noise(number, model.run, torch.device("cpu"))
        yield phase.loss(batch)


def _batch(data: Any, count: int) -> Batch:
    train = data.train
    keys = [key_at(0, position, len(train)) for position in range(count)]
    several = getattr(train, "__getitems__", lambda keys: [train[key] for key in keys])
    batch: Batch = getattr(train, "collate", default_collate)(several(keys))
    return batch


def _first_row(run: Path) -> dict[str, float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return next(row for row in rows if "train/loss" in row or row.get("event") == "step")


def _same(one: Any, other: Any, where: str) -> None:
    """Raises: Broken, with the first place that differs."""
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            raise Broken(f"{where}: {_names(one.keys() ^ other.keys())} only once")
        for key in one:
            _same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            _same(a, b, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor):
        if not torch.equal(one, other):
            raise Broken(f"{where} differs by {(one.double() - other.double()).abs().max():.3g}")
    elif one != other:
        raise Broken(f"{where} is {one}, then {other}")


def _pixels(name: str, data: bytes) -> bytes:
    """What an image shows, without the record of how it was made, which holds the seed."""
    return read_image(data, name=name).pixels.tobytes()


def _alike(name: str, one: bytes, other: bytes) -> bool:
    """Whether two files are equal; images may differ by the rounding of one level."""
    if one == other or Path(name).suffix not in SUFFIXES:
        return one == other
    a, b = (read_image(data, name=name).pixels.astype(int) for data in (one, other))
    return a.shape == b.shape and abs(a - b).max() <= 1


def _names(names: Any) -> str:
    return ", ".join(sorted(map(str, names)))


def _place(error: Exception, family: ModuleType) -> str:
    """`FILE:LINE: ` of the last frame that lies in the family's file, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == family.__file__]
    return f"{family.__file__}:{lines[-1]}: " if lines else ""

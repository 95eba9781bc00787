"""A step of every text family is the same however its batch is spread over parts and devices, and a
step of any family when memory makes the parts smaller.

Rows have unequal numbers of supervised tokens, and some parts have none at all.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.models._base import Batch, GenerativeModule, Run
from aigc_cli.recipe.sections import Trainer
from aigc_cli.registry import load_family
from aigc_cli.run.iteration import Iteration
from aigc_cli.specs.text import IGNORE, TextPairSpec
from tests.models.test_families import TRAINED, batch_for, build

TEXTS = [name for name in TRAINED if load_family(name).Model.makes == "text"]
LENGTHS = (7, 1, 0, 0, 5, 3, 6, 2)  # supervised tokens of each row
LORA = {"lora": {"rank": 2}}
SCST: dict[str, Any] = {"rewards": {"token_f1": 1.0}, "samples": 2}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in TEXTS),
    ("lm", {"arch": "classic"}),
    ("chat", LORA),
    ("dpo", {"objective": "ipo", "length_normalized": True, "nll": 1.0}),
    ("grpo", {"normalizer": "grpo", "beta": 0.1}),
    ("grpo", {"normalizer": "dr_grpo"}),
    ("seq2seq", {"teacher_forcing": 0.5, "label_smoothing": 0.1}),
    ("seq2seq", {"arch": "transformer"}),
    ("seq2seq", SCST),
    ("text_vae", {"free_bits": 0.02, "word_dropout": 0.2}),
]


def made(family: str, config: dict[str, Any], *, parts: int, rank: int, world: int) -> Iteration:
    """A model before its first step."""
    model = build(load_family(family), **config)
    settings = Trainer(max_steps=9, global_batch=8, accumulate=parts)
    model.prepare(Run(settings, seed=0, max_steps=9, rank=rank, world=world))
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    return Iteration(model, [optimizer])


def ragged(model: GenerativeModule, lengths: tuple[int, ...] = LENGTHS) -> Batch:
    """A row for each of `lengths`."""
    batch = batch_for(model, count=len(lengths))
    for key in (key for key in batch if "target" in key):
        if isinstance(model.spec, TextPairSpec):  # longer, the same words again
            batch[key] = torch.cat([batch[key][:, :1], batch[key][:, 1:4].repeat(1, 3)], 1)
        for row, n in zip(batch[key], lengths, strict=True):
            if isinstance(model.spec, TextPairSpec):
                row[1 + n :] = 0  # padding
                row[n] = 2 if n else 1  # end, or only the beginning
            else:
                row[(row != IGNORE).nonzero()[n:]] = IGNORE
    return batch


def gradients(model: GenerativeModule) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {name: torch.zeros(()) if g is None else g.clone() for name, g in found.items()}


@pytest.mark.parametrize(("family", "config"), VARIANTS)
def test_parts_and_devices_have_the_gradient_of_the_whole(
    family: str, config: dict[str, Any]
) -> None:
    """8 x 1 = 4 x 2 = 2 devices of 2 x 2; DDP takes the mean of the gradients of its devices."""
    whole = made(family, config, parts=1, rank=0, world=1)
    batch = ragged(whole.model)
    whole(batch)
    expected = gradients(whole.model)
    assert any(g.abs().sum() > 0 for g in expected.values())

    for parts in (4, 8):
        cut = made(family, config, parts=parts, rank=0, world=1)
        cut(batch)
        close(gradients(cut.model), expected)
        weights = (dict(step.model.named_parameters()) for step in (cut, whole))
        close(*weights, atol=1e-3)
        close(cut.terms, whole.terms, only="loss")

    devices = Devices()
    steps = [made(family, config, parts=2, rank=rank, world=2) for rank in range(2)]
    halves = [{key: rows.chunk(2)[rank] for key, rows in batch.items()} for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(devices.step, steps, halves, range(2)))
    one, two = (gradients(step.model) for step in steps)
    close({name: (g + two[name]) / 2 for name, g in one.items()}, expected)


class Devices:
    """Two devices, which are threads."""

    def __init__(self) -> None:
        self.barrier = Barrier(2, timeout=30)
        self.given: dict[int, Tensor] = {}

    def step(self, step: Iteration, batch: Batch, rank: int) -> None:
        model = step.model
        model.over_devices = lambda own: sum(self.gathered(own, rank))  # type: ignore
        model.all_gather = lambda own: torch.cat(self.gathered(own, rank))  # type: ignore
        step(batch)

    def gathered(self, own: Tensor, rank: int) -> list[Tensor]:
        self.given[rank] = own.detach()
        self.barrier.wait()
        found = [self.given[0], self.given[1]]
        self.barrier.wait()
        return found


def close(
    found: dict[str, Any], expected: dict[str, Any], *, atol: float = 1e-6, only: str = ""
) -> None:
    for name, value in expected.items():
        if not only or name == only:
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=atol, msg=name)


@pytest.mark.parametrize(("family", "config"), VARIANTS)
def test_a_batch_without_supervised_tokens_changes_nothing(
    family: str, config: dict[str, Any]
) -> None:
    """Not even by decay or by what the optimizer remembers; and nothing becomes NaN."""
    step = made(family, config, parts=2, rank=0, world=1)
    model = step.model
    step(ragged(model))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = model.expand(ragged(model, (0,) * 8))
    for key, nothing in (("target", IGNORE), ("drawn", 0)):
        if key in batch and not (key == "target" and isinstance(model.spec, TextPairSpec)):
            batch[key] = torch.full_like(batch[key], nothing)
    model.expand = lambda batch: batch  # type: ignore[method-assign]
    step(batch)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(value.isfinite().all() for value in step.terms.values())
    assert all(g.isfinite().all() for g in gradients(model).values())


class Cramped:
    """Losses of a model in memory for `most` items at once; the rest is MemoryError, half-way."""

    def __init__(self, model: GenerativeModule, most: int, error: Exception) -> None:
        self.loss, self.most, self.error, self.failed = model.loss, most, error, 0
        model.loss = self  # type: ignore[method-assign,assignment]

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        terms = self.loss(batch)
        if len(next(iter(batch.values()))) > self.most:
            terms["loss"].backward()  # type: ignore[no-untyped-call]
            self.failed += 1
            raise self.error
        return terms


@pytest.mark.parametrize("family", ["edsr", "flow", "lm", "music_lm"])
@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")], ids=["cpu", "cuda"]
)
def test_a_step_out_of_memory_is_done_again_in_smaller_parts(family: str, error: Exception) -> None:
    """With the weights and means of a run that had them from the beginning."""
    small, cramped = (made(family, {}, parts=parts, rank=0, world=1) for parts in (4, 1))
    batch = batch_for(small.model, count=8)
    memory = Cramped(cramped.model, 2, error)
    for _ in range(2):
        for step in (small, cramped):
            step(batch)
        close(cramped.terms, small.terms)
    assert memory.failed == 2, "parts of 8 and of 4, in the first step alone"
    assert cramped.run.trainer.accumulate == 4
    close(*(step.model.state_dict() for step in (cramped, small)))


def test_memory_that_a_single_item_exhausts_ends_the_run() -> None:
    step = made("edsr", {}, parts=1, rank=0, world=1)
    Cramped(step.model, 0, MemoryError())
    with pytest.raises(MemoryError):
        step(batch_for(step.model, count=8))
    assert step.run.trainer.accumulate == 8

"""One training iteration of any family, whatever it optimizes.

Accumulation, clipping, schedules, moving average and the guard exist once and mean the same with
one optimizer or several, in float16 and on many devices. It is plain torch: run/training.py hands
it what Lightning knows of devices and precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from aigc_cli.errors import DivergedError, out_of_memory
from aigc_cli.models._base import Batch, GenerativeModule, Phase, Terms
from aigc_cli.nn.schedule import lr_multiple


class Iteration:
    """Call it with a batch: it takes one step of every phase. `terms` are the means of the last.

    backward: of a loss term, where a strategy must know of it. no_sync: inside, devices do not
    exchange gradients. autocast: inside, losses are computed, and nothing else. scaler: of losses
    in float16.
    """

    def __init__(
        self,
        model: GenerativeModule,
        optimizers: Sequence[Optimizer],
        *,
        backward: Callable[[Tensor], None] = Tensor.backward,
        no_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
        scaler: GradScaler | None = None,
    ) -> None:
        if model.run is None:
            raise RuntimeError("prepare(run) must come before training")
        self.model, self.run, self.optimizers = model, model.run, optimizers
        self.terms: Terms = {}
        self._backward, self._no_sync, self._scaler = backward, no_sync, scaler
        self._autocast = autocast
        self._seen: list[tuple[str, int, Tensor]] = []
        """Terms of the step in progress: name, how many such make the mean, value."""
        self._guard: dict[tuple[str, ...], Tensor] = {}
        """By the names of a step's terms: the first step in which each was not finite."""
        self._phase = 0

    def __call__(self, batch: Batch) -> None:
        model = self.model
        model.before_step(batch)
        model.seed_step()
        self.terms, self._seen = {}, []
        with self._autocast():
            expanded = model.expand(batch)
        batches = list(_cut(expanded, model.batches_per_step))
        phases = model.phases()
        repeats = Counter(phase.prefix for phase in phases)
        for number, phase in enumerate(phases):
            self._phase = number
            model.start_phase(number)
            self._optimize(phase, batches[min(number, len(batches) - 1)], repeats[phase.prefix])
        model.end_phases()
        self._take_means()
        if model.device.type == "cpu":
            self.raise_if_diverged()  # free here; on a GPU it waits for the device, so less often
        if model.ema is not None:
            model.ema.update(model.step)
        model.step += 1
        model.after_step(batch)

    def _optimize(self, phase: Phase, batch: Batch, repeats: int) -> None:
        """One optimizer step; the terms of all `repeats` of a phase are averaged."""
        model, trainer = self.model, self.run.trainer
        optimizer = self.optimizers[phase.optimizer]
        rate = lr_multiple(trainer.schedule, model.step, self.run.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
        weight = model.weight(batch)
        if weight is not None:
            weight = model.over_devices(weight.detach().double())
        with self._only(optimizer) if len(self.optimizers) > 1 else nullcontext():
            while not self._accumulated(optimizer, phase, batch, weight, repeats):
                pass
        if weight is None or weight > 0:
            self._step(optimizer)

    def _accumulated(
        self, optimizer: Optimizer, phase: Phase, batch: Batch, weight: Tensor | None, repeats: int
    ) -> bool:
        """Leave the gradients of the batch. False where memory was exhausted: all is as it was
        before, but for the parts, which are smaller now.

        Raises: the error of exhausted memory, where parts are single items or others would wait.
        """
        model, run = self.model, self.run
        parts = run.trainer.accumulate
        alone = run.world == 1
        more = _more_parts(len(next(iter(batch.values()))), parts) if alone else None
        known = len(self._seen)
        buffers = [] if more is None else [(b, b.clone()) for b in model.buffers()]
        if weight is not None:
            model.mean_weight = weight.clamp(min=1) / (parts * run.world)
        optimizer.zero_grad(set_to_none=True)
        try:
            for number, part in enumerate(_cut(batch, parts)):
                model.start_part(number)
                with nullcontext() if number == parts - 1 else self._no_sync():
                    with self._autocast():
                        terms = phase.loss(part)
                    for name, value in terms.items():
                        seen = (phase.prefix + name, parts * repeats, value.detach().float())
                        self._seen.append(seen)
                    self._backward(terms["loss"] / parts)
            return True
        except Exception as error:
            if more is None or not out_of_memory(error, ""):
                raise
        # Here the error is gone, and with its frames all that the failed part held.
        optimizer.zero_grad(set_to_none=True)
        del self._seen[known:]
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        trainer = run.trainer.model_copy(update={"accumulate": more})
        self.run = model.run = replace(run, trainer=trainer)
        model.seed_step()
        model.start_phase(self._phase)
        return False

    def _step(self, optimizer: Optimizer) -> None:
        """Clip, and move the weights; with a scaler only where no gradient overflowed."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        if (clip := self.run.trainer.clip_norm) is not None:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(params, clip).detach()
            self.terms["grad_norm"] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()

    @contextmanager
    def _only(self, optimizer: Optimizer) -> Iterator[None]:
        """Only the optimizer's own weights ask for gradients inside."""
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        others = [p for p in self.model.parameters() if p.requires_grad and id(p) not in own]
        for param in others:
            param.requires_grad_(False)
        try:
            yield
        finally:
            for param in others:
                param.requires_grad_(True)

    def _take_means(self) -> None:
        """The means of the terms that were seen; and look for NaN, in all of them at once."""
        if not self._seen:
            return
        names, of, values = zip(*self._seen, strict=True)
        found = torch.stack(values)  # (terms * parts,)
        first = self._guard.get(names)
        first = torch.full_like(found, torch.inf) if first is None else first
        self._guard[names] = first.where(found.isfinite(), first.clamp(max=self.model.step))
        for name, parts, value in zip(names, of, found.unbind(), strict=True):
            share = value / parts if parts > 1 else value
            self.terms[name] = self.terms[name] + share if name in self.terms else share

    def raise_if_diverged(self) -> None:
        """Stop at the first NaN or Inf of any loss term.

        Raises:
            DivergedError: with the step and the name of the earliest term that was not finite.
        """
        if not any(first.isfinite().any() for first in self._guard.values()):
            return
        step, name = min(
            found
            for names, first in self._guard.items()
            for found in zip(first.tolist(), names, strict=True)
        )
        rates = [group["lr"] for o in self.optimizers for group in o.param_groups]
        raise DivergedError(
            f"loss term '{name}' became NaN or Inf in step {int(step) + 1} (lr {max(rates):.3g})",
            hint="lower model.lr, add trainer.schedule.warmup or trainer.clip_norm; "
            "the last checkpoint is from before that step",
        )


def _more_parts(items: int, parts: int) -> int | None:
    """The next number of equal parts, twice as many where that divides; None: they are items."""
    return next((more for more in range(2 * parts, items + 1) if items % more == 0), None)


def _cut(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch in equal parts along its first dimension."""
    if parts == 1:
        yield batch
        return
    cut = {key: value.chunk(parts) for key, value in batch.items()}
    for number in range(parts):
        yield {key: value[number] for key, value in cut.items()}

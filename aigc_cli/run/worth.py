"""Whether a run ends far worse than it began, or than answers that need no model."""

from __future__ import annotations

import math
from typing import Literal

import torch

from aigc_cli.models._base import GenerativeModule
from aigc_cli.run.loaders import Loaders
from aigc_cli.run.validation import evaluated

Values = dict[str, float]


def first_batch_values(
    model: GenerativeModule, loaders: Loaders, monitor: str, *, baselines: bool = False
) -> Values:
    """The monitored metric of the first validation batch by who answers it: "" is the model, with
    its averaged weights; the others are the family's baselines.
    """
    batch = next(iter(loaders.validation()))
    found: Values = {}
    model.eval()
    model.start_means()
    try:
        # Not inference mode, whose tensors fsdp could not train with afterwards.
        with model.averaged_weights(), torch.no_grad():
            columns = {"": evaluated(model, batch)}
            if baselines:
                columns |= model.baselines({k: v.to(model.device) for k, v in batch.items()})
    finally:
        model.train()
    for name, values in columns.items():
        means = {key: float(value.double().mean()) for key, value in values.items()}
        if monitor not in means:
            means = model.summarize(means)
        if monitor in means:
            found[name] = means[monitor]
    return found


def far_worse(value: float, other: float, direction: Literal["max", "min"]) -> bool:
    """Whether a value is worse than another one by more than half of it; NaN is worse than any
    number, and nothing is worse than 0 or NaN.
    """
    if math.isnan(other) or other == 0:
        return False
    if math.isnan(value):
        return True
    loss = other - value if direction == "max" else value - other
    return loss > abs(other) / 2


def strange_start(trained: float, began: float, step: int) -> str | None:
    """The sentence that weights that were trained before meet what they were not trained for: the
    training loss of the first row is far above the validation loss before the first step.
    """
    if not far_worse(trained, began, "min"):
        return None
    return (
        f"step {step:,}: the training loss is {trained:.4g}, and the validation loss was "
        f"{began:.4g} before the first step: dropout, augmentation or the training data do not "
        "suit the weights of init_from, or the learning rate is too high"
    )


def verdict(
    metric: str, direction: Literal["max", "min"], values: Values, began: float | None
) -> str | None:
    """The sentence that says so, of `first_batch_values` at the end and the value before the first
    step; None where the run is not far worse.
    """
    if "" not in values:
        return None
    ended = values[""]
    if began is not None and far_worse(ended, began, direction):
        return (
            f"the run ends worse than it began: {metric} is {ended:.4g}, and was {began:.4g} "
            "before the first step"
        )
    for name, value in values.items():
        if name and far_worse(ended, value, direction):
            return (
                f"the run ends far worse than without a model: {metric} is {ended:.4g}, and "
                f"'{name}' has {value:.4g}"
            )
    return None

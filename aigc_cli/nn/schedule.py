"""Learning-rate schedules as pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math

from aigc_cli.recipe.sections import Schedule


def lr_multiple(schedule: Schedule, step: int, max_steps: int) -> float:
    """Multiple of the base rate used in training iteration `step`, counted from 0.

    Warm-up rises linearly and reaches 1 in its last step. The decays of `cosine` (Loshchilov and
    Hutter, 2017) and `linear` begin at `start * max_steps` and reach `final` at `max_steps`; late,
    `linear` is the warm-up-stable-decay of Hu et al., 2024, https://arxiv.org/abs/2404.06395.
    `inverse_sqrt` is that of Vaswani et al., 2017, section 5.3, times a constant.
    """
    warm = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    match schedule.name:
        case "constant":
            return warm
        case "step":
            return warm * schedule.gamma ** (step // schedule.every)
        case "inverse_sqrt":
            return min(warm, (max(1, schedule.warmup) / (step + 1)) ** 0.5)
    begin = max(schedule.warmup, schedule.start * max_steps)
    done = min(1.0, max(0.0, (step - begin) / max(1.0, max_steps - begin)))
    left = 1 - done if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return warm * (schedule.final + (1 - schedule.final) * left)

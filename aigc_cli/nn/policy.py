"""Policy gradients for texts: advantages of samples of one prompt, and what is minimized.

Group-relative advantages and the k3 estimate of Shao et al., 2024 (GRPO),
https://arxiv.org/abs/2402.03300; advantages without the deviation and the constant divisor of Liu
et al., 2025 (Dr. GRPO), https://arxiv.org/abs/2503.20783; the higher upper bound and the mean over
all tokens of Yu et al., 2025 (DAPO), https://arxiv.org/abs/2503.14476; the leave-one-out baseline
of Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740; the ratio and its clip of Schulman et
al., 2017 (PPO), https://arxiv.org/abs/1707.06347.

Letters: B prompts, G samples of each, N = B G samples, T tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-4
"""Added to the standard deviation of rewards that are divided by it."""


def group_advantages(rewards: Tensor, *, scale: bool) -> Tensor:
    """Rewards (B, G) minus the mean of their prompt; `scale` divides by its standard deviation
    (unbiased).
    """
    centered = rewards - rewards.mean(1, keepdim=True)
    return centered / (rewards.std(1, keepdim=True) + EPSILON) if scale else centered


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Rewards (B, G) minus the mean of the other samples of their prompt; G > 1."""
    G = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (G / (G - 1))


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """-min(ratio A, clip(ratio, 1 - low, 1 + high) A) for log-probabilities (N, T) and advantages
    (N, 1); also where the clip took the gradient away.
    """
    ratio = (log_probs - old_log_probs).exp()
    free, held = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(free, held), held < free


def k3_divergence(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Estimate of KL(policy || reference) from the policy's own tokens: unbiased, never negative.

    Schulman, 2020, http://joschu.net/blog/kl-approx.html
    """
    difference = reference_log_probs - log_probs
    return difference.exp() - difference - 1


def normalize(
    losses: Tensor,
    mask: Tensor,
    how: Literal["grpo", "dr_grpo", "dapo"],
    *,
    max_tokens: int,
    mean_tokens: Tensor | float,
) -> Tensor:
    """One number from the losses (N, T) of the tokens where the mask (N, T) is 1.

    grpo: the mean of each sample, then of the samples, so that tokens of long answers count less;
    dr_grpo: the sum divided by N `max_tokens`; dapo: the sum divided by `mean_tokens`, the active
    tokens of an average part of the whole batch, so that every token counts the same.
    """
    sums, N = (losses * mask).sum(1), len(losses)
    if how == "grpo":
        return (sums / mask.sum(1).clamp(min=1)).mean()
    return sums.sum() / (N * max_tokens if how == "dr_grpo" else mean_tokens)

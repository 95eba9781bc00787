"""Language model: texts, and continuations of texts, by a decoder-only Transformer.

llama: the layout of Llama and Qwen3. classic: that of GPT-2 with the training of nanoGPT
(Karpathy, 2022), whose published losses it reproduces. Papers in nn/causal_lm.py. AdamW is
Loshchilov and Hutter's, 2019, https://arxiv.org/abs/1711.05101.
"""

from __future__ import annotations

from pydantic import Field

from aigc_cli.models.text._causal import CausalConfig, CausalDecoding, CausalModule
from aigc_cli.recipe.dial import Dial
from aigc_cli.specs.text import TextSpec

DIAL = Dial(
    goals=("continue", "generate"),
    sizes=tuple(
        {
            "data.context": context, "model.dim": D, "model.num_layers": layers,
            "model.num_heads": D // 32,
        }
        for context, D, layers in ((64, 64, 2), (64, 128, 4), (128, 192, 4), (256, 256, 6))
    ),
    steps=1200,
    always={
        "model.qk_norm": True, "model.dropout": 0.1, "model.lr": 1e-3, "model.weight_decay": 0.1,
        "trainer.global_batch": 16, "trainer.clip_norm": 1.0, "trainer.precision": "fp32",
    },
    averaged=False,
)  # fmt: skip


class Config(CausalConfig):
    """The network and its training; the defaults train on a CPU."""


class Model(CausalModule):
    """Learns running text."""

    accepts = (TextSpec,)


class Options(CausalDecoding):
    """How texts are continued."""

    temperature: float = Field(0.8, ge=0, le=100)
    """0 always takes the likeliest token; 1 draws from the model's probabilities."""

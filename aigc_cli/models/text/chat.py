"""Chat: a language model learns to answer, from conversations; all its weights, or LoRA.

Supervised fine-tuning: cross-entropy of the assistant's turns and of the token that ends them, so
that the model learns to stop; what others say is read and not learned. Its start is `init_from`: a
model of the family lm, or a folder of Hugging Face's transformers (Llama, Qwen2, Qwen3, GPT-2).
LoRA is Hu et al.'s, 2022, https://arxiv.org/abs/2106.09685, see nn/lora.py.
"""

from __future__ import annotations

from pydantic import Field

from aigc_cli.models._base import Batch, Example
from aigc_cli.models.text._causal import CausalDecoding
from aigc_cli.models.text._tuned import TunedConfig, TunedModule
from aigc_cli.recipe.dial import Dial
from aigc_cli.specs.text import ChatSpec

DIAL = Dial(
    goals=("chat",),
    sizes=tuple(
        {
            "data.context": context, "model.dim": D, "model.num_layers": layers,
            "model.num_heads": D // 32,
        }
        for context, D, layers in ((128, 64, 2), (256, 128, 4), (256, 256, 6))
    ),
    steps=800,
    always={
        "model.qk_norm": True, "model.dropout": 0.1, "model.lr": 1e-3,
        "trainer.global_batch": 8, "trainer.clip_norm": 1.0, "trainer.precision": "fp32",
    },
    averaged=False,
    starts={
        "smollm2": Dial(
            goals=("chat",),
            sizes=({"data.context": 256},),
            steps=40,
            always={
                "model.lr": 2e-4, "model.lora": {"rank": 8}, "trainer.global_batch": 4,
                "trainer.clip_norm": 1.0,
            },
            averaged=False,
            validations=3,
        ),
    },
)  # fmt: skip


class Config(TunedConfig):
    """The network and its training; sizes are those of `init_from` where it is given."""

    lr: float = Field(2e-5, gt=0, le=1)
    """Learning rate before the schedule; with LoRA about 2e-4."""


class Model(TunedModule):
    """Learns the assistant's part of conversations."""

    accepts = (ChatSpec,)

    def example(self, batch: Batch, options: Options) -> Example:
        return self.answered(batch["tokens"][0], batch["target"][0])


class Options(CausalDecoding):
    """How it answers."""

    temperature: float = Field(0.7, ge=0, le=100)
    """0 always takes the likeliest token; 1 draws from the model's probabilities."""

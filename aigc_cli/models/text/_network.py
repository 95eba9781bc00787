"""Sizes of a decoder-only network, shared by all families that train one: lm, chat, dpo, grpo.

Fields that a recipe with `init_from` leaves out are those of the model it starts from
(run/weights.py), so no size is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from aigc_cli.nn.causal_lm import GPT2, CausalLM, Llama
from aigc_cli.recipe.sections import Section


class NetworkConfig(Section):
    """The layout of the network and its sizes."""

    TINY: ClassVar[Mapping[str, Any]] = {"dim": 16, "num_layers": 2, "num_heads": 2}
    FEW: ClassVar[Mapping[str, Any]] = {"dim": 128, "num_layers": 4}

    arch: Literal["llama", "classic"] = "llama"
    """llama: that of Llama, Qwen2, Qwen3 and Gemma; classic: that of GPT-2."""
    dim: int = Field(256, gt=0)
    """Features of a token."""
    num_layers: int = Field(6, gt=0)
    """Blocks."""
    num_heads: int = Field(4, gt=0)
    """Attention heads of a block."""
    num_kv_heads: int | None = Field(None, gt=0)
    """llama: heads of keys and values, which those of queries share; num_heads when not given."""
    head_dim: int | None = Field(None, gt=0, multiple_of=2)
    """llama: features of a head; dim / num_heads when not given."""
    hidden_dim: int | None = Field(None, gt=0)
    """llama: features inside the feed-forward; 8/3 dim, rounded up to a multiple of 64, when not
    given. classic has 4 dim.
    """
    qk_norm: bool = False
    """llama: normalize queries and keys, as Qwen3 does."""
    qkv_bias: bool = False
    """llama: biases of queries, keys and values, as Qwen2 has."""
    gate: Literal["silu", "gelu_tanh"] = "silu"
    """llama: of the feed-forward; Gemma has gelu_tanh."""
    scaled_embeddings: bool = False
    """llama: multiply what is read by the root of dim, as Gemma does."""
    rope_theta: float = Field(10_000.0, gt=0)
    """llama: slowest wavelength of the rotary positions is 2 pi times this."""
    tied: bool = True
    """llama: the head is the embedding; classic always does so."""
    bias: bool = False
    """classic: biases of linear layers and normalizations; GPT-2 has them, nanoGPT has not."""
    gelu: Literal["exact", "tanh"] = "exact"
    """classic: the activation; GPT-2 has tanh."""
    eps: float = Field(1e-5, gt=0)
    """Added to the variance in normalizations."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Part of embeddings, attention and residual sums that is zeroed while training."""

    @property
    def attends(self) -> bool:
        """Whether the network has attention heads."""
        return True

    @model_validator(mode="after")
    def _heads_fit(self) -> NetworkConfig:
        if not self.attends:
            return self
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of num_heads ({self.num_heads})")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads "
                f"({self.num_kv_heads})"
            )
        return self


def sizes(config: NetworkConfig) -> dict[str, Any]:
    """All fields of the network and no others, those not given filled in."""
    c = config
    return {name: getattr(c, name) for name in NetworkConfig.model_fields} | {
        "num_kv_heads": c.num_kv_heads or c.num_heads,
        "head_dim": c.head_dim or c.dim // c.num_heads,
        "hidden_dim": c.hidden_dim or -(-8 * c.dim // (3 * 64)) * 64,
    }


def build_network(config: NetworkConfig, vocab_size: int, context: int) -> CausalLM:
    """The network with its initial weights."""
    network, names = (Llama, _LLAMA) if config.arch == "llama" else (GPT2, _CLASSIC)
    given = {name: value for name, value in sizes(config).items() if name in names}
    return network(vocab_size, context, **given)


_CLASSIC = {"dim", "num_layers", "num_heads", "bias", "gelu", "eps", "dropout"}
_LLAMA = NetworkConfig.model_fields.keys() - {"arch", "bias", "gelu"}

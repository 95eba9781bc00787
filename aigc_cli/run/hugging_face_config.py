"""What a config.json of `transformers` may say, checked whole before any weight is read.

Keys that do not change what is computed are ignored; of the others only values that our networks
compute are taken, within bounds that no model of today reaches.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.text.folder import read_json

Fields = dict[str, Any]
F = TypeVar("F", bound="Foreign")
Width = Annotated[int, Field(gt=0, le=1 << 17)]
Layers = Annotated[int, Field(gt=0, le=1024)]
Heads = Annotated[int, Field(gt=0, le=4096)]
Context = Annotated[int, Field(gt=0, le=1 << 24)]
Epsilon = Annotated[float, Field(gt=0, lt=1)]
No = Literal[False] | None
"""What is not computed here."""
WEIGHTS = re.compile(r"[^/\\]+\.safetensors")
"""A file of weights: a plain name, which leads nowhere else."""


class Foreign(BaseModel):
    """A part of a file of another program: unknown keys are ignored, values are not converted."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Rope(Foreign):
    """How positions are turned; only plainly."""

    rope_type: Literal["default"] = "default"
    type: Literal["default"] = "default"
    rope_theta: Annotated[float, Field(gt=0)] | None = None


class Config(Foreign):
    """What every architecture has."""

    quantization_config: None = None


class Llama(Config):
    """Llama, Qwen2 and Qwen3, and what Gemma has like them."""

    hidden_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Heads
    num_key_value_heads: Heads | None = None
    head_dim: Annotated[int, Field(gt=0, le=1024)] | None = None
    intermediate_size: Width
    max_position_embeddings: Context
    hidden_act: Literal["silu"] = "silu"
    rope_parameters: Rope | None = None
    rope_scaling: Rope | None = None
    rope_theta: Annotated[float, Field(gt=0)] | None = None
    tie_word_embeddings: bool = False
    rms_norm_eps: Epsilon = 1e-6
    attention_bias: No = None
    mlp_bias: No = None
    use_sliding_window: No = None

    def fields(self, architecture: str) -> tuple[Fields, int]:
        """Those of `NetworkConfig`, and the context."""
        rope = self.rope_parameters or self.rope_scaling or Rope()
        heads = self.num_attention_heads
        return {
            "arch": "llama",
            "dim": self.hidden_size,
            "num_layers": self.num_hidden_layers,
            "num_heads": heads,
            "num_kv_heads": self.num_key_value_heads or heads,
            "head_dim": self.head_dim or max(1, self.hidden_size // heads),
            "hidden_dim": self.intermediate_size,
            "qk_norm": architecture == "Qwen3ForCausalLM",
            "qkv_bias": architecture == "Qwen2ForCausalLM",
            "rope_theta": rope.rope_theta or self.rope_theta or 10_000.0,
            "tied": self.tie_word_embeddings,
            "eps": self.rms_norm_eps,
        }, self.max_position_embeddings


class Gemma(Llama):
    """Gemma; its successors norm twice and look through windows, and are other networks."""

    hidden_act: Literal["gelu", "gelu_pytorch_tanh"] = "gelu_pytorch_tanh"  # type: ignore[assignment]
    hidden_activation: Literal["gelu_pytorch_tanh"] | None = None
    """Decides over `hidden_act`, which early files had wrong."""
    tie_word_embeddings: bool = True

    def fields(self, architecture: str) -> tuple[Fields, int]:
        fields, context = super().fields(architecture)
        return {**fields, "gate": "gelu_tanh", "scaled_embeddings": True}, context


class Ours(Foreign):
    """What aigc adds when it writes."""

    bias: bool = True


class Gpt2(Config):
    """GPT-2, and what nanoGPT made of it."""

    n_embd: Width
    n_layer: Layers
    n_head: Heads
    n_positions: Context
    n_inner: int | None = None
    activation_function: Literal["gelu_new", "gelu_pytorch_tanh", "gelu"] = "gelu_new"
    layer_norm_epsilon: Epsilon = 1e-5
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: No = None
    tie_word_embeddings: Literal[True] = True
    aigc: Ours = Ours()

    @model_validator(mode="after")
    def _usual_width(self) -> Self:
        if self.n_inner not in (None, 4 * self.n_embd):
            raise ValueError(f"n_inner = {self.n_inner} is not known here")
        return self

    def fields(self, architecture: str) -> tuple[Fields, int]:
        return {
            "arch": "classic",
            "dim": self.n_embd,
            "num_layers": self.n_layer,
            "num_heads": self.n_head,
            "gelu": "exact" if self.activation_function == "gelu" else "tanh",
            "bias": self.aigc.bias,
            "eps": self.layer_norm_epsilon,
        }, self.n_positions


ARCHITECTURES: dict[str, type[Llama] | type[Gpt2]] = {
    "GemmaForCausalLM": Gemma,
    "GPT2LMHeadModel": Gpt2,
    "LlamaForCausalLM": Llama,
    "Qwen2ForCausalLM": Llama,
    "Qwen3ForCausalLM": Llama,
}


class Index(Foreign):
    """model.safetensors.index.json: in which file each weight is."""

    weight_map: dict[str, str] = {}

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for name in self.weight_map.values():
            if not WEIGHTS.fullmatch(name):
                raise ValueError(f"weight_map names {name!r}, which is no .safetensors file beside")
        return self


def read_config(path: Path) -> tuple[Fields, int]:
    """The fields of `NetworkConfig` in a folder's config.json, and the context.

    Raises:
        InputError: it is absent, no such file, or something in it is not known here.
    """
    file = path / "config.json"
    data = read_json(file)
    names = data.get("architectures") or [f"model_type {data.get('model_type')}"]
    name = names[0] if isinstance(names, list) else names
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise InputError(
            f"{path}: architecture {str(name)[:80]} is not known here",
            hint=did_you_mean(str(name)[:80], ARCHITECTURES),
        )
    return checked(ARCHITECTURES[name], data, file).fields(name)


def weight_files(path: Path) -> list[Path]:
    """The files of weights in a folder.

    Raises:
        InputError: its index is none, or leads outside.
    """
    file = path / "model.safetensors.index.json"
    index = checked(Index, read_json(file, {}), file)
    names = sorted(set(index.weight_map.values())) or ["model.safetensors"]
    return [path / name for name in names]


def checked(form: type[F], data: Fields, file: Path) -> F:
    """The data as that form.

    Raises:
        InputError: it has not; names the first key and its value.
    """
    try:
        return form.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    top = str(first["loc"][0]) if first["loc"] else ""
    value = f"{top} = {str(data.get(top))[:80]}"
    if first["type"] == "missing":
        raise InputError(f"{file}: has no {key}")
    if first["type"] in ("literal_error", "none_required"):
        raise InputError(f"{file}: {value} is not known here")
    if first["type"] == "value_error":
        raise InputError(f"{file}: {first['ctx']['error']}")
    raise InputError(f"{file}: {value}: {first['msg'][:1].lower()}{first['msg'][1:]}")

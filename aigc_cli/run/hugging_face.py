"""Folders of Hugging Face's `transformers`: config.json, safetensors, tokenizer.json.

Weight names are the same on both sides (nn/causal_lm.py); what differs:

* GPT-2 stores four matrices transposed (Conv1D), and files may lack the prefix `transformer.`;
* the rows of embeddings are cut or filled up to the tokenizer's tokens: rows without a token are
  never read, and tokens without a row (a pad of our own) are never learned;
* GPT-2 always has biases, so a network without them is written with zeros, and config.json says so
  under `aigc`, a key that transformers keeps and ignores.

Only safetensors are read: files of pickles could run code.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aigc_cli.errors import InputError, OutputError, did_you_mean
from aigc_cli.models.text._network import NetworkConfig, sizes
from aigc_cli.models.text._tuned import TunedConfig
from aigc_cli.text.folder import read_json, read_tokenizer
from aigc_cli.text.tokenizer import Tokenizer

CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
SKIPPED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Constants that old files store."""
Fields = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A model that was read: the fields of `NetworkConfig`, its weights in float32 under our names,
    its tokenizer, and the Jinja text that renders its conversations, if it has one.
    """

    path: Path
    fields: Fields
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    context: int
    chat_template: str | None


def is_folder(path: Path) -> bool:
    """Whether this is a folder of transformers rather than of a run."""
    return (path / "config.json").is_file()


def read_folder(path: Path) -> Folder:
    """
    Raises:
        InputError: it is no such folder, its architecture or an option of it is not known here, its
            weights are absent, pickled or do not fit, or it has no fast tokenizer.
    """
    config = read_json(path / "config.json")
    names = config.get("architectures") or [f"model_type {config.get('model_type')}"]
    if names[0] not in ARCHITECTURES:
        raise InputError(
            f"{path}: architecture {names[0]} is not known here",
            hint=did_you_mean(names[0], ARCHITECTURES),
        )
    try:
        fields, context = ARCHITECTURES[names[0]](config, path)
    except KeyError as error:
        raise InputError(f"{path}/config.json: has no {error.args[0]}") from error
    tokenizer = read_tokenizer(path / "tokenizer.json")
    weights = _weights(path, fields)
    rows = tokenizer.vocab_size
    for key in _EMBEDDINGS & weights.keys():
        weights[key] = _with_rows(weights[key], rows)
    return Folder(path, fields, weights, tokenizer, context, _chat_template(path))


def _llama(config: Fields, path: Path) -> tuple[Fields, int]:
    """Llama, Qwen2 and Qwen3."""
    kind = config["architectures"][0]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _refuse_unless(
        path,
        {
            "hidden_act": config.get("hidden_act", "silu") == "silu",
            "rope_scaling": rope.get("rope_type", rope.get("type", "default")) == "default",
            "attention_bias": not config.get("attention_bias", False),
            "mlp_bias": not config.get("mlp_bias", False),
            "use_sliding_window": not config.get("use_sliding_window", False),
        },
        config,
    )
    heads = config["num_attention_heads"]
    return {
        "arch": "llama",
        "dim": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "hidden_dim": config["intermediate_size"],
        "qk_norm": kind == "Qwen3ForCausalLM",
        "qkv_bias": kind == "Qwen2ForCausalLM",
        "rope_theta": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        "tied": bool(config.get("tie_word_embeddings", False)),
        "eps": float(config.get("rms_norm_eps", 1e-6)),
    }, config["max_position_embeddings"]


def _gpt2(config: Fields, path: Path) -> tuple[Fields, int]:
    gelu = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "exact"}
    activation = config.get("activation_function", "gelu_new")
    _refuse_unless(
        path,
        {
            "activation_function": activation in gelu,
            "n_inner": config.get("n_inner") in (None, 4 * config["n_embd"]),
            "scale_attn_weights": config.get("scale_attn_weights", True),
            "scale_attn_by_inverse_layer_idx": not config.get("scale_attn_by_inverse_layer_idx"),
            "tie_word_embeddings": config.get("tie_word_embeddings", True),
        },
        config,
    )
    return {
        "arch": "classic",
        "dim": config["n_embd"],
        "num_layers": config["n_layer"],
        "num_heads": config["n_head"],
        "gelu": gelu[activation],
        "bias": config.get("aigc", {}).get("bias", True),
        "eps": float(config.get("layer_norm_epsilon", 1e-5)),
    }, config["n_positions"]


ARCHITECTURES: dict[str, Callable[[Fields, Path], tuple[Fields, int]]] = {
    "GPT2LMHeadModel": _gpt2,
    "LlamaForCausalLM": _llama,
    "Qwen2ForCausalLM": _llama,
    "Qwen3ForCausalLM": _llama,
}
_EMBEDDINGS = {"model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight"}


def _refuse_unless(path: Path, known: Mapping[str, bool], config: Fields) -> None:
    for key, fine in known.items():
        if not fine:
            raise InputError(f"{path}/config.json: {key} = {config.get(key)!r} is not known here")


def _chat_template(path: Path) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = read_json(path / "tokenizer_config.json", {}).get("chat_template")
    return template if isinstance(template, str) else None


def _weights(path: Path, fields: Fields) -> dict[str, Tensor]:
    index = read_json(path / "model.safetensors.index.json", {}).get("weight_map", {})
    files = [path / name for name in sorted(set(index.values()))] or [path / "model.safetensors"]
    weights: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            pickled = any(path.glob("*.bin")) or any(path.glob("*.pt*"))
            why = "; pickled weights could run code and are not read" if pickled else ""
            raise InputError(
                f"{path}: there is no {file.name}{why}",
                hint="save it once with transformers' model.save_pretrained(FOLDER)",
            )
        try:
            weights |= load_file(file)
        except SafetensorError as error:
            raise InputError(f"{file}: not safetensors, or damaged: {error}") from error
    prefix = ""
    if fields["arch"] == "classic" and not any(k.startswith("transformer.") for k in weights):
        prefix = "transformer."
    kept = {prefix + k: v.float() for k, v in weights.items() if not k.endswith(SKIPPED)}
    if fields["arch"] == "classic":
        kept = {k: v.T.contiguous() if k.endswith(CONV1D) else v for k, v in kept.items()}
    if fields["arch"] == "classic" or fields["tied"]:
        kept.pop("lm_head.weight", None)
        kept.pop("transformer.lm_head.weight", None)
    if not fields.get("bias", True):
        kept = {k: v for k, v in kept.items() if not k.endswith(".bias")}
    return kept


def _with_rows(weight: Tensor, rows: int) -> Tensor:
    """The first rows; those that are absent are the mean of the others."""
    missing = rows - len(weight)
    if missing <= 0:
        return weight[:rows].clone()
    return torch.cat([weight, weight.mean(0, keepdim=True).expand(missing, -1)])


def write_folder(
    path: Path,
    config: NetworkConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    context: int,
    *,
    stops: Sequence[int],
    template: str | None,
) -> list[Path]:
    """Write the files of a model; returns them.

    stops: ids that end an answer. template: Jinja text that renders conversations.

    Raises:
        OutputError: the folder holds something, or cannot be written.
    """
    fields = sizes(config)
    roles = {role: getattr(tokenizer, f"{role}_id") for role in ("bos", "eos", "pad")}
    ids = {f"{role}_token_id": number for role, number in roles.items()}
    names = {f"{role}_token": tokenizer.tokens[n] for role, n in roles.items() if n is not None}
    describe = _llama_config if config.arch == "llama" else _classic_config
    size = {"vocab_size": tokenizer.vocab_size, "dtype": "float32"}
    texts: dict[str, Fields | str] = {
        "config.json": {**describe(fields, context), **size, **ids},
        "generation_config.json": {**ids, "eos_token_id": list(stops) or None},
        "tokenizer.json": tokenizer.to_json(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
            **names,
        },
    }
    if template is not None:
        texts["chat_template.jinja"] = template
    tensors = _as_stored(fields, weights, tokenizer.vocab_size)
    with _new_folder(path) as folder:
        for name, content in texts.items():
            text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
            (folder / name).write_text(text, encoding="utf-8")
        save_torch_state_dict(tensors, folder)  # in files of 5 GB
    return sorted(path.iterdir())


def write_adapter(
    path: Path, config: TunedConfig, weights: Mapping[str, Tensor], base: str | None
) -> list[Path]:
    """Write the adapters among the weights as PEFT loads them; returns the files. `base` is the
    model they belong to.

    Raises:
        InputError: there are none, or other weights were trained too. OutputError: as
            `write_folder`.
    """
    lora = config.lora
    if not lora.rank or lora.embeddings:
        why = "the embeddings were trained as well" if lora.rank else "there are no adapters"
        raise InputError(f"--adapter: {why}", hint="export the model as a whole")
    tensors = {}
    for key, value in weights.items():
        layer, _, side = key.rpartition(".lora_")
        if side in ("a", "b"):
            tensors[f"base_model.model.{layer}.lora_{side.upper()}.weight"] = value.contiguous()
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
        "fan_in_fan_out": config.arch == "classic",
        "bias": "none",
        "inference_mode": True,
    }
    with _new_folder(path) as folder:
        text = json.dumps(described, indent=2) + "\n"
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return sorted(path.iterdir())


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which at the end is there whole, or not at all.

    Raises:
        OutputError: `path` holds something, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: already exists and is not empty", hint="choose another --out")
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _llama_config(f: Fields, context: int) -> Fields:
    kind = "Qwen3" if f["qk_norm"] else "Qwen2" if f["qkv_bias"] else "Llama"
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "hidden_size": f["dim"],
        "num_hidden_layers": f["num_layers"],
        "num_attention_heads": f["num_heads"],
        "num_key_value_heads": f["num_kv_heads"],
        "head_dim": f["head_dim"],
        "intermediate_size": f["hidden_dim"],
        "hidden_act": "silu",
        "rope_theta": f["rope_theta"],
        "tie_word_embeddings": f["tied"],
        "rms_norm_eps": f["eps"],
        "max_position_embeddings": context,
    }


def _classic_config(f: Fields, context: int) -> Fields:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": f["dim"],
        "n_layer": f["num_layers"],
        "n_head": f["num_heads"],
        "n_positions": context,
        "activation_function": {"tanh": "gelu_new", "exact": "gelu"}[f["gelu"]],
        "layer_norm_epsilon": f["eps"],
        "aigc": {"bias": f["bias"]},
    }


def _as_stored(fields: Fields, weights: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Our weights as transformers names and stores them, without rows that have no token."""
    kept = {k: v[:rows].contiguous() if k in _EMBEDDINGS else v for k, v in weights.items()}
    if fields["arch"] == "llama":
        return kept
    if not fields["bias"]:
        kept |= {
            k.removesuffix("weight") + "bias": torch.zeros(len(v))
            for k, v in kept.items()
            if not k.endswith(("wte.weight", "wpe.weight"))
        }
    return {k: v.T.contiguous() if k.endswith(CONV1D) else v for k, v in kept.items()}

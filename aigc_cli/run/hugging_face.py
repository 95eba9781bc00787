"""Folders of Hugging Face's `transformers`: config.json, safetensors, tokenizer.json.

Weight names are the same on both sides (nn/causal_lm.py); what differs:

* GPT-2 stores four matrices transposed (Conv1D), and files may lack the prefix `transformer.`;
* Gemma stores the scales of RMSNorm less 1;
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aigc_cli.errors import InputError, OutputError
from aigc_cli.models.text._network import NetworkConfig, build_network, sizes
from aigc_cli.models.text._tuned import TunedConfig
from aigc_cli.run.hugging_face_config import Fields, read_config, weight_files
from aigc_cli.text.folder import read_json, read_text, read_tokenizer
from aigc_cli.text.tokenizer import Tokenizer

CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
SKIPPED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Constants that old files store."""


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
    fields, context = read_config(path)
    tokenizer = read_tokenizer(path / "tokenizer.json")
    weights = _weights(path, fields)
    return assemble(Folder(path, fields, weights, tokenizer, context, _chat_template(path)))


def assemble(found: Folder) -> Folder:
    """The same with one row of embeddings for each token, once its weights are seen to fit.

    Raises:
        InputError: the network cannot be, or a weight is missing, unknown or of another shape.
    """
    weights, rows = dict(found.weights), found.tokenizer.vocab_size
    for key in _EMBEDDINGS & weights.keys():
        if weights[key].ndim == 2:
            weights[key] = _with_rows(weights[key], rows)
    _require_fit(found.path, found.fields, weights, rows, found.context)
    return replace(found, weights=weights)


_EMBEDDINGS = {"model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight"}


def _require_fit(
    path: Path, fields: Fields, weights: Mapping[str, Tensor], rows: int, context: int
) -> None:
    """See that the weights are those of the network that config.json describes.

    Raises:
        InputError: the network cannot be, or a weight is missing, unknown or of another shape.
    """
    try:
        with torch.device("meta"):
            network = build_network(NetworkConfig(**fields), rows, context)
    except (ValidationError, ValueError) as error:
        errors = error.errors() if isinstance(error, ValidationError) else []
        reason = errors[0]["msg"] if errors else str(error)
        raise InputError(f"{path}/config.json: {reason}") from error
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = [
        f"{name} is {_shape(found.get(name))} and should be {_shape(expected.get(name))}"
        for name in sorted(expected.keys() | found.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(f"{path}: weights do not fit config.json: {wrong[0]}{more}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape)) or "a number"


def _chat_template(path: Path) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    template = read_json(path / "tokenizer_config.json", {}).get("chat_template")
    return template if isinstance(template, str) else None


def _weights(path: Path, fields: Fields) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in weight_files(path):
        if not file.is_file():
            pickled = any(path.glob("*.bin")) or any(path.glob("*.pt*"))
            why = "; pickled weights could run code and are not read" if pickled else ""
            raise InputError(
                f"{path}: there is no {file.name}{why}",
                hint="save it once with transformers' model.save_pretrained(FOLDER)",
            )
        try:
            weights |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: not safetensors, or damaged: {error}") from error
    prefix = ""
    if fields["arch"] == "classic" and not any(k.startswith("transformer.") for k in weights):
        prefix = "transformer."
    kept = {prefix + k: v.float() for k, v in weights.items() if not k.endswith(SKIPPED)}
    if fields["arch"] == "classic":
        turned = (k for k, v in kept.items() if k.endswith(CONV1D) and v.ndim == 2)
        kept |= {k: kept[k].T.contiguous() for k in turned}
    if fields["arch"] == "classic" or fields["tied"]:
        kept.pop("lm_head.weight", None)
        kept.pop("transformer.lm_head.weight", None)
    if fields.get("scaled_embeddings"):
        kept |= {k: v + 1 for k, v in kept.items() if k.endswith("norm.weight")}
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
    with new_folder(path) as folder:
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
    with new_folder(path) as folder:
        text = json.dumps(described, indent=2) + "\n"
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return sorted(path.iterdir())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
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
    kinds = {
        (True, False, "silu", False): "Qwen3",
        (False, True, "silu", False): "Qwen2",
        (False, False, "silu", False): "Llama",
        (False, False, "gelu_tanh", True): "Gemma",
    }
    parts = ("qk_norm", "qkv_bias", "gate", "scaled_embeddings")
    kind = kinds.get(tuple(f[part] for part in parts))
    if kind is None or (kind == "Gemma" and not f["tied"]):
        told = ", ".join(f"{part} = {f[part]}" for part in (*parts, "tied"))
        raise InputError(f"transformers has no such network: {told}")
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "hidden_size": f["dim"],
        "num_hidden_layers": f["num_layers"],
        "num_attention_heads": f["num_heads"],
        "num_key_value_heads": f["num_kv_heads"],
        "head_dim": f["head_dim"],
        "intermediate_size": f["hidden_dim"],
        "hidden_act": "gelu_pytorch_tanh" if kind == "Gemma" else "silu",
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
        if fields["scaled_embeddings"]:
            kept |= {k: v - 1 for k, v in kept.items() if k.endswith("norm.weight")}
        return kept
    if not fields["bias"]:
        kept |= {
            k.removesuffix("weight") + "bias": torch.zeros(len(v))
            for k, v in kept.items()
            if not k.endswith(("wte.weight", "wpe.weight"))
        }
    return {k: v.T.contiguous() if k.endswith(CONV1D) else v for k, v in kept.items()}

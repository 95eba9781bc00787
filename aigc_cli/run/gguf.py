"""GGUF, the file of llama.cpp: weights in any of its quantizations, tokenizer and chat template.

Read by the library `gguf` (extra `pretrained`). Its header is turned into the config.json of
`transformers`, so that one schema checks both. What differs from safetensors:

* rows of queries and keys of the architecture `llama` are interleaved for llama.cpp's rotation;
* the tokenizer is a list of tokens and merges, whose way to cut words only has a name; that of
  SentencePiece (`llama`) has scores instead of merges;
* scales of RMSNorm in `gemma` are whole there, and stored less 1 by transformers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine
from torch import Tensor

from aigc_cli.errors import InputError, MissingError
from aigc_cli.run.hugging_face import Folder, assemble
from aigc_cli.run.hugging_face_config import ARCHITECTURES, checked
from aigc_cli.text.tokenizer import Tokenizer

Header = dict[str, Any]
ARCHITECTURE = {
    "gemma": "GemmaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How OpenAI's cl100k and its heirs cut words; they differ in how many digits stay together."""
CONTROL, USER = 3, 4  # types of tokens
SPACE = "▁"


def _cut(kind: str) -> pre_tokenizers.PreTokenizer | None:
    """How words are cut before merging, by `tokenizer.ggml.pre`."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(digits: str) -> pre_tokenizers.PreTokenizer:
        parts = pre_tokenizers.Split(Regex(_WORDS % digits), "isolated")
        return pre_tokenizers.Sequence([parts, whole])

    return {
        "gpt-2": plain,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]),
        "qwen2": split(""),
        "llama-bpe": split("{1,3}"),
    }.get(kind)


def read_gguf(path: Path) -> Folder:
    """
    Raises:
        InputError: damaged, or of an architecture, quantization or tokenizer not known here.
        MissingError: the library is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingError(
            f"{path}: reading GGUF needs the library gguf",
            hint='pip install "aigc-cli[pretrained]"',
        ) from error
    try:
        reader = GGUFReader(path)
        header = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # the library checks little and raises what numpy raises
        raise InputError(f"{path}: no GGUF file, or damaged: {str(error)[:100]}") from error
    kind = header.get("general.architecture")
    if kind not in ARCHITECTURE:
        raise InputError(
            f"{path}: architecture {str(kind)[:40]!r} is not known here",
            hint=f"known: {', '.join(ARCHITECTURE)}",
        )
    shapes = {tensor.name: [int(n) for n in tensor.shape] for tensor in reader.tensors}
    name = ARCHITECTURE[kind]
    form = checked(ARCHITECTURES[name], _config(header, kind, shapes), path)
    fields, context = form.fields(name)
    tokenizer = _tokenizer(header, path)
    weights = _weights(reader.tensors, kind, fields, path)
    template = header.get("tokenizer.chat_template")
    chat = template if isinstance(template, str) else None
    return assemble(Folder(path, fields, weights, tokenizer, context, chat))


def _config(header: Header, kind: str, shapes: dict[str, list[int]]) -> Header:
    """What config.json of the same model would say; what the header lacks stays absent."""

    def get(name: str) -> Any:
        return header.get(f"{kind}.{name}")

    if kind == "gpt2":
        config = {
            "n_embd": get("embedding_length"),
            "n_layer": get("block_count"),
            "n_head": get("attention.head_count"),
            "n_positions": get("context_length"),
            "layer_norm_epsilon": get("attention.layer_norm_epsilon"),
        }
    else:
        scaling = get("rope.scaling.type")
        config = {
            "hidden_size": get("embedding_length"),
            "num_hidden_layers": get("block_count"),
            "num_attention_heads": get("attention.head_count"),
            "num_key_value_heads": get("attention.head_count_kv"),
            "head_dim": get("attention.key_length") or get("rope.dimension_count"),
            "intermediate_size": get("feed_forward_length"),
            "max_position_embeddings": get("context_length"),
            "rope_theta": get("rope.freq_base"),
            "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
            "tie_word_embeddings": "output.weight" not in shapes,
            "rope_scaling": {"rope_type": scaling} if scaling not in (None, "none") else None,
        }
        if "rope_freqs.weight" in shapes:
            config["rope_scaling"] = {"rope_type": "llama3"}
    return {key: value for key, value in config.items() if value is not None}


def _weights(tensors: Any, kind: str, fields: Header, path: Path) -> dict[str, Tensor]:
    """Weights in float32 under our names.

    Raises:
        InputError: a quantization or a tensor that is not known here.
    """
    from gguf import GGMLQuantizationType, dequantize
    from gguf.quants import _type_traits as quantized

    known = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, *quantized}
    names = _GPT2 if kind == "gpt2" else _LLAMA
    prefix = "transformer.h." if kind == "gpt2" else "model.layers."
    weights: dict[str, Tensor] = {}
    for tensor in tensors:
        block = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", tensor.name)
        if block is None or block[2] not in names:
            raise InputError(f"{path}: the tensor {tensor.name[:60]} is not known here")
        if tensor.tensor_type not in known:
            raise InputError(
                f"{path}: {tensor.name} has the quantization {tensor.tensor_type.name}, which is "
                "not known here",
                hint=f"known: {', '.join(sorted(t.name for t in known))}",
            )
        try:
            array = dequantize(tensor.data, tensor.tensor_type)
        except ValueError as error:
            raise InputError(f"{path}: {tensor.name} is damaged: {error}") from error
        value = torch.from_numpy(array.astype("float32", copy=True))
        if kind == "llama" and block[2] in ("attn_q", "attn_k"):
            heads = fields["num_heads" if block[2] == "attn_q" else "num_kv_heads"]
            value = _parted(value, heads)
        number = f"{prefix}{block[1]}." if block[1] else ""
        weights[f"{number}{names[block[2]]}.{block[3]}"] = value
    if kind == "gpt2":
        weights.pop("lm_head.weight", None)  # tied
    return weights


def _parted(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads x pairs x 2) of llama.cpp's rotation as (heads x 2 x pairs) of transformers'."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def _tokenizer(header: Header, path: Path) -> Tokenizer:
    """
    Raises:
        InputError: it is neither byte-level BPE nor SentencePiece's, cuts words in a way that is
            not known here, or has no token that ends a text.
    """
    kind, cut = header.get("tokenizer.ggml.model"), str(header.get("tokenizer.ggml.pre", "gpt-2"))
    tokens = header.get("tokenizer.ggml.tokens") or []
    types = header.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if kind == "llama":
        engine = _sentencepiece(header, tokens)
    elif kind == "gpt2" and _cut(cut) is not None:
        engine = _byte_level(header, tokens, cut)
    else:
        named = repr(str(kind)[:40]) + (f", {cut[:40]!r}" if kind == "gpt2" else "")
        raise InputError(
            f"{path}: a tokenizer of type {named} is not known here",
            hint="known: llama (SentencePiece), and gpt2 with gpt-2, smollm, qwen2 or llama-bpe; "
            "the folder of the same model for transformers can be imported instead",
        )
    for token, what in zip(tokens, types, strict=True):
        if what in (CONTROL, USER):
            engine.add_tokens([AddedToken(token, special=what == CONTROL, normalized=False)])
    ids = {role: header.get(f"tokenizer.ggml.{name}_token_id") for role, name in _ROLES.items()}
    bos, eos, pad = (None if (n := ids[role]) is None else tokens[n] for role in _ROLES)
    if eos is None:
        raise InputError(f"{path}: the tokenizer has no token that ends a text")
    return Tokenizer.adopt(engine.to_str(), eos=eos, bos=bos, pad=pad)


def _byte_level(header: Header, tokens: list[str], cut: str) -> Engine:
    merges = [tuple(pair.split(" ", 1)) for pair in header.get("tokenizer.ggml.merges", ())]
    vocab = {token: number for number, token in enumerate(tokens)}
    engine = Engine(models.BPE(vocab, merges, ignore_merges=cut == "llama-bpe"))
    engine.pre_tokenizer, engine.decoder = _cut(cut), decoders.ByteLevel()
    if cut == "qwen2":
        engine.normalizer = normalizers.NFC()
    return engine


def _sentencepiece(header: Header, tokens: list[str]) -> Engine:
    """BPE of SentencePiece: of all pairs that make a token, that of the best score is joined first.
    What has no token is written in bytes.
    """
    vocab = {token: number for number, token in enumerate(tokens)}
    scores = header.get("tokenizer.ggml.scores") or [-number for number in range(len(tokens))]
    merges = [
        (score, token[:cut], token[cut:])
        for token, score in zip(tokens, scores, strict=True)
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    merges.sort(key=lambda merge: -merge[0])
    unknown = header.get("tokenizer.ggml.unknown_token_id", 0)
    engine = Engine(
        models.BPE(
            vocab, [(a, b) for _, a, b in merges], unk_token=tokens[unknown], fuse_unk=True,
            byte_fallback=True,
        )
    )  # fmt: skip
    begins = header.get("tokenizer.ggml.add_space_prefix", True)
    spaces: list[Any] = [normalizers.Prepend(SPACE)] if begins else []
    engine.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", SPACE)])
    first = [decoders.Strip(" ", 1, 0)] if begins else []
    engine.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *first]
    )
    return engine


_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding"}  # ours: GGUF's

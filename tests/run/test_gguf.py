"""GGUF files: every known architecture and the usual quantizations, templates, and bad files."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers, trainers

from aigc_cli.errors import InputError
from aigc_cli.models.text._network import NetworkConfig, build_network
from aigc_cli.run.export import import_model
from aigc_cli.run.foreign import spec_of
from aigc_cli.run.gguf import read_gguf
from aigc_cli.run.trained import load_trained
from aigc_cli.text.template import TEMPLATES

gguf = pytest.importorskip("gguf")
Type = gguf.GGMLQuantizationType
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 1, "tied": False},
    "qwen2": {"qkv_bias": True, "rope_theta": 1e6},
    "qwen3": {"qk_norm": True, "head_dim": 64},
    "gemma": {"gate": "gelu_tanh", "scaled_embeddings": True, "num_kv_heads": 1, "head_dim": 64},
    "gpt2": {"arch": "classic", "bias": True, "gelu": "tanh"},
}
CONTEXT, TEXT = 32, "It's a test, of words and words in 1889."
SMOLLM = TEMPLATES["smollm2"].jinja


def network(kind: str) -> tuple[NetworkConfig, torch.nn.Module]:
    torch.manual_seed(0)
    config = NetworkConfig(dim=64, num_layers=2, num_heads=2, hidden_dim=96, **SIZES[kind])
    return config, build_network(config, VOCAB, CONTEXT).eval()


def vocabulary() -> tuple[Engine, list[str], list[str]]:
    """A byte-level BPE, its tokens, the chat ones first, and its merges."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator([TEXT] * 9, trainer)
    state = json.loads(engine.to_str())
    merges = [" ".join(pair) for pair in state["model"]["merges"]]
    return engine, [engine.id_to_token(n) for n in range(engine.get_vocab_size())], merges


ENGINE, TOKENS, MERGES = vocabulary()
VOCAB = len(TOKENS)
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def written(
    path: Path,
    kind: str = "llama",
    *,
    quantization: Any = Type.F32,
    template: str | None = None,
    edit: Callable[[Any], None] = lambda writer: None,
    arch: str | None = None,
    pre: str = "gpt-2",
) -> Path:
    """A file as llama.cpp's converter writes it, by the library's own writer."""
    config, net = network(kind)
    writer = gguf.GGUFWriter(path, arch or kind)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    if kind == "gpt2":
        writer.add_layer_norm_eps(config.eps)
    else:
        writer.add_head_count_kv(config.num_kv_heads or config.num_heads)
        writer.add_feed_forward_length(config.hidden_dim)
        writer.add_layer_norm_rms_eps(config.eps)
        writer.add_rope_freq_base(config.rope_theta)
        if config.head_dim:
            writer.add_key_length(config.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (VOCAB - 3))
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(2)
    if template:
        writer.add_chat_template(template)
    edit(writer)
    for name, tensor in net.state_dict().items():
        layer, _, what = name.rpartition(".")
        block = ""
        if ".layers." in f".{layer}" or ".h." in f".{layer}":
            parts = layer.split(".")
            block, layer = f"blk.{parts[2]}.", ".".join(parts[3:])
        array = tensor.numpy()
        if kind == "llama" and NAMES[layer] in ("attn_q", "attn_k"):  # as its converter does
            heads = config.num_heads if NAMES[layer] == "attn_q" else config.num_kv_heads
            rows = array.shape[0] // heads // 2
            shape = (heads, 2, rows, array.shape[1])
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        matrix = array.ndim == 2 and quantization is not Type.F32
        stored = gguf.quantize(array, quantization) if matrix else array.astype(np.float32)
        raw = quantization if matrix else None
        writer.add_tensor(
            f"{block}{NAMES[layer]}.{what}", np.ascontiguousarray(stored), raw_dtype=raw
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", SIZES)
def test_weights_of_every_architecture_come_back(kind: str, tmp_path: Path) -> None:
    config, net = network(kind)
    found = read_gguf(written(tmp_path / "m.gguf", kind))
    assert NetworkConfig(**found.fields).arch == config.arch
    assert found.context == CONTEXT
    own = net.state_dict()
    assert own.keys() == found.weights.keys()
    for name, value in own.items():
        assert torch.equal(found.weights[name][: len(value)], value), name
    assert found.tokenizer.encode(TEXT) == ENGINE.encode(TEXT).ids
    roles = (found.tokenizer.bos_id, found.tokenizer.eos_id, found.tokenizer.pad_id)
    assert roles == (1, 2, VOCAB)  # a pad that ends texts would never be learned
    assert found.tokenizer.encode("<|im_end|>") != [2]  # words that spell a token stay words


@pytest.mark.parametrize(
    ("quantization", "error"),
    [("F16", 1e-3), ("BF16", 8e-3), ("Q8_0", 1e-2), ("Q5_1", 0.06), ("Q4_1", 0.12), ("Q4_0", 0.15)],
)
def test_quantized_weights_are_near_the_originals(
    quantization: str, error: float, tmp_path: Path
) -> None:
    _, net = network("qwen2")
    found = read_gguf(written(tmp_path / "m.gguf", "qwen2", quantization=Type[quantization]))
    for name, value in net.state_dict().items():
        difference = (found.weights[name][: len(value)] - value).norm() / value.norm().clamp(1e-9)
        assert difference < error, name


def test_a_model_with_a_known_chat_template_talks(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", template=SMOLLM)
    assert spec_of(read_gguf(path)).template == "smollm2"  # type: ignore[attr-defined]
    report = import_model(str(path), tmp_path / "m.ckpt")
    assert (report["family"], report["template"]) == ("chat", "smollm2")
    model = load_trained(str(tmp_path / "m.ckpt"), device="cpu").model
    ids, _ = model.template.encode(  # type: ignore[attr-defined]
        [{"role": "user", "content": "test"}], model.tokenizer, answer=True
    )
    shown = model.tokenizer.show(ids)
    assert shown.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert shown.endswith("<|im_start|>user\ntest<|im_end|>\n<|im_start|>assistant\n")


def test_a_model_with_another_chat_template_continues_texts(tmp_path: Path) -> None:
    path = written(
        tmp_path / "m.gguf", template="{% for m in messages %}{{ m.secret }}{% endfor %}"
    )
    report = import_model(str(path), tmp_path / "m.ckpt")
    assert (report["family"], report["unknown_template"]) == ("lm", True)


def joined(text: str, tokens: list[str], scores: list[float]) -> list[str]:
    """SentencePiece's BPE by its definition: again and again the best pair of neighbors, the first
    of equal ones; then bytes of what has no token.
    """
    score = dict(zip(tokens, scores, strict=True))
    parts = list("▁" + text.replace(" ", "▁"))
    while True:
        pairs = [(score[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in score]
        if not pairs:
            break
        i = -max(pairs)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    spelled = [
        [part] if part in score else [f"<0x{byte:02X}>" for byte in part.encode()] for part in parts
    ]
    return [token for several in spelled for token in several]


def test_tokens_of_sentencepiece_are_joined_by_their_scores(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = [
        *("▁it", "▁is", "it", "is", "▁a", "▁test", "te", "es", "st", "est", "▁test.", "▁t", "▁te"),
        *("tes", "▁▁", "18", "89", "889", "▁words", "wor", "ds"),
    ]
    letters = list("▁'abdeforisTtw.,I0123456789")
    marks = ["<unk>", "<s>", "</s>"]
    tokens = marks + [f"<0x{n:02X}>" for n in range(256)] + words + letters
    scores = [0.0] * 259 + [float(-n) for n in random.permutation(len(words))]
    scores += [-99.0] * len(letters)

    def sentencepiece(writer: Any) -> None:
        held = writer.kv_data[0]
        for name in ("model", "pre", "tokens", "token_type", "merges"):
            held.pop(f"tokenizer.ggml.{name}")
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259))

    found = read_gguf(written(tmp_path / "m.gguf", "gemma", edit=sentencepiece)).tokenizer
    for text in ("it is a test.", " its  words", "tests'  tested, 1889 889", "Ü 猫 it", "a", "▁a"):
        names = [found.tokens[n] for n in found.encode(text)]
        assert names == joined(text, tokens, scores), text
        assert found.decode(found.encode(text)) == text.replace("▁", " ")
    assert (found.bos_id, found.eos_id) == (1, 2)


def unknown_tensor(writer: Any) -> None:
    writer.add_tensor("blk.0.ssm_conv1d.weight", np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (
            {"arch": "mamba"},
            "architecture 'mamba' is not known here",
            "known: gemma, gpt2, llama, qwen2, qwen3",
        ),
        ({"arch": "gemma2"}, "architecture 'gemma2' is not known here", "known: gemma, gpt2"),
        (
            {"pre": "tekken"},
            "type 'gpt2', 'tekken' is not known here",
            "known: llama (SentencePiece), and gpt2",
        ),
        ({"edit": unknown_tensor}, "the tensor blk.0.ssm_conv1d.weight is not known here", ""),
    ],
)
def test_what_is_not_known_is_named(
    change: dict[str, Any], message: str, hint: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "m.gguf", **change)
    with pytest.raises(InputError) as caught:
        import_model(str(path), tmp_path / "out.ckpt")
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert not (tmp_path / "out.ckpt").exists()


def test_a_quantization_that_is_not_known_is_named_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "m.gguf", quantization=Type.Q8_0)
    monkeypatch.delitem(gguf.quants._type_traits, Type.Q8_0)
    with pytest.raises(InputError, match="has the quantization Q8_0, which is not known") as caught:
        read_gguf(path)
    assert "BF16, F16, F32, IQ1_M" in str(caught.value.hint)


@pytest.mark.parametrize("kept", [0, 3, 40, 3000])
def test_a_file_that_was_cut_is_one_sentence(kept: int, tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="no GGUF file, or damaged"):
        read_gguf(path)


def test_weights_that_do_not_fit_the_header_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf", edit=lambda writer: writer.add_vocab_size(1))
    data = path.read_bytes().replace(b"blk.1.ffn_up", b"blk.3.ffn_up")
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"layers.1.mlp.up_proj.weight is absent and should be"):
        read_gguf(path)

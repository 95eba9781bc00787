"""Folders of transformers: read, written, and written again, with equal logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models.text._network import NetworkConfig, build_network
from aigc_cli.nn.causal_lm import CausalLM
from aigc_cli.run.hugging_face import is_folder, read_folder, write_folder
from aigc_cli.text.tokenizer import Tokenizer

CONTEXT = 24
LAYOUTS: dict[str, dict[str, Any]] = {
    "Llama": {"num_kv_heads": 1, "tied": False},
    "Qwen2": {"qkv_bias": True},
    "Qwen3": {"qk_norm": True, "head_dim": 12, "rope_theta": 1e6, "eps": 1e-6},
    "Gemma": {"gate": "gelu_tanh", "scaled_embeddings": True, "num_kv_heads": 1, "head_dim": 12},
    "GPT2": {"arch": "classic", "bias": True, "gelu": "tanh"},
    "nanoGPT": {"arch": "classic"},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = ["the cat sat on the mat and the dog on the log"]
    return Tokenizer.train(texts, kind="bpe", vocab_size=270)


def network(tokenizer: Tokenizer, layout: str) -> tuple[NetworkConfig, CausalLM]:
    torch.manual_seed(0)
    config = NetworkConfig(dim=16, num_layers=2, num_heads=2, **LAYOUTS[layout])
    net = build_network(config, tokenizer.vocab_size, CONTEXT).eval()
    for parameter in net.parameters():  # biases and scales too, or their names would not matter
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.2)
    return config, net


def written(path: Path, tokenizer: Tokenizer, layout: str) -> tuple[NetworkConfig, CausalLM]:
    config, net = network(tokenizer, layout)
    assert tokenizer.eos_id is not None
    write_folder(
        path, config, net.state_dict(), tokenizer, CONTEXT, stops=[tokenizer.eos_id], template=None
    )
    return config, net


def tokens(tokenizer: Tokenizer) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, tokenizer.vocab_size, (2, 9), generator=generator)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_transformers_computes_the_same_logits(
    tmp_path: Path, tokenizer: Tokenizer, layout: str
) -> None:
    transformers = pytest.importorskip("transformers")
    _, net = written(tmp_path / "hf", tokenizer, layout)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    x = tokens(tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x).logits, rtol=0, atol=1e-4)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = "the cat, über 猫 🐈"
    assert their_tokenizer.encode(text) == tokenizer.encode(text)
    assert their_tokenizer.eos_token_id == tokenizer.eos_id
    assert their_tokenizer.pad_token_id == tokenizer.pad_id
    assert theirs.generation_config.eos_token_id == [tokenizer.eos_id]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read_back(tmp_path: Path, tokenizer: Tokenizer, layout: str) -> None:
    _, net = written(tmp_path / "hf", tokenizer, layout)
    assert is_folder(tmp_path / "hf")
    folder = read_folder(tmp_path / "hf")
    assert folder.context == CONTEXT
    assert folder.tokenizer.digest == tokenizer.digest
    assert build_network(NetworkConfig(**folder.fields), tokenizer.vocab_size, CONTEXT)
    state = net.state_dict()
    assert folder.weights.keys() == state.keys()
    rounded = 1e-6 if layout == "Gemma" else 0.0  # scales less 1, and 1 more
    for key, value in state.items():
        torch.testing.assert_close(folder.weights[key], value, rtol=0, atol=rounded)


def test_networks_that_transformers_lacks_are_not_written(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = NetworkConfig(dim=16, num_layers=1, num_heads=2, gate="gelu_tanh")
    weights = build_network(config, tokenizer.vocab_size, CONTEXT).state_dict()
    with pytest.raises(InputError, match=r"no such network: .*gate = gelu_tanh, scaled_emb"):
        write_folder(tmp_path / "hf", config, weights, tokenizer, 8, stops=[], template=None)
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("layout", ["Llama", "Qwen2", "Qwen3", "Gemma", "GPT2"])
def test_what_transformers_wrote_is_read(tmp_path: Path, tokenizer: Tokenizer, layout: str) -> None:
    """Its shards, its way to say things, and rows of the vocabulary that have no token."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    V = tokenizer.vocab_size
    if layout == "GPT2":
        config = transformers.GPT2Config(
            vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT
        )
    else:
        config = getattr(transformers, f"{layout}Config")(
            vocab_size=V + 7, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=CONTEXT,
            head_dim=8,
        )  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="10KB")
    (tmp_path / "hf/tokenizer.json").write_text(tokenizer.to_json())
    folder = read_folder(tmp_path / "hf")
    net = build_network(NetworkConfig(**folder.fields), V, folder.context).eval()
    net.load_state_dict(folder.weights)
    x = tokens(tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x).logits[..., :V], rtol=0, atol=1e-4)


def test_tokenizers_of_other_programs_are_adopted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    foreign = json.loads(tokenizer.to_json()) | {"post_processor": None}
    (tmp_path / "hf/tokenizer.json").write_text(json.dumps(foreign))
    settings = {"eos_token": {"content": "<eos>"}, "bos_token": None, "pad_token": "<eos>"}
    (tmp_path / "hf/tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "hf/chat_template.jinja").write_text("{{ messages }}")
    folder = read_folder(tmp_path / "hf")
    adopted = folder.tokenizer
    assert adopted.eos_id == adopted.bos_id == tokenizer.eos_id
    assert adopted.pad_id == tokenizer.pad_id
    assert folder.chat_template == "{{ messages }}"


def test_tokens_without_a_row_get_the_mean(tmp_path: Path, tokenizer: Tokenizer) -> None:
    _, net = written(tmp_path / "hf", tokenizer, "Llama")
    larger = json.loads(tokenizer.to_json())
    larger["added_tokens"].append({**larger["added_tokens"][0], "id": 270, "content": "<|more|>"})
    (tmp_path / "hf/tokenizer.json").write_text(json.dumps(larger))
    rows = read_folder(tmp_path / "hf").weights["model.embed_tokens.weight"]
    before = net.state_dict()["model.embed_tokens.weight"]
    assert torch.equal(rows[:-1], before)
    torch.testing.assert_close(rows[-1], before.mean(0))


def broken(folder: Path, how: str) -> str:
    """Break a folder; what the sentence about it must say."""
    config = json.loads((folder / "config.json").read_text())
    match how:
        case "architecture":
            config["architectures"] = ["MambaForCausalLM"]
            expected = "architecture MambaForCausalLM is not known here"
        case "option":
            config["rope_scaling"] = {"rope_type": "yarn", "factor": 4.0}
            expected = "rope_scaling = {'rope_type': 'yarn', 'factor': 4.0} is not known here"
        case "missing":
            del config["num_hidden_layers"]
            expected = "config.json: has no num_hidden_layers"
        case "pickle":
            (folder / "model.safetensors").unlink()
            (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
            expected = "pickled weights could run code and are not read"
        case "damaged":
            (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
            expected = "model.safetensors: not safetensors, or damaged"
        case "tokenizer":
            (folder / "tokenizer.json").unlink()
            expected = "there is no tokenizer.json"
        case "json":
            (folder / "config.json").write_text("{")
            return "config.json: cannot be read"
        case _:
            raise AssertionError(how)
    (folder / "config.json").write_text(json.dumps(config))
    return expected


@pytest.mark.parametrize(
    "how", ["architecture", "option", "missing", "pickle", "damaged", "tokenizer", "json"]
)
def test_what_cannot_be_read_is_said(tmp_path: Path, tokenizer: Tokenizer, how: str) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    expected = broken(tmp_path / "hf", how)
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path / "hf")
    assert expected in str(caught.value)
    assert "hf" in str(caught.value)


def rewrite(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hidden_size", "16", "hidden_size = 16: input should be a valid integer"),
        ("hidden_size", 0, "hidden_size = 0: input should be greater than 0"),
        ("hidden_size", 15, "weights do not fit config.json"),
        ("hidden_size", 10**9, "hidden_size = 1000000000: input should be less than"),
        ("hidden_size", None, "hidden_size = None: input should be a valid integer"),
        ("num_hidden_layers", -1, "num_hidden_layers = -1"),
        ("num_hidden_layers", 3, "layers.2.input_layernorm.weight is absent and should be 16"),
        ("num_hidden_layers", 1, "layers.1.input_layernorm.weight is 16 and should be absent"),
        ("num_attention_heads", 0, "num_attention_heads = 0"),
        ("num_attention_heads", [2], "num_attention_heads = [2]"),
        ("num_key_value_heads", 5, "num_kv_heads"),
        ("intermediate_size", 1.5, "intermediate_size = 1.5"),
        ("head_dim", 10**6, "head_dim = 1000000"),
        ("rms_norm_eps", "small", "rms_norm_eps = small"),
        ("rms_norm_eps", -1.0, "rms_norm_eps = -1.0"),
        ("rope_theta", {"x": 1}, "rope_theta = {'x': 1}"),
        ("rope_scaling", 3, "rope_scaling = 3"),
        ("tie_word_embeddings", "yes", "tie_word_embeddings = yes"),
        ("max_position_embeddings", 2**40, "max_position_embeddings = 1099511627776"),
        ("quantization_config", {"bits": 4}, "quantization_config = {'bits': 4} is not known here"),
        ("architectures", 7, "architecture 7 is not known here"),
        ("architectures", [None], "architecture None is not known here"),
        ("architectures", {"a": 1}, "is not known here"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, tokenizer: Tokenizer, key: str, value: Any, said: str
) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    rewrite(tmp_path / "hf/config.json", **{key: value})
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path / "hf")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("layout", ["Llama", "GPT2"])
@pytest.mark.parametrize("how", ["missing", "unknown", "turned", "flat"])
def test_weights_that_do_not_fit_are_refused_at_the_door(
    tmp_path: Path, tokenizer: Tokenizer, layout: str, how: str
) -> None:
    from safetensors.torch import load_file, save_file

    written(tmp_path / "hf", tokenizer, layout)
    file = tmp_path / "hf/model.safetensors"
    weights = load_file(file)
    name = next(n for n in sorted(weights) if n.endswith(("up_proj.weight", "c_fc.weight")))
    match how:
        case "missing":
            del weights[name]
        case "unknown":
            weights["more.weight"] = torch.ones(2)
        case "turned":
            weights[name] = weights[name].T.contiguous()
        case "flat":
            weights = {key: value.flatten() for key, value in weights.items()}
    save_file(weights, file)
    with pytest.raises(InputError, match=r"weights do not fit config\.json: \S+ is "):
        read_folder(tmp_path / "hf")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "x.bin",
        7,
        "a\\b.safetensors",
    ],
)
def test_weights_outside_the_folder_are_not_read(
    tmp_path: Path, tokenizer: Tokenizer, name: Any
) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    (tmp_path / "hf/model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"weight_map": {"model.norm.weight": name}}
    (tmp_path / "hf/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index\.json: weight_map"):
        read_folder(tmp_path / "hf")


def replacing(pattern: dict[str, str]) -> Any:
    return {"type": "Replace", "pattern": pattern, "content": "x"}


@pytest.mark.parametrize(
    ("normalizer", "said"),
    [
        (replacing({"String": ""}), "matches empty texts"),
        (replacing({"Regex": "a*"}), "matches empty texts"),
        ({"type": "Sequence", "normalizers": [replacing({"Regex": "(x|)"})]}, "matches empty"),
        (replacing({"Regex": "((("}), "not a tokenizer"),
        ({"type": "Nonsense"}, "not a tokenizer"),
        (3, "not a tokenizer"),
    ],
)
def test_hostile_patterns_of_a_tokenizer_are_refused(
    tmp_path: Path, tokenizer: Tokenizer, normalizer: Any, said: str
) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    rewrite(tmp_path / "hf/tokenizer.json", normalizer=normalizer)
    with pytest.raises(InputError, match=said):
        read_folder(tmp_path / "hf")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"\xff{}", "tokenizer.json: byte 0xff at 0 is not UTF-8"),
        ("tokenizer.json", b"[" * 100_000, "tokenizer.json: not a tokenizer"),
        ("tokenizer.json", b"null", "tokenizer.json: not a tokenizer"),
        ("config.json", b"[1]", "config.json: holds no JSON object"),
        ("config.json", b"\xff", "is not UTF-8"),
        ("config.json", b'{"a":' * 100_000, "config.json: cannot be read"),
        ("tokenizer_config.json", b'{"chat_template": "\xff"}', "is not UTF-8"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja: byte 0xff at 0 is not UTF-8"),
    ],
)
def test_files_that_are_no_text_are_named(
    tmp_path: Path, tokenizer: Tokenizer, name: str, content: bytes, said: str
) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    (tmp_path / "hf" / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path / "hf")
    assert said in str(caught.value)


def test_a_role_that_is_no_text_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    written(tmp_path / "hf", tokenizer, "Llama")
    rewrite(tmp_path / "hf/tokenizer.json", post_processor=None)
    rewrite(tmp_path / "hf/tokenizer_config.json", eos_token=["<eos>"])
    with pytest.raises(InputError, match="names a token"):
        read_folder(tmp_path / "hf")


def test_nothing_is_left_where_writing_fails(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config, net = network(tokenizer, "Llama")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/mine.txt").write_text("x")
    with pytest.raises(InputError, match="exists"):
        write_folder(
            tmp_path / "hf", config, net.state_dict(), tokenizer, CONTEXT, stops=[2], template=None
        )
    assert [p.name for p in tmp_path.rglob("*")] == ["hf", "mine.txt"]


def test_a_folder_of_something_else_is_none(tmp_path: Path) -> None:
    assert not is_folder(tmp_path)

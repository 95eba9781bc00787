"""The networks beside Hugging Face's and beside themselves: cached, packed, ragged, in pieces."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.cached_lm import CachedLM, Prefix
from aigc_cli.nn.causal_lm import GPT2, CausalLM, Llama, token_losses
from aigc_cli.nn.lora import add_adapters
from aigc_cli.specs.text import IGNORE

V, CONTEXT = 37, 24
LAYOUTS = ["llama", "qwen2", "qwen3", "gpt2"]


def network(layout: str, **changes: Any) -> CausalLM:
    torch.manual_seed(0)
    if layout == "gpt2":
        sizes: dict[str, Any] = {"dim": 16, "num_layers": 2, "num_heads": 2, "bias": True}
        gpt2 = GPT2(
            V, CONTEXT, **{**sizes, "gelu": "exact", "eps": 1e-5, "dropout": 0.0, **changes}
        )
        return gpt2.eval()
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    rest = {"hidden_dim": 32, "rope_theta": 10_000.0, "tied": False, "eps": 1e-6, "dropout": 0.0}
    kind = {"qk_norm": layout == "qwen3", "qkv_bias": layout == "qwen2"}
    return Llama(V, CONTEXT, **{**sizes, **rest, **kind, **changes}).eval()


def tokens(rows: int = 2, length: int = 11) -> Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(1))


def hugging_face(layout: str) -> Any:
    transformers = pytest.importorskip("transformers")
    common = {"vocab_size": V, "use_cache": False, "bos_token_id": None, "eos_token_id": None}
    if layout == "gpt2":
        config = transformers.GPT2Config(
            n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT, activation_function="gelu",
            **common,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).eval()
    kind = layout.capitalize()
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=CONTEXT, rms_norm_eps=1e-6,
        tie_word_embeddings=False, rope_theta=10_000.0, **common,
    )  # fmt: skip
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_those_of_hugging_face_under_the_same_names(layout: str) -> None:
    theirs, ours = hugging_face(layout), network(layout)
    state = {}
    for name, value in theirs.state_dict().items():
        conv1d = layout == "gpt2" and any(k in name for k in ("c_attn.w", "c_proj.w", "c_fc.w"))
        if layout != "gpt2" or name != "lm_head.weight":  # tied
            state[name] = value.T if conv1d else value
    ours.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens()), theirs(tokens()).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cache_changes_nothing(layout: str) -> None:
    net, x = network(layout), tokens()
    with torch.no_grad():
        whole = net(x)
        cached, prefix = CachedLM(net), Prefix()
        steps = [cached(x[:, :4], prefix)]
        steps += [cached(x[:, t : t + 1], prefix) for t in range(4, 9)]
        steps.append(cached(x[:, 9:], prefix))  # two tokens at once
    expected = whole[:, [3, 4, 5, 6, 7, 8, 10]]
    torch.testing.assert_close(torch.stack(steps, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompts_of_several_lengths_are_read_as_each_by_itself(layout: str) -> None:
    net, lengths = network(layout), [7, 3, 5]
    x = tokens(3, 9)
    left = torch.zeros(3, 7, dtype=torch.int64)
    for row, n in enumerate(lengths):
        left[row, 7 - n :] = x[row, :n]
    with torch.no_grad():
        cached, prefix = CachedLM(net), Prefix(torch.tensor([7 - n for n in lengths]))
        together = [cached(left, prefix)]
        prefix.select(torch.tensor([2, 0, 1, 1]))
        following = torch.stack([x[row, lengths[row] : lengths[row] + 1] for row in (2, 0, 1, 1)])
        together.append(cached(following, prefix)[[1, 2, 0]])
        for step, logits in enumerate(together):
            for row, n in enumerate(lengths):
                alone = net(x[row : row + 1, : n + step])[0, -1]
                torch.testing.assert_close(logits[row], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_coarser_weights_give_nearly_the_same_probabilities(
    layout: str, precision: Literal["bfloat16", "int8"]
) -> None:
    net, x = network(layout, dim=64, head_dim=16) if layout != "gpt2" else network(layout), tokens()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(4 if p.ndim > 1 else 1)  # so that tokens matter
        exact = net(x).log_softmax(-1)
    cached, prefix = CachedLM(net, precision), Prefix()
    steps = [cached(x[:, :4], prefix), *(cached(x[:, t : t + 1], prefix) for t in range(4, 11))]
    coarse = torch.stack(steps, 1).log_softmax(-1)
    torch.testing.assert_close(coarse, exact[:, 3:], rtol=0, atol=0.1)
    assert not torch.equal(coarse, exact[:, 3:])


def test_adapters_write_as_they_were_trained() -> None:
    net, x = network("llama"), tokens()
    for p in add_adapters(net.blocks, rank=2, alpha=4.0):
        nn.init.normal_(p, 0.0, 0.3)
    with torch.no_grad():
        expected = net(x)[:, -1]
    torch.testing.assert_close(CachedLM(net)(x, Prefix()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_texts_do_not_see_each_other(layout: str) -> None:
    net, x = network(layout), tokens(1, 12)
    document = torch.tensor([[0] * 5 + [1] * 4 + [2] * 3])
    with torch.no_grad():
        packed = net(x, target=x, document=document)
        alone = [net(part, target=part) for part in x.split([5, 4, 3], 1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=1e-5, atol=1e-5)
    changed = x.clone()
    changed[0, 0] += 1
    with torch.no_grad():
        assert torch.equal(net(changed % V, target=x, document=document)[:, 5:], packed[:, 5:])


@pytest.mark.parametrize("most", [V, 4 * V + 1, 10_000])
def test_cross_entropy_in_pieces_has_the_same_values_and_gradients(most: int) -> None:
    torch.manual_seed(2)
    hidden = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    head = torch.randn(V, 8, dtype=torch.float64, requires_grad=True)
    target = torch.randint(V, (2, 5))
    target[0, :2] = IGNORE
    weights = torch.rand(2, 5)

    def gradients(losses: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((losses * weights).sum(), (hidden, head))

    logits = hidden @ head.T
    whole = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), reduction="none")
    made = token_losses(hidden, head, target, most=most)
    torch.testing.assert_close(made.flatten(), whole)
    assert made[0, :2].eq(0).all()
    for ours, theirs in zip(gradients(made), gradients(whole.view(2, 5)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_pieces_of_logits_need_the_memory_of_one() -> None:
    """The largest tensor that autograd keeps is no larger than the piece."""
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    hidden, head = torch.randn(1, 400, 4, requires_grad=True), torch.randn(V, 4, requires_grad=True)
    target = torch.zeros(1, 400, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        token_losses(hidden, head, target, most=20 * V).sum()
    assert max(kept, default=0) < 400 * V
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        token_losses(hidden, head, target).sum()
    assert max(kept) == 400 * V


def test_initial_weights_are_nanogpts() -> None:
    net = network("gpt2", dim=128, num_layers=4, num_heads=4, bias=False)
    spread = {name: p.std().item() for name, p in net.named_parameters() if p.ndim == 2}
    assert spread["transformer.wte.weight"] == pytest.approx(0.02, rel=0.05)
    assert spread["transformer.h.1.attn.c_attn.weight"] == pytest.approx(0.02, rel=0.05)
    assert spread["transformer.h.3.mlp.c_proj.weight"] == pytest.approx(0.02 / 8**0.5, rel=0.05)
    assert sum(p.numel() for p in net.parameters()) - 128 * CONTEXT == 786_432 + 128 * (9 + V)

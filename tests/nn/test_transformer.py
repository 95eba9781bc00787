"""Attention and the blocks of the encoder-decoder beside torch's own."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from aigc_cli.nn.transformer import (
    Cache,
    DecoderBlock,
    EncoderBlock,
    RMSNorm,
    Rope,
    attend,
    rotate,
    sinusoids,
)

Norm = Literal["pre", "post"]


def test_rotation_depends_on_the_distance_of_positions_alone() -> None:
    torch.manual_seed(0)
    rope, q, k = Rope(8, 32), torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(a: int, b: int) -> Tensor:
        return (rotate(q, rope(slice(a, a + 1))) * rotate(k, rope(slice(b, b + 1)))).sum()

    torch.testing.assert_close(product(3, 1), product(20, 18))
    assert (product(3, 1) - product(3, 2)).abs() > 1e-3
    positions = torch.tensor([[5], [9]])
    each = rotate(q.expand(2, -1, -1, -1), rope(positions))
    torch.testing.assert_close(each[1:], rotate(q, rope(slice(9, 10))))


def test_rms_norm_is_computed_in_float32() -> None:
    norm = RMSNorm(64)
    x = torch.full((2, 64), 300.0, dtype=torch.float16)  # whose squares overflow
    torch.testing.assert_close(norm(x), torch.ones(2, 64, dtype=torch.float16))


@pytest.mark.parametrize("T", [1, 3])
def test_queries_that_share_keys_attend_as_if_these_were_repeated(T: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 6, T, 4), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    mask = torch.tensor([[False, True, True, True, True], [True] * 5])[:, None, None]
    ours = attend(q, k, v, mask=mask, causal=False)
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = (q @ k.mT / 2).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(ours, (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_a_cache_keeps_what_is_appended_over_many_doublings() -> None:
    cache, x = Cache(), torch.randn(2, 3, 300, 4)
    for begin in (*range(7), 7, 200):
        end = {7: 200, 200: 300}.get(begin, begin + 1)
        keys, values = cache.append(x[:, :, begin:end], -x[:, :, begin:end])
        assert torch.equal(keys, x[:, :, :end])
        assert torch.equal(values, -x[:, :, :end])
    cache.select(torch.tensor([1, 1, 0]))
    keys, _ = cache.append(x[[0, 0, 0], :, :1], x[[0, 0, 0], :, :1])
    assert torch.equal(keys[:, :, :300], x[[1, 1, 0]])


def copied(ours: EncoderBlock | DecoderBlock, theirs: nn.Module) -> None:
    """Give our block the weights of torch's."""
    state = theirs.state_dict()

    def attention(name: str) -> dict[str, Tensor]:
        made = {}
        for kind in ("weight", "bias"):
            parts = state[f"{name}.in_proj_{kind}"].chunk(3)
            made |= {f"{p}_proj.{kind}": t for p, t in zip("qkv", parts, strict=True)}
            made[f"o_proj.{kind}"] = state[f"{name}.out_proj.{kind}"]
        return made

    mine = {f"self_attn.{k}": v for k, v in attention("self_attn").items()}
    if isinstance(ours, DecoderBlock):
        mine |= {f"cross_attn.{k}": v for k, v in attention("multihead_attn").items()}
    for kind in ("weight", "bias"):
        mine[f"feed_forward.0.{kind}"] = state[f"linear1.{kind}"]
        mine[f"feed_forward.3.{kind}"] = state[f"linear2.{kind}"]
        for n in (1, 2, 3):
            if f"norm{n}.{kind}" in state:
                mine[f"norm_{n}.{kind}"] = state[f"norm{n}.{kind}"]
    ours.load_state_dict(mine)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_block_is_torchs(norm: Norm, activation: Literal["relu", "gelu"]) -> None:
    torch.manual_seed(0)
    ours = EncoderBlock(8, 2, hidden_dim=12, norm=norm, activation=activation)
    theirs = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
    )
    copied(ours, theirs)
    x, pad = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    expected = theirs(x, src_key_padding_mask=pad)
    made = ours(x, mask=~pad[:, None, None])
    torch.testing.assert_close(made[~pad], expected[~pad], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_block_is_torchs_with_and_without_cache(norm: Norm) -> None:
    torch.manual_seed(0)
    ours = DecoderBlock(8, 2, hidden_dim=12, norm=norm)
    theirs = nn.TransformerDecoderLayer(
        8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm == "pre"
    )
    copied(ours, theirs)
    x, memory = torch.randn(2, 4, 8), torch.randn(2, 5, 8)
    pad = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    expected = theirs(x, memory, causal, memory_key_padding_mask=pad.float() * -1e9)
    projected, mask = ours.cross_attn.project(memory), ~pad[:, None, None]
    made, _ = ours(x, projected, memory_mask=mask)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    cache = Cache()
    steps = [
        ours(x[:, t : t + 1], projected, memory_mask=mask, cache=cache, looking=True)
        for t in range(4)
    ]
    torch.testing.assert_close(torch.cat([s for s, _ in steps], 1), expected, rtol=1e-5, atol=1e-5)
    seen = torch.cat([w for _, w in steps if w is not None], 1)  # (R, T, S)
    torch.testing.assert_close(seen.sum(-1), torch.ones(2, 4))
    assert seen[1, :, 3:].eq(0).all()


def test_sinusoids_are_those_of_the_paper() -> None:
    table = sinusoids(50, 6)
    assert table.shape == (50, 6)
    expected = torch.tensor(7 / 10_000 ** (2 / 6)).cos()
    torch.testing.assert_close(table[7, 3], expected)
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]

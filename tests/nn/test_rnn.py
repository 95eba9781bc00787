"""Recurrent encoder and decoder against single sentences, single steps, and attention by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from aigc_cli.nn.rnn import Attending, Attention, Cell, Encoder, RNNDecoder, State, init_recurrent

E, H = 5, 6
CELLS: tuple[Cell, ...] = get_args(Cell)
KINDS: tuple[Attending, ...] = get_args(Attending)
LENGTHS = torch.tensor([7, 3, 1])


def sources() -> Tensor:
    return torch.randn(3, 7, E, generator=torch.Generator().manual_seed(0))


def encoder(cell: Cell = "gru", *, bidirectional: bool = True, num_layers: int = 2) -> Encoder:
    torch.manual_seed(0)
    return Encoder(cell, E, H, num_layers, state_dim=H, key_dim=H, bidirectional=bidirectional)


def decoder(
    cell: Cell, kind: Attending, *, coverage: bool = False, memory_dim: int = H
) -> RNNDecoder:
    torch.manual_seed(1)
    return RNNDecoder(cell, E, H, 2, memory_dim=memory_dim, attention=kind, coverage=coverage)


def tensors(state: State) -> list[Tensor]:
    return [*state.hidden, *(v for v in vars(state).values() if isinstance(v, Tensor))]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(cell: Cell, bidirectional: bool) -> None:
    encode = encoder(cell, bidirectional=bidirectional)
    x = sources()
    noisy = x.masked_fill(torch.arange(7)[None, :, None] >= LENGTHS[:, None, None], 1e3)
    together = encode(noisy, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = encode(x[row : row + 1, :length], LENGTHS[row : row + 1])
        for a, b in zip(together.hidden, alone.hidden, strict=True):
            torch.testing.assert_close(a[:, row], b[:, 0])
        torch.testing.assert_close(together.values[row, :length], alone.values[0])
        assert together.values[row, length:].eq(0).all()
        assert together.mask[row].sum() == length


def test_one_direction_hands_its_last_state_over() -> None:
    encode = encoder("lstm", bidirectional=False)
    state = encode(sources(), LENGTHS)
    _, (h, c) = encode.rnn(sources()[1:2, :3])
    torch.testing.assert_close(state.hidden[0][:, 1:2], h)
    torch.testing.assert_close(state.hidden[1][:, 1:2], c)
    torch.testing.assert_close(state.summary[1:2], h[-1])


def test_both_directions_meet_in_the_bridge() -> None:
    encode = encoder("gru", num_layers=1)
    state = encode(sources(), LENGTHS)
    _, h = encode.rnn(sources()[2:, :1])  # (directions, 1, H)
    bridge = encode.bridge[0]
    assert isinstance(bridge, nn.Linear)
    expected = torch.tanh(bridge(torch.cat([h[0], h[1]], -1)))
    torch.testing.assert_close(state.hidden[0][0, 2:], expected)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@torch.no_grad()
def test_attention_is_what_one_computes_by_hand(kind: Attending) -> None:
    assert kind == "additive" or kind == "multiplicative"
    state = encoder()(sources(), LENGTHS)
    state = replace(state, coverage=torch.rand(3, 7))
    attention = Attention(kind, H, H, coverage=True)
    query = torch.randn(3, H)
    weights = attention(query, state)
    assert attention.coverage is not None
    c = attention.coverage.weight[:, 0]
    for b, length in enumerate(LENGTHS.tolist()):
        energies = []
        for s in range(length):
            key = state.keys[b, s] + c * state.coverage[b, s]
            if attention.query is None or attention.energy is None:
                energies.append(sum(float(k * q) for k, q in zip(key, query[b], strict=True)))
            else:
                Wq = attention.query.weight @ query[b]
                energies.append(float(attention.energy.weight[0] @ torch.tanh(Wq + key)))
        total = sum(map(math.exp, energies))
        expected = [math.exp(e) / total for e in energies] + [0.0] * (7 - length)
        torch.testing.assert_close(weights[b].tolist(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("coverage", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_one_token_at_a_time_gives_the_same(cell: Cell, kind: Attending, coverage: bool) -> None:
    state = encoder(cell)(sources(), LENGTHS)
    decode = decoder(cell, kind, coverage=coverage, memory_dim=2 * H)
    x = torch.randn(3, 4, E)
    whole, end = decode(x, state)
    assert whole.shape == (3, 4, decode.feature_dim)
    features = []
    for t in range(4):
        feature, state = decode(x[:, t : t + 1], state)
        features.append(feature)
    torch.testing.assert_close(torch.cat(features, 1), whole)
    for a, b in zip(tensors(state), tensors(end), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_coverage_is_the_sum_of_attention(kind: Attending) -> None:
    state = encoder()(sources(), LENGTHS)
    decode = decoder("gru", kind, coverage=True, memory_dim=2 * H)
    total = torch.zeros(3, 7)
    for t in range(3):
        _, state = decode(torch.randn(3, 1, E), state)
        assert state.attention is not None
        total = total + state.attention
        torch.testing.assert_close(state.attention.sum(1), torch.ones(3))
        assert state.attention[~state.mask].eq(0).all()
        torch.testing.assert_close(state.coverage, total)
        torch.testing.assert_close(state.coverage.sum(1), torch.full((3,), t + 1.0))


def test_additive_attention_asks_with_the_state_before_the_step() -> None:
    state = encoder("gru", num_layers=2)(sources(), LENGTHS)
    decode = decoder("gru", "additive", memory_dim=2 * H)
    x = torch.randn(3, 1, E)
    features, after = decode(x, state)
    assert decode.attention is not None
    weights = decode.attention(state.hidden[0][-1], state)
    context = torch.einsum("bs,bsm->bm", weights, state.values)
    made, hidden = decode.rnn(torch.cat([x[:, 0], context], -1)[:, None], state.hidden[0])
    torch.testing.assert_close(after.hidden[0], hidden)
    torch.testing.assert_close(features[:, 0], torch.cat([made[:, 0], context, x[:, 0]], -1))


def test_multiplicative_attention_feeds_what_it_found_to_the_next_step() -> None:
    state = encoder("gru")(sources(), LENGTHS)
    decode = decoder("gru", "multiplicative", memory_dim=2 * H)
    assert decode.combine is not None
    hidden, found = state.hidden[0], torch.zeros(3, H)
    x = torch.randn(3, 2, E)
    features, _ = decode(x, state)
    for t in range(2):
        made, hidden = decode.rnn(torch.cat([x[:, t], found], -1)[:, None], hidden)
        scores = torch.einsum("bsh,bh->bs", state.keys, made[:, 0])
        weights = scores.masked_fill(~state.mask, -torch.inf).softmax(1)
        context = torch.einsum("bs,bsm->bm", weights, state.values)
        found = torch.tanh(decode.combine(torch.cat([context, made[:, 0]], -1)))
        torch.testing.assert_close(features[:, t], found)


@pytest.mark.parametrize("kind", KINDS)
def test_selected_rows_go_on_as_if_they_were_alone(kind: Attending) -> None:
    decode = decoder("lstm", kind, memory_dim=2 * H)
    state = encoder("lstm")(sources(), LENGTHS)
    x = torch.randn(3, 2, E)
    expected, _ = decode(x, state)
    _, state = decode(x[:, :1], state)
    rows = torch.tensor([2, 0, 2])
    got, _ = decode(x[rows, 1:], state.select(rows))
    torch.testing.assert_close(got, expected[rows, 1:])


def test_the_source_is_projected_once() -> None:
    encode, decode = encoder(), decoder("gru", "additive", memory_dim=2 * H)
    assert encode.keys is not None
    calls: list[int] = []
    encode.keys.register_forward_hook(lambda *_: calls.append(1))
    decode(torch.randn(3, 9, E), encode(sources(), LENGTHS))
    assert len(calls) == 1


def test_initial_weights_are_those_named() -> None:
    module = nn.ModuleDict({"rnn": nn.LSTM(50, 60), "embedding": nn.Embedding(100, 64)})
    init_recurrent(module, "uniform")
    for weight in module.parameters():
        assert 0.06 < weight.abs().max() <= 0.08
    init_recurrent(module, "normal")
    for name, weight in module.named_parameters():
        if "bias" in name:
            assert weight.eq(0).all()
        else:
            assert weight.std().item() == pytest.approx(0.01, rel=0.05)
    init_recurrent(module, "orthogonal")
    parts = dict(module.named_parameters())
    for gate in parts["rnn.weight_hh_l0"].split(60):
        torch.testing.assert_close(gate @ gate.T, torch.eye(60), atol=1e-5, rtol=0)
    bias = parts["rnn.bias_ih_l0"] + parts["rnn.bias_hh_l0"]
    assert bias.tolist() == [0.0] * 60 + [1.0] * 60 + [0.0] * 120
    assert parts["embedding.weight"].std().item() == pytest.approx(1 / 8, rel=0.05)

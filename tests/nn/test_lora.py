"""Adapters begin as nothing, can be switched off, and merge into the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aigc_cli.nn.lora import LoRALinear, add_adapters, merge_adapters, without_adapters


def network() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6, bias=False))
    return nn.Sequential(nn.Sequential(block, nn.LayerNorm(6)), nn.Linear(6, 3))


def adapted(*, trained: bool) -> nn.Sequential:
    net = network()
    for p in add_adapters(net[0], rank=2, alpha=8.0):
        if trained:
            nn.init.normal_(p)
    return net


def test_adapters_change_nothing_at_first() -> None:
    x = torch.randn(5, 6)
    assert torch.equal(adapted(trained=False)(x), network()(x))


def test_a_layer_adds_the_scaled_product() -> None:
    torch.manual_seed(1)
    layer = LoRALinear(nn.Linear(3, 4), rank=2, alpha=6.0, dropout=0.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(7, 3)
    weight = layer.weight + 3 * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(x), x @ weight.T + layer.bias)


def test_only_linear_layers_of_the_blocks_are_adapted() -> None:
    net = network()
    trained = add_adapters(net[0], rank=2, alpha=2.0)
    assert sorted(tuple(p.shape) for p in trained) == [(2, 6), (2, 10), (6, 2), (10, 2)]
    assert type(net[1]) is nn.Linear


def test_adapters_can_be_switched_off() -> None:
    net, x = adapted(trained=True), torch.randn(5, 6)
    with without_adapters(net):
        assert torch.equal(net(x), network()(x))
    assert not torch.allclose(net(x), network()(x))


@pytest.mark.parametrize("prefix", ["", "net."])
def test_merged_weights_compute_the_same(prefix: str) -> None:
    net, x = adapted(trained=True), torch.randn(5, 6)
    merged = merge_adapters({prefix + k: v for k, v in net.state_dict().items()})
    plain = network()
    plain.load_state_dict({k.removeprefix(prefix): v for k, v in merged.items()})
    torch.testing.assert_close(plain(x), net(x), rtol=0, atol=1e-5)


def test_weights_keep_their_names() -> None:
    assert network().state_dict().keys() <= adapted(trained=False).state_dict().keys()


def test_dropout_only_while_training() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(50, 4), rank=2, alpha=2.0, dropout=0.5)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(3, 50)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))

"""A frozen copy computes what the network computed, and belongs to nobody."""

from __future__ import annotations

import torch
from torch import nn

from aigc_cli.nn.frozen import frozen_copy


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Dropout(0.5), nn.Linear(4, 4, bias=False))
    net[2].weight = net[0].weight  # tied, as of embeddings
    return net


def test_it_stays_while_the_network_changes() -> None:
    net, x = network().eval(), torch.randn(3, 4)
    before = net(x)
    frozen = frozen_copy(net)
    with torch.no_grad():
        net[0].weight.add_(1)
    assert torch.equal(frozen(x), before)
    assert not torch.equal(net(x), before)


def test_it_has_the_names_of_the_network_and_no_parameters() -> None:
    net = network()
    frozen = frozen_copy(net)
    assert frozen.state_dict().keys() == net.state_dict().keys()
    assert not list(frozen.parameters())
    assert len(list(net.parameters())) == 1
    assert not frozen.training

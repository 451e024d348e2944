"""Costs against published figures, and against counting by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmfr.models import BackboneConfig, build_backbone, count
from openmfr.models.mobilefacenet import MobileFaceNet
from openmfr.models.resnet import ResNet


def build_without_storage(name: str, *, input_size: int = 112) -> nn.Module:
    with torch.device("meta"):
        return build_backbone(BackboneConfig(name=name, input_size=input_size))


@pytest.mark.parametrize(
    ("name", "giga_macs", "mega_params"),
    [("resnet50", 4.12, 23.5), ("se_resnet50", 4.12, 26.0), ("resnext50", 4.27, 22.9)],
)
def test_baselines_cost_what_the_papers_table_7_says(
    name: str, giga_macs: float, mega_params: float
) -> None:
    network = build_without_storage(name, input_size=224)
    assert isinstance(network, ResNet)
    cost = count(network.trunk, 224)
    assert round(cost.macs / 1e9, 2) == giga_macs
    assert math.floor(cost.params / 1e5) / 10 == mega_params  # the table cuts, see macs.py


def test_convolutions_and_products_of_resnet50_are_the_4_09_g_that_others_quote() -> None:
    with torch.device("meta"):
        network = ResNet(embedding_dim=1000)
    assert round(count(network, 224).matmul_macs / 1e9, 2) == 4.09


@pytest.mark.parametrize(
    ("depth", "params", "giga_macs"),
    [
        (18, 24_025_600, 2.62),
        (34, 34_139_328, 4.48),
        (50, 43_590_848, 6.33),
        (100, 65_156_160, 12.12),
        (200, 118_833_920, 23.48),
    ],
)
def test_iresnets_cost_what_arcface_torch_says(depth: int, params: int, giga_macs: float) -> None:
    cost = count(build_without_storage(f"iresnet{depth}"), 112)
    assert cost.params == params
    assert round(cost.macs / 1e9, 2) == giga_macs


def test_mobilefacenet_costs_what_its_paper_says() -> None:
    cost = count(MobileFaceNet(embedding_dim=128), 112)
    assert round(cost.matmul_macs / 1e6) == 221
    assert cost.params == pytest.approx(0.99e6, rel=0.02)


def test_functions_count_like_modules() -> None:
    class ByModules(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3 * 8 * 8, 10)
            self.activation = nn.ReLU(inplace=True)

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.activation(self.linear(images.flatten(1)))
            return out

    class ByFunctions(ByModules):
        def forward(self, images: Tensor) -> Tensor:
            return F.relu(images.flatten(1) @ self.linear.weight.T + self.linear.bias)

    by_hand = 3 * 8 * 8 * 10
    for network in (ByModules(), ByFunctions()):
        cost = count(network, 8)
        assert (cost.matmul_macs, cost.macs, cost.params) == (by_hand, by_hand + 10, by_hand + 10)


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_backbone(BackboneConfig(name="tiny", input_size=64)).train()
    network.get_submodule("stem").eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count(network, 64)
    assert network.training
    assert not network.get_submodule("stem").training
    for name, tensor in network.state_dict().items():
        assert tensor.device.type == "cpu"
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)

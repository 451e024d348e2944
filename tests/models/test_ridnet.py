"""RIDNets: described by data, equal where they are the same, and the same when they are fused."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Literal

import pytest
import torch
from torch import nn

from openmfr.config import from_dict, to_dict
from openmfr.errors import UserError
from openmfr.models import BackboneConfig, build_backbone, count
from openmfr.models.ridnet import (
    KERNELS,
    SHIPPED,
    Architecture,
    Block,
    Definition,
    Kernel,
    Origin,
    Path,
    RIDNet,
    Stage,
    fuse,
    load_definition,
    read_definition,
    shipped_definition,
    write_definition,
)
from openmfr.models.ridnet.network import PathLayers, SplitAttention
from openmfr.recipes import load_recipe
from openmfr.train.config import changed

PLAIN = Block(paths=(Path(kernel="3", depth=2), Path(kernel="1", depth=2)))
DENSE = Block(
    paths=(
        Path(kernel="1x5+5x1", depth=3, is_dense=True),
        Path(kernel="7", depth=2),
        Path(kernel="1x3+3x1", depth=2),
    )
)
SMALL = Architecture(
    input_size=32,
    stem=8,
    stages=(
        Stage(channels=16, width=8, depth=2, pattern=(PLAIN,)),
        Stage(channels=24, width=24, depth=3, pattern=(PLAIN, DENSE)),
    ),
    neck=8,
)


def settled(architecture: Architecture, *, seed: int = 0) -> RIDNet:
    """A network in evaluation mode whose batch norms are anything but neutral."""
    torch.manual_seed(seed)
    network = RIDNet(architecture, embedding_dim=16).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def test_an_architecture_comes_back_from_its_file(tmp_path: FilePath) -> None:
    origin = Origin(command="openmfr search run", seed=3, log="log.jsonl")
    definition = Definition(architecture=SMALL, origin=origin)
    write_definition(tmp_path / "small.json", definition)
    found = read_definition(tmp_path / "small.json")
    assert found == definition
    assert found.architecture.fingerprint == SMALL.fingerprint
    assert load_definition(str(tmp_path / "small.json")) == definition


def test_the_same_network_described_otherwise_is_equal() -> None:
    turned = Block(paths=PLAIN.paths[::-1])
    repeated = replace(SMALL.stages[0], pattern=(turned, PLAIN))
    assert replace(SMALL, stages=(repeated, SMALL.stages[1])) == SMALL
    other = replace(SMALL, neck=16)
    assert other != SMALL
    assert other.fingerprint != SMALL.fingerprint


def test_blocks_take_their_pattern_in_turn() -> None:
    assert list(SMALL.stages[1].blocks()) == [PLAIN, DENSE, PLAIN]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("is_dense", [False, True])
def test_every_path_keeps_the_shape_of_its_input(kernel: Kernel, is_dense: bool) -> None:
    path = PathLayers(Path(kernel=kernel, depth=3, is_dense=is_dense), 24)
    assert path(torch.zeros(2, 24, 9, 7)).shape == (2, 24, 9, 7)


def test_a_dense_layer_sees_the_input_and_all_outputs_before_it() -> None:
    path = PathLayers(Path(kernel="3", depth=3, is_dense=True), 24)
    convolutions = [m for m in path.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(24, 8), (32, 8), (40, 8)]


def test_no_convolution_is_depth_wise() -> None:
    with torch.device("meta"):
        network = RIDNet(SMALL)
    assert {m.groups for m in network.modules() if isinstance(m, nn.Conv2d)} == {1}


def test_attention_is_a_weighted_mean_of_what_the_paths_say() -> None:
    torch.manual_seed(0)
    attention = SplitAttention(16, 3)
    same = torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(attention([same, same, same]), same)
    low, high = torch.zeros(2, 16, 5, 5), torch.ones(2, 16, 5, 5)
    between = attention([low, high, low])
    assert ((between > 0) & (between < 1)).all()


def test_every_trained_parameter_gets_a_gradient() -> None:
    with torch.device("meta"):
        network = RIDNet(SMALL)
        network(torch.empty(2, 3, 32, 32)).sum().backward()
    without = [k for k, v in network.named_parameters() if v.requires_grad and v.grad is None]
    assert not without


def test_one_image_can_be_embedded_in_training_up_to_the_last_norm() -> None:
    """Attention has no batch norm, which a single image would break."""
    assert SplitAttention(16, 2).train()([torch.zeros(1, 16, 4, 4)] * 2).shape == (1, 16, 4, 4)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_a_fused_network_says_the_same(
    dtype: torch.dtype, error: float, stem_stride: Literal[1, 2]
) -> None:
    network = settled(replace(SMALL, stem_stride=stem_stride)).to(dtype)
    before = copy.deepcopy(network.state_dict())
    fused = fuse(network)
    images = torch.randn(4, 3, 32, 32, dtype=dtype)
    with torch.no_grad():
        expected, found = network(images), fused(images)
    assert (expected - found).abs().max() <= error * expected.abs().max()
    kinds = Counter(type(module).__name__ for module in fused.modules())
    assert not {"BatchNorm1d", "BatchNorm2d"} & set(kinds)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_fusing_a_network_in_training_takes_its_statistics() -> None:
    network = settled(SMALL)
    images = torch.randn(2, 3, 32, 32)
    expected = fuse(network)(images)
    assert torch.equal(fuse(network.train())(images), expected)
    assert network.training


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [("ridnet_s", 5.34e9, 19.7e6), ("ridnet_m", 30.85e9, 161e6), ("ridnet_l", 71.58e9, 282e6)],
)
def test_the_papers_sizes_cost_what_the_paper_says(name: str, macs: float, params: float) -> None:
    """MFR paper, Table 7 and §3.2; multiply-adds as its other figures count them."""
    with torch.device("meta"):
        cost = count(build_backbone(BackboneConfig(name=name)), 112)
    assert cost.macs == pytest.approx(macs, rel=0.02)
    assert cost.params == pytest.approx(params, rel=0.02)


def test_the_small_ones_suit_a_laptop() -> None:
    with torch.device("meta"):
        tiny, xs = (count(build_backbone(BackboneConfig(name=n)), 112) for n in SHIPPED[:2])
        laptops = count(build_backbone(BackboneConfig(name="tiny")), 112)
    assert tiny.macs < 1.2 * laptops.macs
    assert tiny.macs < xs.macs < 1e9


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network_says_what_found_it(name: str) -> None:
    origin = shipped_definition(name).origin
    assert origin.command
    assert origin.log


def test_a_described_network_is_built_from_its_configuration_alone() -> None:
    config = BackboneConfig(name="ridnet", input_size=32, embedding_dim=16, architecture=SMALL)
    again = from_dict(BackboneConfig, json.loads(json.dumps(to_dict(config))), where="run.json")
    assert again == config
    with torch.device("meta"):
        assert build_backbone(again)(torch.empty(2, 3, 32, 32)).shape == (2, 16)


def test_a_description_goes_with_its_own_name_only() -> None:
    with pytest.raises(UserError, match=r"backbone.architecture: found none; .* name a network of"):
        BackboneConfig(name="ridnet")
    with pytest.raises(UserError, match="found one beside tiny"):
        BackboneConfig(name="tiny", architecture=SMALL)


def test_an_unknown_kernel_in_a_file_is_one_clear_error(tmp_path: FilePath) -> None:
    definition = Definition(architecture=SMALL, origin=Origin(command="", seed=None, log=""))
    write_definition(tmp_path / "a.json", definition)
    text = (tmp_path / "a.json").read_text().replace('"7"', '"9"')
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_definition(tmp_path / "a.json")
    (line,) = str(caught.value).splitlines()
    assert "kernel: found '9'; allowed: '1' or '3' or '5' or '7' or '1x3+3x1'" in line
    assert line.startswith(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neck": 20}, r"a\.json.*architecture.neck: found 20; allowed: multiples of 8"),
        ({"stages": []}, "architecture.stages: found 0; allowed: 1 to 5"),
        ({"input_size": 30}, "found 30; allowed: multiples of 4, .*; use 28"),
        ({"steam": 8}, "steam: found an unknown field; .* did you mean stem"),
        ({"stem_stride": 3}, "stem_stride: found 3; allowed: 1 or 2"),
    ],
)
def test_a_file_of_a_network_that_cannot_be_says_why(
    tmp_path: FilePath, change: dict[str, object], message: str
) -> None:
    content = {"architecture": to_dict(SMALL) | change, "format_version": 1}
    content["origin"] = {"command": "", "seed": None, "log": ""}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_definition(tmp_path / "a.json")


def test_a_dense_path_needs_channels_to_share_out() -> None:
    with pytest.raises(UserError, match=r"found 16; allowed: from 24, .*; use 24"):
        Stage(channels=16, width=16, depth=1, pattern=(DENSE,))


def test_all_faults_of_a_stage_are_said_together() -> None:
    with pytest.raises(UserError) as caught:
        Stage(channels=10, width=0, depth=0, pattern=())
    named = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert {"stage.channels", "stage.width", "stage.depth", "stage.pattern"} <= set(named)


@pytest.mark.parametrize("depth", [1, 5])
def test_a_path_of_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(UserError, match=f"path.depth: found {depth}; allowed: 2 to 4"):
        Path(kernel="3", depth=depth)


def test_a_shipped_network_is_found_by_a_name_that_is_nearly_right() -> None:
    with pytest.raises(UserError, match="did you mean ridnet_s"):
        load_definition("ridnets")


def test_a_file_that_a_search_wrote_is_a_network_by_its_path(tmp_path: FilePath) -> None:
    path = tmp_path / "best.json"
    origin = Origin(command="openmfr search run", seed=0, log="search.log")
    write_definition(path, Definition(architecture=SMALL, origin=origin))
    recipe = changed(load_recipe("tiny_real"), backbone=str(path))
    assert recipe.backbone.architecture == SMALL
    assert (recipe.backbone.input_size, recipe.backbone.embedding_dim) == (32, 256)
    assert isinstance(build_backbone(recipe.backbone), RIDNet)
    assert changed(recipe, backbone="mobilefacenet").backbone.architecture is None

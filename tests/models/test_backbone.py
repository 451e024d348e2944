"""Backbones chosen by name: what they accept, what they return, what they are compatible with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from openmfr.errors import UserError
from openmfr.models import BACKBONES, BackboneConfig, build_backbone
from openmfr.models.iresnet import DEPTHS, IResNet

USER_MODULE = """
import torch
from torch import nn

class Pooled(nn.Module):
    def __init__(self, embedding_dim, width=4):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, embedding_dim)

    def forward(self, images):
        return self.linear(self.norm(self.convolution(images)).mean((2, 3)))

class TakesAnything(Pooled):
    def __init__(self, **keywords):
        super().__init__(keywords["embedding_dim"])
        self.keywords = keywords

class Fixed(Pooled):
    def __init__(self):
        super().__init__(7)

class Demanding(Pooled):
    def __init__(self, embedding_dim, depth):
        super().__init__(embedding_dim)

class Broken(Pooled):
    def forward(self, images):
        raise ZeroDivisionError("a bug of the user")

class NoTensor(Pooled):
    def forward(self, images):
        return [images]

def build():
    return Pooled(512)
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user that can be imported, under a name of its own for each test."""
    name = f"user_networks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("input_size", [64, 112])
def test_every_backbone_maps_images_of_its_size_to_embeddings(name: str, input_size: int) -> None:
    config = BackboneConfig(name=name, input_size=input_size, embedding_dim=96, dropout=0.1)
    with torch.device("meta"):  # shapes alone
        network = build_backbone(config)
        embeddings = network(torch.empty(3, 3, input_size, input_size))
    assert embeddings.shape == (3, 96)


@pytest.mark.parametrize("name", ["tiny", "iresnet18", "mobilefacenet", "se_resnet50"])
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    with torch.device("meta"):
        network = build_backbone(BackboneConfig(name=name, input_size=32))
        network(torch.empty(2, 3, 32, 32)).sum().backward()
    without = [k for k, v in network.named_parameters() if v.requires_grad and v.grad is None]
    assert not without


def test_a_fresh_network_tells_different_images_apart_in_bfloat16_too() -> None:
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(name="tiny", input_size=32))
    images = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    exact = torch.nn.functional.normalize(network(images))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = torch.nn.functional.normalize(network(images).float())
    scores = exact @ rounded.T
    assert (scores.diagonal() > 0.98).all()
    assert (scores - scores.diagonal().diag()).max() < 0.9


def test_dropout_changes_embeddings_while_training_only() -> None:
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(name="tiny", input_size=32, dropout=0.5))
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def shapes_in_arcface_torch(blocks: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes in the state dictionary of an arcface_torch IResNet, in the order of its code."""

    def norm(channels: int) -> list[tuple[int, ...]]:
        return [(channels,)] * 4 + [()]  # weight, bias, mean, variance, batches seen

    shapes = [(64, 3, 3, 3), *norm(64), (64,)]  # conv1, bn1, prelu
    before = 64
    for stage, number in enumerate(blocks):
        channels = 64 * 2**stage
        for block in range(number):
            shapes += norm(before)  # bn1
            shapes += [(channels, before, 3, 3), *norm(channels), (channels,)]  # conv1, bn2, prelu
            shapes += [(channels, channels, 3, 3), *norm(channels)]  # conv2, bn3
            if block == 0:
                shapes += [(channels, before, 1, 1), *norm(channels)]  # downsample
            before = channels
    shapes += norm(512)  # bn2
    shapes += [(512, 512 * 7 * 7), (512,), *norm(512)]  # fc, features
    return shapes


@pytest.mark.parametrize("depth", DEPTHS)
def test_iresnet_state_matches_arcface_torch_entry_by_entry(depth: int) -> None:
    with torch.device("meta"):
        network = IResNet(blocks=DEPTHS[depth])
    shapes = [tuple(tensor.shape) for tensor in network.state_dict().values()]
    assert shapes == shapes_in_arcface_torch(DEPTHS[depth])


def test_an_embeddings_scale_per_dimension_is_not_learned() -> None:
    network = build_backbone(BackboneConfig(name="tiny", input_size=32))
    scale = network.get_parameter("embedding.out_norm.weight")
    assert not scale.requires_grad
    assert (scale == 1).all()


def test_published_networks_use_prelu_and_the_laptops_relu() -> None:
    with torch.device("meta"):
        published = build_backbone(BackboneConfig(name="iresnet18"))
        laptop = build_backbone(BackboneConfig(name="tiny"))
    assert not any(isinstance(module, nn.ReLU) for module in published.modules())
    assert not any(isinstance(module, nn.PReLU) for module in laptop.modules())


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("iresnet5", "iresnet50"), ("Tiny", "tiny"), ("mobile_facenet", "mobilefacenet")],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {meant}\\?"):
        BackboneConfig(name=wrong)


@pytest.mark.parametrize("name", ["package:", ":Class", ".relative:Class", "a:b:c", "a b:C"])
def test_a_malformed_class_path_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"allowed: .* or package\.module:Class"):
        BackboneConfig(name=name)


def test_all_faults_of_a_configuration_are_said_together() -> None:
    with pytest.raises(UserError) as caught:
        BackboneConfig(name="resnet5", input_size=100, embedding_dim=0, dropout=1.0)
    assert str(caught.value).splitlines()[1:] == [
        "backbone.input_size: found 100; allowed: multiples of 16 from 16 to 2048; use 96 or 112",
        "backbone.embedding_dim: found 0; allowed: integers from 1 to 65536; use 512",
        "backbone.dropout: found 1.0; allowed: from 0 to below 1; "
        "use 0.4 for large training sets and 0 for small ones",
    ]


@pytest.mark.parametrize("input_size", [-16, 0, 15])
def test_an_input_too_small_for_four_halvings_is_refused(input_size: int) -> None:
    with pytest.raises(UserError, match="use 16 or 32"):
        BackboneConfig(name="tiny", input_size=input_size)


def test_a_users_network_is_found_by_its_path_and_given_what_it_takes(user_module: str) -> None:
    network = build_backbone(BackboneConfig(name=f"{user_module}:Pooled", input_size=33))
    assert network(torch.zeros(2, 3, 33, 33)).shape == (2, 512)
    config = BackboneConfig(name=f"{user_module}:TakesAnything", input_size=33, dropout=0.2)
    keywords = build_backbone(config).keywords
    assert keywords == {"input_size": 33, "embedding_dim": 512, "dropout": 0.2}


def test_trying_a_users_network_leaves_its_statistics_and_mode_alone(user_module: str) -> None:
    network = build_backbone(BackboneConfig(name=f"{user_module}:Pooled"))
    assert network.training
    assert network.get_buffer("norm.num_batches_tracked") == 0


@pytest.mark.parametrize(
    ("class_name", "message"),
    [
        ("Fixed", r"returning torch.float32 \(2, 7\); allowed: .* embeddings \(2, 512\)"),
        ("NoTensor", "returning no tensor"),
        ("Demanding", "missing a required argument: 'depth'"),
        ("Poled", "did you mean Pooled"),
        ("build", "no class of networks"),
    ],
)
def test_a_users_network_that_does_not_fit_is_refused_with_the_reason(
    user_module: str, class_name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone(BackboneConfig(name=f"{user_module}:{class_name}"))


def test_a_module_that_cannot_be_found_is_refused() -> None:
    with pytest.raises(UserError, match="No module named 'no_such_package'"):
        build_backbone(BackboneConfig(name="no_such_package.networks:Net"))


def test_a_bug_in_a_users_network_keeps_its_own_traceback(user_module: str) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug of the user"):
        build_backbone(BackboneConfig(name=f"{user_module}:Broken"))

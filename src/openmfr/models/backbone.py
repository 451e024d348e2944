"""Choosing a backbone by name: one of ours, or any `nn.Module` of the user.

A backbone maps images (B, 3, H, W), float values in −1 to 1, to embeddings (B, D). Every builder
takes the keywords `input_size`, `embedding_dim` and `dropout`; a user's class may leave out those
that it has no use for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openmfr.errors import UserError, nearest, raise_together
from openmfr.models.iresnet import DEPTHS, IResNet
from openmfr.models.mobilefacenet import MobileFaceNet
from openmfr.models.resnet import ResNet
from openmfr.models.ridnet import SHIPPED, Architecture, RIDNet, build_shipped, read_definition

#: Our backbones by name. `tiny` is meant for one laptop: half the width, and strides early.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "tiny": partial(IResNet, blocks=(2, 3, 3, 2), width=32, stem_stride=2, activation_name="relu"),
    **{f"iresnet{depth}": partial(IResNet, blocks=blocks) for depth, blocks in DEPTHS.items()},
    "mobilefacenet": MobileFaceNet,
    "resnet50": ResNet,
    "se_resnet50": partial(ResNet, is_squeezed=True),
    "resnext50": partial(ResNet, groups=32, group_width=4),
    **{name: partial(build_shipped, name) for name in SHIPPED},
}

#: The name of a network that its architecture describes.
DESCRIBED = "ridnet"

#: Our backbones halve their input four times, so its size divides by this.
SIZE_MULTIPLE = 16


#: Largest input and embedding: a damaged file must not ask for terabytes.
_MOST_PIXELS, _MOST_NUMBERS = 2_048, 65_536


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which network turns images into embeddings.

    Attributes:
        name: A name in `BACKBONES`, `package.module:Class` for a network of the user, or "ridnet"
            for one that `architecture` describes.
        input_size: Height and width of the images that the network sees, in pixels; a multiple of
            16 for our own networks. Stored images of another size are resized.
        embedding_dim: D.
        dropout: Dropout before the embedding's linear layer, 0 to below 1.
        architecture: What "ridnet" is made of; None for all other names.

    Raises:
        UserError: If the name is unknown or a number is out of range; all faults together.
    """

    name: str
    input_size: int = 112
    embedding_dim: int = 512
    dropout: float = 0.0
    architecture: Architecture | None = None

    def __post_init__(self) -> None:
        raise_together(list(self._faults()))

    @property
    def is_custom(self) -> bool:
        """Whether the network is a class of the user."""
        return ":" in self.name

    def _faults(self) -> Iterable[UserError]:
        parts = self.name.replace(":", ".", 1).split(".")
        is_known = self.name in BACKBONES or self.name == DESCRIBED
        if not (is_known or (self.is_custom and all(part.isidentifier() for part in parts))):
            yield UserError(
                where="backbone.name",
                found=self.name,
                allowed=f"{', '.join(BACKBONES)}, or package.module:Class",
                next_step=nearest(self.name, BACKBONES),
            )
        if (self.name == DESCRIBED) != (self.architecture is not None):
            yield UserError(
                where="backbone.architecture",
                found="none" if self.architecture is None else f"one beside {self.name}",
                allowed=f"one with the name {DESCRIBED}, and none with others",
                next_step=f"name a network of {', '.join(SHIPPED)}, or give {DESCRIBED} a "
                "description",
            )
        multiple = 1 if self.is_custom else SIZE_MULTIPLE
        if not multiple <= self.input_size <= _MOST_PIXELS or self.input_size % multiple:
            below = min(max(self.input_size // multiple, 1) * multiple, _MOST_PIXELS - multiple)
            yield UserError(
                where="backbone.input_size",
                found=str(self.input_size),
                allowed=f"multiples of {multiple} from {multiple} to {_MOST_PIXELS}",
                next_step=f"use {below} or {below + multiple}",
            )
        if not 1 <= self.embedding_dim <= _MOST_NUMBERS:
            yield UserError(
                where="backbone.embedding_dim",
                found=str(self.embedding_dim),
                allowed=f"integers from 1 to {_MOST_NUMBERS}",
                next_step="use 512",
            )
        if not 0 <= self.dropout < 1:
            yield UserError(
                where="backbone.dropout",
                found=str(self.dropout),
                allowed="from 0 to below 1",
                next_step="use 0.4 for large training sets and 0 for small ones",
            )


def named_backbone(config: BackboneConfig, name: str) -> BackboneConfig:
    """Take another network and keep the rest.

    Args:
        config: What to start from.
        name: As `BackboneConfig.name`; or the JSON file of an architecture, such as a search wrote.
            The images are then of the size that it was made for.

    Raises:
        UserError: If there is none of that name, or the file describes none.

    Example:
        >>> tiny = BackboneConfig(name="tiny", embedding_dim=256)
        >>> named_backbone(tiny, "ridnet_xs").embedding_dim
        256
    """
    if not name.endswith(".json"):
        return replace(config, name=name, architecture=None)
    found = read_definition(Path(name)).architecture
    return replace(config, name=DESCRIBED, architecture=found, input_size=found.input_size)


def build_backbone(config: BackboneConfig) -> nn.Module:
    """Build the network with fresh weights, drawn from torch's global generator.

    Args:
        config: Which network.

    Returns:
        A module that maps float images (B, 3, input_size, input_size) to embeddings (B, D). A
        user's network is tried on two black images before it is returned.

    Raises:
        UserError: If a user's class cannot be found, cannot be called with the keywords above, is
            no `nn.Module`, or does not return embeddings (B, D). What its own code raises goes
            through as it is.
    """
    keywords: dict[str, Any] = {
        "input_size": config.input_size,
        "embedding_dim": config.embedding_dim,
        "dropout": config.dropout,
    }
    if config.architecture is not None:
        return RIDNet(config.architecture, **keywords)
    if not config.is_custom:
        return BACKBONES[config.name](**keywords)
    network_class = _import_class(config.name)
    network = network_class(**_accepted(network_class, keywords, config.name))
    _check_embeddings(network, config)
    return network


def _import_class(name: str) -> type[nn.Module]:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            where="backbone.name",
            found=f"{name} ({error})",
            allowed="package.module:Class that can be imported",
            next_step="check the spelling, and install the package or add its folder to PYTHONPATH",
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        networks = [n for n, v in vars(module).items() if isinstance(v, type)]
        raise UserError(
            where="backbone.name",
            found=f"{name}, which is {'missing' if found is None else 'no class of networks'}",
            allowed=f"a subclass of torch.nn.Module in {module_name}",
            next_step=nearest(class_name, networks),
        )
    return found


def _accepted(
    network_class: type[nn.Module], keywords: dict[str, int | float], name: str
) -> dict[str, int | float]:
    """Keep the keywords that the class takes, and see that they are all that it needs."""
    signature = inspect.signature(network_class)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    kept = {k: v for k, v in keywords.items() if takes_all or k in signature.parameters}
    try:
        signature.bind(**kept)
    except TypeError as error:
        raise UserError(
            where="backbone.name",
            found=f"{name}{signature} ({error})",
            allowed=f"a class that needs no arguments but {', '.join(keywords)}",
            next_step="give its other arguments default values",
        ) from error
    return kept


def _check_embeddings(network: nn.Module, config: BackboneConfig) -> None:
    was_training = network.training
    network.eval()  # so that batch norms keep their statistics
    with torch.no_grad():
        embeddings = network(torch.zeros(2, 3, config.input_size, config.input_size))
    network.train(was_training)
    expected = (2, config.embedding_dim)
    is_tensor = isinstance(embeddings, Tensor)
    if not (is_tensor and embeddings.shape == expected and embeddings.is_floating_point()):
        raise UserError(
            where="backbone.name",
            found=f"{config.name} returning "
            + (f"{embeddings.dtype} {tuple(embeddings.shape)}" if is_tensor else "no tensor"),
            allowed=f"floating-point embeddings {expected} for two images",
            next_step="change the network's output or backbone.embedding_dim",
        )

"""Memory of a backbone in training, measured on tensors without storage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from openmfr.heads.memory import FLOAT
from openmfr.models import BackboneConfig, build_backbone
from openmfr.train.config import TrainConfig

DeviceType = Literal["cpu", "cuda"]

#: Share of the activations that the C library's allocator holds beside them, in gaps between blocks
#: of many sizes: a middle of what 11 cases with a fused head showed with glibc, 0.4 to 1.2. There
#: are none with MALLOC_MMAP_THRESHOLD_=131072 in the environment: it gives every large block back
#: at once, which costs time.
GAPS = 0.75


@dataclass(frozen=True, kw_only=True)
class BackboneMemory:
    """Memory of one rank's backbone in training, in bytes.

    Attributes:
        parameters: Weights, float32.
        gradients: Of the weights. Those of the last step live until the backward pass of the next.
        momentum: Of the weights.
        buckets: Gradients once more, in the order in which several ranks add them up.
        activations: What the forward pass keeps for the backward pass.
        gaps: What a CPU's allocator holds beside the activations; see `GAPS`.
    """

    parameters: int
    gradients: int
    momentum: int
    buckets: int
    activations: int
    gaps: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """All parts by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def backbone_memory(config: TrainConfig, ranks: int, device: DeviceType) -> BackboneMemory:
    """Memory of one rank's backbone, for its share of a batch or of a part of one."""
    cost = measure(config.backbone, config.precision)
    weights = FLOAT * cost.parameters
    images = -(-config.batch_size // (ranks * config.accumulate))
    activations = cost.fixed + cost.per_image * images
    return BackboneMemory(
        parameters=weights,
        gradients=weights,
        momentum=weights,
        buckets=weights if ranks > 1 else 0,
        activations=activations,
        gaps=round(GAPS * activations) if device == "cpu" else 0,
    )


@dataclass(frozen=True)
class BackboneCost:
    """Parameters, and bytes that a forward pass keeps: for each image, and once."""

    parameters: int
    per_image: int
    fixed: int


@lru_cache(maxsize=16)
def measure(config: BackboneConfig, precision: str) -> BackboneCost:
    """Run a network's training forward on batches of two sizes, without storage."""
    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        network = build_backbone(config).train()
        small, large = (_kept_bytes(network, config.input_size, precision, n) for n in (2, 4))
        parameters = sum(parameter.numel() for parameter in network.parameters())
    per_image = (large - small) // 2
    return BackboneCost(parameters, per_image, small - 2 * per_image)


def _kept_bytes(network: torch.nn.Module, input_size: int, precision: str, images: int) -> int:
    """Bytes that autograd keeps of a forward pass: every storage once, parameters left out."""
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", getattr(torch, precision), enabled=precision != "float32"):
        embeddings = network(torch.empty(images, 3, input_size, input_size))
    del embeddings
    return sum(storage.nbytes() for storage in kept.values())

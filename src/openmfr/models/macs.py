"""What a network costs: multiply-adds of one forward pass, and parameters.

Nothing is computed: tensors without storage (the *meta* device) run through the network, and every
operation that the dispatcher sees is counted, whether a module or a plain function called it. Two
counts are in use and differ by about 1 %, so we give both by name:

- `Cost.matmul_macs`: convolutions and matrix products alone, without their biases. Most papers
  quote this one (4.09 G for ResNet-50).
- `Cost.macs`: the same, plus two operations for each element that is normalised (scale and shift),
  and one for each that is activated. The face recognition papers quote this one; rounded, it gives
  the figures of the MFR paper's Table 7 (4.12 G for ResNet-50, 4.12 G for SE-ResNet-50, 4.27 G for
  ResNeXt-50, all three without what follows the last feature map).

Pooling, additions and products of feature maps, and dropout are in neither.

Parameters are all parameters, trained or frozen; statistics of batch norms are not parameters.
Table 7 cuts its figures after the first decimal: it calls the 22.98 M of ResNeXt-50 22.9 M.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

#: Operations per element, by the dispatcher's name; in-place forms count alike.
_OPERATIONS_PER_ELEMENT = {
    **dict.fromkeys(("native_batch_norm", "native_layer_norm", "native_group_norm"), 2),
    **dict.fromkeys(("_prelu_kernel", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh"), 1),
    **dict.fromkeys(("leaky_relu", "relu", "sigmoid", "silu", "tanh"), 1),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one image's forward pass.

    Attributes:
        macs: Multiply-adds of convolutions and matrix products, plus operations of normalisations
            and activations: comparable to the MFR paper's "FLOPs".
        matmul_macs: Multiply-adds of convolutions and matrix products alone.
        params: Number of parameters.
    """

    macs: int
    matmul_macs: int
    params: int

    def __str__(self) -> str:
        return f"{self.macs / 1e9:.2f} G multiply-adds, {self.params / 1e6:.2f} M parameters"


def count(network: nn.Module, input_size: int) -> Cost:
    """Count what one forward pass of a network costs, without computing it.

    Args:
        network: Maps images (B, 3, H, W) to anything. It may lie on any device; one that was built
            under `torch.device("meta")` is counted without its weights ever being allocated.
        input_size: Height and width of the image in pixels.

    Returns:
        The cost for a batch of one image, in evaluation mode.

    Example:
        >>> str(count(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), 224))
        '0.12 G multiply-adds, 0.01 M parameters'
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shells = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    was_training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), torch.device("meta"):
            image = torch.empty(1, 3, input_size, input_size)
            with _CountingMode() as counted:
                functional_call(network, shells, (image,))
    finally:
        for module, is_training in was_training.items():
            module.training = is_training
    return Cost(
        macs=counted.matmul + counted.elementwise,
        matmul_macs=counted.matmul,
        params=sum(parameter.numel() for parameter in network.parameters()),
    )


class _CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up multiply-adds and element operations of all that runs inside it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.matmul = 0
        self.elementwise = 0

    def __torch_dispatch__(
        self,
        func: Any,
        _types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            # torch counts a multiply-add as two operations
            self.matmul += formula(*args, **kwargs, out_val=out) // 2
        else:
            name = func.overloadpacket.__name__.removesuffix("_")
            operations = _OPERATIONS_PER_ELEMENT.get(name, 0)
            if operations:
                features: Tensor = args[0]
                self.elementwise += operations * math.prod(features.shape)
        return out

"""Makes a trained RIDNet quicker without changing what it computes.

In evaluation a batch norm is linear: each goes into the convolution or linear layer before it, and
no batch norm is left.

What is exact and not done: the first convolutions of paths that have one kernel read the same map,
and could be one convolution. Its output must then be taken apart, which costs ONNX Runtime on one
thread as much as it gains (0.8 to 1.3 times the time, by map and width).
"""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from openmfr.models.ridnet.network import Head, RIDNet


def fuse(network: RIDNet) -> RIDNet:
    """Copy a network for inference, with its batch norms folded into the layers before them.

    Args:
        network: Is not changed.

    Returns:
        A network in evaluation mode, whose embeddings differ by no more than rounding. It cannot be
        trained on, nor load weights of the other form.
    """
    fused = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(fused.modules()):
        if isinstance(module, Head):
            _fold_head(module)
        elif isinstance(module, nn.Sequential):
            _fold(module)
    return fused


def _fold(layers: nn.Sequential) -> None:
    for index, (layer, after) in enumerate(pairwise(list(layers))):
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            layers[index] = fuse_conv_bn_eval(layer, after)
            layers[index + 1] = nn.Identity()


def _fold_head(head: Head) -> None:
    embedding = head.embedding
    head.neck = fuse_conv_bn_eval(head.neck, embedding.norm)
    embedding.linear = fuse_linear_bn_eval(embedding.linear, embedding.out_norm)
    for name in ("norm", "out_norm"):
        setattr(embedding, name, nn.Identity())

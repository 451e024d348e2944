"""The network that sees whether a mask is worn: 86,000 weights, 7 million multiply-adds.

It looks at 56 × 56 pixels of a face of 112: a mask is large, and what is small, such as the grain
of a synthetic skin, is better not seen. Light is taken out: each picture is brought to mean 0 and
variance 1. As faces are aligned, the last layer may know what stands where.
"""

from __future__ import annotations

from typing import cast

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from openmfr.deploy.graph import OPSET, quiet, remove_notes
from openmfr.deploy.mask_worn import FORMAT_VERSION, IMAGE, VERSION_KEY, WORN
from openmfr.faces.align import TEMPLATE_SIZE

#: Output channels and stride of the convolutions.
_LAYERS = ((16, 2), (32, 2), (48, 1), (64, 2), (64, 1))


class MaskNet(nn.Module):
    """Maps faces, float (B, 3, 112, 112) in −1 to 1, to how surely a mask is worn, logits (B,)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 3, TEMPLATE_SIZE // 2
        for wide, stride in _LAYERS:
            layers += [
                nn.Conv2d(channels, wide, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            ]
            channels, size = wide, -(-size // stride)
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(channels * size * size, 1)

    def forward(self, faces: Tensor) -> Tensor:
        """Compute logits."""
        small = nn.functional.avg_pool2d(faces, 2)
        centred = small - small.mean(dim=(1, 2, 3), keepdim=True)
        spread = (centred * centred).mean(dim=(1, 2, 3), keepdim=True).add(1e-3).sqrt()
        seen = self.layers(centred / spread)
        return cast("Tensor", self.head(self.dropout(seen.flatten(1)))).squeeze(1)


class _FromBytes(nn.Module):
    """The network with what stands before and behind it in a program."""

    def __init__(self, network: MaskNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Map faces, uint8 (B, 112, 112, 3), to probabilities (B,)."""
        faces = image.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        return torch.sigmoid(self.network(faces))


def to_onnx(network: MaskNet, *, about: dict[str, str]) -> onnx.ModelProto:
    """Write the network as an ONNX graph that `deploy.mask_worn.MaskClassifier` reads.

    Args:
        network: In evaluation mode, on the CPU.
        about: What else its metadata shall say.
    """
    images = torch.zeros(2, TEMPLATE_SIZE, TEMPLATE_SIZE, 3, dtype=torch.uint8)
    with quiet():
        program = torch.onnx.export(
            _FromBytes(network).eval(),
            (images,),
            dynamo=True,
            dynamic_shapes={IMAGE: {0: torch.export.Dim("batch", min=1)}},
            input_names=[IMAGE],
            output_names=[WORN],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    remove_notes(model, name="mask_worn")
    helper.set_model_props(model, {VERSION_KEY: FORMAT_VERSION, **about})
    return model

"""MobileFaceNet: a million parameters for phones and single CPU cores.

Inverted residuals as in MobileNetV2, with two changes for faces: PReLU, and in place of average
pooling a depth-wise convolution as large as the feature map, which learns how much each position
of an aligned face counts.
"""

from __future__ import annotations

from torch import Tensor, nn

from openmfr.models.blocks import (
    EmbeddingLayer,
    activation,
    conv1x1,
    conv3x3,
    initialise_convolutions,
)

#: Rows of the paper's Table 1: expansion, channels, blocks, stride of the first block.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))

STEM_CHANNELS = 64
LAST_CHANNELS = 512


class InvertedResidual(nn.Module):
    """1 × 1 (expand) → depth-wise 3 × 3 (stride) → 1 × 1 (project), plus the input if it fits."""

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.body = nn.Sequential(
            *_activated(conv1x1(in_channels, inner)),
            *_activated(conv3x3(inner, inner, stride=stride, groups=inner)),
            conv1x1(inner, channels),
            nn.BatchNorm2d(channels),
        )
        self.is_residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        out: Tensor = self.body(x)
        return x + out if self.is_residual else out


class MobileFaceNet(nn.Module):
    """The MobileFaceNet of the paper, which maps aligned faces to embeddings.

    Args:
        input_size: Height and width of the input in pixels, a multiple of 16.
        embedding_dim: D; the paper's is 128.
        dropout: Dropout before the embedding's linear layer, 0 to below 1.

    Source:
        MobileFaceNets, https://arxiv.org/abs/1804.07573, Table 1. (arcface_torch's network of this
        name has twice the channels and is no import target of this class.)
    """

    def __init__(
        self, *, input_size: int = 112, embedding_dim: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            *_activated(conv3x3(3, STEM_CHANNELS, stride=2)),
            *_activated(conv3x3(STEM_CHANNELS, STEM_CHANNELS, groups=STEM_CHANNELS)),
        ]
        in_channels = STEM_CHANNELS
        for expansion, channels, count, first_stride in STAGES:
            for block in range(count):
                stride = first_stride if block == 0 else 1
                layers.append(
                    InvertedResidual(in_channels, channels, expansion=expansion, stride=stride)
                )
                in_channels = channels
        layers += _activated(conv1x1(in_channels, LAST_CHANNELS))
        self.trunk = nn.Sequential(*layers)
        # The batch norm that follows this convolution is the embedding layer's first.
        self.weighted_pool = nn.Conv2d(
            LAST_CHANNELS, LAST_CHANNELS, input_size // 16, groups=LAST_CHANNELS, bias=False
        )
        self.embedding = EmbeddingLayer(LAST_CHANNELS, 1, embedding_dim, dropout=dropout)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), values in −1 to 1, to embeddings (B, D), not normalised."""
        embeddings: Tensor = self.embedding(self.weighted_pool(self.trunk(images)))
        return embeddings


def _activated(convolution: nn.Conv2d) -> list[nn.Module]:
    channels = convolution.out_channels
    return [convolution, nn.BatchNorm2d(channels), activation("prelu", channels)]

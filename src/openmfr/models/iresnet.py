"""IResNet: the residual network of ArcFace, from IResNet-200 down to a laptop-sized one.

It differs from a classification ResNet in three ways that matter at 112 × 112: the stem keeps the
full resolution, the blocks put batch norm first and PReLU in the middle, and the feature map is not
pooled away but flattened into the embedding layer, which keeps where in the face a feature lies.

Parameters are registered in the order of arcface_torch's, and with the same shapes: two state
dictionaries of one depth match entry by entry, whatever the names.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from openmfr.models.blocks import ActivationName, EmbeddingLayer, activation, conv1x1, conv3x3

#: Blocks per stage of the published depths.
DEPTHS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}


class IResNetBlock(nn.Module):
    """BN → conv 3 × 3 → BN → activation → conv 3 × 3 (stride) → BN, added to the shortcut."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, activation_name: ActivationName
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            conv3x3(in_channels, channels),
            nn.BatchNorm2d(channels),
            activation(activation_name, channels),
            conv3x3(channels, channels, stride=stride),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                conv1x1(in_channels, channels, stride=stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class IResNet(nn.Module):
    """An IResNet that maps aligned faces to embeddings.

    Args:
        blocks: Residual blocks in each of the four stages, at least one; each stage halves H × W.
        input_size: Height and width of the input in pixels, a multiple of 16.
        stem_stride: 1 keeps the full resolution as published; 2 halves it at once, which makes a
            small network 1.4 × faster at 112 × 112 than at 64 × 64 with stride 1.
        width: Channels of the first stage; each later stage doubles them.
        activation_name: "prelu" as published, or "relu", which trains faster on CPUs.
        embedding_dim: D.
        dropout: Dropout before the embedding's linear layer, 0 to below 1.

    Source:
        ArcFace, https://arxiv.org/abs/1801.07698; widths, depths, initialisation and the order of
        operations as in insightface's arcface_torch.
    """

    def __init__(
        self,
        *,
        blocks: tuple[int, int, int, int],
        input_size: int = 112,
        stem_stride: int = 1,
        width: int = 64,
        activation_name: ActivationName = "prelu",
        embedding_dim: int = 512,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv3x3(3, width, stride=stem_stride),
            nn.BatchNorm2d(width),
            activation(activation_name, width),
        )
        stages: list[nn.Module] = []
        in_channels = width
        for stage, count in enumerate(blocks):
            channels = width * 2**stage
            for block in range(count):
                stride = 2 if block == 0 else 1
                stages.append(
                    IResNetBlock(
                        in_channels, channels, stride=stride, activation_name=activation_name
                    )
                )
                in_channels = channels
        self.stages = nn.Sequential(*stages)
        last_size = math.ceil(input_size / (16 * stem_stride))
        self.embedding = EmbeddingLayer(in_channels, last_size, embedding_dim, dropout=dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), values in −1 to 1, to embeddings (B, D), not normalised."""
        embeddings: Tensor = self.embedding(self.stages(self.stem(images)))
        return embeddings

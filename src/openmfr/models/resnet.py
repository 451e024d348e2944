"""ResNet-50, SE-ResNet-50 and ResNeXt-50: the baselines of the paper's Table 7.

The trunk is the standard one of image classification (stride on the 3 × 3 convolution), so that its
cost can be held against the table. What the paper put behind the trunk it does not say: ours pools
the feature map and ends in the embedding layer that all our backbones share.
"""

from __future__ import annotations

from torch import Tensor, nn

from openmfr.models.blocks import EmbeddingLayer, conv1x1, conv3x3, initialise_convolutions

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole feature map holds: pool → linear → ReLU → linear → sigmoid.

    Source:
        Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507, §3; reduction 16.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        weighed: Tensor = x * self.gate(x)
        return weighed


class Bottleneck(nn.Module):
    """1 × 1 → 3 × 3 (stride, groups) → 1 × 1, each with BN, added to the shortcut.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        inner_channels: Channels of the 3 × 3 convolution.
        stride: Of the 3 × 3 convolution and of the shortcut.
        groups: Of the 3 × 3 convolution.
        is_squeezed: Whether channels are weighed before the addition.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        inner_channels: int,
        stride: int,
        groups: int,
        is_squeezed: bool,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv1x1(in_channels, inner_channels),
            nn.BatchNorm2d(inner_channels),
            nn.ReLU(inplace=True),
            conv3x3(inner_channels, inner_channels, stride=stride, groups=groups),
            nn.BatchNorm2d(inner_channels),
            nn.ReLU(inplace=True),
            conv1x1(inner_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        if is_squeezed:
            self.body.append(SqueezeExcitation(out_channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv1x1(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels)
            )
        self.out_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        out: Tensor = self.out_activation(self.body(x) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A 50-layer residual network of bottlenecks that maps aligned faces to embeddings.

    `trunk` is what Table 7 counts: everything up to the last feature map.

    Args:
        width: Channels of the stem; a stage has 4, 8, 16 and 32 times as many.
        groups: Groups of the 3 × 3 convolutions; 32 makes it a ResNeXt.
        group_width: Channels per group in the first stage, doubled in each later one; `width` by
            default.
        is_squeezed: Whether the blocks weigh their channels (SE-ResNet).
        input_size: Height and width of the input in pixels; the network takes any that is at least
            16, and does not depend on it.
        embedding_dim: D.
        dropout: Dropout before the embedding's linear layer, 0 to below 1.

    Source:
        https://arxiv.org/abs/1512.03385 (ResNet), https://arxiv.org/abs/1709.01507 (SE),
        https://arxiv.org/abs/1611.05431 (ResNeXt, 32 × 4d); MFR paper, Table 7.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        groups: int = 1,
        group_width: int | None = None,
        is_squeezed: bool = False,
        input_size: int = 112,  # noqa: ARG002 (every backbone is called with it)
        embedding_dim: int = 512,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        in_channels = width
        for stage, count in enumerate(BLOCKS):
            out_channels = width * EXPANSION * 2**stage
            for block in range(count):
                layers.append(
                    Bottleneck(
                        in_channels,
                        out_channels,
                        inner_channels=groups * (group_width or width) * 2**stage,
                        stride=2 if block == 0 and stage > 0 else 1,
                        groups=groups,
                        is_squeezed=is_squeezed,
                    )
                )
                in_channels = out_channels
        self.trunk = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.embedding = EmbeddingLayer(in_channels, 1, embedding_dim, dropout=dropout)
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), values in −1 to 1, to embeddings (B, D), not normalised."""
        embeddings: Tensor = self.embedding(self.pool(self.trunk(images)))
        return embeddings

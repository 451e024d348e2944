"""Building blocks that the backbones share."""

from __future__ import annotations

from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3 × 3 convolution without bias that keeps H × W at stride 1."""
    return nn.Conv2d(
        in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False
    )


def conv1x1(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """A 1 × 1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


class EmbeddingLayer(nn.Module):
    """Turns the last feature map into an embedding: BN → dropout → flatten → linear → BN.

    This is the "E" output of the ArcFace paper. The last batch norm has no scale of its own: an
    embedding is normalised later, so only its direction counts, and a learned scale per dimension
    would let the network switch dimensions off.

    Args:
        channels: Channels of the feature map.
        size: Height and width of the feature map.
        embedding_dim: D.
        dropout: Probability of dropping an input of the linear layer, 0 to below 1.

    Source:
        ArcFace, https://arxiv.org/abs/1801.07698, §3.1 (option E); MFR paper, §3.4 (dropout 0.4).
    """

    def __init__(self, channels: int, size: int, embedding_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels * size * size, embedding_dim)
        self.out_norm = nn.BatchNorm1d(embedding_dim)
        nn.init.ones_(self.out_norm.weight)
        self.out_norm.weight.requires_grad = False

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels, size, size) to embeddings (B, D), not normalised."""
        flat = self.dropout(self.norm(features)).flatten(1)
        embeddings: Tensor = self.out_norm(self.linear(flat))
        return embeddings

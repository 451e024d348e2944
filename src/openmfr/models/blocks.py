"""Building blocks that the backbones share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

#: Activations of our networks. On CPUs the backward pass of PReLU is slow: an IResNet that is meant
#: for a laptop takes ReLU, the published ones keep the PReLU that they were published with.
ActivationName = Literal["prelu", "relu"]


def activation(name: ActivationName, channels: int) -> nn.Module:
    """An activation for a feature map of that many channels; PReLU learns one slope for each."""
    return nn.PReLU(channels) if name == "prelu" else nn.ReLU(inplace=True)


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3 × 3 convolution without bias that keeps H × W at stride 1."""
    return nn.Conv2d(
        in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False
    )


def conv1x1(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """A 1 × 1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def initialise_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions so that a gradient keeps its size through ReLUs.

    Source:
        He et al., https://arxiv.org/abs/1502.01852, §2.2 (backward form).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class EmbeddingLayer(nn.Module):
    """Turns the last feature map into an embedding: BN → dropout → flatten → linear → BN.

    This is the "E" output of the ArcFace paper; all our backbones end in it. The last batch norm
    has no scale of its own: an embedding is normalised later, so only its direction counts, and a
    learned scale per dimension would let the network switch dimensions off.

    Args:
        channels: Channels of the feature map.
        size: Height and width of the feature map, 1 for one that was pooled before.
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
        self.out_norm.weight.requires_grad = False  # it stays at its initial 1

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels, size, size) to embeddings (B, D), not normalised."""
        flat = self.dropout(self.norm(features)).flatten(1)
        embeddings: Tensor = self.out_norm(self.linear(flat))
        return embeddings

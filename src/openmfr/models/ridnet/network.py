"""A RIDNet as a network: the modules that an `Architecture` names."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from openmfr.models.blocks import EmbeddingLayer, conv1x1, initialise_convolutions
from openmfr.models.ridnet.architecture import (
    CHANNEL_MULTIPLE,
    Architecture,
    Block,
    Path,
    Stage,
    kernel_shapes,
)

#: Processors with wide registers compute so many channels at once.
_WIDE_MULTIPLE = 16
#: Least width of the layer inside the attention, and by how much it is narrower than the path.
_ATTENTION_WIDTH, _ATTENTION_REDUCTION = 16, 4
#: What a fresh block adds to its input, as a share of the input's spread. At 1, a change of a
#: thousandth of the image turns a fresh network's embedding by 27°.
_FRESH_SHARE = 0.2


class ConvNormReLU(nn.Sequential):
    """A convolution without bias that keeps H × W at stride 1, batch norm, and ReLU."""

    def __init__(
        self, in_channels: int, channels: int, shape: tuple[int, int], *, stride: int = 1
    ) -> None:
        padding = shape[0] // 2, shape[1] // 2
        super().__init__(
            nn.Conv2d(in_channels, channels, shape, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


def layer_widths(path: Path, width: int) -> tuple[int, ...]:
    """Output channels of each layer of a path whose output has `width` channels.

    A dense path shares them out among its layers; the last one takes what is left.

    Example:
        >>> layer_widths(Path(kernel="3", depth=3), 64)
        (64, 64, 64)
        >>> layer_widths(Path(kernel="3", depth=3, is_dense=True), 64)
        (16, 16, 32)
    """
    if not path.is_dense:
        return (width,) * path.depth
    is_wide = width % _WIDE_MULTIPLE == 0 and width >= _WIDE_MULTIPLE * path.depth
    multiple = _WIDE_MULTIPLE if is_wide else CHANNEL_MULTIPLE
    each = width // path.depth // multiple * multiple
    return (*[each] * (path.depth - 1), width - each * (path.depth - 1))


class PathLayers(nn.Module):
    """A path: maps (B, width, H, W) to the same shape."""

    def __init__(self, path: Path, width: int) -> None:
        super().__init__()
        self.is_dense = path.is_dense
        self.layers = nn.ModuleList()
        in_channels = width
        for channels in layer_widths(path, width):
            steps: list[nn.Module] = []
            step_channels = in_channels
            for shape in kernel_shapes(path.kernel):
                steps.append(ConvNormReLU(step_channels, channels, shape))
                step_channels = channels
            self.layers.append(nn.Sequential(*steps))
            in_channels = in_channels + channels if path.is_dense else channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        if not self.is_dense:
            for layer in self.layers:
                x = layer(x)
            return x
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1) if len(seen) > 1 else x))
        return torch.cat(seen[1:], 1)


class SplitAttention(nn.Module):
    """Adds the outputs of paths, each channel with weights that are 1 together.

    The weights come from what all outputs hold on average over the feature map.

    Args:
        width: Channels of every output.
        paths: Number of outputs.

    Source:
        ResNeSt, https://arxiv.org/abs/2004.08955, §3.1 (without batch norm in the attention, which
        would not train on a single image).
    """

    def __init__(self, width: int, paths: int) -> None:
        super().__init__()
        inner = attention_width(width)
        self.width, self.paths = width, paths
        self.gate = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, width * paths, 1)
        )

    def forward(self, outputs: list[Tensor]) -> Tensor:
        """Map outputs (B, width, H, W), one for each path, to their weighted sum."""
        # The mean of a sum is the sum of means: the sum itself is not needed.
        means = [output.mean((2, 3), keepdim=True) for output in outputs]
        gates: Tensor = self.gate(_sum(means))
        weights = gates.reshape(-1, self.paths, self.width, 1, 1).softmax(1).unbind(1)
        return _sum([w * output for w, output in zip(weights, outputs, strict=True)])


def attention_width(width: int) -> int:
    """Channels inside the attention over paths of that width."""
    return max(width // _ATTENTION_REDUCTION, _ATTENTION_WIDTH)


class SplitAttentionBlock(nn.Module):
    """1 × 1 (narrow) → paths → attention → 1 × 1 (widen), added to the input; then ReLU.

    A fresh block adds little to its input, as in https://arxiv.org/abs/1706.02677, §5.1, where it
    adds nothing.
    """

    def __init__(self, block: Block, *, channels: int, width: int) -> None:
        super().__init__()
        self.narrow = ConvNormReLU(channels, width, (1, 1))
        self.paths = nn.ModuleList(PathLayers(path, width) for path in block.paths)
        self.attention = SplitAttention(width, len(block.paths))
        norm = nn.BatchNorm2d(channels)
        nn.init.constant_(norm.weight, _FRESH_SHARE)
        self.widen = nn.Sequential(conv1x1(width, channels), norm)
        self.out_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        narrowed = self.narrow(x)
        merged = self.attention([path(narrowed) for path in self.paths])
        out: Tensor = self.out_activation(self.widen(merged) + x)
        return out


class Head(nn.Module):
    """From the last feature map to embeddings: 1 × 1 (narrow to the neck) → embedding layer.

    Nothing between the two bends, so both together are one linear layer on the whole feature map,
    of low rank, with a fraction of its parameters.
    """

    def __init__(
        self, channels: int, neck: int, *, size: int, embedding_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.neck = conv1x1(channels, neck)
        self.embedding = EmbeddingLayer(neck, size, embedding_dim, dropout=dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, channels, size, size) to embeddings (B, D), not normalised."""
        embeddings: Tensor = self.embedding(self.neck(features))
        return embeddings


def build_stem(architecture: Architecture) -> nn.Module:
    """The first convolution."""
    stride = int(architecture.stem_stride)
    return ConvNormReLU(3, architecture.stem, (3, 3), stride=stride)


def build_entry(in_channels: int, stage: Stage) -> nn.Module:
    """The convolution that begins a stage: it halves the feature map."""
    return ConvNormReLU(in_channels, stage.channels, (3, 3), stride=2)


class RIDNet(nn.Module):
    """A network of split-attention blocks that maps aligned faces to embeddings.

    Args:
        architecture: What it is made of.
        input_size: Height and width of the input in pixels; by default the architecture's.
        embedding_dim: D.
        dropout: Dropout before the embedding's linear layer, 0 to below 1.

    Source:
        MFR paper, §2.4: the choices within a block. The rest is ours, as the paper is silent.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        input_size: int | None = None,
        embedding_dim: int = 512,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = build_stem(architecture)
        self.stages = nn.Sequential()
        in_channels = architecture.stem
        for stage in architecture.stages:
            block = partial(SplitAttentionBlock, channels=stage.channels, width=stage.width)
            self.stages.append(
                nn.Sequential(build_entry(in_channels, stage), *map(block, stage.blocks()))
            )
            in_channels = stage.channels
        self.head = Head(
            in_channels,
            architecture.neck,
            size=math.ceil((input_size or architecture.input_size) / architecture.stride),
            embedding_dim=embedding_dim,
            dropout=dropout,
        )
        initialise_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), values in −1 to 1, to embeddings (B, D), not normalised."""
        embeddings: Tensor = self.head(self.stages(self.stem(images)))
        return embeddings


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total

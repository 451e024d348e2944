"""A RIDNet taken apart: what each part costs, and the part itself, to be measured.

Costs are sums over parts, and so is, nearly, the latency of a network on one thread. Parts of one
kind come back in many networks: there are few of them, where there are many networks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from openmfr.config import to_dict
from openmfr.files import fingerprint
from openmfr.models import Cost
from openmfr.models.ridnet.architecture import Architecture, Block, Path, kernel_shapes
from openmfr.models.ridnet.network import (
    ConvNormReLU,
    Head,
    PathLayers,
    SplitAttentionBlock,
    attention_width,
    layer_widths,
)

#: D of a network whose cost is asked for without naming it.
EMBEDDING_DIM = 512

_NOTHING = Cost(macs=0, matmul_macs=0, params=0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a network, on feature maps of one size.

    Attributes:
        size: Height and width of its output.
    """

    size: int

    def cost(self) -> Cost:
        """Count its multiply-adds, for one image, and parameters."""
        raise NotImplementedError

    def build(self) -> nn.Module:
        """Build it alone."""
        raise NotImplementedError

    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its input."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits."""
        content: dict[str, Any] = {"kind": type(self).__name__, **to_dict(self)}
        return fingerprint(json.dumps(content, sort_keys=True))


@dataclass(frozen=True, kw_only=True)
class ConvPart(Part):
    """A 3 × 3 convolution with batch norm and ReLU: the stem, or the entry of a stage."""

    in_channels: int
    channels: int
    stride: int

    def cost(self) -> Cost:
        """Count what it costs."""
        return _convolution(self.in_channels, self.channels, (3, 3), self.size)

    def build(self) -> nn.Module:
        """Build it alone."""
        return ConvNormReLU(self.in_channels, self.channels, (3, 3), stride=self.stride)

    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its input."""
        return self.in_channels, self.size * self.stride, self.size * self.stride


@dataclass(frozen=True, kw_only=True)
class PathPart(Part):
    """One path of a block."""

    path: Path
    width: int

    def cost(self) -> Cost:
        """Count what it costs."""
        total, in_channels = _NOTHING, self.width
        for channels in layer_widths(self.path, self.width):
            step_channels = in_channels
            for shape in kernel_shapes(self.path.kernel):
                total = _add(total, _convolution(step_channels, channels, shape, self.size))
                step_channels = channels
            in_channels = in_channels + channels if self.path.is_dense else channels
        return total

    def build(self) -> nn.Module:
        """Build it alone."""
        return PathLayers(self.path, self.width)

    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its input."""
        return self.width, self.size, self.size


@dataclass(frozen=True, kw_only=True)
class FramePart(Part):
    """A block without the layers of its paths: narrowing, attention, widening, addition."""

    channels: int
    width: int
    paths: int

    def cost(self) -> Cost:
        """Count what it costs."""
        inner = attention_width(self.width)
        outer = self.width * self.paths
        gate_macs = self.width * inner + inner * outer
        gate = Cost(macs=gate_macs + inner, matmul_macs=gate_macs, params=gate_macs + inner + outer)
        narrow = _convolution(self.channels, self.width, (1, 1), self.size)
        widen = _convolution(self.width, self.channels, (1, 1), self.size)
        return _add(_add(narrow, widen), gate)

    def build(self) -> nn.Module:
        """Build a block whose paths are of the cheapest kind; `filling` says which."""
        block = Block(paths=(self.filling.path,) * self.paths)
        return SplitAttentionBlock(block, channels=self.channels, width=self.width)

    @property
    def filling(self) -> PathPart:
        """The path that stands in `build`, as many times as there are paths."""
        return PathPart(size=self.size, path=Path(kernel="1", depth=2), width=self.width)

    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its input."""
        return self.channels, self.size, self.size


@dataclass(frozen=True, kw_only=True)
class HeadPart(Part):
    """From the last feature map to the embedding; `size` is that of the feature map."""

    channels: int
    neck: int
    embedding_dim: int

    def cost(self) -> Cost:
        """Count what it costs."""
        values = self.neck * self.size**2
        neck = self.channels * values
        linear = values * self.embedding_dim
        norms = self.neck + self.embedding_dim
        return Cost(
            macs=neck + linear + 2 * (values + self.embedding_dim),
            matmul_macs=neck + linear,
            params=self.channels * self.neck + linear + self.embedding_dim + 2 * norms,
        )

    def build(self) -> nn.Module:
        """Build it alone."""
        return Head(
            self.channels,
            self.neck,
            size=self.size,
            embedding_dim=self.embedding_dim,
            dropout=0.0,
        )

    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its input."""
        return self.channels, self.size, self.size


def parts_of(
    architecture: Architecture, *, embedding_dim: int = EMBEDDING_DIM
) -> Iterator[tuple[Part, int]]:
    """Take a network apart.

    Args:
        architecture: What it is made of; its own `input_size` is taken.
        embedding_dim: D.

    Yields:
        Parts, and how often each occurs; the same part may come several times.
    """
    size = math.ceil(architecture.input_size / architecture.stem_stride)
    stride = int(architecture.stem_stride)
    yield ConvPart(size=size, in_channels=3, channels=architecture.stem, stride=stride), 1
    in_channels = architecture.stem
    for stage in architecture.stages:
        size = math.ceil(size / 2)
        yield ConvPart(size=size, in_channels=in_channels, channels=stage.channels, stride=2), 1
        in_channels = stage.channels
        whole, rest = divmod(stage.depth, len(stage.pattern))
        for index, block in enumerate(stage.pattern):
            times = whole + (index < rest)
            paths = len(block.paths)
            frame = FramePart(size=size, channels=in_channels, width=stage.width, paths=paths)
            yield frame, times
            for path in block.paths:
                yield PathPart(size=size, path=path, width=stage.width), times
    yield (
        HeadPart(
            size=size,
            channels=in_channels,
            neck=architecture.neck,
            embedding_dim=embedding_dim,
        ),
        1,
    )


def cost_of(architecture: Architecture, *, embedding_dim: int = EMBEDDING_DIM) -> Cost:
    """Count what a network costs without building it; the same as `openmfr.models.count` gives.

    Args:
        architecture: What it is made of; its own `input_size` is taken.
        embedding_dim: D.

    Returns:
        Multiply-adds and parameters from the image to the embedding.
    """
    total = _NOTHING
    for part, times in parts_of(architecture, embedding_dim=embedding_dim):
        total = _add(total, part.cost(), times)
    return total


def _convolution(in_channels: int, channels: int, shape: tuple[int, int], size: int) -> Cost:
    """Count a convolution without bias, its batch norm (two operations) and its ReLU (one)."""
    weights = in_channels * channels * shape[0] * shape[1]
    pixels = size**2
    return Cost(
        macs=weights * pixels + 3 * channels * pixels,
        matmul_macs=weights * pixels,
        params=weights + 2 * channels,
    )


def _add(a: Cost, b: Cost, times: int = 1) -> Cost:
    return Cost(
        macs=a.macs + times * b.macs,
        matmul_macs=a.matmul_macs + times * b.matmul_macs,
        params=a.params + times * b.params,
    )

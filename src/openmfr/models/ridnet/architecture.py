"""What a RIDNet is made of, as data: JSON in and out, equal if the networks are equal.

The MFR paper names the choices and publishes no network. Here they are written down:

- An *architecture* is a stem, stages, and a neck before the embedding layer.
- A *stage* halves the feature map, sets its channels, and repeats blocks that keep both.
- A *block* leads a narrowed map along two to four paths, and adds their outputs by attention.
- A *path* is two to four convolutions of one kernel, densely connected or not.

No convolution is depth-wise: on CPUs they take more time than their multiply-adds promise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path as FilePath
from typing import Any, Final, Literal, get_args

from openmfr.config import from_dict, to_dict
from openmfr.errors import UserError, raise_together
from openmfr.files import check_format_version, fingerprint, read_json, write_json

Kernel = Literal["1", "3", "5", "7", "1x3+3x1", "1x5+5x1", "1x7+7x1"]

#: Every kernel of the paper's space, in its order.
KERNELS: Final[tuple[Kernel, ...]] = get_args(Kernel)

#: Channels come in multiples of this, as CPUs compute so many at once.
CHANNEL_MULTIPLE: Final = 8

FORMAT_VERSION: Final = 1
_PATH_DEPTHS: Final = (2, 4)
#: Far above any network, and little to list: a damaged file must not ask for billions of blocks.
_STAGE_DEPTHS: Final = (1, 1_000)
_PATH_COUNTS: Final = (2, 4)
_STAGE_COUNTS: Final = (1, 5)


def kernel_shapes(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Heights and widths of the convolutions that a kernel stands for, one after the other.

    Example:
        >>> kernel_shapes("3"), kernel_shapes("1x5+5x1")
        (((3, 3),), ((1, 5), (5, 1)))
    """
    if "x" not in kernel:
        return ((int(kernel), int(kernel)),)
    first, second = (part.split("x") for part in kernel.split("+"))
    return (int(first[0]), int(first[1])), (int(second[0]), int(second[1]))


@dataclass(frozen=True, kw_only=True)
class Path:
    """Convolutions one after the other, each with batch norm and ReLU.

    Attributes:
        kernel: Of all of them; an asymmetric one stands for two convolutions.
        depth: How many, 2 to 4.
        is_dense: Whether each sees the path's input and the outputs of all before it. The path's
            output is then all their outputs side by side; otherwise it is the last one's.
    """

    kernel: Kernel
    depth: int
    is_dense: bool = False

    def __post_init__(self) -> None:
        faults = list(_outside("path.depth", self.depth, _PATH_DEPTHS))
        if self.kernel not in KERNELS:
            faults.append(
                UserError(
                    where="path.kernel",
                    found=repr(self.kernel),
                    allowed=", ".join(KERNELS),
                    next_step="choose one of them",
                )
            )
        raise_together(faults)

    @property
    def order(self) -> tuple[int, int, bool]:
        """What paths are sorted by."""
        return KERNELS.index(self.kernel), self.depth, self.is_dense

    def __str__(self) -> str:
        return f"{self.kernel} · {self.depth}{' dense' if self.is_dense else ''}"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Paths side by side; in which order they are given makes no difference, they are sorted.

    Attributes:
        paths: Two to four.
    """

    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        raise_together(list(_outside("block.paths", len(self.paths), _PATH_COUNTS)))
        object.__setattr__(self, "paths", tuple(sorted(self.paths, key=lambda path: path.order)))

    def __str__(self) -> str:
        return " | ".join(map(str, self.paths))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A convolution that halves the feature map, and blocks that keep its shape.

    Attributes:
        channels: Of the feature map.
        width: Channels of the paths inside the blocks.
        depth: Number of blocks.
        pattern: What the blocks are, in turn and again from the beginning until there are `depth`.
            It is shortened to what repeats: A, B, A, B becomes A, B.
    """

    channels: int
    width: int
    depth: int
    pattern: tuple[Block, ...]

    def __post_init__(self) -> None:
        faults = [*_no_multiple("stage.channels", self.channels)]
        faults += _no_multiple("stage.width", self.width)
        faults += _outside("stage.depth", self.depth, _STAGE_DEPTHS)
        if not 1 <= len(self.pattern) <= max(self.depth, 1):
            faults += _outside("stage.pattern", len(self.pattern), (1, max(self.depth, 1)))
        deepest = max((p.depth for b in self.pattern for p in b.paths if p.is_dense), default=1)
        if self.width < deepest * CHANNEL_MULTIPLE:
            least = deepest * CHANNEL_MULTIPLE
            faults.append(
                UserError(
                    where="stage.width",
                    found=str(self.width),
                    allowed=f"from {least}, as a dense path shares it out among {deepest} layers",
                    next_step=f"use {least}, or a dense path of less depth",
                )
            )
        raise_together(faults)
        object.__setattr__(self, "pattern", _shortened(tuple(self.blocks())))

    def blocks(self) -> Iterator[Block]:
        """Every block, from the first to the last."""
        for index in range(self.depth):
            yield self.pattern[index % len(self.pattern)]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A RIDNet.

    Attributes:
        input_size: Height and width in pixels of the images that it is meant for; the network can
            be built for others.
        stem: Channels of the first convolution, 3 × 3.
        stem_stride: 1, or 2 for a small network that halves its input at once.
        stages: One to five.
        neck: Channels to which the last feature map is narrowed before it is flattened into the
            embedding layer, which so keeps where in the face a feature lies and stays small.
    """

    input_size: int = 112
    stem: int
    stem_stride: Literal[1, 2] = 1
    stages: tuple[Stage, ...]
    neck: int

    def __post_init__(self) -> None:
        faults = list(_outside("architecture.stages", len(self.stages), _STAGE_COUNTS))
        for name in ("stem", "neck"):
            faults += _no_multiple(f"architecture.{name}", getattr(self, name))
        faults += _outside("architecture.stem_stride", self.stem_stride, (1, 2))
        if not faults and (self.input_size < self.stride or self.input_size % self.stride):
            faults.append(
                UserError(
                    where="architecture.input_size",
                    found=str(self.input_size),
                    allowed=f"multiples of {self.stride}, by which the network divides it",
                    next_step=f"use {max(self.input_size // self.stride, 1) * self.stride}",
                )
            )
        raise_together(faults)

    @property
    def stride(self) -> int:
        """How many times smaller than the image the last feature map is."""
        return self.stem_stride << len(self.stages)

    @property
    def depth(self) -> int:
        """Number of blocks in all stages."""
        return sum(stage.depth for stage in self.stages)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: the same for the same network, described in whatever way."""
        return fingerprint("ridnet", json.dumps(to_dict(self), sort_keys=True))


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an architecture comes from.

    Attributes:
        command: What found it.
        seed: Of the search; None where nothing was drawn.
        log: File that says how the search went, or a sentence where there is none.
    """

    command: str
    seed: int | None
    log: str


@dataclass(frozen=True, kw_only=True)
class Definition:
    """An architecture and where it comes from: what a file holds."""

    architecture: Architecture
    origin: Origin


def read_definition(path: FilePath) -> Definition:
    """Read an architecture's JSON file.

    Raises:
        UserError: If there is none, or it describes no RIDNet: all fields of another name or type
            together, or else the first layer that cannot be.
    """
    content: dict[str, Any] = read_json(path, what="architecture", required=("architecture",))
    check_format_version(content, path=path, supported=FORMAT_VERSION)
    rest = {name: value for name, value in content.items() if name != "format_version"}
    try:
        return from_dict(Definition, rest, where=str(path))
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(
            where=str(path),
            found=f"a network that cannot be ({error})",
            allowed="what the message says",
            next_step="correct the file",
        ) from error


def write_definition(path: FilePath, definition: Definition) -> None:
    """Write an architecture's JSON file."""
    write_json(path, {"format_version": FORMAT_VERSION, **to_dict(definition)})


def _shortened(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Find the shortest beginning that gives all blocks when it is repeated."""
    for length in range(1, len(blocks)):
        repeated = chain.from_iterable([blocks[:length]] * -(-len(blocks) // length))
        if all(a == b for a, b in zip(blocks, repeated, strict=False)):
            return blocks[:length]
    return blocks


def _no_multiple(where: str, found: int) -> Iterable[UserError]:
    if found < CHANNEL_MULTIPLE or found % CHANNEL_MULTIPLE:
        below = max(found // CHANNEL_MULTIPLE, 1) * CHANNEL_MULTIPLE
        yield UserError(
            where=where,
            found=str(found),
            allowed=f"multiples of {CHANNEL_MULTIPLE} from {CHANNEL_MULTIPLE}",
            next_step=f"use {below} or {below + CHANNEL_MULTIPLE}",
        )


def _outside(where: str, found: int, limits: tuple[int, int]) -> Iterable[UserError]:
    least, most = limits
    if not least <= found <= most:
        yield UserError(
            where=where,
            found=str(found),
            allowed=f"{least} to {most}",
            next_step="choose a number in that range",
        )

"""Adding up what the rooms say of themselves, and looking for the fewest ranks that are enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from openmfr.distributed import Ranks
from openmfr.errors import UserError, raise_together
from openmfr.heads.memory import (
    FLOAT,
    LONG,
    PARTIAL_FC_RATE,
    HeadMemory,
    HeadSize,
    dense_memory,
    fused_memory,
    head_memory,
    partial_fc_memory,
)
from openmfr.plan.backbone import BackboneMemory, DeviceType, backbone_memory, measure
from openmfr.plan.sizes import DatasetSize
from openmfr.train.config import TrainConfig
from openmfr.train.parallel import FEWEST_IMAGES, check_batch

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one rank sends in a step, in bytes; nothing if it is alone.

    Attributes:
        embeddings: Gathered embeddings of all ranks, (G, D).
        identities: Their identities, (G,), int64.
        softmax: Largest logit and sum of exponentials, (G,) each: the paper's "batch × 4 bytes",
            twice, as the sum is taken from the largest down.
        gradients: Of the embeddings, (G, D), added up and scattered.
        parameters: Gradients of the backbone.
    """

    embeddings: int = 0
    identities: int = 0
    softmax: int = 0
    gradients: int = 0
    parameters: int = 0

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """All parts by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of holding the classifier.

    Attributes:
        name: What it is called.
        head: Memory of one rank's head.
        total: Head and backbone of one rank, in bytes.
        fits: Whether that is within the memory of a rank; None if that was not said.
        smallest_ranks: Fewest ranks on which it fits; None if on none, or not asked.
    """

    name: str
    head: HeadMemory
    total: int
    fits: bool | None
    smallest_ranks: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will need.

    Attributes:
        config: The training.
        size: Of its data.
        ranks: Processes that share it.
        images_per_rank: B, of the largest share of a batch.
        rows: Cs, prototypes of the largest shard.
        head: Memory of one rank's head, as configured.
        backbone: Memory of one rank's backbone.
        traffic: What one rank sends in a step.
        steps: Optimizer steps.
        hours: At the speed given; None without one.
        memory_gib: Memory of a rank, GiB; None if not given.
        ways: Other ways of holding the classifier.
    """

    config: TrainConfig
    size: DatasetSize
    ranks: int
    images_per_rank: int
    rows: int
    head: HeadMemory
    backbone: BackboneMemory
    traffic: Traffic
    steps: int
    hours: float | None
    memory_gib: float | None
    ways: tuple[Way, ...]

    @property
    def total(self) -> int:
        """Memory of one rank, in bytes."""
        return self.head.total + self.backbone.total


def plan(
    config: TrainConfig,
    size: DatasetSize,
    *,
    ranks: int = 1,
    device: DeviceType = "cuda",
    memory_gib: float | None = None,
    images_per_second: float | None = None,
) -> Plan:
    """Add up what a training will need.

    Args:
        config: The training; its batch is that of all ranks together.
        size: Of its data, without held-out identities.
        ranks: Processes that share it, from 1.
        device: Where they compute; a CPU's allocator needs more.
        memory_gib: Memory of each rank, GiB above 0. With it, the plan says what fits.
        images_per_second: Speed of all ranks together, above 0. With it, the plan says how long.

    Raises:
        UserError: If a number is out of range, or a batch too small for the ranks.
    """
    _check_request(ranks, memory_gib, images_per_second)
    check_batch(config.batch_size, Ranks(size=ranks))
    head = head_memory(config.head, _head_size(config, size, ranks))
    backbone = backbone_memory(config, ranks, device)
    steps = config.steps(size.images)
    hours = None
    if images_per_second is not None:
        hours = steps * config.batch_size / images_per_second / 3600
    return Plan(
        config=config,
        size=size,
        ranks=ranks,
        images_per_rank=-(-config.batch_size // ranks),
        rows=-(-size.identities // ranks),
        head=head,
        backbone=backbone,
        traffic=traffic(config, ranks),
        steps=steps,
        hours=hours,
        memory_gib=memory_gib,
        ways=_ways(config, size, ranks, device, memory_gib),
    )


def traffic(config: TrainConfig, ranks: int) -> Traffic:
    """What one rank sends in a step."""
    if ranks == 1:
        return Traffic()
    embeddings = FLOAT * config.batch_size * config.backbone.embedding_dim
    return Traffic(
        embeddings=embeddings,
        identities=LONG * config.batch_size,
        softmax=2 * FLOAT * config.batch_size,
        gradients=embeddings,
        parameters=FLOAT * measure(config.backbone, config.precision).parameters,
    )


def smallest_ranks(needed: Callable[[int], int], memory: int, *, most: int) -> int | None:
    """Fewest ranks on which something fits.

    Args:
        needed: Bytes of each rank at a number of ranks; from 2 ranks on it never grows.
        memory: Bytes of each rank.
        most: Largest number of ranks to consider, from 1.

    Returns:
        The number, or None if even `most` are too few.

    Example:
        >>> smallest_ranks(lambda ranks: 100 // ranks, 30, most=64)
        4
    """
    if needed(1) <= memory:
        return 1
    if most < 2 or needed(most) > memory:
        return None
    low, high = 1, most  # one is too few, `most` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if needed(middle) <= memory else (middle, high)
    return high


def _ways(
    config: TrainConfig,
    size: DatasetSize,
    ranks: int,
    device: DeviceType,
    memory_gib: float | None,
) -> tuple[Way, ...]:
    """The ways of holding the classifier, each at this number of ranks and at the fewest."""

    def judge(name: str, head_at: Callable[[int], HeadMemory]) -> Way:
        def needed(k: int) -> int:
            return head_at(k).total + backbone_memory(config, k, device).total

        fits = fewest = None
        if memory_gib is not None:
            memory = int(memory_gib * GIB)
            fits = needed(ranks) <= memory
            fewest = smallest_ranks(needed, memory, most=config.batch_size // FEWEST_IMAGES)
        return Way(
            name=name,
            head=head_at(ranks),
            total=needed(ranks),
            fits=fits,
            smallest_ranks=fewest,
        )

    return tuple(judge(name, head_at) for name, head_at in _ways_by_name(config, size).items())


def _ways_by_name(config: TrainConfig, size: DatasetSize) -> dict[str, Callable[[int], HeadMemory]]:
    """Name → memory of one rank's head at a number of ranks."""
    rate = config.head.sample_rate if config.head.sample_rate < 1 else PARTIAL_FC_RATE
    fused = replace(config.head, path="fused")

    def sharded(k: int) -> HeadSize:
        return _head_size(config, size, k)

    def whole(k: int) -> HeadSize:
        # Each rank forms the logits of its own images alone, over all identities.
        return replace(sharded(1), images=-(-sharded(1).images // k))

    return {
        "dense, whole on each": lambda k: dense_memory(whole(k)),
        "dense, sharded": lambda k: dense_memory(sharded(k)),
        f"Partial FC, rate {rate:g}": lambda k: partial_fc_memory(sharded(k), sample_rate=rate),
        f"fused, rate {fused.sample_rate:g}": lambda k: fused_memory(fused, sharded(k)),
    }


def _head_size(config: TrainConfig, size: DatasetSize, ranks: int) -> HeadSize:
    return HeadSize(
        identities=size.identities,
        embedding_dim=config.backbone.embedding_dim,
        images=-(-config.batch_size // config.accumulate),
        ranks=ranks,
    )


def _check_request(ranks: int, memory_gib: float | None, images_per_second: float | None) -> None:
    checks = {
        "ranks": (ranks >= 1, ranks, "from 1"),
        "memory_gib": (memory_gib is None or 0 < memory_gib < math.inf, memory_gib, "above 0, GiB"),
        "images_per_second": (
            images_per_second is None or 0 < images_per_second < math.inf,
            images_per_second,
            "above 0",
        ),
    }
    raise_together(
        [
            UserError(where=name, found=str(value), allowed=allowed, next_step="correct the value")
            for name, (is_valid, value, allowed) in checks.items()
            if not is_valid
        ]
    )

"""A plan in words, and the table of the ways of holding the classifier."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from openmfr.distributed import Ranks
from openmfr.heads import build_head
from openmfr.models import build_backbone, count
from openmfr.plan.backbone import DeviceType
from openmfr.plan.planner import GIB, Plan, Way, plan
from openmfr.plan.sizes import DatasetSize
from openmfr.train.config import TrainConfig

GB, MIB = 10**9, 2**20


def describe_plan(
    config: TrainConfig,
    size: DatasetSize,
    ranks: int = 1,
    *,
    device: DeviceType = "cuda",
    memory_gib: float | None = None,
    images_per_second: float | None = None,
) -> dict[str, str]:
    """Say what a training would do and need: shapes, schedule, memory, traffic, steps.

    Backbone and head are really built, on tensors without storage, so a recipe that does not fit
    together fails here.

    Args:
        config: The training; its batch is that of all ranks together.
        size: Of its data, without held-out identities.
        ranks: Processes that share it, from 1.
        device: Where they compute.
        memory_gib: Memory of each rank, GiB.
        images_per_second: Speed of all ranks together.

    Returns:
        Name → value, in the order in which to print them.

    Raises:
        UserError: As `openmfr.plan.plan`.
    """
    planned = plan(
        config,
        size,
        ranks=ranks,
        device=device,
        memory_gib=memory_gib,
        images_per_second=images_per_second,
    )
    return {**_shapes(planned), **_schedule(planned), **describe_memory(planned)}


def describe_memory(planned: Plan) -> dict[str, str]:
    """Memory of one rank, its traffic, and the time if the speed is known, by name."""
    head, backbone = planned.head, planned.backbone
    lines = {
        "head": f"{_gib(head.total)} ({head.total / GB:.2f} GB){_parts(head.parts())}",
        "backbone": f"{_gib(backbone.total)}{_parts(backbone.parts())}",
        "memory": f"{_gib(planned.total)} of tensors on each rank, beside the process itself",
    }
    if planned.memory_gib is not None:
        is_enough = planned.total <= planned.memory_gib * GIB
        lines["memory"] += f"; {'fits' if is_enough else 'does not fit'} {planned.memory_gib:g} GiB"
    parts = {name: n for name, n in planned.traffic.parts().items() if n}
    if parts:
        shares = ", ".join(f"{name} {n / MIB:.2f}" for name, n in parts.items())
        lines["traffic"] = f"{planned.traffic.total / MIB:.2f} MiB a step and rank: {shares}"
    if planned.hours is not None:
        lines["time"] = f"{planned.hours:,.1f} hours, {planned.hours / 24:.1f} days"
    return lines


def ways_table(ways: tuple[Way, ...]) -> list[str]:
    """Lines of a table: memory of each way on one rank, whether it fits, and on how many ranks."""
    header = ("classifier", "head GiB", "head GB", "with backbone", "fits", "fewest ranks")
    rows = [header]
    for way in ways:
        fits, fewest = "", ""
        if way.fits is not None:
            fits = "yes" if way.fits else "no"
            fewest = "none" if way.smallest_ranks is None else str(way.smallest_ranks)
        head = way.head.total
        rows.append(
            (way.name, f"{head / GIB:.2f}", f"{head / GB:.2f}", _gib(way.total), fits, fewest)
        )
    if not rows[1][4]:
        rows = [(*row[:4], "", "") for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _shapes(planned: Plan) -> dict[str, str]:
    config, backbone = planned.config, planned.config.backbone
    ranks = Ranks(size=planned.ranks)  # no process group: nothing is sent while building
    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        network = build_backbone(backbone).train()
        images = torch.empty(planned.images_per_rank, 3, *(backbone.input_size,) * 2)
        embeddings = network(images)
    with torch.device("meta"):
        cost = count(build_backbone(backbone), backbone.input_size)
        head = build_head(
            config.head,
            num_identities=planned.size.identities,
            embedding_dim=backbone.embedding_dim,
            ranks=ranks,
        )
    prototypes = head.sharded_state()["prototypes"]
    how: str = config.head.path
    if config.head.sample_rate < 1:
        how += f", rate {config.head.sample_rate:g}"
    return {
        "data": f"{planned.size.images:,} images of {planned.size.identities:,} identities",
        "ranks": f"{planned.ranks}, {planned.images_per_rank} images each",
        "network": f"{backbone.name}, {cost}",
        "shapes": f"images {_shape(images)}, embeddings {_shape(embeddings)} on each rank and "
        f"({config.batch_size}, {backbone.embedding_dim}) gathered, "
        f"prototypes {_shape(prototypes)} on each rank",
        "loss": f"{config.head.kind}, margin {config.head.margin:g}, {how}",
    }


def _schedule(planned: Plan) -> dict[str, str]:
    config, schedule = planned.config, planned.config.schedule
    by_epoch = planned.size.images / config.batch_size
    moments = [f"warm-up to step {schedule.warmup_epochs * by_epoch:,.0f}"]
    if schedule.shape == "milestones":
        passed = [m for m in schedule.milestones if m < schedule.epochs]
        drops = ", ".join(f"{milestone * by_epoch:,.0f}" for milestone in passed)
        moments.append(f"× {schedule.gamma:g} at steps {drops}" if passed else "no drops")
    else:
        moments.append("cosine to 0")
    return {
        "steps": f"{planned.steps:,} of {config.batch_size} images, {schedule.epochs:g} epochs",
        "learning rate": f"{config.peak_rate:g} at its peak, {', '.join(moments)}",
        "precision": f"{config.precision} backbone, float32 head",
    }


def _gib(size: int) -> str:
    return f"{size / GIB:.{2 if size >= GIB / 10 else 4}f} GiB"


def _parts(parts: dict[str, int]) -> str:
    """The parts from a MiB on, in GiB, after a colon."""
    named = [f"{name} {size / GIB:.3f}" for name, size in parts.items() if size >= MIB]
    return f": {', '.join(named)}" if named else ""


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))

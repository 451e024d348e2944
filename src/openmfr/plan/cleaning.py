"""What a cleaning pass will need before it begins: reading, products, time, and memory.

A pass reads the embeddings a few times from front to back, which takes as long as the disk or the
memory lets it, multiplies each centre with each other, which grows with the square of the
identities, and each doubtful image with all centres and all other doubtful images. That is counted,
but for the share of doubtful images, which nobody knows before; how fast a machine is has to be
measured, and `benchmarks/cleaning.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmfr.errors import UserError, raise_together
from openmfr.plan.planner import GIB
from openmfr.plan.sizes import DatasetSize

#: Readings to score all images against robust centres: sums and scores, and both again for each
#: of six rounds of weights.
_OF_FIT = 2 + 2 * 6

#: Readings of all embeddings in a pass that searches its thresholds: images are scored before and
#: after merging, and once with planted noise; sums for three searches of merges and one of moves;
#: sums and scores of the result.
READINGS = 3 * _OF_FIT + 3 + 1 + 2

#: Searches over all pairs of centres: of identities that are surely one, in planted noise, and of
#: the table.
SEARCHES = 3

#: Bytes for each number of a doubtful image: as read, and twice in float32.
_OF_DOUBTFUL = 2 + 4 + 4

#: Bytes for each image: identity before and after, keep, two scores, weight.
_OF_IMAGE = 8 + 8 + 1 + 4 + 4 + 4

#: Bytes for each identity: row, code and rounding error in the search, and number of images.
_OF_IDENTITY = 4 * 8


@dataclass(frozen=True, kw_only=True)
class CleaningPlan:
    """A cleaning pass, counted.

    Attributes:
        read_bytes: What is read of the embeddings in all, float16.
        merge_multiply_adds: Products and sums of the searches over all pairs of centres, of all
            ranks.
        move_multiply_adds: The same of the search for homes of doubtful images.
        memory_bytes: Of each rank: sums, unit centres, their copy for the search, the embeddings of
            doubtful images with their copy, and columns of images and identities. The other
            embeddings are read from the file and not counted.
        read_seconds: Time of reading; None without its speed.
        merge_seconds: Time of the searches of merges, shared by all ranks; None without speed.
        move_seconds: Time of that of moves.
    """

    read_bytes: int
    merge_multiply_adds: int
    move_multiply_adds: int
    memory_bytes: int
    read_seconds: float | None
    merge_seconds: float | None
    move_seconds: float | None


def plan_cleaning(
    size: DatasetSize,
    *,
    dim: int = 512,
    ranks: int = 1,
    readings: int = READINGS,
    doubtful: float = 0.1,
    gflops: float | None = None,
    read_gb_per_second: float | None = None,
) -> CleaningPlan:
    """Count what a pass over so many images reads, multiplies and holds.

    Args:
        size: Images and identities.
        dim: Embedding dimension D.
        ranks: Processes that share the search, from 1. Each reads all embeddings.
        readings: How often a pass reads them.
        doubtful: Share of the images that do not fit their identity.
        gflops: Speed of the search on one rank, 10⁹ floating-point operations a second; a
            multiply-add is two.
        read_gb_per_second: Speed of a pass over the embeddings, 10⁹ bytes a second.

    Raises:
        UserError: If a number is too small.

    Example:
        >>> size = DatasetSize(images=42_000_000, identities=2_000_000)
        >>> planned = plan_cleaning(size, ranks=16, gflops=60, read_gb_per_second=2)
        >>> round(planned.merge_seconds), round(planned.move_seconds), round(planned.read_seconds)
        (6400, 29909, 1032)
    """
    numbers = {
        "embedding dimension": dim,
        "ranks": ranks,
        "readings": readings,
        "doubtful": doubtful,
        "gflops": gflops,
        "read_gb_per_second": read_gb_per_second,
    }
    raise_together(
        [
            UserError(
                where=name,
                found=f"{value:g}",
                allowed="above 0",
                next_step="measure it with benchmarks/cleaning.py"
                if isinstance(value, float)
                else "give a whole number from 1",
            )
            for name, value in numbers.items()
            if value is not None and not value > 0
        ]
    )
    suspects = int(doubtful * size.images)
    merges = SEARCHES * (size.identities * (size.identities + 1) // 2) * dim
    # Their homes, the doubtful images nearest to each, and identities that may be one person.
    moves = (suspects * (size.identities + suspects) + size.identities**2 // 2) * dim
    memory = (
        3 * 4 * size.identities * dim
        + _OF_DOUBTFUL * suspects * dim
        + _OF_IDENTITY * size.identities
        + _OF_IMAGE * size.images
    )
    read = size.images * dim * 2 * readings
    return CleaningPlan(
        read_bytes=read,
        merge_multiply_adds=merges,
        move_multiply_adds=moves,
        memory_bytes=memory,
        read_seconds=None if read_gb_per_second is None else read / (read_gb_per_second * 1e9),
        merge_seconds=None if gflops is None else 2 * merges / (gflops * 1e9 * ranks),
        move_seconds=None if gflops is None else 2 * moves / (gflops * 1e9 * ranks),
    )


def describe_cleaning(
    planned: CleaningPlan, size: DatasetSize, *, ranks: int = 1, memory_gib: float | None = None
) -> dict[str, str]:
    """Say in words what a pass needs.

    Args:
        planned: Of `plan_cleaning`.
        size: What it was planned for.
        ranks: Processes that share it.
        memory_gib: Memory of each rank, GiB: says whether it fits.

    Returns:
        Name → value, in the order in which to print them.

    Example:
        >>> size = DatasetSize(images=1_000, identities=100)
        >>> describe_cleaning(plan_cleaning(size, gflops=10.0), size)["merge search"]
        '5,050 pairs of centres, 3 times, 0.000 TFLOP on each of 1 ranks: 0.0 s'
    """
    memory = f"{planned.memory_bytes / GIB:.2f} GiB on each rank, beside the mapped embeddings"
    if memory_gib is not None:
        fits = planned.memory_bytes <= memory_gib * GIB
        memory += f"; {'fits' if fits else 'does not fit'} into {memory_gib:g} GiB"
    merging = 2 * planned.merge_multiply_adds / ranks / 1e12
    moving = 2 * planned.move_multiply_adds / ranks / 1e12
    pairs = size.identities * (size.identities + 1) // 2
    return {
        "data": f"{size.images:,} images of {size.identities:,} identities",
        "reading": f"{planned.read_bytes / 1e9:,.1f} GB of embeddings"
        + _duration(planned.read_seconds),
        "merge search": f"{pairs:,} pairs of centres, {SEARCHES} times, {merging:,.3f} TFLOP on "
        f"each of {ranks} ranks" + _duration(planned.merge_seconds),
        "move search": f"homes of doubtful images, {moving:,.3f} TFLOP on "
        f"each of {ranks} ranks" + _duration(planned.move_seconds),
        "memory": memory,
    }


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f": {seconds / length:.1f} {unit}"
    return f": {seconds:.1f} s"

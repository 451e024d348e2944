"""A run's figures while it trains: a row of `metrics.jsonl`, and the same for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch.utils.tensorboard.writer import SummaryWriter

from openmfr.run import Run

#: Takes one row, which has a `step`.
Record = Callable[[Mapping[str, float]], None]


@contextmanager
def recording(run: Run, *, first: int, is_first: bool) -> Iterator[Record]:
    """Write rows of figures while the block runs.

    Args:
        run: Where to.
        first: Step from which on the curves are drawn anew.
        is_first: Whether this is the rank that writes; nothing is written on the others.
    """
    if not is_first:
        yield lambda _: None
        return
    board = SummaryWriter(str(run.path / "tensorboard"), purge_step=first)

    def record(row: Mapping[str, float]) -> None:
        run.add_metrics(row)
        for name, value in row.items():
            if name != "step":
                board.add_scalar(name, value, int(row["step"]))

    try:
        yield record
    finally:
        board.close()

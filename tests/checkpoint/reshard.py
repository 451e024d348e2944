"""What ranks do in the tests of shards; apart from them, as every rank imports it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmfr.checkpoint import CheckpointFolder, CheckpointInfo
from openmfr.checkpoint.shards import read_shards, write_shards
from openmfr.distributed import Ranks
from openmfr.models import BackboneConfig

DIM = 3


def whole(rows: int) -> dict[str, Tensor]:
    """Tensors of which every value says where it belongs."""
    values = torch.arange(rows * DIM, dtype=torch.float32).view(rows, DIM)
    return {"prototypes": values, "momentum": -values}


def part(rows: int, ranks: Ranks) -> dict[str, Tensor]:
    first, last = ranks.bounds(rows)
    return {name: tensor[first:last].clone() for name, tensor in whole(rows).items()}


def info(rows: int, step: int) -> CheckpointInfo:
    return CheckpointInfo(
        backbone=BackboneConfig(name="tiny", input_size=32, embedding_dim=DIM),
        step=step,
        images_seen=step,
        identities=rows,
        store="",
        labels="",
    )


def write_all(ranks: Ranks, *, folder: Path, sizes: list[int]) -> dict[str, Any]:
    """Write shards for each number of rows, and a folder of two checkpoints in the background."""
    for rows in sizes:
        path = folder / f"{rows}-by-{ranks.size}"
        if ranks.is_first:
            path.mkdir()
        ranks.barrier()
        write_shards(path, part(rows, ranks), ranks, rows=rows)
    checkpoints = CheckpointFolder(
        folder / f"checkpoints-{ranks.size}", ranks=ranks, in_background=True
    )
    for step in (1, 2):
        checkpoints.add(
            info(10, step),
            score=None,
            backbone={"weight": torch.full((2,), float(step))},
            training={},
            shards=part(10, ranks),
        )
    checkpoints.wait()
    return {}


def read_all(ranks: Ranks, *, folder: Path, sizes: list[int], writers: list[int]) -> dict[str, Any]:
    """Which of the written shards are read right, into tensors that were wrong before."""
    right: dict[str, Any] = {}
    for rows in sizes:
        for writer in writers:
            wanted = part(rows, ranks)
            found = {name: torch.full_like(tensor, torch.nan) for name, tensor in wanted.items()}
            read_shards(folder / f"{rows}-by-{writer}", found, ranks, rows=rows)
            right[f"{rows}-by-{writer}"] = all(
                torch.equal(found[name], tensor) for name, tensor in wanted.items()
            )
    return right

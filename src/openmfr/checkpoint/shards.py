"""Tensors of which each rank holds some rows: written by k ranks, read by any other number.

PyTorch's distributed checkpoint does the work, with its safetensors storage: one file for each rank
that has rows, which says where its rows belong. Its own storage is not used, as it unpickles what
it reads.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from openmfr.distributed import Ranks
from openmfr.errors import UserError

# torch's own notes on what it skips are no news to a user
logging.getLogger("torch.distributed.checkpoint").setLevel(logging.WARNING)


def write_shards(
    path: Path,
    tensors: Mapping[str, Tensor],
    ranks: Ranks,
    *,
    rows: int,
    group: ProcessGroup | None = None,
) -> None:
    """Write this rank's rows of some tensors; all ranks call it together.

    Args:
        path: An existing folder, the same for all ranks.
        tensors: This rank's rows by name, (n, …), as `Ranks.bounds` splits `rows`.
        ranks: Those that share the rows.
        rows: Rows of the whole, over all ranks.
        group: Process group that talks about it; that of `ranks` by default.

    Raises:
        Exception: What a rank met; torch's own would pass by whoever handles errors.
    """
    try:
        with _alone_or_not():
            save(
                _whole(tensors, ranks, rows),
                storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True),
                process_group=group or ranks.group,
                no_dist=ranks.size == 1,
            )
    except CheckpointException as error:
        raise _first_failure(error) from error


def read_shards(path: Path, tensors: Mapping[str, Tensor], ranks: Ranks, *, rows: int) -> None:
    """Fill this rank's rows of some tensors, whoever wrote them; all ranks call it together.

    Args:
        path: Folder that `write_shards` filled.
        tensors: Where to put them, by name, (n, …), as `Ranks.bounds` splits `rows`.
        ranks: Those that share the rows.
        rows: Rows of the whole, over all ranks.

    Raises:
        UserError: If a file is damaged, or holds other tensors, or other shapes.
    """
    try:
        with _alone_or_not():
            load(
                _whole(tensors, ranks, rows),
                storage_reader=HuggingFaceStorageReader(str(path)),
                process_group=ranks.group,
                no_dist=ranks.size == 1,
            )
    except (CheckpointException, OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(
            where=str(path),
            found=f"unreadable or other tensors ({_cause(error)})",
            allowed=f"{', '.join(tensors)}, with {rows:,} rows each",
            next_step="use another checkpoint of the run",
        ) from error


def _whole(tensors: Mapping[str, Tensor], ranks: Ranks, rows: int) -> dict[str, Tensor]:
    """The tensors as torch's checkpoint knows them: parts of a whole."""
    if ranks.size == 1:
        return {name: tensor.detach() for name, tensor in tensors.items()}
    assert ranks.group is not None
    device = next(iter(tensors.values())).device.type if tensors else "cpu"
    mesh = DeviceMesh.from_group(ranks.group, device)
    return {
        name: DTensor.from_local(
            tensor.detach(),
            mesh,
            [Shard(0)],
            run_check=False,
            shape=torch.Size((rows, *tensor.shape[1:])),
            stride=torch.empty((rows, *tensor.shape[1:]), device="meta").stride(),
        )
        for name, tensor in tensors.items()
    }


@contextmanager
def _alone_or_not() -> Iterator[None]:
    """One process is meant where there is one; torch warns of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _first_failure(error: CheckpointException) -> BaseException:
    return next(iter(error.failures.values()))[0] if error.failures else RuntimeError(str(error))


def _cause(error: BaseException) -> str:
    if isinstance(error, CheckpointException):
        error = _first_failure(error)
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]

"""Checkpoints: a folder of safetensors and one JSON file; nothing in it is ever unpickled.

`backbone.safetensors` holds the weights to use, `training.safetensors` what else training needs to
go on, `head/` the prototypes and their momentum, one file for each rank that wrote them, and
`checkpoint.json` says what it is. A checkpoint is written under another name and renamed, so one
that exists is whole. Randomness and samples need no state here: each step's are drawn from seed and
step alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from openmfr.checkpoint.shards import read_shards, write_shards
from openmfr.config import from_dict, to_dict
from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.files import (
    check_format_version,
    put_in_place,
    read_json,
    remove_leftovers,
    sha256_of_file,
    temporary_path,
    write_json,
)
from openmfr.models import BackboneConfig, build_backbone

FORMAT_VERSION = 2  # 1 had the head in training.safetensors
META, BACKBONE, TRAINING = "checkpoint.json", "backbone.safetensors", "training.safetensors"
HEAD = "head"  # the folder of its shards
INDEX = "index.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint is.

    Attributes:
        backbone: The network.
        step: Optimizer steps done.
        images_seen: Position in the stream of training images.
        identities: C, the identities of the head.
        store: Fingerprint of the training store.
        labels: Fingerprint of the training labels.
        metrics: Figures measured at this step, by name.
    """

    backbone: BackboneConfig
    step: int
    images_seen: int
    identities: int
    store: str
    labels: str
    metrics: dict[str, float] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    info: CheckpointInfo,
    *,
    backbone: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    shards: Mapping[str, Tensor],
    ranks: Ranks | None = None,
    group: ProcessGroup | None = None,
) -> None:
    """Write a checkpoint, whole or not at all; all ranks call it together.

    Args:
        path: Folder to create; one that exists is whole and the same step, and is kept.
        info: What it is.
        backbone: State of the network to use, the same on all ranks.
        training: Further state that training needs to go on, the same on all ranks, by name.
        shards: This rank's rows of the head's tensors, (n, D), by name.
        ranks: Those that share the head; by default this process alone.
        group: Process group that they talk through; that of `ranks` by default.
    """
    ranks = ranks or Ranks()
    if path.exists():
        return
    temporary = temporary_path(path, tag="ranks")

    def prepare() -> None:
        remove_leftovers(path.parent)
        (temporary / HEAD).mkdir(parents=True)

    def finish() -> None:
        save_file(_contiguous(backbone), temporary / BACKBONE)
        save_file(_contiguous(training), temporary / TRAINING)
        meta = {
            "format_version": FORMAT_VERSION,
            "kind": "checkpoint",
            "fingerprint": sha256_of_file(temporary / BACKBONE)[:16],
            "info": to_dict(info),
        }
        write_json(temporary / META, meta)
        put_in_place(temporary, path)

    try:
        first_does(prepare, path, ranks, group)
        if shards:
            write_shards(temporary / HEAD, shards, ranks, rows=info.identities, group=group)
        first_does(finish, path, ranks, group)
    except BaseException:
        if ranks.is_first:  # on a full disk the half of a checkpoint would be in the way
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def first_does(
    work: Callable[[], None], path: Path, ranks: Ranks, group: ProcessGroup | None
) -> None:
    """Let the first rank do something while the others wait, and let all know if it fails.

    Args:
        work: What it does.
        path: What it writes, for the others' error.
        ranks: All of them call this together.
        group: Process group that they talk through; that of `ranks` by default.

    Raises:
        Exception: On the first rank, whatever `work` raised.
        UserError: On the others, then.
    """
    fault: Exception | None = None
    if ranks.is_first:
        try:
            work()
        except Exception as error:  # the others must know before it is raised
            fault = error
    (has_failed,) = ranks.largest([int(fault is not None)], group)
    if fault is not None:
        raise fault
    if has_failed:
        raise UserError(
            where=str(path),
            found="a first rank that could not write it",
            allowed="a checkpoint that all ranks write",
            next_step="see what rank 0 says",
        )


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint; weights are read when they are asked for."""

    path: Path
    info: CheckpointInfo
    fingerprint: str

    @classmethod
    def open(cls, path: Path | str) -> Checkpoint:
        """Open a checkpoint, or the best one of a run.

        Args:
            path: A checkpoint's folder or a run's.

        Raises:
            UserError: If there is none, or it is damaged.
        """
        folder = Path(path)
        if (folder / "checkpoints" / INDEX).exists():
            folder = best_of(folder / "checkpoints")
        meta = read_json(
            folder / META,
            what="checkpoint or run with checkpoints",
            required=("info", "fingerprint"),
        )
        check_format_version(meta, path=folder / META, supported=FORMAT_VERSION)
        info = from_dict(CheckpointInfo, meta["info"], where=str(folder / META))
        return cls(path=folder, info=info, fingerprint=meta["fingerprint"])

    def load_backbone(self) -> nn.Module:
        """Build the network with its weights, on the CPU, in evaluation mode."""
        backbone = build_backbone(self.info.backbone)
        load_into(backbone, self.read_backbone(), where=self.path / BACKBONE)
        return backbone.eval()

    def read_backbone(self) -> dict[str, Tensor]:
        """State of the network to use."""
        return _read(self.path / BACKBONE)

    def read_training(self) -> dict[str, Tensor]:
        """Further state that training needs to go on."""
        return _read(self.path / TRAINING)

    def read_head(self, shards: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Fill this rank's rows of the head's tensors, whatever number of ranks wrote them.

        Args:
            shards: Where to put them, by name, (n, D), as `Ranks.bounds` splits the identities.
            ranks: Those that share the head; all of them call this together.
        """
        read_shards(self.path / HEAD, shards, ranks, rows=self.info.identities)

    def read_prototypes(self) -> Tensor:
        """All prototypes, (C, D), float32, in this process."""
        shape = (self.info.identities, self.info.backbone.embedding_dim)
        prototypes = torch.empty(shape)
        self.read_head({"prototypes": prototypes}, Ranks())
        return prototypes


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            where=str(path),
            found=f"unreadable weights ({error})",
            allowed="a safetensors file that openmfr wrote",
            next_step="use another checkpoint of the run",
        ) from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, where: Path) -> None:
    """Load a state into a module, every name and shape of it.

    Raises:
        UserError: If a name is missing or unknown, or a shape differs.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise UserError(
            where=str(where),
            found=f"weights of another network ({str(error).splitlines()[-1].strip()})",
            allowed="weights of the network that this configuration describes",
            next_step="use the backbone that the checkpoint was trained with",
        ) from error


def read_index(folder: Path) -> dict[str, Any]:
    """Read which of a folder's checkpoints are the last and the best; empty before the first."""
    path = folder / INDEX
    return read_json(path, what="index of checkpoints") if path.exists() else {}


def best_of(folder: Path) -> Path:
    """The best checkpoint of a folder, the last one where nothing was measured.

    Raises:
        UserError: If there is none yet.
    """
    index = read_index(folder)
    if not index:
        raise UserError(
            where=str(folder),
            found="no checkpoint yet",
            allowed="a run that has written one",
            next_step="train longer",
        )
    best: str = index["best"] or index["last"]
    return folder / best

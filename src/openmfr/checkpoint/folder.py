"""The checkpoints of a run: which are kept, which is the best, and saving beside the training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from openmfr.checkpoint.state import (
    INDEX,
    CheckpointInfo,
    best_of,
    first_does,
    read_index,
    save_checkpoint,
)
from openmfr.distributed import Ranks
from openmfr.errors import full_disk_said
from openmfr.files import write_json


class CheckpointFolder:
    """A run's checkpoints: the last one and the best one are kept, and an index names them.

    Args:
        path: The folder; made when the first checkpoint is added.
        ranks: Those that write together; by default this process alone.
        in_background: Whether `add` returns when the state is copied, and writes while training
            goes on; needs memory for the copy.
    """

    def __init__(
        self, path: Path, *, ranks: Ranks | None = None, in_background: bool = False
    ) -> None:
        self.path = path
        self.ranks = ranks or Ranks()
        self._writer = ThreadPoolExecutor(max_workers=1) if in_background else None
        self._writing: Future[None] | None = None

    def last(self) -> Path | None:
        """The newest checkpoint, or None if there is none yet."""
        self.wait()
        index = read_index(self.path)
        return self.path / index["last"] if index else None

    def best(self) -> Path:
        """The best checkpoint, the last one where nothing was measured.

        Raises:
            UserError: If there is none yet.
        """
        self.wait()
        return best_of(self.path)

    def add(
        self,
        info: CheckpointInfo,
        *,
        score: float | None,
        backbone: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        shards: Mapping[str, Tensor],
    ) -> None:
        """Write a checkpoint, name it in the index, and delete those that are named no more.

        All ranks call it together.

        Args:
            info: What it is.
            score: Higher is better; None if this step was not measured.
            backbone: State of the network to use.
            training: Further state that training needs to go on.
            shards: This rank's rows of the head's tensors.
        """
        self.wait()
        if self._writer is None:
            self._write(info, score, backbone, training, shards)
            return
        copies = [
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
            for state in (backbone, training, shards)
        ]
        self._writing = self._writer.submit(self._write, info, score, *copies)

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, and raise what went wrong with it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(
        self,
        info: CheckpointInfo,
        score: float | None,
        backbone: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        shards: Mapping[str, Tensor],
    ) -> None:
        group = self.ranks.background if self._writer is not None else None
        name = f"step-{info.step:08d}"

        def prepare() -> None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._keep_indexed_only()  # one written just before a kill may be of another device

        with full_disk_said(self.path / name, needed=self._size(backbone, training, shards)):
            first_does(prepare, self.path, self.ranks, group)
            save_checkpoint(
                self.path / name,
                info,
                backbone=backbone,
                training=training,
                shards=shards,
                ranks=self.ranks,
                group=group,
            )
            first_does(lambda: self._name(name, score), self.path, self.ranks, group)

    def _size(
        self,
        backbone: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        shards: Mapping[str, Tensor],
    ) -> int:
        """Bytes of a checkpoint, about."""
        alone = sum(tensor.nbytes for state in (backbone, training) for tensor in state.values())
        return alone + self.ranks.size * sum(tensor.nbytes for tensor in shards.values())

    def _name(self, name: str, score: float | None) -> None:
        index = read_index(self.path) or {"last": name, "best": None, "best_score": None}
        index["last"] = name
        if score is not None and (index["best_score"] is None or score > index["best_score"]):
            index |= {"best": name, "best_score": score}
        write_json(self.path / INDEX, index)
        self._keep_indexed_only()

    def _keep_indexed_only(self) -> None:
        index = read_index(self.path)
        for folder in self.path.glob("step-*"):
            if folder.name not in (index.get("last"), index.get("best")):
                shutil.rmtree(folder)

"""Checkpoints: a folder of safetensors and one JSON file; nothing in it is ever unpickled.

`backbone.safetensors` holds the weights to use, `training.safetensors` what training needs to go
on (head and optimizer), and `checkpoint.json` says what it is. A checkpoint is written under
another name and renamed, so one that exists is whole. Randomness needs no state here: each step's
is drawn from seed and step alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openmfr.config import from_dict, to_dict
from openmfr.errors import UserError
from openmfr.files import (
    atomic_path,
    check_format_version,
    read_json,
    remove_leftovers,
    sha256_of_file,
    write_json,
)
from openmfr.models import BackboneConfig, build_backbone, to_input

FORMAT_VERSION = 1
META, BACKBONE, TRAINING = "checkpoint.json", "backbone.safetensors", "training.safetensors"
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
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: Folder to create; one that exists is whole and the same step, and is kept.
        info: What it is.
        backbone: State of the network to use.
        training: State that training needs to go on, by name.
    """
    if path.exists():
        return
    with atomic_path(path) as temporary:
        temporary.mkdir()
        save_file(_contiguous(backbone), temporary / BACKBONE)
        save_file(_contiguous(training), temporary / TRAINING)
        meta = {
            "format_version": FORMAT_VERSION,
            "kind": "checkpoint",
            "fingerprint": sha256_of_file(temporary / BACKBONE)[:16],
            "info": to_dict(info),
        }
        write_json(temporary / META, meta)


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
            folder = CheckpointFolder(folder / "checkpoints").best()
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
        """State that training needs to go on."""
        return _read(self.path / TRAINING)


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


class CheckpointFolder:
    """A run's checkpoints: the last one and the best one are kept, and an index names them.

    Args:
        path: The folder; made when the first checkpoint is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def last(self) -> Path | None:
        """The newest checkpoint, or None if there is none yet."""
        index = self._index()
        return self.path / index["last"] if index else None

    def best(self) -> Path:
        """The best checkpoint, the last one where nothing was measured.

        Raises:
            UserError: If there is none yet.
        """
        index = self._index()
        if not index:
            raise UserError(
                where=str(self.path),
                found="no checkpoint yet",
                allowed="a run that has written one",
                next_step="train longer",
            )
        best: str = index["best"] or index["last"]
        return self.path / best

    def add(
        self,
        info: CheckpointInfo,
        *,
        score: float | None,
        backbone: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
    ) -> Path:
        """Write a checkpoint, name it in the index, and delete those that are named no more.

        Args:
            info: What it is.
            score: Higher is better; None if this step was not measured.
            backbone: State of the network to use.
            training: State that training needs to go on.
        """
        name = f"step-{info.step:08d}"
        self.path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        self._keep_indexed_only()  # one written just before a kill may be of another device
        save_checkpoint(self.path / name, info, backbone=backbone, training=training)
        index = self._index() or {"last": name, "best": None, "best_score": None}
        index["last"] = name
        if score is not None and (index["best_score"] is None or score > index["best_score"]):
            index |= {"best": name, "best_score": score}
        write_json(self.path / INDEX, index)
        self._keep_indexed_only()
        return self.path / name

    def _keep_indexed_only(self) -> None:
        index = self._index()
        for folder in self.path.glob("step-*"):
            if folder.name not in (index.get("last"), index.get("best")):
                shutil.rmtree(folder)

    def _index(self) -> dict[str, Any]:
        path = self.path / INDEX
        return read_json(path, what="index of checkpoints") if path.exists() else {}


class CheckpointEmbedder:
    """Embeds with a checkpoint's network.

    Args:
        checkpoint: What to load.
        device: Where to run.
        precision: "float32" or "bfloat16" (autocast).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device | None = None,
        precision: str = "float32",
    ) -> None:
        self.device = device or torch.device("cpu")
        self.backbone = checkpoint.load_backbone().to(self.device)
        self.input_size = checkpoint.info.backbone.input_size
        self.precision = precision
        self._embedding_dim = checkpoint.info.backbone.embedding_dim
        self._fingerprint = f"{checkpoint.fingerprint}-{precision}"

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self._embedding_dim

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and the precision."""
        return self._fingerprint

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Map RGB faces, uint8 (B, H, W, 3), to embeddings, float32 (B, D), not normalised."""
        return embed_batch(
            self.backbone,
            torch.from_numpy(np.ascontiguousarray(images)).to(self.device),
            input_size=self.input_size,
            precision=self.precision,
        )


@torch.inference_mode()
def embed_batch(
    backbone: nn.Module, images: Tensor, *, input_size: int, precision: str
) -> npt.NDArray[np.float32]:
    """Embed one batch with a network in evaluation mode.

    Args:
        backbone: The network.
        images: RGB faces, uint8 (B, H, W, 3), on the network's device.
        input_size: Height and width that the network takes.
        precision: "float32", "bfloat16" or "float16"; the last two run under autocast.

    Returns:
        Float32, shape (B, D), not normalised.
    """
    inputs = to_input(images, input_size)
    with torch.autocast(
        images.device.type, getattr(torch, precision), enabled=precision != "float32"
    ):
        embeddings = backbone(inputs)
    result: npt.NDArray[np.float32] = embeddings.float().cpu().numpy()
    return result

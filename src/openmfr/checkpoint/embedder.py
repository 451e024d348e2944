"""Images → embeddings with a checkpoint's network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from openmfr.checkpoint.state import Checkpoint
from openmfr.models import to_input


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
        self._path = checkpoint.path

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as a path; each loads the weights once."""
        return _reopened, (self._path, str(self.device), self.precision)

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


@lru_cache(maxsize=1)
def _reopened(path: Path, device: str, precision: str) -> CheckpointEmbedder:
    return CheckpointEmbedder(
        Checkpoint.open(path), device=torch.device(device), precision=precision
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

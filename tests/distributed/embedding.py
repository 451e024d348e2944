"""Embedding on several ranks: what the processes of the test import."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from distributed.harness import Result

from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.embed import embed_store


class Colours:
    """An embedder of mean colours, that counts what it is given."""

    embedding_dim = 3
    fingerprint = "colours"

    def __init__(self) -> None:
        self.images = 0

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.images += len(images)
        colours: npt.NDArray[np.float32] = images.mean(axis=(1, 2)).astype(np.float32)
        return colours


def embed_on_ranks(store: Path, out: Path, ranks: Ranks) -> Result:
    """Embed a store twice: the second time everything is there."""
    embedders = Colours(), Colours()
    for embedder in embedders:
        array = embed_store(embedder, Store(store), out, batch_size=4, ranks=ranks).array
    counts = [embedder.images for embedder in embedders]
    return {"array": torch.from_numpy(np.array(array)), "images": counts}

"""Embedding on several ranks: what the processes of the test import."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from distributed.harness import Result

from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.embed import PARTS, embed_store


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


class Late(Ranks):
    """Ranks of which all but the first are slow: they see what it has embedded, if it has yet."""

    def __init__(self, ranks: Ranks, out: Path) -> None:
        super().__init__(ranks.rank, ranks.size, ranks.group, ranks.background)
        self.out = out
        self.barriers = 0

    def barrier(self, group: dist.ProcessGroup | None = None) -> None:
        super().barrier(group)
        self.barriers += 1
        end = time.monotonic() + 1
        while self.barriers == 2 and self.rank and time.monotonic() < end:
            if any((self.out / PARTS).iterdir()):
                break
            time.sleep(0.01)


def embed_late(store: Path, out: Path, ranks: Ranks) -> Result:
    """Embed a store of which the first rank begins its share before the others list theirs."""
    embedder = Colours()
    array = embed_store(embedder, Store(store), out, batch_size=4, ranks=Late(ranks, out)).array
    return {"array": torch.from_numpy(np.array(array)), "images": embedder.images}


def embed_on_ranks(store: Path, out: Path, ranks: Ranks) -> Result:
    """Embed a store twice: the second time everything is there."""
    embedders = Colours(), Colours()
    for embedder in embedders:
        array = embed_store(embedder, Store(store), out, batch_size=4, ranks=ranks).array
    counts = [embedder.images for embedder in embedders]
    return {"array": torch.from_numpy(np.array(array)), "images": counts}

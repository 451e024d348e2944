"""Small stores for tests that need no faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import Labels
from openmfr.data.store import Store, encode_jpeg
from openmfr.data.store_writer import StoreWriter


def pattern_face(identity: int, image: int, size: int) -> npt.NDArray[np.uint8]:
    """A picture that says who it is by a coarse pattern, with noise: a network can learn it."""
    pattern = np.random.default_rng(identity).integers(40, 215, (4, 4, 3))
    noise = np.random.default_rng([identity, image]).normal(0, 20, (size, size, 3))
    picture = pattern.repeat(size // 4, axis=0).repeat(size // 4, axis=1) + noise
    return np.clip(picture, 0, 255).astype(np.uint8)


def make_store(path: Path, *, identities: int = 8, images: int = 6, size: int = 32) -> Store:
    """Write a store of patterned pictures in shards of 10, with its labels beside it."""
    writer = StoreWriter(path, image_size=size, settings={"pattern": identities})
    rows = [(i, j) for i in range(identities) for j in range(images)]
    shards = [rows[start : start + 10] for start in range(0, len(rows), 10)]
    for number, shard in enumerate(shards):
        writer.write_shard(
            number,
            [encode_jpeg(pattern_face(i, j, size)) for i, j in shard],
            {
                "source": [f"{i:03d}/{j:03d}.jpg" for i, j in shard],
                "identity_name": [f"{i:03d}" for i, _ in shard],
            },
        )
    store = writer.commit(shards=len(shards))
    Labels.from_names(store).write(path / "labels.parquet")
    return store

"""A small recogniser's scores, a store with embeddings, and the published reference embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.data.store import Store, UInt8Array, encode_jpeg
from openmfr.data.store_writer import StoreWriter
from openmfr.embed import Embeddings, embed_store
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.protocols.lists import read_pairs
from openmfr.evaluation.protocols.pairs import PairList
from openmfr.evaluation.sampling import sample_pairs


@dataclass(frozen=True, eq=False)
class Reference:
    """Embeddings of a public model on a public list, and the list."""

    embedding: npt.NDArray[np.floating]
    identity: npt.NDArray[np.int64]
    pairs: PairList


@pytest.fixture(scope="session")
def reference(real_data: Path) -> Callable[[str, str], Reference]:
    """Load one by the names of its embeddings and of its data set."""

    def load(embeddings: str, data: str) -> Reference:
        with np.load(real_data / "reference" / embeddings) as stored:
            embedding, sources = stored["embedding"], stored["path"].tolist()
        names = [source.split("/")[0] for source in sources]
        _, identity = np.unique(names, return_inverse=True)
        return Reference(embedding, identity, read_pairs(real_data / data / "pairs.csv", sources))

    return load


def embedding_of(
    identity: npt.NDArray[np.int64], *, noise: float, seed: int
) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(int(identity.max()) + 1, 16))
    return center[identity] + noise * rng.normal(size=(identity.size, 16))


@pytest.fixture(scope="session")
def comparisons() -> Comparisons:
    """500 genuine and 500 impostor pairs of 60 people, in ten folds."""
    identity = np.repeat(np.arange(60), 6)
    pairs = sample_pairs(identity, np.full(identity.size, True), pairs=500)
    return pairs.compare(embedding_of(identity, noise=0.9, seed=0), identity)


class ColourEmbedder:
    """Embeds an image by its colour: enough to tell apart people who are drawn as colours."""

    embedding_dim = 12
    fingerprint = "colour"

    def embed(self, images: UInt8Array) -> npt.NDArray[np.float32]:
        colours = images.reshape(len(images), 4, -1, 3).mean(axis=2).reshape(len(images), 12)
        centered: npt.NDArray[np.float32] = colours - colours.mean(axis=1, keepdims=True)
        return centered.astype(np.float32)


@pytest.fixture
def embedded(tmp_path: Path) -> Embeddings:
    """Twelve people with four images each, ingested and embedded."""
    rng = np.random.default_rng(0)
    people = rng.integers(0, 256, (12, 32, 1, 3))
    names = [f"person_{i:02d}" for i in range(12)]
    images, sources, owners = [], [], []
    for name, colours in zip(names, people, strict=True):
        for i in range(4):
            noise = rng.integers(-60, 60, (32, 32, 3))
            images.append(encode_jpeg(np.clip(colours + noise, 0, 255).astype(np.uint8)))
            sources.append(f"{name}/{name}_{i:04d}.jpg")
            owners.append(name)
    writer = StoreWriter(tmp_path / "store", image_size=32, settings={})
    writer.write_shard(0, images, {"source": sources, "identity_name": owners})
    store: Store = writer.commit(shards=1)
    return embed_store(ColourEmbedder(), store, tmp_path / "embeddings")


@pytest.fixture
def numbers_in() -> Callable[[object], set[float]]:
    """Collect every number of a JSON document."""

    def collect(content: object) -> set[float]:
        if isinstance(content, dict):
            return set().union(*(collect(value) for value in content.values()))
        if isinstance(content, list):
            return set().union(*(collect(value) for value in content))
        is_number = isinstance(content, int | float) and not isinstance(content, bool)
        return {float(json.dumps(content))} if is_number else set()

    return collect

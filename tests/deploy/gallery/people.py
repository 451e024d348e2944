"""Embeddings of people who do not exist, for tests of galleries."""

from __future__ import annotations

import hashlib

import numpy as np

from openmfr.deploy.gallery import NewImage, unit_rows
from openmfr.deploy.gallery.records import Float32Array

MODEL, DIM = "0123456789abcdef", 64
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


def embedding(person: int, image: int = 0, *, noise: float = 0.5, dim: int = DIM) -> Float32Array:
    """An image of a person: their direction, and some of its own. Two score about 0.8."""
    own = np.random.default_rng(person).standard_normal(dim)
    extra = np.random.default_rng([person, image]).standard_normal(dim)
    row = own / np.linalg.norm(own) + noise * extra / np.linalg.norm(extra)
    return unit_rows(row)


def new_image(
    person: int, image: int = 0, *, identity: str = "", is_masked: bool = False
) -> NewImage:
    """The same, to be enrolled."""
    return NewImage(
        identity=identity or f"person {person}",
        embedding=embedding(person, image),
        digest=hashlib.sha256(f"{person}, {image}".encode()).digest(),
        is_masked=is_masked,
        source=f"{person}-{image}.jpg",
    )

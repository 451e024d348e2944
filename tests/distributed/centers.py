"""Centres, searched on each rank: what the processes of the test import."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from distributed.harness import Result

from openmfr.cleaning.center_search import Method, nearest_centers, similar_centers
from openmfr.distributed import Ranks

Floats = npt.NDArray[np.floating]
THRESHOLD = 0.6


@cache
def split_people(count: int, dim: int, seed: int = 0) -> Floats:
    """Centres of which a tenth is another one again, a little moved; and some exact twins."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(count, dim)).astype(np.float32)
    halves = max(count // 10, 1)
    centers[:halves] = centers[-halves:] + 0.5 * rng.normal(size=(halves, dim))
    centers[count // 3] = centers[count // 2]
    return centers


def search_on_ranks(ranks: Ranks) -> Result:
    result: Result = {}
    methods: tuple[Method, ...] = ("exact", "approximate")
    for method in methods:
        # The last leaves some ranks without a block.
        for count in (700, 2):
            pairs = similar_centers(
                split_people(count, 32), THRESHOLD, method=method, block=(64, 64), ranks=ranks
            )
            columns = (pairs.first, pairs.second, pairs.score)
            result[f"{method} {count}"] = [torch.from_numpy(column) for column in columns]
        people = split_people(700, 32)
        nearest = nearest_centers(people[:100], people, count=3, method=method, ranks=ranks)
        result[f"{method} nearest"] = [torch.from_numpy(column) for column in nearest]
    return result

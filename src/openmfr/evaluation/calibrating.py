"""Impostor pairs to calibrate on: as many as are asked for, all of them where there are no more.

`sample_pairs` draws few pairs in folds, to measure accuracy. A calibration needs neither genuine
pairs nor folds, but a million impostors: the rate of ten false matches is as far as it measures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.protocols.pairs import PairList

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def impostor_pairs(
    identity: IntArray, keep: BoolArray, *, pairs: int = 1_000_000, seed: int = 0
) -> PairList:
    """Draw pairs of images of two people; no pair is drawn twice.

    Args:
        identity: Who is on each image, shape (N,); −1 where nobody knows.
        keep: Images to draw from, shape (N,).
        pairs: How many are wanted, from 1. If the images give no more, all are taken.
        seed: Of the draw: two identities, then an image of each, all equally likely.

    Raises:
        UserError: If fewer than two identities have kept images, or no pair is wanted.

    Example:
        >>> listed = impostor_pairs(np.array([0, 0, 1, 2]), np.full(4, True))
        >>> np.stack([listed.index_a, listed.index_b], axis=1).tolist()
        [[0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    """
    kept = np.flatnonzero(keep & (identity >= 0))
    ordered = kept[np.argsort(identity[kept], kind="stable")]
    counts = np.unique(identity[ordered], return_counts=True)[1]
    if pairs < 1:
        raise UserError(
            where="pairs", found=str(pairs), allowed="integers from 1", next_step="leave it out"
        )
    if counts.size < 2:
        raise UserError(
            where="calibration",
            found=f"{counts.size} identities with kept images",
            allowed="at least 2",
            next_step="label more people",
        )
    available = (kept.size**2 - int(np.sum(counts**2))) // 2
    rng = np.random.default_rng(seed)
    if available <= 2 * pairs:
        places = _all(np.repeat(np.arange(counts.size), counts))
        if available > pairs:
            places = places[np.sort(rng.choice(available, size=pairs, replace=False))]
    else:
        places = _drawn(counts, kept.size, pairs, rng)
    return PairList(
        index_a=ordered[places[:, 0]],
        index_b=ordered[places[:, 1]],
        is_genuine=np.zeros(len(places), dtype=np.bool_),
    )


def _all(person: IntArray) -> IntArray:
    """Every pair of two people's images, by place; persons ascending, shape (K,) → (P, 2)."""
    ends = np.searchsorted(person, person, side="right")
    follow = person.size - ends  # images of later people
    first = np.repeat(np.arange(person.size), follow)
    within = np.arange(first.size) - np.repeat(np.cumsum(follow) - follow, follow)
    return np.stack([first, ends[first] + within], axis=1)


def _drawn(counts: IntArray, images: int, pairs: int, rng: np.random.Generator) -> IntArray:
    """Draw until there are enough different pairs, by place, shape (pairs, 2).

    Images of few-image people are drawn more often, so the pairs left to draw may be unlikely ones:
    the caller has more than twice as many as are wanted, and the last are filled up evenly.
    """
    starts = np.cumsum(counts) - counts
    found = np.empty(0, dtype=np.int64)
    for _ in range(20):
        wanted = pairs - found.size
        if not wanted:
            break
        a = rng.integers(counts.size, size=wanted)
        b = (a + 1 + rng.integers(counts.size - 1, size=wanted)) % counts.size
        image_a, image_b = (
            starts[who] + (rng.random(wanted) * counts[who]).astype(np.int64) for who in (a, b)
        )
        key = np.minimum(image_a, image_b) * images + np.maximum(image_a, image_b)
        found = np.union1d(found, key)
    person = np.repeat(np.arange(counts.size), counts)
    while found.size < pairs:
        image = rng.integers(images, size=(2, 2 * (pairs - found.size)))
        image = np.sort(image[:, person[image[0]] != person[image[1]]], axis=0)
        found = np.union1d(
            found, rng.permutation(image[0] * images + image[1])[: pairs - found.size]
        )
    return np.stack(np.divmod(found, images), axis=1)

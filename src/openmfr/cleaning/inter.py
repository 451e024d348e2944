"""Which identities are one person: pairs of centres that are as near as two halves of one would be.

The cosine of two centres depends on how many images each has: the centre of three photos is noisy,
so two centres of the same person's photos differ. Psychologists have corrected correlations for
that since Spearman: divide by the square root of both *reliabilities*. The reliability of a centre
of n images that agree with each other by a mean cosine w is n·w / (1 + (n − 1)·w). After the
correction two halves of one identity score about 1 whatever their size, and one threshold serves
large and small identities.

Merging is by average linkage: the pair that scores highest becomes one identity, its centre is made
anew, and what was near to either must be near to the new centre. So A–B and B–C do not chain A to
C. Only pairs near the threshold are ever looked at, and groups of them that are not connected do
not meet.

Source: paper section 2.2, inter-class merging; C. Spearman, "The proof and measurement of
association between two things", 1904.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.center_search import CenterPairs, Method, similar_centers
from openmfr.cleaning.centers import Centers
from openmfr.cleaning.changes import renumbered

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]

#: Images whose pairs weigh as much as the mean of all identities, where an identity has few.
_PRIOR_PAIRS = 30
#: The correction multiplies a cosine by at most 1 / 0.7: two single photos stay two photos.
LEAST_RELIABILITY = 0.7


@dataclass(frozen=True)
class Merge:
    """Two identities that became one.

    Attributes:
        into: The number that stays, the lower one.
        other: The number that goes.
        score: Corrected cosine of both centres when they were merged.
    """

    into: int
    other: int
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What merging needs of a table's centres: computed once, for any threshold above a lowest one.

    Attributes:
        centers: Sums and counts of the identities.
        agreement: Mean cosine of two images of one identity, over all identities.
        pairs: Pairs of rows of the centres that reach the lowest threshold, with corrected scores.
    """

    centers: Centers
    agreement: float
    pairs: CenterPairs

    def above(self, threshold: float) -> Candidates:
        """Those that reach a higher threshold."""
        keep, pairs = self.pairs.score >= threshold, self.pairs
        kept = CenterPairs(
            first=pairs.first[keep], second=pairs.second[keep], score=pairs.score[keep]
        )
        return replace(self, pairs=kept)


def find_candidates(
    centers: Centers, lowest: float, *, method: Method = "exact", ranks: Ranks | None = None
) -> Candidates:
    """Find the pairs of identities whose corrected score may reach a threshold.

    Args:
        centers: Of kept images, each of weight 1.
        lowest: The lowest threshold that will be asked for, 0 to 1.
        method: As for `similar_centers`.
        ranks: As for `similar_centers`.
    """
    unit = centers.unit()
    known = np.flatnonzero(np.isfinite(unit[:, 0]))
    lowest_cosine = max(lowest, 0.0) * LEAST_RELIABILITY
    found = similar_centers(unit[known], lowest_cosine, method=method, ranks=ranks)
    first, second = known[found.first], known[found.second]
    agreement = _agreement(centers)
    trust = np.sqrt(reliability(centers.total, centers.count, agreement))
    score = found.score / np.maximum(trust[first] * trust[second], LEAST_RELIABILITY)
    keep = score >= lowest
    pairs = CenterPairs(first=first[keep], second=second[keep], score=score[keep])
    return Candidates(centers=centers, agreement=agreement, pairs=pairs)


def _agreement(centers: Centers) -> float:
    """Mean cosine of two images of one identity, over all pairs of all identities."""
    count = centers.count.astype(np.float64)
    squared = np.square(centers.total, dtype=np.float64).sum(axis=1)
    pairs = count * (count - 1)
    if not pairs.sum():
        return 1.0
    return float(np.clip((squared - count)[pairs > 0].sum() / pairs.sum(), 1e-3, 1))


def reliability(total: FloatArray, count: FloatArray | IntArray, agreement: float) -> FloatArray:
    """How much of a centre is the person, and not the choice of photos.

    Args:
        total: Sums of unit embeddings, shape (C, D).
        count: Images in each, shape (C,).
        agreement: Mean cosine of two images of one identity, over all identities, 0 to 1.

    Returns:
        Shape (C,), above 0, to 1: the expected cosine of a centre and that of endless photos,
        squared.

    Example:
        >>> one = np.array([[1.0, 0.0]])
        >>> reliability(one, np.array([1.0]), 0.6).round(3).tolist()
        [0.6]
        >>> reliability(8 * one, np.array([8.0]), 0.6).round(3).tolist()
        [0.98]
    """
    count = count.astype(np.float64)
    pairs = count * (count - 1)
    squared = np.square(total, dtype=np.float64).sum(axis=1)
    within = (squared - count + agreement * _PRIOR_PAIRS) / (pairs + _PRIOR_PAIRS)
    within = np.clip(within, 1e-3, 1)
    return np.asarray(count * within / (1 + (count - 1) * within))


class _Groups:
    """Identities while they are being merged: sums, counts, and who is near whom."""

    def __init__(self, candidates: Candidates, never: Collection[frozenset[int]]) -> None:
        centers = candidates.centers
        self.label = centers.identity
        self._total, self._count = centers.total, centers.count
        self._merged: dict[int, tuple[FloatArray, float]] = {}
        self._agreement = candidates.agreement
        self._near: dict[int, set[int]] = defaultdict(set)
        self._members: dict[int, set[int]] = {}
        place = {int(label): row for row, label in enumerate(self.label)} if never else {}
        self._never: dict[int, set[int]] = defaultdict(set)
        for pair in never:
            rows = [place[label] for label in pair if label in place]
            if len(rows) == 2:
                self._never[rows[0]].add(rows[1])
                self._never[rows[1]].add(rows[0])
        for a, b in zip(
            candidates.pairs.first.tolist(), candidates.pairs.second.tolist(), strict=True
        ):
            self._near[a].add(b)
            self._near[b].add(a)

    def _sum(self, row: int) -> tuple[FloatArray, float]:
        return self._merged.get(row) or (self._total[row], float(self._count[row]))

    def score(self, a: int, b: int) -> float:
        """Corrected cosine of two groups' centres."""
        (total_a, count_a), (total_b, count_b) = self._sum(a), self._sum(b)
        total = np.stack([total_a, total_b]).astype(np.float64)
        unit = total / np.linalg.norm(total, axis=1, keepdims=True)
        trust = reliability(total, np.array([count_a, count_b]), self._agreement)
        return float(unit[0] @ unit[1]) / max(float(np.sqrt(trust.prod())), LEAST_RELIABILITY)

    def may_merge(self, a: int, b: int) -> bool:
        forbidden: set[int] = set()
        for row in self._members.get(a, {a}):
            forbidden |= self._never.get(row, set())
        return not forbidden & self._members.get(b, {b})

    def merge(self, a: int, b: int) -> set[int]:
        """Make one group of two, under `a`; returns its neighbours."""
        (total_a, count_a), (total_b, count_b) = self._sum(a), self._sum(b)
        self._merged[a] = total_a.astype(np.float64) + total_b, count_a + count_b
        self._members[a] = self._members.get(a, {a}) | self._members.pop(b, {b})
        near = (self._near.pop(a, set()) | self._near.pop(b, set())) - {a, b}
        for other in near:
            self._near[other].discard(b)
            self._near[other].add(a)
        self._near[a] = near
        return near


def merge_identities(
    candidates: Candidates, threshold: float, *, never: Collection[frozenset[int]] = ()
) -> list[Merge]:
    """Merge identities whose corrected score reaches a threshold, the most similar first.

    Args:
        candidates: From `find_candidates`, with a lowest threshold not above this one.
        threshold: −1 to 1, or above, as corrected scores scatter around 1.
        never: Pairs of identities that a person has said are two.

    Returns:
        The merges in their order. An identity that was merged before can be merged again.
    """
    groups = _Groups(candidates, never)
    pairs = candidates.pairs
    enough = pairs.score >= threshold
    columns = (-pairs.score[enough], pairs.first[enough], pairs.second[enough])
    queue = list(zip(*(column.tolist() for column in columns), strict=True))
    heapq.heapify(queue)
    gone: set[int] = set()
    grown: set[int] = set()
    merges = []
    while queue:
        negative, a, b = heapq.heappop(queue)
        if a in gone or b in gone:
            continue
        is_old = a in grown or b in grown
        if is_old and not math.isclose(groups.score(a, b), -negative, rel_tol=1e-9):
            continue  # offered before one of both grew; it was offered again then
        if not groups.may_merge(a, b):
            continue
        merges.append(Merge(int(groups.label[a]), int(groups.label[b]), -negative))
        gone.add(b)
        grown.add(a)
        for other in groups.merge(a, b):
            score = groups.score(a, other)
            if score >= threshold:
                heapq.heappush(queue, (-score, *sorted((a, other))))
    return merges


def apply_merges(identity: IntArray, merges: list[Merge]) -> IntArray:
    """Give every image the number under which its identity goes on.

    Args:
        identity: Shape (N,).
        merges: In their order.

    Returns:
        Shape (N,).

    Example:
        >>> apply_merges(np.array([0, 1, 2, -1]), [Merge(1, 2, 0.9), Merge(0, 1, 0.8)]).tolist()
        [0, 0, 0, -1]
    """
    into = {merge.other: merge.into for merge in merges}

    def root(label: int) -> int:
        while label in into:
            label = into[label]
        return label

    return renumbered(identity, {label: root(label) for label in into})

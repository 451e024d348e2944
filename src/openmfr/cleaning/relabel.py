"""Images of someone else in the set: which identity each of them belongs to.

An image under a wrong label may show a person who has an identity of their own, and then moves
there, or a stranger, and then is dropped. Three things speak for a move, all of them cosines:

- the score of the identity's centre;
- its *lead* over the next identity's centre: a face that is near to several is near to none;
- the lead of the identity's own images over the other doubtful images: outliers of one person come
  in numbers, and are nearer to each other than to whomever they resemble.

Their sum is the evidence, and one threshold decides.

How much evidence strangers reach by chance is told by the table itself. The identities are divided
at random into two halves, and an image is compared with each half as if it were the whole set. A
stranger finds as much in one half as in the other; who has a home finds it in one of them only, and
the other half shows what a stranger would find. `choose_moves` draws the line from that.

Source: our addition to paper section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.center_search import Method, nearest_centers
from openmfr.cleaning.centers import Centers
from openmfr.evaluation.comparisons import unit_vectors

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
#: `nearest_centers` with a method and ranks.
Nearest = Callable[..., tuple[IntArray, FloatArray]]

#: Images whose mean speaks for an identity, and against it.
_NEAREST = 3
#: An image that another centre beats its own by as much is doubtful, whatever it scores.
LEAST_LEAD = 0.15
#: Each half needs a best identity and a next one.
_LEAST_PLACES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Moves:
    """Doubtful images, and the identity that suits each best.

    Attributes:
        image: Rows of the images, ascending, shape (M,).
        identity: Where each would move to, shape (M,).
        evidence: How much speaks for it, shape (M,), about −1 to 3.
        by_chance: The most that speaks for an identity of the half in which it is not, shape (M,);
            no more than the evidence.
        score: Cosine of each image with that identity's centre, shape (M,).
    """

    image: IntArray
    identity: IntArray
    evidence: FloatArray
    by_chance: FloatArray
    score: FloatArray

    @classmethod
    def none(cls) -> Moves:
        """No image moves."""
        rows = np.empty(0, dtype=np.int64)
        nothing = np.empty(0)
        return cls(image=rows, identity=rows, evidence=nothing, by_chance=nothing, score=nothing)

    def above(self, threshold: float) -> Moves:
        """The moves whose evidence reaches a threshold."""
        return self.where(self.evidence >= threshold)

    def where(self, keep: BoolArray) -> Moves:
        """The moves of a selection, shape (M,)."""
        return Moves(
            image=self.image[keep],
            identity=self.identity[keep],
            evidence=self.evidence[keep],
            by_chance=self.by_chance[keep],
            score=self.score[keep],
        )


def find_moves(
    embedding: FloatArray,
    identity: IntArray,
    is_doubtful: BoolArray,
    is_sure: BoolArray,
    own_score: FloatArray,
    centers: Centers,
    *,
    suspicion: float,
    seed: int = 0,
    method: Method = "exact",
    ranks: Ranks | None = None,
) -> Moves:
    """Find where images that may be under a wrong label would belong.

    Args:
        embedding: One row for each image, any length, shape (N, D); may be memory-mapped.
        identity: Who is said to be on each, shape (N,).
        is_doubtful: Images that do not fit their identity, shape (N,).
        is_sure: Images that do, and that are in the centres, shape (N,).
        own_score: Cosine to the centre of their own identity, shape (N,); NaN where unknown.
        centers: Centres of the identities.
        suspicion: Images that are sure are looked at too if they score below this: those that
            another centre beats by `LEAST_LEAD` become doubtful. No stranger scores more.
        seed: Of the two halves.
        method: How the nearest centres are found, as for `nearest_centers`.
        ranks: Processes that share that search.

    Returns:
        One row for each image that is doubtful or became so, and has an identity to go to; none
        where there are fewer than four identities.
    """
    asked = np.flatnonzero(is_doubtful | (is_sure & (own_score < suspicion)))
    nearest = partial(nearest_centers, method=method, ranks=ranks)
    unit = centers.unit()
    place = np.flatnonzero(np.isfinite(unit[:, 0]))
    if asked.size == 0 or place.size < _LEAST_PLACES:
        return Moves.none()
    in_first = np.random.default_rng(seed).permutation(place.size) % 2 == 0
    found = [
        _best_others(
            np.asarray(embedding[asked]),
            identity[asked],
            unit[half],
            centers.identity[half],
            nearest,
        )
        for half in (place[in_first], place[~in_first])
    ]
    own = np.nan_to_num(own_score[asked].astype(np.float64), nan=-1.0)
    best = np.maximum(found[0].score, found[1].score)
    doubtful = is_doubtful[asked] | (best - own >= LEAST_LEAD)
    member = is_sure.copy()
    member[asked[doubtful]] = False
    members = _Members(embedding, identity, member)
    asked, found = asked[doubtful], [half.where(doubtful) for half in found]
    against = _nearest_doubtful(embedding, asked, nearest)
    evidence = [
        2 * half.score - half.next_score + 2 * (members.nearest(asked, half.label) - against)
        for half in found
    ]
    first = evidence[0] >= evidence[1]
    return Moves(
        image=asked,
        identity=np.where(first, found[0].label, found[1].label),
        evidence=np.where(first, *evidence),
        by_chance=np.where(first, *evidence[::-1]),
        score=np.where(first, found[0].score, found[1].score),
    )


class _Best(NamedTuple):
    """The best identity for each image, shape (M,), its score, and that of the next identity."""

    label: IntArray
    score: FloatArray
    next_score: FloatArray

    def where(self, keep: BoolArray) -> _Best:
        return _Best(self.label[keep], self.score[keep], self.next_score[keep])


def _best_others(
    query: FloatArray,
    own: IntArray,
    centers: FloatArray,
    label: IntArray,
    nearest: Nearest,
) -> _Best:
    """The best identity other than the own."""
    count = min(3, label.size)
    index, score = nearest(query, centers, count=count)
    score = np.where(label[index] == own[:, None], -np.inf, score)
    order = np.argsort(-score, axis=1, kind="stable")
    rows = np.arange(len(query))
    best, second = order[:, 0], order[:, 1]
    next_best = score[rows, second]
    return _Best(
        label[index[rows, best]],
        score[rows, best],
        np.where(np.isfinite(next_best), next_best, 0.0),
    )


def _mean_of_others(index: IntArray, score: FloatArray) -> FloatArray:
    """Mean score of the images nearest to each, without itself; 0 where none was found.

    The approximate way may list an image without itself, or fewer others (−∞).
    """
    is_other = (index != np.arange(len(index))[:, None]) & np.isfinite(score)
    # Where an image was not listed for itself, there is one other too many: the last.
    is_other &= np.cumsum(is_other, axis=1) < index.shape[1]
    total = np.where(is_other, score, 0).sum(axis=1)
    return np.asarray(total / np.maximum(is_other.sum(axis=1), 1))


def _nearest_doubtful(embedding: FloatArray, image: IntArray, nearest: Nearest) -> FloatArray:
    """How near the nearest other doubtful images are to each."""
    if image.size < 2:
        return np.zeros(image.size)
    asked = np.asarray(embedding[image])
    index, score = nearest(asked, asked, count=min(_NEAREST + 1, image.size))
    return _mean_of_others(index, score)


class _Members:
    """The images that are sure, by identity."""

    def __init__(self, embedding: FloatArray, identity: IntArray, member: BoolArray) -> None:
        rows = np.flatnonzero(member)
        self.embedding = embedding
        self.rows = rows[np.argsort(identity[rows], kind="stable")]
        self.identity = identity[self.rows]

    def nearest(self, image: IntArray, label: IntArray) -> FloatArray:
        """How near the nearest images of an identity are to each image; 0 where it has none."""
        asked = np.asarray(self.embedding[image])
        support = np.zeros(image.size)
        order = np.argsort(label, kind="stable")
        start = np.searchsorted(self.identity, label[order], side="left")
        stop = np.searchsorted(self.identity, label[order], side="right")
        for group in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
            at = np.searchsorted(label[order], label[group[0]])
            members = self.rows[start[at] : stop[at]]
            if members.size:
                score = unit_vectors(asked, group) @ unit_vectors(self.embedding, members).T
                support[group] = -np.sort(-score, axis=1)[:, :_NEAREST].mean(axis=1)
        return support

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
the other half shows what a stranger would find. `choose_moves` draws the line from that. (One
person under two numbers may be in both halves. Such identities are each other's nearest across the
halves, and of the two the farther is passed over.)

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
#: Identities that are ranked for each image: two that are judged, each by its lead over the next.
_RANKED = 3
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
    halves = (
        _Half(unit, centers.identity, place[in_first]),
        _Half(unit, centers.identity, place[~in_first]),
    )
    query = np.asarray(embedding[asked])
    found = [half.others(query, identity[asked], nearest) for half in halves]
    own = np.nan_to_num(own_score[asked].astype(np.float64), nan=-1.0)
    best = np.maximum(found[0].score[:, 0], found[1].score[:, 0])
    doubtful = is_doubtful[asked] | (best - own >= LEAST_LEAD)
    if not doubtful.any():
        return Moves.none()
    member = is_sure.copy()
    member[asked[doubtful]] = False
    asked, found = asked[doubtful], [ranked.where(doubtful) for ranked in found]
    leads = _Leads(embedding, asked, _Members(embedding, identity, member), nearest)
    evidence = [leads.evidence(ranked, 0) for ranked in found]
    first = evidence[0] >= evidence[1]
    is_one = _are_one(found[0].label[:, 0], found[1].label[:, 0], halves, nearest)
    chance = [
        np.where(is_one, np.minimum(leads.evidence(ranked, 1), nearest_one), nearest_one)
        for ranked, nearest_one in zip(found, evidence, strict=True)
    ]
    return Moves(
        image=asked,
        identity=np.where(first, found[0].label[:, 0], found[1].label[:, 0]),
        evidence=np.where(first, *evidence),
        by_chance=np.where(first, *chance[::-1]),
        score=np.where(first, found[0].score[:, 0], found[1].score[:, 0]),
    )


class _Ranked(NamedTuple):
    """The best identities for each image, best first: labels and scores, shape (M, K)."""

    label: IntArray
    score: FloatArray

    def where(self, keep: BoolArray) -> _Ranked:
        return _Ranked(self.label[keep], self.score[keep])


class _Half(NamedTuple):
    """Half of the centres: all unit centres, their labels, and the rows of this half."""

    unit: FloatArray
    identity: IntArray
    rows: IntArray

    def others(self, query: FloatArray, own: IntArray, nearest: Nearest) -> _Ranked:
        """The best identities other than the own, in a list that ends with scores of 0."""
        label = self.identity[self.rows]
        index, score = nearest(query, self.unit[self.rows], count=min(_RANKED + 1, label.size))
        score = np.where(label[index] == own[:, None], -np.inf, score)
        order = np.argsort(-score, axis=1, kind="stable")[:, :_RANKED]
        score = np.take_along_axis(score, order, axis=1)
        score = np.where(np.isfinite(score), score, 0.0)
        short = ((0, 0), (0, _RANKED - score.shape[1]))
        ranked = label[np.take_along_axis(index, order, axis=1)]
        return _Ranked(np.pad(ranked, short, constant_values=-1), np.pad(score, short))

    def nearest_to(self, label: IntArray, nearest: Nearest) -> IntArray:
        """Labels of the centres that are nearest to those of other labels, shape (M,)."""
        known, which = np.unique(label, return_inverse=True)
        query = self.unit[np.searchsorted(self.identity, known)]
        index, _ = nearest(query, self.unit[self.rows], count=1)
        return np.asarray(self.identity[self.rows][index[:, 0]][which])


def _are_one(
    first: IntArray, second: IntArray, halves: tuple[_Half, _Half], nearest: Nearest
) -> BoolArray:
    """Whether the identities of each pair are each other's nearest across the halves."""
    return np.asarray(
        (halves[1].nearest_to(first, nearest) == second)
        & (halves[0].nearest_to(second, nearest) == first)
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


class _Leads:
    """What speaks for identities of doubtful images, and how near other doubtful images are."""

    def __init__(
        self, embedding: FloatArray, image: IntArray, members: _Members, nearest: Nearest
    ) -> None:
        self.image, self.members = image, members
        self.rival: FloatArray = np.zeros(image.size)
        if image.size > 1:
            asked = np.asarray(embedding[image])
            index, score = nearest(asked, asked, count=min(_NEAREST + 1, image.size))
            self.rival = _mean_of_others(index, score)

    def evidence(self, ranked: _Ranked, rank: int) -> FloatArray:
        """How much speaks for the identities of a rank, shape (M,)."""
        lead = self.members.nearest(self.image, ranked.label[:, rank]) - self.rival
        return 2 * ranked.score[:, rank] - ranked.score[:, rank + 1] + 2 * lead

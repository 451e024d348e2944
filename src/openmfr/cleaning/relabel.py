"""Images of someone else in the set: which identity each of them belongs to.

An image under a wrong label may show a person who has an identity of their own, and then moves
there, or a stranger, and then is dropped. Three things speak for a move, all of them cosines:

- the score of the identity's centre;
- its *lead* over the next identity's centre: a face that is near to several is near to none;
- the lead of the identity's own images over the other doubtful images: outliers of one person come
  in numbers, and are nearer to each other than to whomever they resemble.

Their sum is the evidence, and one threshold decides.

Source: our addition to paper section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Moves:
    """Doubtful images, and the identity that suits each best.

    Attributes:
        image: Rows of the images, ascending, shape (M,).
        identity: Where each would move to, shape (M,).
        evidence: How much speaks for it, shape (M,), about −1 to 3.
        score: Cosine of each image with that identity's centre, shape (M,).
    """

    image: IntArray
    identity: IntArray
    evidence: FloatArray
    score: FloatArray

    @classmethod
    def none(cls) -> Moves:
        """No image moves."""
        rows = np.empty(0, dtype=np.int64)
        return cls(image=rows, identity=rows, evidence=np.empty(0), score=np.empty(0))

    def above(self, threshold: float) -> Moves:
        """The moves whose evidence reaches a threshold."""
        return self.where(self.evidence >= threshold)

    def where(self, keep: BoolArray) -> Moves:
        """The moves of a selection, shape (M,)."""
        return Moves(
            image=self.image[keep],
            identity=self.identity[keep],
            evidence=self.evidence[keep],
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
        method: How the nearest centres are found, as for `nearest_centers`.
        ranks: Processes that share that search.

    Returns:
        One row for each image that is doubtful or became so, and has an identity to go to.
    """
    asked = np.flatnonzero(is_doubtful | (is_sure & (own_score < suspicion)))
    nearest = partial(nearest_centers, method=method, ranks=ranks)
    unit = centers.unit()
    place = np.flatnonzero(np.isfinite(unit[:, 0]))
    if asked.size == 0 or place.size < 2:
        return Moves.none()
    label, best, second = _best_others(
        np.asarray(embedding[asked]), identity[asked], unit[place], centers.identity[place], nearest
    )
    own = np.nan_to_num(own_score[asked].astype(np.float64), nan=-1.0)
    doubtful = is_doubtful[asked] | (best - own >= LEAST_LEAD)
    asked, label = asked[doubtful], label[doubtful]
    best, second = best[doubtful], second[doubtful]
    member = is_sure.copy()
    member[asked] = False
    lead = _lead_of_members(embedding, asked, label, identity, member, nearest)
    return Moves(image=asked, identity=label, evidence=2 * best - second + 2 * lead, score=best)


def _best_others(
    query: FloatArray,
    own: IntArray,
    centers: FloatArray,
    label: IntArray,
    nearest: Nearest,
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Label and score of the best identity other than the own, and the score of the next."""
    count = min(3, label.size)
    index, score = nearest(query, centers, count=count)
    score = np.where(label[index] == own[:, None], -np.inf, score)
    order = np.argsort(-score, axis=1, kind="stable")
    rows = np.arange(len(query))
    best, second = order[:, 0], order[:, 1]
    next_best = score[rows, second]
    return (
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


def _lead_of_members(
    embedding: FloatArray,
    image: IntArray,
    label: IntArray,
    identity: IntArray,
    member: BoolArray,
    nearest: Nearest,
) -> FloatArray:
    """How much nearer the best images of an identity are than the nearest doubtful ones."""
    asked = np.asarray(embedding[image])
    rival: FloatArray = np.zeros(image.size)
    if image.size > 1:
        index, score = nearest(asked, asked, count=min(_NEAREST + 1, image.size))
        rival = _mean_of_others(index, score)
    support = np.zeros(image.size)
    rows = np.flatnonzero(member)
    rows = rows[np.argsort(identity[rows], kind="stable")]
    order = np.argsort(label, kind="stable")
    start = np.searchsorted(identity[rows], label[order], side="left")
    stop = np.searchsorted(identity[rows], label[order], side="right")
    for group in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        at = np.searchsorted(label[order], label[group[0]])
        members = rows[start[at] : stop[at]]
        if members.size:
            score = unit_vectors(asked, group) @ unit_vectors(embedding, members).T
            support[group] = -np.sort(-score, axis=1)[:, :_NEAREST].mean(axis=1)
    return support - rival

"""Which images do not belong to their identity: scores against the centre of the others.

An image is compared with the centre of its identity's *other* images: one that votes for itself
looks at home in every small identity. In a *robust* centre, images that agree with the rest count
more, and that is repeated until it settles, so that an identity of which half is wrong is still
judged by its better half.

Where the line is drawn need not be guessed. An image under a wrong label meets the centre of
someone else, and how such an image scores can be measured without knowing a single wrong label:
score images against centres of other identities. The threshold is the score below which nearly all
of those *strangers* lie, so the share of wrong images that will be found is known beforehand.

What it costs can be told as well. A share of all images is wrong, and wrong ones score like
strangers; what else lies below the threshold are right images, hard ones. A network that knows
little would drop many of them to find the last strangers, so the threshold goes no further than a
share of the right images allows.

Source: paper section 2.2, intra-class filtering; robust centres and the choice of threshold ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.centers import Centers, center_scores, sum_centers
from openmfr.cleaning.config import CenterKind
from openmfr.evaluation.comparisons import unit_vectors

FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Times that the weights of a robust centre are made anew: they change by less than 0.01 after.
_ROUNDS = 6
#: Strangers that are scored: 2,000 of them lie beyond a share of 0.99.
_STRANGERS = 200_000
#: Share of strangers below the score at which an image counts half.
_HALF = 0.9975
#: Below this share of strangers hardly anything lies but wrong images: their share is read there.
_TYPICAL = 0.7
#: Steps of the share of strangers in which a threshold is looked for.
_STEP = 0.005
#: Rows that are scored at once.
_CHUNK = 8_192


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnScores:
    """How well each image fits its identity.

    Attributes:
        score: Cosine to the centre of the identity's other images, shape (N,), float32; NaN where
            not kept, and for an only image.
        weight: How much each image counts in its centre, shape (N,), float32, 0 to 1.
        centers: The centres.
        strangers: Scores of images against the centres of others, ascending.
        is_masked_stranger: Whether the face of each stranger is masked.
    """

    score: Float32Array
    weight: Float32Array
    centers: Centers
    strangers: FloatArray
    is_masked_stranger: BoolArray


def score_own(
    embedding: FloatArray,
    identity: IntArray,
    keep: BoolArray,
    *,
    center: CenterKind = "robust",
    is_masked: BoolArray | None = None,
    seed: int = 0,
) -> OwnScores:
    """Score every kept image against its identity, and strangers against the same centres.

    Args:
        embedding: One row for each image, any length, shape (N, D); may be memory-mapped.
        identity: Who is on each image, shape (N,).
        keep: Which images count, shape (N,).
        center: As in `CleanConfig`.
        is_masked: Which faces wear a mask, shape (N,); none by default.
        seed: Of the draw of strangers.

    Raises:
        UserError: If nothing is kept, or the embedding of a kept image is zero or not finite.
    """
    leave_out = center != "mean"
    weight = keep.astype(np.float32)
    centers = sum_centers(embedding, identity, keep)
    score = center_scores(embedding, identity, keep, centers, leave_one_out=leave_out)
    masked = np.zeros(keep.shape, dtype=np.bool_) if is_masked is None else is_masked
    strangers, rows = _score_strangers(embedding, identity, keep, centers, seed)
    for _ in range(_ROUNDS if center == "robust" else 0):
        weight = _weights(score, keep, strangers)
        centers = sum_centers(embedding, identity, keep, weight=weight)
        score = center_scores(embedding, identity, keep, centers, leave_one_out=True, weight=weight)
    if center == "robust":
        strangers, rows = _score_strangers(embedding, identity, keep, centers, seed)
    order = np.argsort(strangers, kind="stable")
    return OwnScores(
        score=score,
        weight=weight,
        centers=centers,
        strangers=strangers[order],
        is_masked_stranger=masked[rows][order],
    )


def _weights(score: Float32Array, keep: BoolArray, strangers: FloatArray) -> Float32Array:
    """A smooth step from 0 to 1 at the upper end of the strangers' scores."""
    width = max(float(strangers.std()) / 2, 1e-6)
    half = float(np.quantile(strangers, _HALF)) if strangers.size else 0.0
    # An only image has no score; it is all that is known of its identity.
    filled = np.where(np.isnan(score), np.inf, score)
    # Never 0: an identity of which nothing agrees keeps a centre.
    step = 1e-3 + (1 - 1e-3) / (1 + np.exp(np.clip(-(filled - half) / width, -50, 50)))
    return np.where(keep, step, 0).astype(np.float32)


def _score_strangers(
    embedding: FloatArray, identity: IntArray, keep: BoolArray, centers: Centers, seed: int
) -> tuple[FloatArray, IntArray]:
    """Score random images against centres of other identities; returns scores and rows."""
    count = len(centers)
    rows = np.flatnonzero(keep)
    if count < 2:
        return np.empty(0), np.empty(0, dtype=np.int64)
    rng = np.random.default_rng([seed, rows.size])
    drawn = np.sort(rng.choice(rows, _STRANGERS, replace=True))  # in order: read like a file
    own = np.searchsorted(centers.identity, identity[drawn])
    other = (own + rng.integers(1, count, drawn.size)) % count
    unit = centers.unit()
    score = np.empty(drawn.size)
    for start in range(0, drawn.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        score[part] = np.einsum("nd,nd->n", unit_vectors(embedding, drawn[part]), unit[other[part]])
    known = np.isfinite(score)
    return score[known], drawn[known]


def find_intra_threshold(
    own: OwnScores,
    *,
    strangers_found: float,
    right_dropped: float = 1.0,
    is_masked: BoolArray | None = None,
    masked: bool = False,
) -> float:
    """Find the score below which a share of strangers lies, and not too many right images.

    Args:
        own: From `score_own`.
        strangers_found: Share of strangers to find, 0 to 1.
        right_dropped: Largest share of right images to drop, 0 to 1.
        is_masked: Which faces wear a mask, shape (N,), to look at one condition alone; None looks
            at all.
        masked: Which condition.

    Returns:
        The threshold; −1 if there is nobody to be a stranger.
    """
    strangers, score = own.strangers, own.score
    if is_masked is not None:
        strangers, score = strangers[own.is_masked_stranger == masked], score[is_masked == masked]
    if not strangers.size:
        return -1.0
    found = np.append(np.arange(0.0, strangers_found, _STEP), strangers_found)
    threshold = np.quantile(strangers, found)
    right = expect_right_dropped(score, strangers, threshold)
    return float(threshold[np.flatnonzero(right <= right_dropped)[-1]])


def expect_right_dropped(
    score: FloatArray, strangers: FloatArray, threshold: FloatArray
) -> FloatArray:
    """Estimate which share of the right images scores below thresholds.

    Wrong images are taken to score like strangers. Below most strangers lies hardly anything else,
    so how many there are is read there; what is below a threshold beyond them are right images.

    Args:
        score: Of images against their own identity; NaN where unknown.
        strangers: Of images against other identities.
        threshold: Shape (T,).

    Returns:
        Shape (T,), from 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> strangers = rng.normal(0.0, 0.1, 10_000)
        >>> score = np.append(rng.normal(0.5, 0.1, 9_000), rng.normal(0.0, 0.1, 1_000))
        >>> expect_right_dropped(score, strangers, np.array([0.2, 0.4])).round(2).tolist()
        [0.0, 0.15]
    """
    known, strangers = np.sort(score[np.isfinite(score)]), np.sort(strangers)
    asked = np.append(threshold, np.quantile(strangers, _TYPICAL))
    below = np.searchsorted(known, asked) / max(known.size, 1)
    found = np.searchsorted(strangers, asked) / strangers.size
    wrong = below[-1] / _TYPICAL
    right = (below - wrong * found)[:-1] / max(1 - wrong, 1e-9)
    return np.asarray(np.maximum(right, 0.0))

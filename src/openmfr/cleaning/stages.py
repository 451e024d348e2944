"""The three stages of a pass, each from the result of the one before.

A pass and the search for its threshold of merging are made of the same stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.center_search import Method
from openmfr.cleaning.centers import sum_centers
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.inter import Candidates, find_candidates
from openmfr.cleaning.intra import OwnScores, find_intra_threshold, score_own
from openmfr.cleaning.relabel import Moves, find_moves
from openmfr.data.labels import Labels

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: No stranger scores above this share of strangers: a higher image is under no suspicion.
_BEYOND_SUSPICION = 0.9999


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Which images fit their identity.

    Attributes:
        own: Scores of all kept images.
        threshold: The lowest score that fits, of each image, shape (N,): masked faces may have
            another than unmasked ones.
        is_doubtful: Kept images below it, shape (N,).
    """

    own: OwnScores
    threshold: FloatArray
    is_doubtful: BoolArray


def fit_images(
    embedding: FloatArray,
    labels: Labels,
    config: CleanConfig,
    *,
    identity: IntArray | None = None,
    spared: BoolArray | None = None,
) -> Fit:
    """Score images against their identities and find those that do not fit.

    Args:
        embedding: One row for each image, shape (N, D).
        labels: Which images are kept, and who is on them.
        config: Kind of centre, and the threshold or how to find it.
        identity: Who is on them instead, shape (N,), after merging.
        spared: Images that fit because a person says so, shape (N,).
    """
    who = labels.identity if identity is None else identity
    own = score_own(
        embedding,
        who,
        labels.keep,
        center=config.center,
        is_masked=labels.is_masked,
        seed=config.seed,
    )
    threshold = np.full(len(labels), config.intra_threshold or 0.0)
    if config.intra_threshold is None:
        kinds = (True, False) if config.by_condition and labels.is_masked.any() else (None,)
        for kind in kinds:
            found = find_intra_threshold(
                own,
                strangers_found=config.strangers_found,
                right_dropped=config.right_dropped,
                is_masked=None if kind is None else labels.is_masked,
                masked=bool(kind),
            )
            threshold[labels.is_masked == kind if kind is not None else slice(None)] = found
    # An only image has no score, and nothing speaks against it.
    is_doubtful = labels.keep & (own.score < threshold)
    if spared is not None:
        is_doubtful &= ~spared
    return Fit(own=own, threshold=threshold, is_doubtful=is_doubtful)


def propose_merges(
    embedding: FloatArray,
    labels: Labels,
    fit: Fit,
    *,
    lowest: float,
    method: Method = "exact",
    ranks: Ranks | None = None,
) -> Candidates:
    """Find pairs of identities that may be one, from the centres of images that fit.

    Args:
        embedding: One row for each image, shape (N, D).
        labels: Which images are kept, and who is on them.
        fit: From `fit_images`.
        lowest: The lowest threshold of interest, 0 to 1.
        method: How centres are searched, as for `similar_centers`.
        ranks: Processes that share the search.
    """
    centers = sum_centers(embedding, labels.identity, labels.keep & ~fit.is_doubtful)
    return find_candidates(centers, lowest, method=method, ranks=ranks)


def propose_moves(
    embedding: FloatArray,
    labels: Labels,
    fit: Fit,
    identity: IntArray,
    *,
    seed: int = 0,
    method: Method = "exact",
    ranks: Ranks | None = None,
) -> Moves:
    """Find where doubtful images would belong.

    Args:
        embedding: One row for each image, shape (N, D).
        labels: Which images are kept.
        fit: From `fit_images` with the same identities.
        identity: Who is on them, after merging, shape (N,).
        seed: Of the two halves in which homes are sought.
        method: How centres are searched, as for `nearest_centers`.
        ranks: Processes that share the search.
    """
    is_sure = labels.keep & ~fit.is_doubtful
    strangers = fit.own.strangers
    return find_moves(
        embedding,
        identity,
        fit.is_doubtful,
        is_sure,
        fit.own.score,
        sum_centers(embedding, identity, is_sure),
        suspicion=float(np.quantile(strangers, _BEYOND_SUSPICION)) if strangers.size else -1.0,
        seed=seed,
        method=method,
        ranks=ranks,
    )

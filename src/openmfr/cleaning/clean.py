"""One cleaning pass: outliers out, split identities joined, label flips home.

The order matters. Images that do not fit are set aside first, so that centres are clean; identities
are merged on those centres; and only then doubtful images look for a home, among whole people.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.centers import center_scores, sum_centers
from openmfr.cleaning.changes import DROP, MERGE, MERGED, MOVE, REPEATS, Changes, Vetoes
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.duplicates import find_duplicates
from openmfr.cleaning.inter import Merge, apply_merges, merge_identities
from openmfr.cleaning.relabel import Moves
from openmfr.cleaning.stages import Fit, fit_images, propose_merges, propose_moves
from openmfr.cleaning.thresholds import Curve, choose_moves, search_merges
from openmfr.data.labels import Labels
from openmfr.data.texts import Texts
from openmfr.errors import UserError

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

OUTSIDER = "does not fit its identity"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class CleanResult:
    """What a pass made, and why.

    Attributes:
        before: The table that was cleaned.
        labels: Its child: images dropped, moved and merged, each with its reason, and every score.
        changes: One row for each decision.
        fit: Scores of all images against their identity, and the thresholds, before merging.
        inter: How the threshold for merging was found; None without merging.
        relabel: How the threshold for moving was found; None without moves.
    """

    before: Labels
    labels: Labels
    changes: Changes
    fit: Fit
    inter: Curve | None
    relabel: Curve | None


def clean(
    labels: Labels,
    embedding: FloatArray,
    config: CleanConfig | None = None,
    *,
    vetoes: Vetoes | None = None,
    ranks: Ranks | None = None,
) -> CleanResult:
    """Clean a table of labels.

    Args:
        labels: The table; only kept images are looked at.
        embedding: One row for each image, any length, shape (N, D), float16 or float32; may be
            memory-mapped. Rows of images that are not kept may be NaN.
        config: Settings; those of `CleanConfig` by default.
        vetoes: Decisions of an earlier pass that a person refused.
        ranks: Processes under torchrun that share the searches. All give the same, and all receive
            the whole result.

    Returns:
        The new table and all decisions. The table given is its parent: going back to it undoes
        the pass.

    Raises:
        UserError: If the embedding of a kept image is zero or not finite, shapes disagree, or
            nothing would be left.

    Source: paper section 2.2.
    """
    config = config or CleanConfig()
    spared = vetoes.spared if vetoes else None
    fit = fit_images(embedding, labels, config, spared=spared)
    if not (labels.keep & ~fit.is_doubtful).any():
        raise _nothing_left(fit)
    inter = _inter_curve(embedding, labels, fit, config, ranks) if config.merge else None
    merges: list[Merge] = []
    if inter is not None:
        candidates = propose_merges(
            embedding, labels, fit, lowest=inter.chosen, method=config.search, ranks=ranks
        )
        never = vetoes.never if vetoes else frozenset()
        merges = merge_identities(candidates, inter.chosen, never=never)
    identity = apply_merges(labels.identity, merges)
    final = fit
    if merges:
        final = fit_images(embedding, labels, config, identity=identity, spared=spared)
    moves = relabel = None
    if config.relabel:
        moves = propose_moves(
            embedding,
            labels,
            final,
            identity,
            seed=config.seed,
            method=config.search,
            ranks=ranks,
        )
        relabel = (
            choose_moves(moves, config.wrong_moves)
            if config.relabel_threshold is None
            else Curve.given(config.relabel_threshold, config.wrong_moves)
        )
        moves = moves.above(relabel.chosen)
        if spared is not None:
            moves = moves.where(~spared[moves.image])
    table, changes = _decide(embedding, labels, identity, final, moves, config, spared)
    changes = Changes.join(_merge_rows(merges, inter), _move_rows(labels, moves, relabel), changes)
    return CleanResult(
        before=labels, labels=table, changes=changes, fit=fit, inter=inter, relabel=relabel
    )


def _inter_curve(
    embedding: FloatArray, labels: Labels, fit: Fit, config: CleanConfig, ranks: Ranks | None
) -> Curve:
    """The threshold for merging, given or searched."""
    if config.inter_threshold is not None:
        return Curve.given(config.inter_threshold, config.wrong_merges)
    return search_merges(embedding, labels, fit, config, ranks=ranks)


def _decide(
    embedding: FloatArray,
    labels: Labels,
    identity: IntArray,
    fit: Fit,
    moves: Moves | None,
    config: CleanConfig,
    spared: BoolArray | None,
) -> tuple[Labels, Changes]:
    """Make the table from the doubtful images and those that move; returns it and the drops."""
    final, keep = identity.copy(), labels.keep & ~fit.is_doubtful
    reason = np.array(labels.reason, dtype=object)
    merged = labels.keep & (identity != labels.identity)
    reason[merged] = [f"{MERGED} {label}" for label in labels.identity[merged]]
    if moves is not None:
        final[moves.image], keep[moves.image] = moves.identity, True
        reason[moves.image] = [f"moved from identity {who}" for who in identity[moves.image]]
    if not keep.any():
        raise _nothing_left(fit)
    score = fit.own.score.astype(np.float32, copy=True)
    new = center_scores(
        embedding, final, keep, sum_centers(embedding, final, keep), leave_one_out=True
    )
    score = np.where(keep, new, score)
    dropped = labels.keep & ~keep
    reason[dropped] = OUTSIDER
    threshold = np.where(dropped, fit.threshold, np.nan)
    _thin(embedding, final, keep, reason, score, config, spared)
    if not keep.any():
        raise _nothing_left(fit)
    texts = Texts.of(reason)
    table = labels.child(
        identity=final, keep=keep, reason=texts, center_score=score.astype(np.float32)
    )
    rows = np.flatnonzero(labels.keep & ~keep)
    return table, Changes(
        kind=np.full(rows.size, DROP),
        image=rows,
        before=labels.identity[rows],
        after=np.full(rows.size, -1),
        score=score[rows].astype(np.float64),
        threshold=threshold[rows],
        reason=np.array(texts[rows]),
    )


def _thin(
    embedding: FloatArray,
    identity: IntArray,
    keep: BoolArray,
    reason: npt.NDArray[np.object_],
    score: FloatArray,
    config: CleanConfig,
    spared: BoolArray | None,
) -> None:
    """Take repeated images and small identities out of `keep`, and say so in `reason`."""
    if config.duplicate_threshold is not None:
        gone, of = find_duplicates(embedding, keep, score, config.duplicate_threshold)
        if spared is not None:
            gone, of = gone[~spared[gone]], of[~spared[gone]]
        reason[gone] = [f"{REPEATS} {row}" for row in of]
        keep[gone] = False
    if config.least_images > 1:
        known, counts = np.unique(identity[keep], return_counts=True)
        small = keep & np.isin(identity, known[counts < config.least_images])
        reason[small] = f"identity of fewer than {config.least_images} images"
        keep &= ~small


def _merge_rows(merges: list[Merge], curve: Curve | None) -> Changes:
    count = len(merges)
    return Changes(
        kind=np.full(count, MERGE),
        image=np.full(count, -1),
        before=np.array([merge.other for merge in merges], dtype=np.int64),
        after=np.array([merge.into for merge in merges], dtype=np.int64),
        score=np.array([merge.score for merge in merges], dtype=np.float64),
        threshold=np.full(count, curve.chosen if curve else np.nan),
        reason=np.full(count, "centres as near as two halves of one identity"),
    )


def _move_rows(labels: Labels, moves: Moves | None, curve: Curve | None) -> Changes:
    moves = moves or Moves.none()
    count = moves.image.size
    return Changes(
        kind=np.full(count, MOVE),
        image=moves.image,
        before=labels.identity[moves.image],
        after=moves.identity,
        score=moves.evidence,
        threshold=np.full(count, curve.chosen if curve else np.nan),
        reason=np.full(count, "fits another identity"),
    )


def _nothing_left(fit: Fit) -> UserError:
    return UserError(
        where="intra_threshold",
        found=f"{float(fit.threshold.max()):.3f}, below which every image scores",
        allowed=f"at most {float(np.nanmax(fit.own.score)):.3f}, the highest score"
        if np.isfinite(fit.own.score).any()
        else "identities of two images or more",
        next_step="lower the threshold, or check that the embeddings belong to these labels",
    )

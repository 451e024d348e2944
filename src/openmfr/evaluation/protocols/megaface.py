"""MegaFace, identification: is a person's other photo found first among a million strangers?

Each ordered pair of two photos of a person makes one search: the *probe* is looked for among the
distractors and the *mate*, the other photo. The mate's rank is one more than the number of
distractors that score at least as high. (A tie counts against the mate, so a recogniser that takes
everybody for the same finds nobody.) The rank-1 rate is the share of searches that find the mate
first; the CMC curve gives it for the other ranks.

Ranks are exact. A product in float32 only says which distractors may be among a probe's best; what
decides, distractor against mate, is one float64 sum per pair, so the result does not depend on how
the work was cut into blocks.

Source:
    Kemelmacher-Shlizerman et al., CVPR 2016; its development kit's lists; deepinsight/insightface
    `recognition/_evaluation_/megaface`; JDAI-CV/FaceX-Zoo `megaface_evaluator.py`; MFR paper, §5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import unit_vectors
from openmfr.evaluation.difference import not_the_same, paired_differences
from openmfr.evaluation.intervals import Measured, check_draws, resample_identities
from openmfr.evaluation.protocols.many_pairs import score_margin
from openmfr.evaluation.verification import with_interval
from openmfr.run import progress

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Probes, and distractors, that are multiplied at once.
_PROBES: Final = 512
_DISTRACTORS: Final = 16_384


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentificationResult:
    """How often a mate is found.

    Attributes:
        rates: Share of the searches whose mate is among the first 1, 2, … ranks.
        searches: Ordered pairs of two photos of a person.
        probes: Photos that take part in a search.
        identities: People with at least two photos.
        distractors: Strangers that are searched.
        drawn: The rates in each draw of identities, shape (replicates, ranks), NaN where undefined:
            for comparisons with other results on the same draws.
        confidence: Probability that the intervals are to cover.
        replicates: Draws of identities behind each interval; 0 for no intervals.
        seed: Of the draws.
    """

    rates: tuple[Measured, ...]
    searches: int
    probes: int
    identities: int
    distractors: int
    drawn: FloatArray
    confidence: float
    replicates: int
    seed: int

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The rates."""
        return self.rates

    @property
    def rank_1(self) -> Measured:
        """Share of the searches that find the mate first."""
        return self.rates[0]

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        numbers = {name: value for name, value in vars(self).items() if name != "drawn"}
        return numbers | {"rates": [vars(rate) for rate in self.rates]}


def identify(
    probe: FloatArray,
    identity: IntArray,
    distractor: FloatArray,
    *,
    mate: FloatArray | None = None,
    max_rank: int = 10,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> IdentificationResult:
    """Search each photo's mates among the distractors.

    Args:
        probe: Embeddings of the photos that are looked for, of any length, shape (N, D).
        identity: Who is on each, shape (N,); −1 takes part in nothing.
        distractor: Embeddings of the strangers, shape (M, D); may be memory-mapped.
        mate: Embeddings of the same photos as mates, shape (N, D), for example without the masks
            that the probes wear; those of the probes by default.
        max_rank: Last rank of the CMC curve, 1 to M.
        replicates: Draws of identities for the intervals; 0 for none.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Raises:
        UserError: If sizes do not fit, nobody has two photos, there are fewer distractors than
            ranks, or an embedding has no direction.
    """
    check_draws(replicates, seed)
    mate = probe if mate is None else mate
    _check(probe, identity, distractor, mate, max_rank)
    first, second = _searches(identity)
    used = np.unique(first)
    best = best_scores(probe[used], distractor, count=max_rank)
    rank = np.empty(first.size, dtype=np.int64)
    place = np.searchsorted(used, first)
    for start in range(0, first.size, _DISTRACTORS):
        part = slice(start, start + _DISTRACTORS)
        score = _products(unit_vectors(probe, first[part]), unit_vectors(mate, second[part]))
        rank[part] = 1 + np.sum(best[place[part]] >= score[:, None], axis=1)
    found = rank[:, None] <= np.arange(1, max_rank + 1)
    drawn = resample_identities(
        lambda weight: _share(found, weight),
        identity[first],
        identity[first],
        replicates=replicates,
        seed=seed,
    ).reshape(replicates, max_rank)
    people = np.unique(identity[first]).size
    rates = [
        with_interval(value, column, trials=people, confidence=confidence)
        for value, column in zip(found.mean(axis=0).tolist(), drawn.T, strict=True)
    ]
    return IdentificationResult(
        rates=tuple(rates),
        searches=first.size,
        probes=used.size,
        identities=people,
        distractors=len(distractor),
        drawn=drawn,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
    )


def compare_identification(
    first: IdentificationResult, second: IdentificationResult
) -> list[Measured]:
    """Measure how much more often the second model finds a mate, with paired intervals.

    Args:
        first: What one model reached.
        second: What another one reached on the same photos, with the same draws.

    Returns:
        For each rank; above 0 the second is better. An interval that excludes 0 is a difference.

    Raises:
        UserError: If photos, ranks or draws are not the same.
    """
    names = ("searches", "probes", "identities", "distractors")
    if any(getattr(first, name) != getattr(second, name) for name in names):
        raise not_the_same("other photos")
    if len(first.rates) != len(second.rates):
        raise not_the_same("other ranks")
    return paired_differences(first, second)


def best_scores(probe: FloatArray, distractor: FloatArray, *, count: int) -> FloatArray:
    """Find each probe's highest cosines with the distractors, exactly.

    Products are taken in float32, whose error is below `score_margin`. Whatever such a margin may
    hide is computed again in float64.

    Args:
        probe: Shape (N, D).
        distractor: Shape (M, D), M at least `count`.
        count: How many.

    Returns:
        Descending, shape (N, count), float64.

    Raises:
        UserError: If an embedding has no direction.
    """
    margin = score_margin(probe.shape[1])
    everybody = np.arange(len(probe))
    unit = unit_vectors(probe, everybody)
    best = np.full((len(probe), count), -np.inf)
    with progress("identify", total=len(distractor), unit="distractors") as advance:
        for start in range(0, len(distractor), _DISTRACTORS):
            rows = np.arange(start, min(start + _DISTRACTORS, len(distractor)))
            others = unit_vectors(distractor, rows)
            screen = np.ascontiguousarray(others.T, dtype=np.float32)
            for first in range(0, len(probe), _PROBES):
                part = slice(first, first + _PROBES)
                product = unit[part].astype(np.float32) @ screen
                best[part] = _merged(best[part], product, unit[part], others, margin)
            advance(rows.size)
    return best


def _merged(
    best: FloatArray, product: FloatArray, probe: FloatArray, other: FloatArray, margin: float
) -> FloatArray:
    """Take a block's scores into the best so far, shape (B, count)."""
    count = best.shape[1]
    least = best[:, -1]
    if np.isneginf(least).any() and product.shape[1] >= count:
        # Nothing to compare with yet: what this block's own best are, but for rounding.
        least = np.maximum(least, np.partition(product, -count, axis=1)[:, -count] - margin)
    row, column = np.nonzero(product >= (least - margin)[:, None])
    score = _products(probe[row], other[column])
    row = np.concatenate([np.repeat(np.arange(len(best)), count), row])
    score = np.concatenate([best.ravel(), score])
    order = np.lexsort((-score, row))
    start = np.searchsorted(row[order], np.arange(len(best)))
    merged: FloatArray = score[order][start[:, None] + np.arange(count)]
    return merged


def _products(a: FloatArray, b: FloatArray) -> FloatArray:
    """Multiply row by row, in an order that depends on nothing but the row; shape (P,)."""
    product: FloatArray = np.einsum("pd,pd->p", a, b)
    return product


def _searches(identity: IntArray) -> tuple[IntArray, IntArray]:
    """Probe and mate of each search: all ordered pairs of two photos of a person."""
    order = np.argsort(identity, kind="stable")
    order = order[identity[order] >= 0]
    groups = np.split(order, np.flatnonzero(np.diff(identity[order])) + 1)
    probes = [np.repeat(group, group.size - 1) for group in groups]
    mates = [
        np.broadcast_to(group, (group.size, group.size))[~np.eye(group.size, dtype=np.bool_)]
        for group in groups
    ]
    return np.concatenate(probes), np.concatenate(mates)


def _share(found: BoolArray, weight: FloatArray) -> FloatArray:
    total = weight.sum()
    return weight @ found / total if total else np.full(found.shape[1], np.nan)


def _check(
    probe: FloatArray, identity: IntArray, distractor: FloatArray, mate: FloatArray, max_rank: int
) -> None:
    if len(identity) != len(probe) or mate.shape != probe.shape:
        raise UserError(
            where="probes",
            found=f"{len(identity):,} identities, {len(probe):,} embeddings, {len(mate):,} mates",
            allowed="one embedding and one mate for each identity of the list",
            next_step="embed the images of the list, in its order",
        )
    if distractor.shape[1] != probe.shape[1]:
        raise UserError(
            where="distractors",
            found=f"embeddings of {distractor.shape[1]} numbers",
            allowed=f"{probe.shape[1]}, as the probes",
            next_step="embed both with one model",
        )
    if not 1 <= max_rank <= len(distractor):
        raise UserError(
            where="max_rank",
            found=f"{max_rank} with {len(distractor):,} distractors",
            allowed="from 1 to their number",
            next_step="choose another last rank, or embed more distractors",
        )
    _, photos = np.unique(identity[identity >= 0], return_counts=True)
    if not (photos > 1).any():
        raise UserError(
            where="probes",
            found="nobody with two photos",
            allowed="at least one person with two",
            next_step="check the identities, and the list of noise",
        )

"""MegaFace, identification: is a person's other photo found first among a million strangers?

Each ordered pair of two photos of a person makes one search: the *probe* is looked for among the
distractors and the *mate*, the other photo. The mate's rank is one more than the number of
distractors that score at least as high. (A tie counts against the mate, so a recogniser that takes
everybody for the same finds nobody.) The rank-1 rate is the share of searches that find the mate
first; the CMC curve gives it for the other ranks.

Ranks are exact. A product in float32 only says which distractors may be among a probe's best; what
decides, distractor against mate, is one float64 sum per pair, so the result does not depend on how
the work was cut into blocks.

The published lists have photos of other people in them. InsightFace's lists of noise name these;
here a noisy probe takes part in no search and a noisy distractor is left out. (InsightFace's own
script keeps the noisy probes and gives each its person's mean embedding, which is easily found.)

Source:
    Kemelmacher-Shlizerman et al., CVPR 2016; its development kit's lists; deepinsight/insightface
    `recognition/_evaluation_/megaface`; JDAI-CV/FaceX-Zoo `megaface_evaluator.py`; MFR paper, §5.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import unit_vectors
from openmfr.evaluation.intervals import Measured, resample_identities
from openmfr.evaluation.protocols.many_pairs import score_margin
from openmfr.evaluation.protocols.sources import find_images, path_parts
from openmfr.evaluation.verification import with_interval
from openmfr.run import progress

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Probes, and distractors, that are multiplied at once.
_PROBES: Final = 512
_DISTRACTORS: Final = 16_384


@dataclass(frozen=True, kw_only=True)
class IdentificationResult:
    """How often a mate is found.

    Attributes:
        rates: Share of the searches whose mate is among the first 1, 2, … ranks.
        searches: Ordered pairs of two photos of a person.
        probes: Photos that take part in a search.
        identities: People with at least two photos.
        distractors: Strangers that are searched.
        confidence: Probability that the intervals are to cover.
        replicates: Draws of identities behind each interval; 0 for no intervals.
    """

    rates: tuple[Measured, ...]
    searches: int
    probes: int
    identities: int
    distractors: int
    confidence: float
    replicates: int

    @property
    def rank_1(self) -> Measured:
        """Share of the searches that find the mate first."""
        return self.rates[0]

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return {**vars(self), "rates": [asdict(rate) for rate in self.rates]}


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
    drawn: FloatArray = np.empty((0, max_rank))
    if replicates:
        drawn = resample_identities(
            lambda weight: _share(found, weight),
            identity[first],
            identity[first],
            replicates=replicates,
            seed=seed,
        )
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
        confidence=confidence,
        replicates=replicates,
    )


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
            next_step="embed more distractors",
        )
    _, photos = np.unique(identity[identity >= 0], return_counts=True)
    if not (photos > 1).any():
        raise UserError(
            where="probes",
            found="nobody with two photos",
            allowed="at least one person with two",
            next_step="check the identities, and the list of noise",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoList:
    """A published list of photos.

    Attributes:
        path: Path of each photo, N of them.
        identity: Who is on each, numbered in the order of the names; −1 for photos that are left
            out as noise, and for all photos of a list of distractors; shape (N,).
        keep: Photos that are not left out as noise, shape (N,).
    """

    path: Sequence[str]
    identity: IntArray
    keep: BoolArray

    def rows(self, sources: Sequence[str], *, where: str = "list of photos") -> IntArray:
        """Find the kept photos in a store, by the end of their paths.

        Args:
            sources: Where each image of the store came from: its column `source`.
            where: What the list is called in an error.

        Returns:
            Row of each kept photo, shape (K,).

        Raises:
            UserError: If photos are missing, named together, or unclear.
        """
        kept = [path for path, is_kept in zip(self.path, self.keep, strict=True) if is_kept]
        return find_images(kept, sources, where=where)


def read_photo_list(
    path: Path | str, *, noise: Path | str | None = None, is_named: bool = False
) -> PhotoList:
    """Read one of the development kit's lists, such as facescrub_features_list.json.

    Args:
        path: JSON with the lists `path` and, for people who are looked for, `id`.
        noise: InsightFace's list of photos to leave out: lines with the end of a path, the last of
            several columns between tabs; `#` begins a comment.
        is_named: Whether it must say who is on the photos, as a list of probes does.

    Raises:
        UserError: If a file is unreadable or not such a list.
    """
    content = _read_json(Path(path))
    photos, names = content.get("path"), content.get("id")
    if is_named and names is None:
        raise UserError(
            where=str(path),
            found="no list `id`",
            allowed="who is on each photo that is looked for",
            next_step="give facescrub_features_list.json; distractors go with --distractor-list",
        )
    if not _are_names(photos) or not (names is None or len(names) == len(photos)):
        raise UserError(
            where=str(path),
            found="no list `path`, or an `id` of another length",
            allowed="JSON with the lists path and, for probes, id",
            next_step="give facescrub_features_list.json or megaface_features_list.json_1000000_1",
        )
    noisy = _read_noise(Path(noise)) if noise is not None else frozenset()
    keep = np.array([not noisy.intersection(_ends(photo)) for photo in photos], dtype=np.bool_)
    identity = np.full(len(photos), -1, dtype=np.int64)
    if names is not None:
        identity = np.unique([str(name) for name in names], return_inverse=True)[1].astype(np.int64)
    return PhotoList(path=photos, identity=np.where(keep, identity, -1), keep=keep)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        content, reason = None, f"no readable JSON ({type(error).__name__})"
    else:
        reason = f"a {type(content).__name__}"
    if not isinstance(content, dict):
        raise UserError(
            where=str(path),
            found=reason,
            allowed="JSON with the lists path and, for probes, id",
            next_step="check the path",
        )
    return content


def _are_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _read_noise(path: Path) -> frozenset[tuple[str, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable text ({type(error).__name__})",
            allowed="a line for each photo to leave out",
            next_step="check the path",
        ) from error
    words = (line.split("\t")[-1].strip() for line in lines if not line.startswith("#"))
    return frozenset(path_parts(word) for word in words if word)


def _ends(path: str) -> set[tuple[str, ...]]:
    """All ends of a path: b/c and c of a/b/c.jpg, and itself."""
    parts = path_parts(path)
    return {parts[start:] for start in range(len(parts))}

"""Which images are compared with which: masked with bare ones, a group with itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.counts import count_pairs
from openmfr.evaluation.all_pairs.rates import AllPairsResult, measure_all_pairs
from openmfr.evaluation.all_pairs.scores import DEFAULT_FMRS, all_pairs
from openmfr.evaluation.all_pairs.screen import Precision
from openmfr.evaluation.breakdown import Traits
from openmfr.evaluation.masked import BARE, MASKED, MASKED_BARE

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

#: A set of images and the one that it is compared with, each as one bool per image, shape (N,).
Sets = tuple[BoolArray, BoolArray]


def measure_sets(
    embedding: FloatArray,
    identity: IntArray,
    sets: Mapping[str, Sets],
    *,
    fmrs: Sequence[float] = DEFAULT_FMRS,
    precision: Precision = "float32",
    workers: int = 1,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, AllPairsResult]:
    """Measure several comparisons of sets of the same images; see `trait_sets`.

    Args:
        embedding: Shape (N, D), of any length.
        identity: Who is on each image, shape (N,).
        sets: The two sets of each comparison, by name.
        fmrs: False match rates.
        precision: What screens the pairs.
        workers: Processes.
        replicates: Draws of identities for the intervals.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Raises:
        UserError: As `all_pairs` and `measure_all_pairs` do.
    """
    results = {}
    for name, (first, second) in sets.items():
        pairs = all_pairs(
            embedding,
            identity,
            fmrs=fmrs,
            first=first,
            second=second,
            precision=precision,
            workers=workers,
        )
        results[name] = measure_all_pairs(
            pairs, replicates=replicates, confidence=confidence, seed=seed
        )
    return results


def masked_sets(is_masked: BoolArray) -> dict[str, Sets]:
    """Compare unmasked faces with each other, masked with unmasked ones, and masked ones.

    Example:
        >>> sets = masked_sets(np.array([True, False]))
        >>> list(sets), sets["mu"][0].tolist()
        (['uu', 'mu', 'mm'], [True, False])
    """
    bare = ~is_masked
    return {BARE: (bare, bare), MASKED_BARE: (is_masked, bare), MASKED: (is_masked, is_masked)}


def group_sets(group: StrArray) -> dict[str, Sets]:
    """Compare the images of each group with each other; those without a group with none.

    Example:
        >>> list(group_sets(np.array(["b", "a", "b", ""])))
        ['a', 'b']
    """
    names = np.unique(group[group != ""]).tolist()
    return {name: (group == name, group == name) for name in names}


def trait_sets(traits: Traits, keep: BoolArray, *, by: Sequence[str] = ()) -> dict[str, Sets]:
    """Name the comparisons that what is known of images suggests.

    Args:
        traits: What is known of them.
        keep: Images that take part, shape (N,).
        by: Columns: each group of people is compared with itself, masks of each look with bare
            faces.

    Returns:
        All images with all, or, if some that take part wear masks, bare and masked ones apart;
        then the columns' sets.

    Raises:
        UserError: If masks are to be compared with bare faces, and there are none.

    Example:
        >>> traits = Traits(masks={"mask_style": np.array(["cloth", "", "kn95", ""])})
        >>> list(trait_sets(traits, np.full(4, True), by=["mask_style"]))
        ['uu', 'mu', 'mm', 'mask_style cloth, mu', 'mask_style kn95, mu']
    """
    is_masked = np.zeros(keep.size, dtype=np.bool_)
    if traits.is_masked is not None:
        is_masked = traits.is_masked & keep
    sets = masked_sets(is_masked) if is_masked.any() else {"all": (keep, keep)}
    for column in by:
        if column in traits.people:
            groups = group_sets(traits.people[column])
            sets |= {f"{column} {name}": both for name, both in groups.items()}
        if column in traits.masks:
            _check_bare(column, is_masked | ~keep)
            worn = group_sets(traits.masks[column])
            sets |= {
                f"{column} {name}, {MASKED_BARE}": (first, ~is_masked)
                for name, (first, _) in worn.items()
            }
    return {name: (first & keep, second & keep) for name, (first, second) in sets.items()}


def _check_bare(column: str, is_other: BoolArray) -> None:
    if is_other.all():
        raise UserError(
            where=f"column {column}",
            found="a mask on every image",
            allowed="an empty cell for each bare face",
            next_step="empty these cells, or do without the column",
        )


def measurable_sets(
    identity: IntArray, sets: Mapping[str, Sets]
) -> tuple[dict[str, Sets], list[str]]:
    """Leave out comparisons without pairs of both sides, and say so.

    Args:
        identity: Who is on each image, shape (N,).
        sets: The two sets of each comparison, by name.

    Returns:
        Those that can be measured, and a note of each that cannot.
    """
    fine, notes = {}, []
    for name, (first, second) in sets.items():
        is_same = np.array_equal(first, second)
        counts = count_pairs(identity[first], None if is_same else identity[second])
        if counts.genuine and counts.impostors:
            fine[name] = (first, second)
        else:
            side = "impostor" if counts.genuine else "genuine"
            notes.append(f"{name} has no {side} pairs and is not measured.")
    return fine, notes

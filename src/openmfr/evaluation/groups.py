"""Who pays for the errors: rates of groups of people, and of kinds of masks, at one threshold.

A recogniser is run at one threshold for everybody. So the threshold is set once, on all impostor
pairs or on those of a reference, and every group is measured at it: its false match rate then
differs from the one that was asked for, and that difference is the result.

Pairs *within* a group compare two of its images; they give a group its two rates. Pairs *across*
two groups are easier to tell apart and are listed apart, where asked for: mixed into one impostor
list they make every group look better than it is among its own people.

For masks the threshold is set on bare faces, as in NIST's reports: a gate that was set up for bare
faces meets masked ones.

Source:
    Grother, Ngan & Hanaoka, NISTIR 8280, 2019 (groups at a common threshold); Ngan, Grother &
    Hanaoka, NISTIR 8311 and 8331, 2020 (by mask shape, colour and nose coverage, at a threshold of
    bare faces).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, nearest
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.differentials import Differential, Summary
from openmfr.evaluation.intervals import Measured, interval, resample_identities
from openmfr.evaluation.masked import BARE, MASKED, MASKED_BARE
from openmfr.evaluation.parts import CommonThreshold, PartRates
from openmfr.evaluation.rates import MIN_EXPECTED_FALSE_MATCHES

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

#: With fewer errors than this a rate is mostly luck.
_FEW_ERRORS = 10

_BARE_NAME = "bare"

#: Stands between two kinds of masks that are compared with each other.
JOINT = " + "


@dataclass(frozen=True, kw_only=True)
class GroupRates:
    """Both error rates of one group, of two groups with each other, or of one kind of mask.

    Attributes:
        name: Its name; two names joined by " × " for pairs across two groups.
        identities: Number of identities in its pairs.
        genuine_pairs: Number of genuine pairs.
        impostor_pairs: Number of impostor pairs.
        fmr: False match rate at the common threshold; refused where there are no impostor pairs.
        fnmr: False non-match rate there; refused where there are no genuine pairs.
    """

    name: str
    identities: int
    genuine_pairs: int
    impostor_pairs: int
    fmr: Measured
    fnmr: Measured


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """Groups at one common threshold.

    Attributes:
        threshold: Smallest score that matches.
        fmr_asked: False match rate that set it; None if the threshold was given.
        reference: The impostor pairs that it was set on.
        groups: Rates within each group, by name.
        cross: Rates across two groups, if asked for.
        fmr: How unequal the false match rate is; None with fewer than two groups.
        fnmr: How unequal the false non-match rate is.
        inequity: √(largest over smallest FMR × largest over smallest FNMR), from 1.
        garbe: Mean of both Gini coefficients, 0 to 1.
        confidence: Probability that the intervals are to cover.
        replicates: Draws of identities behind each interval.
        notes: What a reader must know about these numbers.
    """

    threshold: float
    fmr_asked: float | None
    reference: str
    groups: tuple[GroupRates, ...]
    cross: tuple[GroupRates, ...]
    fmr: Differential | None
    fnmr: Differential | None
    inequity: Measured | None
    garbe: Measured | None
    confidence: float
    replicates: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return asdict(self)


def measure_groups(
    comparisons: Comparisons,
    group: StrArray,
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    reference: str | None = None,
    cross: bool = False,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> GroupResult:
    """Measure every group of people at one common threshold.

    Args:
        comparisons: The pairs.
        group: Group of each image, shape (N,), empty where it is unknown.
        fmr: False match rate that sets the threshold: on all impostor pairs, or on those within
            `reference`. It is set anew in every draw.
        threshold: Smallest score that matches, instead of `fmr`; the same in every draw.
        reference: Group whose false match rate sets the threshold.
        cross: Whether to list the pairs across groups too.
        replicates: Draws of identities for the intervals; 0 gives none.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Raises:
        UserError: If not exactly one of `fmr` and `threshold` is given, `fmr` asks for less than
            one false match, a group is unknown, or no pair lies within a group.
    """
    names, a, b = _codes(group, comparisons, where="group")
    known = (a >= 0) & (b >= 0)
    within = np.where(known & (a == b), a, -1)
    is_reference = ~comparisons.is_genuine
    if reference is not None:
        if reference not in names:
            raise UserError(
                where="reference",
                found=repr(reference),
                allowed=", ".join(names),
                next_step=nearest(reference, names),
            )
        is_reference = is_reference & (within == names.index(reference))
    parts = [_named(names, within, within)]
    if cross:
        across = known & (a != b)
        low, high = (np.where(across, end(a, b), -1) for end in (np.minimum, np.maximum))
        parts.append(_named(names, low, high, " × "))
    notes = []
    if not known.all():
        notes.append(f"{int((~known).sum()):,} pairs with an image of unknown group are left out.")
    return _measure(
        comparisons,
        [None, *parts],
        setting=CommonThreshold(comparisons, is_reference, fmr, threshold),
        reference="all impostor pairs" if reference is None else f"impostor pairs of {reference}",
        draws=_Draws(replicates, confidence, seed),
        notes=notes,
    )


def measure_masks(
    comparisons: Comparisons,
    columns: Mapping[str, StrArray],
    *,
    kind: str = MASKED_BARE,
    fmr: float | None = None,
    threshold: float | None = None,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, GroupResult]:
    """Measure masked faces by what their masks are like, at the threshold of bare faces.

    Args:
        comparisons: The pairs, bare ones among them unless `threshold` is given.
        columns: What to break down by: for each name, as style, colour or nose coverage, a text for
            each image, shape (N,), empty where the face is bare.
        kind: mu: a masked image with a bare one, by the masked one's value; mm: two masked images,
            by their common value, or by both joined with " + ".
        fmr: False match rate on the bare impostor pairs that sets the threshold.
        threshold: Smallest score that matches, instead of `fmr`.
        replicates: Draws of identities for the intervals; 0 gives none.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Returns:
        For each column the rates of each of its values. The first group, named "bare", are the
        bare pairs for comparison; it is no part of the summaries.

    Raises:
        UserError: If `kind` is unknown, a column is no column of these images, there are no such
            pairs, or the threshold cannot be set.
    """
    if kind not in (MASKED_BARE, MASKED):
        raise UserError(
            where="kind",
            found=repr(kind),
            allowed=f"{MASKED_BARE}, {MASKED}",
            next_step="bare pairs are measured beside either",
        )
    results = {}
    for name, column in columns.items():
        names, a, b = _codes(column, comparisons, where=name)
        low, high = np.minimum(a, b), np.maximum(a, b)
        is_bare = high < 0
        if kind == MASKED:
            is_wanted, first = low >= 0, low
        else:
            is_wanted, first = (low < 0) & ~is_bare, high
        first, second = np.where(is_wanted, first, -1), np.where(is_wanted, high, -1)
        bare = _Part([_BARE_NAME], np.where(is_bare, 0, -1)) if is_bare.any() else None
        results[name] = _measure(
            comparisons,
            [bare, _named(names, first, second, JOINT)],
            setting=CommonThreshold(comparisons, is_bare & ~comparisons.is_genuine, fmr, threshold),
            reference=f"bare impostor pairs ({BARE})",
            draws=_Draws(replicates, confidence, seed),
            notes=[],
        )
    return results


@dataclass(frozen=True)
class _Draws:
    replicates: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class _Part:
    """Names of parts of the pairs, and which of them each pair has, −1 for none, shape (P,)."""

    names: list[str]
    code: IntArray


def _codes(
    column: StrArray, comparisons: Comparisons, *, where: str
) -> tuple[list[str], IntArray, IntArray]:
    """Values of a column, and which of them both images of a pair have, −1 for an empty text."""
    column = np.asarray(column, dtype=np.str_)
    last = int(max(comparisons.index_a.max(initial=-1), comparisons.index_b.max(initial=-1)))
    if column.ndim != 1 or column.size <= last:
        raise UserError(
            where=where,
            found=f"shape {column.shape}",
            allowed=f"one text for each embedded image, at least {last + 1:,}",
            next_step="take the column of the store or the labels that were embedded",
        )
    names = np.unique(column[column != ""])
    code = np.where(column == "", -1, np.searchsorted(names, column))
    return names.tolist(), code[comparisons.index_a], code[comparisons.index_b]


def _named(names: list[str], first: IntArray, second: IntArray, joint: str = "") -> _Part:
    """Make a part of each value, or couple of values, that pairs have; first ≤ second, −1: none."""
    key = np.where(first < 0, -1, first * len(names) + second)
    present = np.unique(key[key >= 0])
    couples = [divmod(int(couple), len(names)) for couple in present]
    return _Part(
        [names[i] if i == j else f"{names[i]}{joint}{names[j]}" for i, j in couples],
        np.where(key < 0, -1, np.searchsorted(present, key)),
    )


def _measure(
    comparisons: Comparisons,
    parts_given: list[_Part | None],
    *,
    setting: CommonThreshold,
    reference: str,
    draws: _Draws,
    notes: list[str],
) -> GroupResult:
    """Measure bare pairs (or None), groups, and what is across groups (or nothing)."""
    names: list[str] = []
    code = np.full(len(comparisons), -1)
    starts = []
    for part in parts_given:
        starts.append(len(names))
        if part is not None:
            code = np.where(part.code >= 0, part.code + len(names), code)
            names += part.names
    first, last = starts[1], starts[2] if len(starts) > 2 else len(names)
    if first == last:
        raise UserError(
            where="groups",
            found="no pair that belongs to one",
            allowed="at least one",
            next_step="check that the column is that of the compared images",
        )
    parts = PartRates(comparisons, code, len(names), setting)
    ones = np.ones(len(comparisons))
    drawn = resample_identities(
        parts.rates,
        comparisons.identity_a,
        comparisons.identity_b,
        replicates=draws.replicates,
        seed=draws.seed,
    ).reshape(draws.replicates, 2 * len(names))
    rows = _rows(comparisons, parts, names, drawn, draws.confidence)
    value = parts.rates(ones).reshape(2, -1)[:, first:last]
    drawn_within = drawn.reshape(-1, 2, len(names))[:, :, first:last]
    summary = Summary(names[first:last], value, drawn_within, draws.confidence)
    if setting.fmr is not None and setting.expected < MIN_EXPECTED_FALSE_MATCHES:
        notes.append(f"The threshold rests on {setting.expected:.2g} expected false matches.")
    return GroupResult(
        threshold=setting.of(ones),
        fmr_asked=setting.fmr,
        reference=reference if setting.fmr is not None else "given",
        groups=rows[:last],
        cross=rows[last:],
        fmr=summary.differential(0),
        fnmr=summary.differential(1),
        inequity=summary.inequity(),
        garbe=summary.garbe(),
        confidence=draws.confidence,
        replicates=draws.replicates,
        notes=tuple(notes),
    )


def _rows(
    comparisons: Comparisons,
    parts: PartRates,
    names: Sequence[str],
    drawn: FloatArray,
    confidence: float,
) -> tuple[GroupRates, ...]:
    sums = parts.sums(np.ones(len(comparisons)))
    rows = []
    for i, name in enumerate(names):
        inside = parts.code == i
        people = [
            np.union1d(comparisons.identity_a[keep], comparisons.identity_b[keep]).size
            for keep in (inside & ~comparisons.is_genuine, inside & comparisons.is_genuine, inside)
        ]
        rates = [
            _rate(
                errors=sums[2 * side, i],
                pairs=sums[2 * side + 1, i],
                drawn=drawn[:, i + side * len(names)],
                trials=people[side],
                what=("impostor", "genuine")[side],
                confidence=confidence,
            )
            for side in (0, 1)
        ]
        rows.append(
            GroupRates(
                name=name,
                identities=people[2],
                impostor_pairs=int(sums[1, i]),
                genuine_pairs=int(sums[3, i]),
                fmr=rates[0],
                fnmr=rates[1],
            )
        )
    return tuple(rows)


def _rate(
    *, errors: float, pairs: float, drawn: FloatArray, trials: int, what: str, confidence: float
) -> Measured:
    if pairs == 0:
        return Measured(value=None, flag=f"refused: no {what} pairs")
    value = float(errors / pairs)
    low, high = interval(value, drawn, trials=trials, confidence=confidence) or (None, None)
    few = min(errors, pairs - errors)
    told = "error" if few == errors else "right decision"
    flag = f"rests on {few:.0f} {told}{'s' if few != 1 else ''}" if few < _FEW_ERRORS else ""
    return Measured(value=value, low=low, high=high, flag=flag)

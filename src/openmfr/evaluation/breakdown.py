"""Results taken apart: by group of people, and by what masks look like.

`Traits` are what is known of images beyond who is on them, from the labels, the store and a user's
table. `break_down` measures every group of them at one common threshold: people at that of all
pairs, masks at that of bare faces. What cannot be measured, as a group too small for the false
match rate that was asked for, becomes a note, so that a report loses no other number over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import Labels
from openmfr.data.store import MASK_STYLE, Store
from openmfr.errors import UserError, nearest
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.groups import GroupResult, measure_groups, measure_masks
from openmfr.evaluation.masked import BARE, MASKED, MASKED_BARE
from openmfr.evaluation.rates import MIN_EXPECTED_FALSE_MATCHES, check_fmrs
from openmfr.masking.looks import MASK_COLOUR, MASK_COVERAGE

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

#: A column of this name, or one that begins so, describes masks; any other one people.
MASK, MASK_PREFIX = "mask", "mask_"

#: Value of a mask of which a column says nothing.
UNKNOWN = "unknown"

_GROUP = "group"


def is_of_masks(column: str) -> bool:
    """Whether a column of a table describes masks, not people.

    Example:
        >>> is_of_masks("mask_colour"), is_of_masks("region")
        (True, False)
    """
    return column == MASK or column.startswith(MASK_PREFIX)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is known of N images beyond who is on them.

    Attributes:
        people: Column → group of each image, shape (N,), empty where it is unknown.
        masks: Column → what its mask is like, shape (N,), empty for a bare face.
        asked: Columns that a user named: an error if none of them can be measured.
    """

    people: Mapping[str, StrArray] = field(default_factory=dict)
    masks: Mapping[str, StrArray] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, store: Store, labels: Labels | None, table: Mapping[str, StrArray] | None = None
    ) -> Traits:
        """Collect what the labels, the store and a table say.

        Args:
            store: Its columns mask_style, mask_colour and mask_coverage, if it has them.
            labels: Their group and mask_style; None for what the store says alone.
            table: Further columns, shape (N,); "mask" and those whose names begin with "mask_"
                describe masks, and replace what the store says.
        """
        table = table or {}
        people = {name: values for name, values in table.items() if not is_of_masks(name)}
        masks = {
            name: np.array([value or "" for value in store.column(name)], dtype=np.str_)
            for name in (MASK_STYLE, MASK_COLOUR, MASK_COVERAGE)
            if name in store.column_names
        }
        is_masked = np.zeros(len(store), dtype=np.bool_)
        if labels is not None:
            is_masked = labels.is_masked
            masks[MASK_STYLE] = np.array(labels.mask_style)
            if (labels.group != "").any():
                people = {_GROUP: np.array(labels.group)} | people
        masks |= {name: values for name, values in table.items() if is_of_masks(name)}
        return cls(people=people, masks=_with_unknown(masks, is_masked), asked=tuple(table))

    def stacked(self, masked: Traits) -> Traits:
        """Put the same images with masks on below these, as `MaskedPairs` has them.

        Args:
            masked: What the masked store says; what a user's table says of masks goes with it.
        """
        told = {name: values for name, values in self.masks.items() if name in self.asked}
        masks = {
            name: np.concatenate([np.full(values.size, ""), values]).astype(np.str_)
            for name, values in {**masked.masks, **told}.items()
        }
        people = {name: np.concatenate([group, group]) for name, group in self.people.items()}
        return Traits(people=people, masks=masks, asked=self.asked)

    @property
    def is_masked(self) -> BoolArray | None:
        """Whether each image wears a mask, shape (N,); None if no image does."""
        columns = list(self.masks.values())
        return np.any([column != "" for column in columns], axis=0) if columns else None


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Results taken apart.

    Attributes:
        groups: Column, with the kind of pairs where there are several → groups of people.
        masks: Column and kind of pairs → masks of each value.
        notes: What could not be measured, and why.
    """

    groups: Mapping[str, GroupResult]
    masks: Mapping[str, GroupResult]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return {
            "groups": {name: result.to_json() for name, result in self.groups.items()},
            "masks": {name: result.to_json() for name, result in self.masks.items()},
            "notes": list(self.notes),
        }


def break_down(
    comparisons: Comparisons,
    traits: Traits,
    *,
    fmrs: Sequence[float],
    fmr: float | None = None,
    reference: str | None = None,
    replicates: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Breakdown | None:
    """Measure groups of people and kinds of masks, each at one common threshold.

    Args:
        comparisons: The pairs.
        traits: What is known of the images. Where nothing is known of people, and every image is in
            pairs of one kind alone, as in RFW's folds, the kinds are the groups.
        fmrs: False match rates to choose from: the smallest that is supported.
        fmr: The false match rate that sets the thresholds, instead.
        reference: Group whose impostor pairs set the threshold for people.
        replicates: Draws of identities for the intervals; 0 gives none.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.

    Returns:
        None if there is nothing to take apart.

    Raises:
        UserError: If the reference is no group, a false match rate is out of range, or nothing that
            was asked for can be measured.
    """
    people = traits.people or _kinds_as_groups(comparisons)
    _check_reference(reference, people)
    if fmr is not None:
        check_fmrs([fmr])
    kind = mask_kinds(comparisons, traits.is_masked)
    draws: dict[str, Any] = {"replicates": replicates, "confidence": confidence, "seed": seed}
    faults: dict[str, UserError] = {}
    groups: dict[str, GroupResult] = {}
    masks: dict[str, GroupResult] = {}
    parts = _parts(comparisons, kind)
    for column, group in people.items():
        of_column = reference if reference is not None and reference in group else None
        for name, part in parts.items():
            asked = common_fmr(fmrs, _impostors(part, group, of_column)) if fmr is None else fmr
            setting = draws | {"fmr": asked, "reference": of_column, "cross": True}
            measure = partial(measure_groups, part, group, **setting)
            _try(groups, faults, f"{column}, {name}" if name else column, measure)
    bare_impostors = parts[BARE].impostor.size if BARE in parts else 0
    if traits.masks and kind is not None and not bare_impostors:
        faults["mask"] = UserError(
            where="masks",
            found="no impostor pairs of bare faces",
            allowed="some, to set the threshold",
            next_step="leave a bare face's cell empty in the table of --images, or evaluate the "
            "bare store, with the masked one as --masked",
        )
    for wanted in (MASKED_BARE, MASKED) if bare_impostors else ():
        if wanted not in parts:
            continue
        asked = common_fmr(fmrs, bare_impostors) if fmr is None else fmr
        for column, look in traits.masks.items():
            measure = partial(_measure_masks, comparisons, look, wanted, fmr=asked, **draws)
            _try(masks, faults, f"{column}, {wanted}", measure)
    if faults and traits.asked and not groups and not masks:
        raise next(iter(faults.values()))
    if not (groups or masks or faults):
        return None
    notes = tuple(f"By {name}: not measured. {error}" for name, error in faults.items())
    return Breakdown(groups=groups, masks=masks, notes=notes)


def common_fmr(fmrs: Sequence[float], impostors: int) -> float:
    """Choose the false match rate for a common threshold: the smallest supported, or the largest.

    Args:
        fmrs: To choose from.
        impostors: Number of impostor pairs that set the threshold.

    Example:
        >>> common_fmr((1e-1, 1e-2, 1e-3), 3_000), common_fmr((1e-1, 1e-2), 12)
        (0.01, 0.1)
    """
    supported = [f for f in fmrs if f * impostors * (1 + 1e-12) >= MIN_EXPECTED_FALSE_MATCHES]
    return min(supported) if supported else max(fmrs)


def mask_kinds(comparisons: Comparisons, is_masked: BoolArray | None) -> StrArray | None:
    """Say which pairs are bare (uu), masked with bare (mu), and masked (mm).

    Args:
        comparisons: The pairs.
        is_masked: Whether each image wears a mask, shape (N,); None if none does.

    Returns:
        Shape (P,); None if none does.
    """
    if is_masked is None or not is_masked.any():
        return None
    masked = is_masked[comparisons.index_a].astype(np.int64) + is_masked[comparisons.index_b]
    return np.array([BARE, MASKED_BARE, MASKED])[masked]


def _parts(comparisons: Comparisons, kind: StrArray | None) -> dict[str, Comparisons]:
    """Pairs of each kind that there is, by its name; all pairs under "" without kinds."""
    if kind is None:
        return {"": comparisons}
    kinds = [name for name in (BARE, MASKED_BARE, MASKED) if np.any(kind == name)]
    return {name: comparisons.only(kind == name) for name in kinds}


def _impostors(comparisons: Comparisons, group: StrArray, reference: str | None) -> int:
    """Number of impostor pairs that set the threshold for groups."""
    if reference is None:
        return comparisons.impostor.size
    is_inside = group == reference
    both = is_inside[comparisons.index_a] & is_inside[comparisons.index_b]
    return int(np.sum(both & ~comparisons.is_genuine))


def _measure_masks(
    comparisons: Comparisons, look: StrArray, kind: str, **setting: Any
) -> GroupResult:
    return measure_masks(comparisons, {"look": look}, kind=kind, **setting)["look"]


def _try(
    results: dict[str, GroupResult],
    faults: dict[str, UserError],
    name: str,
    measure: Callable[[], GroupResult],
) -> None:
    try:
        results[name] = measure()
    except UserError as error:
        faults[name] = error


def _kinds_as_groups(comparisons: Comparisons) -> dict[str, StrArray]:
    """Kinds as groups of people, if every image has one kind and kinds are none of masks."""
    kind = comparisons.kind
    if kind is None or set(np.unique(kind)) <= {BARE, MASKED_BARE, MASKED, ""}:
        return {}
    images = np.concatenate([comparisons.index_a, comparisons.index_b])
    group = np.full(int(images.max()) + 1, "", dtype=kind.dtype)
    group[images] = np.concatenate([kind, kind])
    is_one = np.array_equal(group[images], np.concatenate([kind, kind]))
    return {"kind": group} if is_one and np.unique(kind).size > 1 else {}


def _check_reference(reference: str | None, people: Mapping[str, StrArray]) -> None:
    known = sorted({name for group in people.values() for name in np.unique(group[group != ""])})
    if reference is not None and reference not in known:
        raise UserError(
            where="reference",
            found=repr(reference),
            allowed=", ".join(known) or "nothing: no group of people is known",
            next_step=nearest(reference, known) if known else "name a table with --images and --by",
        )


def _with_unknown(masks: Mapping[str, StrArray], is_masked: BoolArray) -> dict[str, StrArray]:
    """Name what a column does not say of a mask, and leave out what says nothing."""
    for values in masks.values():
        is_masked = is_masked | (values != "")
    told = {
        name: np.where(is_masked & (values == ""), UNKNOWN, values).astype(np.str_)
        for name, values in masks.items()
        if (values != "").any()
    }
    if not told and is_masked.any():
        return {MASK_STYLE: np.where(is_masked, UNKNOWN, "").astype(np.str_)}
    return told

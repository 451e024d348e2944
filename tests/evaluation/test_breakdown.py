"""Taken apart by people and masks: the rates are those of measuring each part, by its own name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from toys import make_store

from openmfr.data.labels import Labels
from openmfr.errors import UserError
from openmfr.evaluation.breakdown import UNKNOWN, Traits, break_down, mask_kinds
from openmfr.evaluation.breakdown_tables import breakdown_summary, group_tables, mask_tables
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.groups import measure_groups, measure_masks

Strings = npt.NDArray[np.str_]
PEOPLE, IMAGES = 24, 4


def all_pairs(seed: int = 0) -> Comparisons:
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(PEOPLE), IMAGES)
    a, b = np.triu_indices(identity.size, k=1)
    is_genuine = identity[a] == identity[b]
    return Comparisons(
        score=np.where(is_genuine, 0.45, 0.0) + rng.normal(0, 0.15, a.size),
        is_genuine=is_genuine,
        index_a=a,
        index_b=b,
        identity_a=identity[a],
        identity_b=identity[b],
    )


REGION = np.repeat(np.array(["north", "south"])[np.arange(PEOPLE) % 2], IMAGES)
STYLE = np.tile(np.array(["", "", "cloth", "surgical"]), PEOPLE)


def test_people_are_measured_at_the_smallest_supported_rate_of_all_pairs() -> None:
    compared = all_pairs()
    found = break_down(
        compared, Traits(people={"region": REGION}), fmrs=(0.1, 0.01, 1e-5), replicates=0
    )
    assert found is not None
    assert found.groups == {
        "region": measure_groups(compared, REGION, fmr=0.01, cross=True, replicates=0)
    }
    assert (dict(found.masks), found.notes) == ({}, ())


def test_masks_are_measured_by_each_column_at_the_threshold_of_bare_faces() -> None:
    compared, coverage = all_pairs(), np.where(STYLE == "cloth", "low", np.where(STYLE, "high", ""))
    traits = Traits(masks={"mask_style": STYLE, "mask_coverage": coverage.astype(np.str_)})
    found = break_down(compared, traits, fmrs=(0.1,), fmr=0.05, replicates=0)
    assert found is not None
    assert set(found.masks) == {
        f"mask_{c}, {k}" for c in ("style", "coverage") for k in ("mu", "mm")
    }
    expected = measure_masks(compared, {"s": STYLE}, kind="mu", fmr=0.05, replicates=0)["s"]
    assert found.masks["mask_style, mu"] == expected
    names = [part.name for part in found.masks["mask_coverage, mm"].groups]
    assert names == ["bare", "high", "high + low", "low"]


def test_people_are_measured_apart_for_bare_half_masked_and_masked_pairs() -> None:
    compared = all_pairs()
    traits = Traits(people={"region": REGION}, masks={"mask_style": STYLE})
    found = break_down(compared, traits, fmrs=(0.05,), replicates=0)
    assert found is not None
    assert list(found.groups) == ["region, uu", "region, mu", "region, mm"]
    is_masked = STYLE != ""
    half = compared.only(is_masked[compared.index_a] != is_masked[compared.index_b])
    expected = measure_groups(half, REGION, fmr=0.05, cross=True, replicates=0)
    assert found.groups["region, mu"] == expected


def test_kinds_are_groups_where_every_image_has_one_and_they_are_none_of_masks() -> None:
    compared = all_pairs()
    within = REGION[compared.index_a] == REGION[compared.index_b]
    folds = compared.only(within)
    folds = replace(folds, kind=REGION[folds.index_a])
    found = break_down(folds, Traits(), fmrs=(0.05,), replicates=0)
    assert found is not None
    assert [part.name for part in found.groups["kind"].groups] == ["north", "south"]
    mixed = replace(compared, kind=np.where(within, "a", "b"))
    assert break_down(mixed, Traits(), fmrs=(0.05,), replicates=0) is None
    masked = replace(folds, kind=np.where(folds.kind == "north", "uu", "mm"))
    assert break_down(masked, Traits(), fmrs=(0.05,), replicates=0) is None
    assert break_down(compared, Traits(), fmrs=(0.05,), replicates=0) is None


def test_a_reference_group_sets_the_rate_that_its_own_pairs_support() -> None:
    traits = Traits(people={"region": REGION})
    found = break_down(
        all_pairs(), traits, fmrs=(0.1, 0.01, 0.003), reference="north", replicates=0
    )
    assert found is not None
    result = found.groups["region"]
    assert result.reference == "impostor pairs of north"
    assert result.fmr_asked == 0.01  # 1,056 pairs; all 4,416 would support 0.003
    with pytest.raises(UserError, match="reference: found 'nroth'; allowed: north, south"):
        break_down(all_pairs(), traits, fmrs=(0.1,), reference="nroth")


def test_what_cannot_be_measured_is_a_note_unless_it_was_all_that_was_asked_for() -> None:
    compared = all_pairs()
    masked = Traits(people={"region": REGION}, masks={"mask_style": np.where(STYLE, STYLE, "kn95")})
    found = break_down(compared, masked, fmrs=(0.05,), replicates=0)
    assert found is not None
    assert list(found.groups) == ["region, mm"]
    assert found.notes[0].startswith(
        "By mask: not measured. masks: found no impostor pairs of bare"
    )
    alone = Traits(people={"region": np.full(REGION.size, "")}, asked=("region",))
    with pytest.raises(UserError, match="no pair that belongs to one"):
        break_down(compared, alone, fmrs=(0.05,))
    for fmr in (0.0, 2.0):
        with pytest.raises(UserError, match=f"fmr: found {fmr:g}"):
            break_down(compared, masked, fmrs=(0.05,), fmr=fmr)


def test_traits_come_from_labels_store_and_table(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", identities=4, images=3)
    labels = Labels.read(tmp_path / "s" / "labels.parquet")
    assert Traits.of(store, labels) == Traits()
    style = np.tile(np.array(["", "cloth", ""]), 4)
    labels = labels.child(
        is_masked=np.tile([False, True, True], 4),
        mask_style=style,
        group=np.repeat(np.array(["old", "young"]), 6),
    )
    colour = np.tile(np.array(["", "red", ""]), 4)
    traits = Traits.of(store, labels, {"mask_colour": colour, "region": np.full(12, "north")})
    assert list(traits.people) == ["group", "region"]
    assert traits.masks["mask_style"].tolist()[:3] == ["", "cloth", UNKNOWN]
    assert traits.masks["mask_colour"].tolist()[:3] == ["", "red", UNKNOWN]
    assert traits.is_masked is not None
    assert traits.is_masked.tolist()[:3] == [False, True, True]
    named = Traits.of(store, labels, {"mask": style})
    assert named.masks["mask"].tolist()[:3] == ["", "cloth", UNKNOWN]
    assert "mask" not in named.people
    worn = Traits.of(store, None, {"mask": style}).stacked(Traits())
    assert worn.masks["mask"].tolist() == 12 * [""] + style.tolist()
    stacked = Traits(people=traits.people).stacked(traits)
    assert stacked.is_masked is not None
    assert stacked.is_masked[:12].sum() == 0
    assert stacked.is_masked[12:].tolist() == traits.is_masked.tolist()
    assert stacked.people["group"].size == 24


def test_kinds_of_pairs_are_told_from_who_wears_a_mask() -> None:
    compared = all_pairs()
    is_masked = STYLE != ""
    kind = mask_kinds(compared, is_masked)
    assert kind is not None
    masked = is_masked[compared.index_a].astype(int) + is_masked[compared.index_b]
    assert np.array_equal(kind, np.array(["uu", "mu", "mm"])[masked])
    assert mask_kinds(compared, None) is None
    assert mask_kinds(compared, np.zeros(PEOPLE * IMAGES, dtype=np.bool_)) is None


def test_tables_and_lines_show_what_was_found() -> None:
    traits = Traits(people={"region": REGION}, masks={"mask_style": STYLE})
    found = break_down(all_pairs(), traits, fmrs=(0.05,), replicates=30)
    assert found is not None
    tables = {table.caption.split(":")[0] for table in group_tables(found)}
    assert tables == {"By region, uu", "By region, mu", "By region, mm"}
    text = "\n".join(table.markdown() for table in (*group_tables(found), *mask_tables(found)))
    assert "| north |" in text
    assert "| north × south |" in text
    assert "| surgical |" in text
    assert "cloth + surgical" not in text  # in the JSON
    assert "| Largest over smallest |" in text
    lines = breakdown_summary("ours", found)
    assert "ours by mask_style, mu: at one threshold" in lines
    assert "by mask_style, mm" not in lines
    assert breakdown_summary("ours", None) == ""

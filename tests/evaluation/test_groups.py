"""Groups and masks at one common threshold: counted by hand, and not called unequal by luck."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.differentials import gini
from openmfr.evaluation.groups import GroupRates, GroupResult, measure_groups, measure_masks
from openmfr.evaluation.rates import fnmr_at_fmr

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]


def all_pairs(
    people: int, *, seed: int, images: int = 3, spread: Floats | None = None
) -> Comparisons:
    """Every pair of images; `spread` of each person lowers her genuine scores."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(people), images)
    a, b = np.triu_indices(identity.size, k=1)
    is_genuine = identity[a] == identity[b]
    score = np.where(is_genuine, 0.5, 0.0) + rng.normal(0, 0.15, a.size)
    if spread is not None:
        score -= np.where(is_genuine, spread[identity[a]], 0)
    return Comparisons(
        score=score,
        is_genuine=is_genuine,
        index_a=a,
        index_b=b,
        identity_a=identity[a],
        identity_b=identity[b],
    )


def dealt(people: int, names: str, images: int = 3) -> Strings:
    """Group of each image: people are dealt to the groups in turn."""
    return np.array([names[i % len(names)] for i in range(people)]).repeat(images)


def named(result: GroupResult) -> dict[str, GroupRates]:
    return {part.name: part for part in (*result.groups, *result.cross)}


@given(seed=st.integers(0, 10_000))
def test_every_rate_is_what_counting_gives(seed: int) -> None:
    compared, group = all_pairs(12, seed=seed), dealt(12, "abc")
    group[0] = ""
    result = measure_groups(compared, group, threshold=0.2, cross=True, replicates=0)
    a, b = group[compared.index_a], group[compared.index_b]
    for name, part in named(result).items():
        couple = name.split(" × ")
        one, other = couple[0], couple[-1]
        inside = ((a == one) & (b == other)) | ((a == other) & (b == one))
        impostor = compared.score[inside & ~compared.is_genuine]
        genuine = compared.score[inside & compared.is_genuine]
        assert (part.impostor_pairs, part.genuine_pairs) == (impostor.size, genuine.size)
        assert part.fmr.value == pytest.approx(np.mean(impostor >= 0.2))
        if genuine.size:
            assert part.fnmr.value == pytest.approx(np.mean(genuine < 0.2))
        else:
            assert part.fnmr.flag == "refused: no genuine pairs"
    assert list(named(result)) == ["a", "b", "c", "a × b", "a × c", "b × c"]
    unknown = int(np.sum((a == "") | (b == "")))
    assert result.notes == (f"{unknown} pairs with an image of unknown group are left out.",)


def test_the_threshold_is_set_on_all_impostors_or_on_those_of_the_reference() -> None:
    compared, group = all_pairs(30, seed=0), dealt(30, "ab")
    everybody = measure_groups(compared, group, fmr=0.01, replicates=0)
    point = fnmr_at_fmr(compared.genuine, compared.impostor, fmr=0.01)
    assert everybody.threshold == point.threshold
    of_b = measure_groups(compared, group, fmr=0.05, reference="b", replicates=0)
    pairs = (group[compared.index_a] == "b") & (group[compared.index_b] == "b")
    b_alone = compared.only(pairs)
    assert of_b.threshold == fnmr_at_fmr(b_alone.genuine, b_alone.impostor, fmr=0.05).threshold
    rate = named(of_b)["b"].fmr.value
    assert rate is not None
    assert 0.045 < rate <= 0.05
    assert of_b.reference == "impostor pairs of b"


def test_one_group_is_the_whole_and_has_no_differential() -> None:
    compared = all_pairs(20, seed=1)
    result = measure_groups(compared, dealt(20, "a"), fmr=0.02, replicates=0)
    point = fnmr_at_fmr(compared.genuine, compared.impostor, fmr=0.02)
    assert (result.groups[0].fmr.value, result.groups[0].fnmr.value) == (point.fmr, point.fnmr)
    assert (result.fmr, result.fnmr, result.inequity, result.garbe) == (None, None, None, None)


def test_summaries_are_those_of_the_rates() -> None:
    spread = np.where(np.arange(60) % 3 == 0, 0.25, 0.0)
    result = measure_groups(
        all_pairs(60, seed=2, spread=spread), dealt(60, "abc"), threshold=0.3, replicates=0
    )
    assert result.fmr is not None
    assert result.fnmr is not None
    for side, differential in (("fmr", result.fmr), ("fnmr", result.fnmr)):
        rate = np.array([getattr(part, side).value for part in result.groups])
        names = [part.name for part in result.groups]
        assert differential.worst == names[int(rate.argmax())]
        assert differential.best == names[int(rate.argmin())]
        ratio = differential.max_over_min.measured.value
        assert ratio == pytest.approx(rate.max() / rate.min())
        mean = np.prod(rate) ** (1 / 3)
        assert differential.max_over_geometric_mean.measured.value == pytest.approx(
            rate.max() / mean
        )
        assert differential.gini.measured.value == pytest.approx(gini(rate))
    assert result.fnmr.worst == "a"
    assert result.inequity is not None
    both = [d.max_over_min.measured.value or 0 for d in (result.fmr, result.fnmr)]
    assert result.inequity.value == pytest.approx((both[0] * both[1]) ** 0.5)


@given(rate=st.lists(st.floats(0, 1), min_size=2, max_size=6), factor=st.floats(0.01, 1))
def test_gini_is_between_alike_and_one_for_all_and_free_of_scale(
    rate: list[float], factor: float
) -> None:
    values = np.array(rate)
    if values.sum() < 1e-6:
        return
    assert -1e-12 <= gini(values) <= 1 + 1e-12
    assert gini(values) == pytest.approx(gini(values * factor), abs=1e-6)
    pairs = np.mean(np.abs(values[:, None] - values)) / (2 * values.mean())
    assert gini(values) == pytest.approx(pairs * values.size / (values.size - 1), abs=1e-9)


def test_groups_that_differ_are_told_from_groups_that_chance_made() -> None:
    group = dealt(60, "abc")
    spread = np.where(np.arange(60) % 3 == 0, 0.2, 0.0)
    unequal = measure_groups(
        all_pairs(60, seed=3, spread=spread), group, threshold=0.25, replicates=200
    )
    assert unequal.fnmr is not None
    ratio = unequal.fnmr.max_over_min
    assert ratio.measured.value is not None
    assert ratio.chance is not None
    assert ratio.measured.value > ratio.chance
    called = 0
    for seed in range(25):
        alike = measure_groups(
            all_pairs(60, seed=seed), group, threshold=0.35, replicates=100, seed=seed
        )
        assert alike.fnmr is not None
        ratio = alike.fnmr.max_over_min
        assert ratio.measured.value is not None
        assert ratio.chance is not None
        assert ratio.measured.value > 1
        called += ratio.measured.value > ratio.chance
    assert called <= 5  # one in twenty is promised


def test_intervals_hold_their_rates_and_repeat() -> None:
    compared, group = all_pairs(40, seed=4), dealt(40, "ab")
    result = measure_groups(compared, group, fmr=0.02, replicates=100)
    assert result == measure_groups(compared, group, fmr=0.02, replicates=100)
    for part in result.groups:
        for rate in (part.fmr, part.fnmr):
            assert rate.value is not None
            assert rate.low is not None
            assert rate.high is not None
            assert rate.low <= rate.value <= rate.high
    json.loads(json.dumps(result.to_json(), allow_nan=False))


def test_a_group_without_an_error_has_a_bound_and_no_ratio() -> None:
    compared, group = all_pairs(40, seed=5), dealt(40, "ab")
    in_a = (group[compared.index_a] == "a") & (group[compared.index_b] == "a")
    score = np.where(in_a & compared.is_genuine, 0.9, compared.score)
    result = measure_groups(
        Comparisons(**{**vars(compared), "score": score}), group, threshold=0.4, replicates=100
    )
    rate = named(result)["a"].fnmr
    assert (rate.value, rate.flag) == (0.0, "rests on 0 errors")
    assert rate.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert result.fnmr is not None
    ratio = result.fnmr.max_over_min
    assert ratio.measured.is_refused
    assert ratio.measured.flag == "refused: a group has no error"
    assert ratio.chance is None
    assert result.fnmr.gini.measured.value == 1.0


def test_what_cannot_be_measured_is_refused() -> None:
    compared, group = all_pairs(20, seed=6), dealt(20, "ab")
    for number in (None, 0.1):
        with pytest.raises(UserError, match="allowed: one of them"):
            measure_groups(compared, group, fmr=number, threshold=number)
    with pytest.raises(UserError, match="reference: found 'c'; allowed: a, b"):
        measure_groups(compared, group, fmr=0.1, reference="c")
    with pytest.raises(UserError, match="at least one false match among them"):
        measure_groups(compared, group, fmr=1e-6)
    with pytest.raises(UserError, match="no pair that belongs to one"):
        measure_groups(compared, np.full(60, ""), threshold=0.1)
    with pytest.raises(UserError, match=r"group: found shape \(59,\)"):
        measure_groups(compared, group[:-1], threshold=0.1)


def test_masks_are_measured_by_the_masked_images_value_at_the_threshold_of_bare_faces() -> None:
    compared = all_pairs(30, seed=7)
    style = np.tile(np.array(["", "cloth", "surgical"]), 30)
    a, b = style[compared.index_a], style[compared.index_b]
    bare = compared.only((a == "") & (b == ""))
    result = measure_masks(compared, {"style": style}, fmr=0.02, replicates=0)["style"]
    assert [part.name for part in result.groups] == ["bare", "cloth", "surgical"]
    assert result.threshold == fnmr_at_fmr(compared.genuine, bare.impostor, fmr=0.02).threshold
    cloth = compared.only(((a == "") & (b == "cloth")) | ((a == "cloth") & (b == "")))
    found = named(result)["cloth"]
    assert found.fmr.value == pytest.approx(np.mean(cloth.impostor >= result.threshold))
    assert found.fnmr.value == pytest.approx(np.mean(cloth.genuine < result.threshold))
    assert named(result)["bare"].impostor_pairs == bare.impostor.size
    assert bare.genuine.size == 0
    assert named(result)["bare"].fnmr.flag == "refused: no genuine pairs"
    both = measure_masks(compared, {"style": style}, kind="mm", threshold=0.3, replicates=0)
    names = [part.name for part in both["style"].groups]
    assert names == ["bare", "cloth", "cloth + surgical", "surgical"]
    with pytest.raises(UserError, match="kind: found 'uu'"):
        measure_masks(compared, {"style": style}, kind="uu", threshold=0.3)


def test_real_masks_are_broken_down_by_style_and_colour(
    real_data: Path, reference: Callable[[str, str], Any]
) -> None:
    mfr2 = reference("r1_mfr2dev.npz", "mfr2-dev")
    with (real_data / "mfr2-dev" / "images.csv").open(encoding="utf-8") as file:
        mask = {row["path"]: row["mask"] for row in csv.DictReader(file)}
    with np.load(real_data / "reference" / "r1_mfr2dev.npz") as stored:
        style = [mask[path] for path in stored["path"].tolist()]
    columns = {
        "style": np.array(["" if name == "no-mask" else name.split("_")[0] for name in style]),
        "colour": np.array(["" if name == "no-mask" else name.split("_")[-1] for name in style]),
    }
    compared = mfr2.pairs.compare(mfr2.embedding, mfr2.identity)
    results = measure_masks(compared, columns, fmr=1e-2, replicates=100)
    for result in results.values():
        masked = [part for part in result.groups if part.name != "bare"]
        assert sum(part.genuine_pairs for part in masked) == 160
        bare = named(result)["bare"]
        assert bare.fnmr.value == 0
    surgical = named(results["style"])["surgical"]
    assert surgical.fnmr.value == pytest.approx(0.577, abs=5e-4)
    assert surgical.genuine_pairs == 78

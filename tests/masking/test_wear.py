"""How masks are worn."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from openmfr.errors import UserError
from openmfr.masking.chance import pick
from openmfr.masking.template import USUAL_OUTLINE, Outline
from openmfr.masking.wear import COVERAGES, Coverage, Wear, draw_wear

#: Height of the upper edge that each coverage is to have with a template that begins at −0.25.
EDGES: dict[Coverage, float] = {
    "high": -0.25,
    "medium": -0.05,
    "low": 0.10,
    "below_nose": 0.24,
    "chin": 0.55,
}


def test_a_neutral_wear_changes_nothing() -> None:
    assert Wear().outline(USUAL_OUTLINE) == USUAL_OUTLINE


@pytest.mark.parametrize("coverage", EDGES)
def test_each_coverage_has_its_upper_edge_where_it_says(coverage: Coverage) -> None:
    usual = Outline(nose=-0.25, side=0.0, chin=0.95, jaw=0.6, half_angle=1.1)
    assert Wear(coverage=coverage).outline(usual).nose == pytest.approx(EDGES[coverage])


def test_coverages_slip_in_order_and_the_whole_sheet_with_them() -> None:
    worn = [Wear(coverage=name).outline(USUAL_OUTLINE) for name in EDGES]
    for higher, lower in pairwise(worn):
        assert lower.nose > higher.nose
        assert lower.side > higher.side
        assert lower.chin > higher.chin
        assert lower.jaw > higher.jaw


@pytest.mark.parametrize("coverage", EDGES)
@pytest.mark.parametrize("lift", [-0.3, 0.3])
def test_a_sheet_keeps_some_height_however_it_is_worn(coverage: Coverage, lift: float) -> None:
    narrow = Outline(nose=-0.1, side=0.2, chin=0.6, jaw=0.5, half_angle=1.0)
    worn = Wear(coverage=coverage, lift=lift).outline(narrow)
    assert worn.chin - worn.nose >= 0.249
    assert worn.jaw - worn.side >= 0.249


def test_a_positive_tilt_lowers_the_right_end() -> None:
    worn = Wear(tilt=0.2).outline(USUAL_OUTLINE)
    _, v = worn.sheet(np.array([-0.8, 0.8], np.float32), np.full(2, 0.3, np.float32))
    assert v[1] < v[0] - 0.1


def test_lift_raises_and_slack_lowers_the_lower_edge() -> None:
    lifted = Wear(lift=0.1).outline(USUAL_OUTLINE)
    loose = Wear(slack=1.0).outline(USUAL_OUTLINE)
    assert lifted.nose == pytest.approx(USUAL_OUTLINE.nose - 0.1)
    assert lifted.chin == pytest.approx(USUAL_OUTLINE.chin - 0.1)
    assert loose.nose == USUAL_OUTLINE.nose
    assert loose.chin > USUAL_OUTLINE.chin + 0.02


def test_width_scales_the_angle_of_the_ends() -> None:
    worn = Wear(width=1.1).outline(USUAL_OUTLINE)
    assert worn.half_angle == pytest.approx(1.1 * USUAL_OUTLINE.half_angle)


def test_coverages_are_drawn_as_often_as_documented() -> None:
    rng = np.random.default_rng(11)
    drawn = [draw_wear(rng) for _ in range(4000)]
    assert sum(COVERAGES.values()) == pytest.approx(1)
    for name, share in COVERAGES.items():
        found = np.mean([wear.coverage == name for wear in drawn])
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
    assert np.std([wear.tilt for wear in drawn]) == pytest.approx(0.035, rel=0.1)
    assert np.std([wear.lift for wear in drawn]) == pytest.approx(0.035, rel=0.1)
    assert np.median([wear.slack for wear in drawn]) < 0.4


def test_the_same_state_draws_the_same_wear() -> None:
    assert draw_wear(np.random.default_rng(5)) == draw_wear(np.random.default_rng(5))
    assert draw_wear(np.random.default_rng(5)) != draw_wear(np.random.default_rng(6))


def test_coverages_without_weight_are_never_drawn() -> None:
    rng = np.random.default_rng(2)
    drawn = {draw_wear(rng, {"high": 0.0, "low": 1.0, "chin": 3.0}).coverage for _ in range(200)}
    assert drawn == {"low", "chin"}


def test_a_name_with_no_weight_is_not_picked_even_at_the_ends() -> None:
    class Low(np.random.Generator):
        def random(self) -> float:  # type: ignore[override]
            return 0.0

    class High(np.random.Generator):
        def random(self) -> float:  # type: ignore[override]
            return float(np.nextafter(1, 0))

    weights = {"a": 0.0, "b": 0.1, "c": 0.7, "d": 0.0}
    assert pick(Low(np.random.PCG64(0)), weights) == "b"
    assert pick(High(np.random.PCG64(0)), weights) == "c"


def test_coverages_of_the_type_and_of_the_table_are_the_same() -> None:
    assert set(get_args(Coverage)) == set(COVERAGES)


@pytest.mark.parametrize(
    "weights", [{}, {"high": 0.0}, {"high": -1.0, "low": 2.0}, {"low": np.nan}]
)
def test_weights_that_cannot_be_drawn_from_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UserError, match="allowed: weights of at least 0, one of them above 0"):
        draw_wear(np.random.default_rng(0), weights)


def test_faults_of_wear_are_named() -> None:
    with pytest.raises(UserError) as error:
        Wear(coverage="hihg")  # type: ignore[arg-type]
    assert str(error.value) == (
        "wear, coverage: found hihg; allowed: high, medium, low, below_nose, chin; "
        "did you mean high?"
    )
    with pytest.raises(UserError) as error:
        Wear(slack=1.5)
    assert str(error.value) == (
        "wear, slack: found 1.5; allowed: 0 to 1; leave it out for a mask that fits"
    )
    with pytest.raises(UserError, match="coverages: found nose"):
        draw_wear(np.random.default_rng(0), {"nose": 1.0})

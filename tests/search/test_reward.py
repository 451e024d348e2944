"""A reward rises with accuracy and never with cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.search.reward import Reward

SOFT, HARD = Reward.of_kind("soft", 100.0), Reward.of_kind("hard", 100.0)


def test_twice_the_cost_is_worth_five_percent_of_accuracy() -> None:
    """MnasNet, §3: what its soft exponent was chosen for."""
    assert SOFT(accuracy=0.8 * 1.05, cost=200.0) == pytest.approx(
        SOFT(accuracy=0.8, cost=100.0), rel=1e-3
    )


def test_within_a_hard_limit_cost_does_not_count_and_above_it_weighs_heavily() -> None:
    assert HARD(accuracy=0.8, cost=1.0) == HARD(accuracy=0.8, cost=100.0) == 0.8
    assert HARD(accuracy=0.8, cost=200.0) == pytest.approx(0.4)


@given(accuracy=st.floats(0.01, 1), cost=st.floats(1, 1e4), more=st.floats(1.01, 10))
@pytest.mark.parametrize("reward", [SOFT, HARD])
def test_a_reward_never_rises_with_cost(
    reward: Reward, accuracy: float, cost: float, more: float
) -> None:
    cheap, dear = (reward(accuracy=accuracy, cost=c) for c in (cost, cost * more))
    assert dear <= cheap * (1 + 1e-12)
    assert reward(accuracy=accuracy / 2, cost=cost) < cheap


def test_settings_that_would_reward_cost_are_refused_together() -> None:
    with pytest.raises(UserError) as caught:
        Reward(target=0.0, alpha_within=0.1, alpha_above=float("nan"))
    named = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert named == ["reward.target", "reward.alpha_within", "reward.alpha_above"]


@pytest.mark.parametrize(
    ("accuracy", "cost"), [(-0.1, 1.0), (1.1, 1.0), (float("nan"), 1.0), (0.5, 0.0)]
)
def test_a_measurement_that_cannot_be_is_a_bug(accuracy: float, cost: float) -> None:
    with pytest.raises(ValueError, match="of a candidate"):
        SOFT(accuracy=accuracy, cost=cost)

"""The learning rate is the paper's at every epoch, and impossible schedules are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.train import ScheduleConfig


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 0), (0.25, 0.25), (1, 1), (4.99, 1), (5, 0.1), (9, 0.01), (12, 1e-3), (16.9, 1e-4)],
)
def test_the_default_is_the_papers(epoch: float, factor: float) -> None:
    assert ScheduleConfig().factor(epoch) == pytest.approx(factor)


def test_a_cosine_starts_at_its_peak_and_ends_at_zero() -> None:
    schedule = ScheduleConfig(epochs=10, warmup_epochs=2, shape="cosine")
    assert [schedule.factor(e) for e in (2, 6, 10)] == pytest.approx([1, 0.5, 0])


@given(
    epoch=st.floats(1, 17), later=st.floats(0, 16), shape=st.sampled_from(["milestones", "cosine"])
)
def test_after_the_warm_up_the_rate_never_rises(epoch: float, later: float, shape: Any) -> None:
    schedule = ScheduleConfig(shape=shape)
    assert schedule.factor(min(17, epoch + later)) <= schedule.factor(epoch)


def test_all_faults_are_named_together() -> None:
    with pytest.raises(UserError) as error:
        ScheduleConfig(epochs=3, warmup_epochs=5, milestones=(9, 5), gamma=2)
    named = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert named == ["schedule.warmup_epochs", "schedule.milestones", "schedule.gamma"]


@pytest.mark.parametrize("setting", [{"shape": "cosin"}, {"epochs": float("inf")}])
def test_an_impossible_value_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"schedule.{next(iter(setting))}"):
        ScheduleConfig(**setting)

"""Verdicts: right as often as they promise, and in the paper's own direction."""

from __future__ import annotations

import numpy as np
import pytest

from openmfr.recipes import probe_real
from openmfr.reproduce.catalogue import TABLES
from openmfr.reproduce.experiment import Arm, Claim, Experiment
from openmfr.reproduce.outcome import Outcome
from openmfr.reproduce.verdicts import Spread, gain, verdicts

CLAIM = Claim(says="masks help", better="masks", than="none", figure="masked")
EXPERIMENT = Experiment(
    table="T0",
    title="toy",
    arms=(Arm(name="none", config=probe_real()), Arm(name="masks", config=probe_real())),
    claims=(CLAIM,),
)


def outcomes_of(
    rng: np.random.Generator, *, difference: float, seeds: int, spread: float = 0.01
) -> dict[str, dict[int, Outcome]]:
    """Trainings of two arms: test people err by 0.02 for both alike, each training by `spread`."""
    people = 0.02 * rng.standard_normal()
    draws = 0.02 * rng.standard_normal(200)
    own = 0.004 * rng.standard_normal(2), 0.004 * rng.standard_normal((2, 200))
    found: dict[str, dict[int, Outcome]] = {}
    for number, (name, level) in enumerate((("none", 0.3), ("masks", 0.3 - difference))):
        found[name] = {}
        for seed in range(seeds):
            value = level + people + own[0][number] + spread * rng.standard_normal()
            drawn = value + draws + own[1][number]
            found[name][seed] = Outcome(
                value={"masked": value}, drawn={"masked": drawn}, seconds=1.0
            )
    return found


def words(difference: float, *, seeds: int = 3, tries: int = 400) -> dict[str, int]:
    rng = np.random.default_rng(0)
    found: dict[str, int] = {}
    for _ in range(tries):
        verdict = verdicts(EXPERIMENT, outcomes_of(rng, difference=difference, seeds=seeds))[0]
        found[verdict.word] = found.get(verdict.word, 0) + 1
    return found


def test_where_arms_do_not_differ_one_in_twenty_verdicts_says_that_they_do() -> None:
    found = words(0.0)
    assert 0.90 < found["not seen at this scale"] / 400 < 0.99


def test_a_difference_is_seen_and_its_direction_decides() -> None:
    assert words(0.08)["agreed"] > 380
    assert words(-0.08)["contradicted"] > 380


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        found = gain(CLAIM, outcomes_of(rng, difference=0.03, seeds=3))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.03 <= found.high
    assert 0.90 < covered / 400 < 0.99


def test_one_training_of_each_is_flagged_and_none_is_not_measured() -> None:
    rng = np.random.default_rng(0)
    found = gain(CLAIM, outcomes_of(rng, difference=0.1, seeds=1))
    assert "one seed" in found.flag
    assert set(words(0.08, seeds=1)) == {"agreed with one seed"}
    missing = verdicts(EXPERIMENT, {"none": outcomes_of(rng, difference=0.1, seeds=1)["none"]})[0]
    assert missing.word == "not measured"


def test_the_spread_of_trainings_is_pooled_within_arms() -> None:
    found = Spread.of(trained(a=[0.10, 0.12, 0.14], b=[0.50, 0.54], c=[0.9]), "masked")
    # Sums of squares 0.0008 and 0.0008, from 2 + 1 differences.
    assert found.freedom == 3
    assert found.variance == pytest.approx(0.0016 / 3)


def trained(**arms: list[float]) -> dict[str, dict[int, Outcome]]:
    return {
        name: {
            seed: Outcome(value={"masked": value}, drawn={"masked": np.zeros(2)}, seconds=1)
            for seed, value in enumerate(values)
        }
        for name, values in arms.items()
    }


def test_two_names_of_one_recipe_are_one_arm_of_the_spread() -> None:
    """Their trainings are the same: counted twice, they would look like twice the evidence."""
    twice = trained(default=[0.10, 0.12, 0.14], no_dropout=[0.10, 0.12, 0.14])
    assert Spread.of(twice, "masked") == Spread.of(trained(a=[0.10, 0.12, 0.14]), "masked")


def test_an_arm_that_was_trained_once_says_whose_spread_its_interval_has() -> None:
    found = gain(CLAIM, trained(masks=[0.1], none=[0.3, 0.31, 0.32]))
    assert found.low is not None
    assert "other arms" in found.flag
    assert not gain(CLAIM, trained(masks=[0.1, 0.11], none=[0.3, 0.31])).flag


def test_trainings_that_all_reach_the_same_are_measured() -> None:
    found = gain(CLAIM, trained(masks=[0.0, 0.0], none=[0.0, 0.0]))
    assert (found.value, found.low, found.high, found.flag) == (0, 0, 0, "")


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_own_figures_bear_out_its_claims_or_the_page_says_so(name: str) -> None:
    experiment = TABLES[name]()
    for verdict in verdicts(experiment, {}):
        if verdict.paper is not None and verdict.paper <= 0:
            assert verdict.claim.figure == "both"
            assert any("By its own formula" in note for note in experiment.notes)

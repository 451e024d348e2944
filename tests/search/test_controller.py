"""Controllers: all fill the space through one interface, learn, share, and go on after a kill."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from openmfr.errors import UserError
from openmfr.models.ridnet import Architecture
from openmfr.search.controller import (
    EvolutionSampler,
    PolicySampler,
    SpaceSampler,
    ask,
    controller,
    open_study,
)
from openmfr.search.policy import PolicyConfig
from openmfr.search.space import NARROW, Space, StageSpace

SPACE = Space(
    stages=(
        StageSpace(channels=64, widths=(32, 48), depths=(1, 2, 3)),
        StageSpace(channels=64, widths=(32, 48), depths=(1, 2, 3)),
    ),
    kernels=("1", "3", "5"),
    paths=(2, 3),
    path_depths=(2, 3),
)
KINDS = ("policy", "random", "tpe", "evolution")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def merit(architecture: Architecture) -> float:
    """Best with kernels of 3 everywhere in deep stages, in 0 to 1."""
    scores = []
    for stage in architecture.stages:
        paths = stage.pattern[0].paths
        scores.append(sum(path.kernel == "3" for path in paths) / len(paths))
        scores.append((stage.depth - 1) / 2)
    return statistics.mean(scores)


def search(sampler: BaseSampler, trials: int, space: Space = SPACE) -> optuna.Study:
    study = open_study(optuna.storages.InMemoryStorage(), space, sampler)
    study.optimize(lambda trial: merit(ask(space, trial)), n_trials=trials)
    return study


def values(study: optuna.Study) -> list[float]:
    return [trial.value for trial in study.trials if trial.value is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_every_controller_chooses_members_of_the_space(kind: str) -> None:
    study = search(controller(kind, NARROW, seed=0), 12, NARROW)
    for trial in study.trials:
        made = {name: trial.params[name] for name in trial.params}
        NARROW.build(lambda name, _, made=made: made[name])  # type: ignore[misc]
    assert len({str(trial.params) for trial in study.trials}) > 8


@pytest.mark.parametrize("kind", ["policy", "evolution"])
def test_a_controller_that_learns_beats_chance(kind: str) -> None:
    late = values(search(controller(kind, SPACE, seed=0), 160))[-32:]
    chance = values(search(controller("random", SPACE, seed=0), 160))
    assert statistics.mean(late) > statistics.quantiles(chance, n=10)[-2]


@pytest.mark.parametrize(("kind", "half"), [("policy", 10), ("random", 3), ("evolution", 18)])
def test_another_process_would_choose_the_same(kind: str, half: int, tmp_path: Path) -> None:
    """What a controller knows is in the storage alone."""
    storage = str(tmp_path / "search.log")

    def go_on(trials: int) -> list[dict[str, object]]:
        study = open_study(storage, SPACE, controller(kind, SPACE, seed=3))
        study.optimize(lambda trial: merit(ask(SPACE, trial)), n_trials=trials)
        return [trial.params for trial in study.trials]

    go_on(half)
    resumed = go_on(half)
    at_once = [t.params for t in search(controller(kind, SPACE, seed=3), 2 * half).trials]
    assert resumed == at_once


def test_a_trial_that_was_killed_teaches_nothing_and_stops_nobody() -> None:
    sampler = PolicySampler(SPACE, seed=0)
    study = open_study(optuna.storages.InMemoryStorage(), SPACE, sampler)
    lost = study.ask()
    ask(SPACE, lost)  # its worker dies here
    study.optimize(lambda trial: merit(ask(SPACE, trial)), n_trials=16)
    assert lost.number not in sampler._learnt
    assert len(sampler._learnt) == 8


def test_two_workers_learn_from_each_other() -> None:
    """A worker that begins late has learnt all that the first one did."""
    storage = optuna.storages.InMemoryStorage()
    first, second = (PolicySampler(SPACE, seed=0) for _ in range(2))
    study = open_study(storage, SPACE, first)
    study.optimize(lambda trial: merit(ask(SPACE, trial)), n_trials=17)
    late = open_study(storage, SPACE, second)
    late.optimize(lambda trial: merit(ask(SPACE, trial)), n_trials=1)
    assert second._learnt == first._learnt == list(range(16))
    assert chances(first) == chances(second)


def chances(sampler: PolicySampler) -> list[object]:
    """What a policy would draw now."""
    drawn: list[object] = []
    for seed in range(5):
        turn, rng = sampler._policy.begin(), random.Random(seed)
        drawn += [turn.draw(name, rng) for name in SPACE.decisions()]
    return drawn


def test_a_trial_that_ends_late_is_learnt_in_its_turn() -> None:
    sampler = PolicySampler(SPACE, seed=0, config=PolicyConfig(batch=2))
    study = open_study(optuna.storages.InMemoryStorage(), SPACE, sampler)
    slow = study.ask()
    value = merit(ask(SPACE, slow))
    study.optimize(lambda trial: merit(ask(SPACE, trial)), n_trials=3)
    study.tell(slow, value)
    study.optimize(lambda trial: merit(ask(SPACE, trial)), n_trials=1)
    assert sampler._learnt == [1, 2, 3, 0]


def test_trials_that_were_stopped_early_count_with_what_they_had() -> None:
    def objective(trial: Trial) -> float:
        trial.report(merit(ask(SPACE, trial)) / 2, step=1)
        raise optuna.TrialPruned

    sampler = PolicySampler(SPACE, seed=0, config=PolicyConfig(batch=4))
    study = open_study(optuna.storages.InMemoryStorage(), SPACE, sampler)
    study.optimize(objective, n_trials=9)
    assert {trial.state for trial in study.trials} == {TrialState.PRUNED}
    assert sampler._learnt == list(range(8))


def test_a_policy_settles_as_it_learns() -> None:
    sampler = PolicySampler(SPACE, seed=0)
    search(sampler, 17)
    early = sampler.entropy
    search_more = PolicySampler(SPACE, seed=0)
    search(search_more, 120)
    assert 0 < search_more.entropy < early


def test_an_equal_reward_for_all_teaches_nothing_wrong() -> None:
    sampler = PolicySampler(SPACE, seed=0)
    study = open_study(optuna.storages.InMemoryStorage(), SPACE, sampler)
    study.optimize(lambda trial: 0.5 + 0 * len(ask(SPACE, trial).stages), n_trials=17)
    assert sampler.entropy > 0.5


def test_evolution_changes_one_decision_of_a_survivor() -> None:
    study = search(EvolutionSampler(SPACE, seed=0), 40)
    changed = []
    for trial in study.trials[34:]:
        parents = [other.params for other in study.trials[: trial.number]]
        fewest = min(
            sum(trial.params.get(n) != p.get(n) for n in trial.params.keys() | p.keys())
            for p in parents
        )
        changed.append(fewest)
    assert statistics.median(changed) <= 1, "strangers of chance differ in three or more"
    assert max(changed) <= 9, "a path more, sorted in among the others, moves all behind it"


def test_a_storage_of_another_space_is_refused(tmp_path: Path) -> None:
    storage = str(tmp_path / "search.log")
    open_study(storage, SPACE, controller("random", SPACE, seed=0))
    with pytest.raises(UserError, match=f"a search of another space .*{NARROW.fingerprint}"):
        open_study(storage, NARROW, controller("random", NARROW, seed=0))


def test_an_unknown_controller_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean evolution"):
        controller("evolve", SPACE, seed=0)


@pytest.mark.parametrize("make", [PolicySampler, EvolutionSampler])
def test_draws_differ_between_trials_that_run_together(
    make: Callable[..., SpaceSampler],
) -> None:
    study = open_study(optuna.storages.InMemoryStorage(), SPACE, make(SPACE, seed=0))
    asked = [study.ask() for _ in range(6)]
    assert len({ask(SPACE, trial) for trial in asked}) > 3


def test_settings_that_cannot_be_are_named_together() -> None:
    with pytest.raises(UserError, match=r"policy.batch: found 0(.|\n)*policy.clip: found 1.0"):
        PolicyConfig(batch=0, clip=1.0)


@pytest.mark.parametrize("address", ["nosuch://here/x", "postgresql://nobody@127.0.0.1:1/none"])
def test_a_database_that_cannot_be_used_is_named_without_a_traceback(address: str) -> None:
    with pytest.raises(UserError, match="storage: found a database that cannot be used"):
        open_study(address, SPACE, controller("random", SPACE, seed=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_is_begun_again_does_not_draw_the_same_again(kind: str) -> None:
    storage, looked = optuna.storages.InMemoryStorage(), []

    def look(trial: Trial) -> float:
        looked.append(ask(SPACE, trial))
        return 0.5

    for _ in range(4):
        open_study(storage, SPACE, controller(kind, SPACE, seed=0)).optimize(look, n_trials=3)
    assert len(set(looked)) >= 11

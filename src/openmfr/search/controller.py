"""Who chooses the next candidate: controllers, as samplers of Optuna.

Optuna keeps the trials, lets many workers share them, and goes on after a kill. A controller keeps
nothing that matters: what it knows, it rebuilds from the finished trials, in the order in which
they ended. So workers that share a storage share what was learnt, and none overwrites another's
update; a policy that lay in the storage lost 1 of 200 of them.

All controllers decide about a whole architecture when its trial begins, and answer as
`Space.build` asks. Those of ours propose nothing twice, as long as they find something new: a score
is the same however often it is asked for.

    study = open_study("search.log", space, controller("policy", space, seed=0))
    study.optimize(lambda trial: reward_of(ask(space, trial)), n_trials=100)
"""

from __future__ import annotations

import random
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, get_args

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, PercentilePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from openmfr.errors import UserError, nearest
from openmfr.models.ridnet import Architecture
from openmfr.search.policy import Episode, Policy, PolicyConfig
from openmfr.search.space import Decisions, Option, Space

ControllerKind = Literal["policy", "random", "tpe", "evolution"]
IsWanted = Callable[[Architecture], bool]

#: Name of a study in its storage, and of what it says of its space.
STUDY, _SPACE = "openmfr search", "openmfr.space"

#: Regularised evolution: how many of the youngest live, and how many of them compete.
_POPULATION, _TOURNAMENT = 32, 8

#: How often a controller is asked for something new; a space may be tried out.
_PROPOSALS = 100

#: How often a database asks its workers for a sign of life, and how long it waits, in seconds.
_HEARTBEAT, _PATIENCE = 30, 120


def controller(
    kind: str, space: Space, *, seed: int, is_wanted: IsWanted | None = None
) -> BaseSampler:
    """Make a controller.

    Args:
        kind: "policy", "random", "tpe" or "evolution".
        space: What it chooses from.
        seed: The same seed and the same finished trials give the same next one.
        is_wanted: Says whether a candidate is worth training. What is not is proposed anew, up to
            100 times; "tpe", whose proposals Optuna makes, cannot be asked again.

    Raises:
        UserError: If there is none of that name.
    """
    if kind == "policy":
        return PolicySampler(space, seed=seed, is_wanted=is_wanted)
    if kind == "random":
        return RandomSampler(space, seed=seed, is_wanted=is_wanted)
    if kind == "evolution":
        return EvolutionSampler(space, seed=seed, is_wanted=is_wanted)
    if kind == "tpe":
        return ParzenSampler(seed=seed)
    kinds = get_args(ControllerKind)
    raise UserError(
        where="controller",
        found=kind,
        allowed=", ".join(kinds),
        next_step=nearest(kind, kinds),
    )


def ask(space: Space, trial: Trial) -> Architecture:
    """Have a trial's controller choose an architecture."""

    def choose(name: str, options: tuple[Option, ...]) -> Option:
        answer: Any = trial.suggest_categorical(name, options)
        return options[options.index(answer)]

    return space.build(choose)


def open_study(storage: str | BaseStorage, space: Space, sampler: BaseSampler) -> Study:
    """Begin a search, or go on with it; many processes may have one open.

    Args:
        storage: A journal file, which is made; or a database by its address
            (`postgresql://…`), or a storage of Optuna.
        space: What is searched.
        sampler: The controller; each process, and each continuation, may have another.

    Raises:
        UserError: If another space was searched there.
    """
    study = optuna.create_study(
        storage=_open_storage(storage) if isinstance(storage, str) else storage,
        sampler=sampler,
        pruner=_pruner(),
        study_name=STUDY,
        direction="maximize",
        load_if_exists=True,
    )
    found = study.user_attrs.get(_SPACE)
    if found is None and not study.trials:
        study.set_user_attr(_SPACE, space.fingerprint)
    elif found != space.fingerprint:
        raise UserError(
            where="storage",
            found=f"a search of another space ({found})",
            allowed=f"a new one, or one of this space ({space.fingerprint})",
            next_step="name another storage, or give the space that was searched there",
        )
    return study


def _open_storage(address: str) -> BaseStorage:
    if "://" not in address:
        return JournalStorage(JournalFileBackend(address))
    # The driver that the gallery uses, too: SQLAlchemy's default was another one for long.
    address = address.replace("postgresql://", "postgresql+psycopg://", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, since 2021
        try:
            return RDBStorage(
                address,
                engine_kwargs={"poolclass": NullPool},  # none idles while a candidate trains
                heartbeat_interval=_HEARTBEAT,
                grace_period=_PATIENCE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise UserError(
                where="storage",
                found=f"a database that cannot be used ({str(cause).splitlines()[0]})",
                allowed="a file, or the address of a database, as postgresql://user@host/name",
                next_step="correct the address, or start its server",
            ) from error


def _pruner() -> BasePruner:
    """Stops the worst quarter, once there is something to compare with."""
    return PercentilePruner(75.0, n_startup_trials=16, n_min_trials=8)


class OneByOneSampler(BaseSampler):
    """A controller that answers each decision when it is asked for it."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Say that all is decided one by one."""
        del study, trial
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Decide nothing."""
        del study, trial, search_space
        return {}


class SpaceSampler(OneByOneSampler):
    """A controller that decides about a whole architecture at once.

    Args:
        space: What it chooses from.
        seed: Together with a trial's number, of everything that is drawn for it.
        is_wanted: Says whether a candidate is worth training; all are by default.
    """

    def __init__(self, space: Space, *, seed: int, is_wanted: IsWanted | None = None) -> None:
        self.space = space
        self.seed = seed
        self._is_wanted = is_wanted or (lambda _: True)
        self._proposals: dict[int, Decisions] = {}

    @abstractmethod
    def propose(self, finished: Sequence[FrozenTrial], rng: random.Random) -> Decisions:
        """Decide about the next architecture.

        Args:
            finished: Trials with a value, in the order in which they ended.
            rng: For whatever is drawn.
        """

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Decide about all of a trial's architecture."""
        rng = random.Random(f"{self.seed} {trial.number}")
        finished, tried = finished_trials(study), self._tried(study)
        for _ in range(_PROPOSALS):
            proposal = self.propose(finished, rng)
            proposed = self._architecture(proposal)
            if proposed not in tried and self._is_wanted(proposed):
                break
        self._proposals[trial.number] = proposal

    def _tried(self, study: Study) -> set[Architecture]:
        """Architectures that have a value, or may get one."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        tried = set()
        for trial in study.get_trials(deepcopy=False, states=states):
            with suppress(KeyError):  # another process is just deciding about it
                tried.add(self._architecture(trial.params))
        return tried

    def _architecture(self, made: Decisions) -> Architecture:
        return self.space.build(lambda name, _: made[name])

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Answer one decision."""
        del study, param_distribution
        return self._proposals[trial.number][param_name]

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Forget what was decided."""
        del study, state, values
        self._proposals.pop(trial.number, None)


class RandomSampler(SpaceSampler):
    """Every decision evenly among its options."""

    def propose(self, finished: Sequence[FrozenTrial], rng: random.Random) -> Decisions:  # noqa: ARG002
        """Draw."""
        return self.space.decisions_of(self.space.sample(rng))


class EvolutionSampler(SpaceSampler):
    """Regularised evolution: the best of a few of the youngest, with one decision changed.

    Source:
        https://arxiv.org/abs/1802.01548, Algorithm 1.
    """

    def propose(self, finished: Sequence[FrozenTrial], rng: random.Random) -> Decisions:
        """Draw until there is a population; then mutate the winner of a tournament."""
        if len(finished) < _POPULATION:
            return self.space.decisions_of(self.space.sample(rng))
        rivals = rng.sample(list(finished[-_POPULATION:]), _TOURNAMENT)
        winner = max(rivals, key=_value)
        parent = self.space.build(lambda name, _: winner.params[name])
        return self.space.decisions_of(self.space.mutate(parent, rng))


class ParzenSampler(OneByOneSampler):
    """Optuna's tree-structured Parzen estimator, whose draws follow from a trial's number.

    Optuna's own begins with the same draws in every worker, and again whenever one is started.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Ask Optuna's."""
        seed = random.Random(f"{self.seed} {trial.number} {param_name}").getrandbits(32)
        sampler = TPESampler(seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class PolicySampler(SpaceSampler):
    """Reinforcement learning: a policy that makes one decision after the other.

    It is updated after every `batch` finished trials. What it has learnt of the first trials is
    kept as long as those stay the first; otherwise it learns all of them anew.

    Args:
        space: What it chooses from.
        seed: Of its first weights and of its draws.
        config: How it learns.
        is_wanted: As for all.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        config: PolicyConfig | None = None,
        is_wanted: IsWanted | None = None,
    ) -> None:
        super().__init__(space, seed=seed, is_wanted=is_wanted)
        self.config = config or PolicyConfig()
        self._policy = Policy(space.decisions(), self.config, seed=seed)
        self._learnt: list[int] = []

    def propose(self, finished: Sequence[FrozenTrial], rng: random.Random) -> Decisions:
        """Learn what there is to learn; then draw from the policy."""
        self._replay(finished)
        made: dict[str, Option] = {}
        turn = self._policy.begin()

        def choose(name: str, options: tuple[Option, ...]) -> Option:  # noqa: ARG001
            made[name] = turn.draw(name, rng)
            return made[name]

        self.space.build(choose)
        return made

    @property
    def entropy(self) -> float:
        """Mean entropy of the last update's decisions, in nats; 0 before the first one."""
        return self._policy.entropy

    @property
    def updates(self) -> int:
        """How often the policy has learnt."""
        return len(self._learnt) // self.config.batch

    def _replay(self, finished: Sequence[FrozenTrial]) -> None:
        size = self.config.batch
        numbers = [trial.number for trial in finished[: len(finished) // size * size]]
        if self._learnt != numbers[: len(self._learnt)]:
            self._policy = Policy(self.space.decisions(), self.config, seed=self.seed)
            self._learnt = []
        for start in range(len(self._learnt), len(numbers), size):
            batch = finished[start : start + size]
            self._policy.learn([Episode(trial.params, _value(trial)) for trial in batch])
        self._learnt = numbers


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Trials with a value, those that were stopped early too, in the order in which they ended."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=states)
    valued = [trial for trial in trials if trial.values]
    return sorted(valued, key=lambda trial: (trial.datetime_complete, trial.number))


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value

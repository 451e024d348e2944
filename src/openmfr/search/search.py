"""A search: propose, train briefly, reward, and again; alone or with other workers.

All that matters is in the storage: trials, their decisions and rewards. The folder holds what the
search is (`search.json`), by default the storage (`search.log`), scores of candidates (`scores`),
and what was found. So the same command goes on after a kill, and the same command given several
times makes several workers.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState

from openmfr.config import to_dict
from openmfr.errors import UserError, check_fields
from openmfr.files import (
    check_format_version,
    check_same_settings,
    prepare_folder,
    read_json,
    taken_folder,
    write_json,
)
from openmfr.models.ridnet import Architecture, Definition, Origin, write_definition
from openmfr.run import progress
from openmfr.search.controller import (
    ControllerKind,
    PolicySampler,
    ask,
    controller,
    finished_trials,
    open_study,
)
from openmfr.search.finals import run_finals
from openmfr.search.latency import LatencyTable
from openmfr.search.parts import cost_of
from openmfr.search.proxy import Proxy
from openmfr.search.report import SearchSummary
from openmfr.search.results import candidates_of, finalists_of
from openmfr.search.reward import Reward
from openmfr.search.space import Space
from openmfr.search.workers import CONTROLLER, Worker, decisions_of, running, working

SEARCH_FILE, LOG_FILE, BEST_FILE = "search.json", "search.log", "best.json"
SCORES, WORKERS, FINALS = "scores", "workers", "finals"
FORMAT_VERSION: Final = 1

#: What a study says of everything but its space that determines a reward.
_TASK: Final = "openmfr.task"
#: Who chose a candidate that no controller did.
_GIVEN: Final = "given"
#: Finished candidates from which it is guessed how far one would have come that was stopped.
_ENOUGH: Final = 8
#: Times the target: where a hard price takes more than any candidate could be better by.
_FAR: Final = 1.1


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is searched for, and how.

    Attributes:
        controller: Who chooses.
        trials: Candidates, of all workers together.
        finals: How many of each controller's best are then trained longer, to choose among them; 0
            for none.
        target_macs: Multiply-adds of an image that a candidate should have.
        target_ms: Or milliseconds that it should take on one thread in ONNX Runtime.
        alpha: How cost weighs; see `Reward`.
        is_stopping: Whether hopeless candidates are stopped early.
        seed: Of the controller; the proxy has its own.
    """

    controller: ControllerKind = "evolution"
    trials: int = 200
    finals: int = 4
    target_macs: float | None = None
    target_ms: float | None = None
    alpha: Literal["soft", "hard"] = "soft"
    is_stopping: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "trials": (self.trials >= 1, "from 1"),
            "finals": (self.finals >= 0, "from 0"),
            "seed": (self.seed >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="leave it out")
        if (self.target_macs is None) == (self.target_ms is None):
            raise UserError(
                where="target",
                found="none" if self.target_macs is None else "--target-macs and --target-ms",
                allowed="--target-macs or --target-ms",
                next_step="say what a network may cost",
            )

    @property
    def reward(self) -> Reward:
        """The reward of an accuracy at a cost."""
        target = self.target_macs if self.target_ms is None else self.target_ms
        assert target is not None
        return Reward.of_kind(self.alpha, target)


class Search:
    """One worker of a search.

    Args:
        out: The search's folder.
        space: What to choose from.
        proxy: What scores a candidate; its cache is set to the folder's unless it has one.
        config: What for.
        storage: Address of the trials; a journal file in the folder by default.
        latencies: Measured layers, where the target is a time.

    Raises:
        UserError: If another search was begun in the folder or in the storage.
    """

    def __init__(
        self,
        out: Path,
        *,
        space: Space,
        proxy: Proxy,
        config: SearchConfig,
        storage: str | None = None,
        latencies: LatencyTable | None = None,
    ) -> None:
        self.out = out
        self.space = space
        self.proxy = proxy
        self.config = config
        self.latencies = latencies
        # Flat, so that an error names the one that differs.
        self.settings: dict[str, Any] = {
            "space": space.fingerprint,
            "store and labels": proxy.data_fingerprint,
            **{f"proxy.{name}": value for name, value in to_dict(proxy.config).items()},
            **{f"reward.{name}": value for name, value in to_dict(config.reward).items()},
            "cost": "macs" if config.target_ms is None else "latency_ms",
        }
        proxy.cache = proxy.cache or out / SCORES
        self._claim_folder()
        self.sampler: BaseSampler = controller(
            config.controller, space, seed=config.seed, is_wanted=self._is_wanted
        )
        self.study = open_study(storage or str(out / LOG_FILE), space, self.sampler)
        # Of an address only what is no secret.
        self.log = LOG_FILE if storage is None else storage.rpartition("@")[2].partition("?")[0]
        self._claim_study()

    def _claim_folder(self) -> None:
        """Say what is searched in the folder, or check that it is this."""
        file = self.out / SEARCH_FILE
        with taken_folder(self.out, mark=SEARCH_FILE, what="search"):
            if not file.exists():
                prepare_folder(self.out, mark=SEARCH_FILE, what="search")
                content = {
                    "format_version": FORMAT_VERSION,
                    "kind": "search",
                    "settings": self.settings,
                    "space": to_dict(self.space),
                }
                write_json(file, content)
        found = read_json(file, what="search", required=("settings",))
        check_format_version(found, path=file, supported=FORMAT_VERSION)
        check_same_settings(self.out, found["settings"], self.settings)

    def _claim_study(self) -> None:
        wanted: Mapping[str, Any] = {k: v for k, v in self.settings.items() if k != "space"}
        found = self.study.user_attrs.get(_TASK)
        if found is None:
            self.study.set_user_attr(_TASK, wanted)
        else:
            check_same_settings(Path("storage"), found, wanted)

    def run(self, *, start: Sequence[Architecture] = ()) -> Study:
        """Work until there are enough trials; those of other workers count.

        Args:
            start: What to look at before anything is proposed; each once, however often given.

        Returns:
            The study.

        Raises:
            UserError: If one of them is no member of the space.
        """
        for architecture in start:
            self._enqueue(dict(self.space.decisions_of(architecture)))
        with working(self.out / WORKERS) as worker:
            worker.take_up_lost(self.study)
            done = len(finished_trials(self.study))
            total = self.config.trials
            with progress("search", total=total, unit="candidates", done=done) as advance:
                while not self._is_enough():
                    self.study.optimize(lambda trial: self._try(trial, worker), n_trials=1)
                    worker.take_up_lost(self.study)
                    now = len(finished_trials(self.study))
                    advance(now - done, self._note())
                    done = now
        self._run_finals()
        return self.study

    def _enqueue(self, decisions: dict[str, Any]) -> None:
        """Have a given candidate looked at, unless it is, was, or is about to be."""
        # Not Optuna's `skip_if_exists`, which takes one that was interrupted for one that is done.
        alive = self.study.get_trials(
            deepcopy=False, states=[state for state in TrialState if state != TrialState.FAIL]
        )
        if all(decisions_of(trial) != decisions for trial in alive):
            self.study.enqueue_trial(decisions, user_attrs={CONTROLLER: _GIVEN})

    def _run_finals(self) -> None:
        """Train the best longer, unless candidates of other workers are still to come."""
        if not self.config.finals or running(self.study):
            return
        finalists = finalists_of(self.summary().candidates, self.config.finals)
        locks = self.out / FINALS
        run_finals(self.study, finalists, self.proxy, reward=self.config.reward, locks=locks)

    def summary(self) -> SearchSummary:
        """What was found so far, by all workers."""
        cost = str(self.settings["cost"])
        return SearchSummary(
            candidates=tuple(candidates_of(self.study, self.space, cost=cost)),
            reward=self.config.reward,
            cost=cost,
        )

    def write_best(self, *, command: str) -> Path:
        """Write the best architecture so far, and what found it.

        Args:
            command: As the user gave it.

        Returns:
            Path of its JSON file.
        """
        path = self.out / BEST_FILE
        origin = Origin(command=command, seed=self.config.seed, log=self.log)
        best = self.summary().best[0].architecture
        write_definition(path, Definition(architecture=best, origin=origin))
        return path

    def _is_wanted(self, architecture: Architecture) -> bool:
        """Whether a candidate may be among the best: a hard price leaves those far above no chance.

        A latency is not looked at: it would have to be measured for each that is only proposed.
        """
        target = self.config.target_macs
        if self.config.alpha == "soft" or target is None:
            return True
        return cost_of(architecture).macs <= _FAR * target

    def _is_enough(self) -> bool:
        """Whether all is done, or others are doing the rest."""
        return len(finished_trials(self.study)) + len(running(self.study)) >= self.config.trials

    def _note(self) -> str:
        return f"best reward {self.study.best_value:.4f}" if finished_trials(self.study) else ""

    def _try(self, trial: Trial, worker: Worker) -> float:
        worker.claim(trial)
        architecture = ask(self.space, trial)
        cost = self._describe(trial, architecture)
        reward = self.config.reward

        def report(step: int, accuracy: float) -> bool:
            trial.report(reward(accuracy=accuracy, cost=cost), step)
            return not (self.config.is_stopping and trial.should_prune())

        score = self.proxy.score(architecture, report=report)
        trial.set_user_attr("accuracy", score.accuracy)
        trial.set_user_attr("seconds", score.seconds)
        if score.reason:
            trial.set_user_attr("reason", score.reason)
        value = reward(accuracy=score.accuracy, cost=cost)
        if not score.is_stopped:
            return value
        # A pruned trial has the value that was reported last.
        end = self.proxy.config.steps
        trial.report(value + gain_to_the_end(self.study, step=score.steps, end=end), end)
        raise optuna.TrialPruned

    def _describe(self, trial: Trial, architecture: Architecture) -> float:
        """Write down what a trial's candidate is and costs; return the cost that is rewarded."""
        found = cost_of(architecture)
        about: dict[str, Any] = {
            "architecture": architecture.fingerprint,
            "macs": found.macs,
            "params": found.params,
            CONTROLLER: trial.user_attrs.get(CONTROLLER, self.config.controller),
            "seed": self.config.seed,
        }
        if isinstance(self.sampler, PolicySampler) and self.sampler.updates:
            about |= {"updates": self.sampler.updates, "entropy": self.sampler.entropy}
        if self.latencies is not None:
            about["latency_ms"] = self.latencies.predict(architecture)
        for name, value in about.items():
            trial.set_user_attr(name, value)
        return float(about[str(self.settings["cost"])])


def gain_to_the_end(study: Study, *, step: int, end: int) -> float:
    """Guess how much a candidate's reward would still have risen, as that of the others did.

    Without it, a candidate that was stopped would teach a controller that it is worse by far than
    it is.

    Args:
        study: With trials that were not stopped.
        step: At which it was stopped.
        end: The last step.

    Returns:
        The median gain of finished trials between the two; 0 if there are too few.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    gains = [
        trial.intermediate_values[end] - trial.intermediate_values[step]
        for trial in finished
        if {step, end} <= trial.intermediate_values.keys()
    ]
    return statistics.median(gains) if len(gains) >= _ENOUGH else 0.0

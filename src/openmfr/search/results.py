"""What a search has found so far, read from its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from openmfr.models.ridnet import Architecture
from openmfr.search.controller import finished_trials
from openmfr.search.space import Space


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate that was tried.

    Attributes:
        trial: Its number.
        architecture: What it is.
        reward: What it was worth.
        accuracy: By the proxy, 0 to 1.
        cost: In the unit of the target.
        macs: Multiply-adds of an image.
        params: Parameters.
        controller: Who chose it.
        seconds: That its score took.
        is_stopped: Whether its training was stopped early; its accuracy is then what it had, and
            its reward a guess.
        reason: Why it could not be trained; empty otherwise.
        updates: How often the policy had learnt; None for other controllers, and before the first.
        entropy: Mean entropy of the policy's decisions in its last update, in nats.
    """

    trial: int
    architecture: Architecture
    reward: float
    accuracy: float
    cost: float
    macs: int
    params: int
    controller: str
    seconds: float
    is_stopped: bool
    reason: str = ""
    updates: int | None = None
    entropy: float | None = None


def candidates_of(study: Study, space: Space, *, cost: str) -> list[Candidate]:
    """Read the candidates that have a reward, in the order in which they were finished.

    Args:
        study: The search.
        space: That it searches.
        cost: Which of a trial's costs counts: "macs" or "latency_ms".
    """
    return [_candidate(trial, space, cost) for trial in finished_trials(study)]


def _candidate(trial: FrozenTrial, space: Space, cost: str) -> Candidate:
    about = trial.user_attrs
    assert trial.value is not None
    return Candidate(
        trial=trial.number,
        architecture=space.build(lambda name, _: trial.params[name]),
        reward=trial.value,
        accuracy=about["accuracy"],
        cost=about[cost],
        macs=about["macs"],
        params=about["params"],
        controller=about["controller"],
        seconds=about["seconds"],
        is_stopped=trial.state == TrialState.PRUNED,
        reason=about.get("reason", ""),
        updates=about.get("updates"),
        entropy=about.get("entropy"),
    )


def best_of(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The different candidates of the highest rewards that were trained to the end, best first."""
    whole = [found for found in candidates if not found.is_stopped and not found.reason]
    different = {found.architecture: found for found in reversed(whole)}
    return sorted(different.values(), key=lambda found: -found.reward)[:count]


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates than which none is both cheaper and more accurate, the cheapest first."""
    front: list[Candidate] = []
    whole = [found for found in candidates if not found.is_stopped and not found.reason]
    for found in sorted(whole, key=lambda found: (found.cost, -found.accuracy)):
        if not front or found.accuracy > front[-1].accuracy:
            front.append(found)
    return front

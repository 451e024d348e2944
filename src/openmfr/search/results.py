"""What a search has found so far, read from its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from openmfr.models.ridnet import Architecture
from openmfr.search.controller import finished_trials
from openmfr.search.space import Space

#: What a study says of a finalist, followed by its fingerprint.
FINAL: Final = "openmfr.final."


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
        final_accuracy: After a longer training, as a finalist; None for others.
        final_reward: Its reward then.
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
    final_accuracy: float | None = None
    final_reward: float | None = None


def candidates_of(study: Study, space: Space, *, cost: str) -> list[Candidate]:
    """Read the candidates that have a reward, in the order in which they were finished.

    Args:
        study: The search.
        space: That it searches.
        cost: Which of a trial's costs counts: "macs" or "latency_ms".
    """
    finals = study.user_attrs
    return [_candidate(trial, space, cost, finals) for trial in finished_trials(study)]


def _candidate(trial: FrozenTrial, space: Space, cost: str, finals: Mapping[str, Any]) -> Candidate:
    about = trial.user_attrs
    final = finals.get(f"{FINAL}{about['architecture']}", {})
    if final.get("reason"):  # diverged: no finalist, whatever its brief training was
        final = {}
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
        final_accuracy=final.get("accuracy"),
        final_reward=final.get("reward"),
    )


def best_of(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The different candidates of the highest rewards that were trained to the end, best first.

    Finalists stand before the others, in the order of their longer trainings.
    """
    different = _different(candidates)
    finalists = [found for found in different if found.final_reward is not None]
    others = [found for found in different if found.final_reward is None]
    finalists.sort(key=lambda found: -(found.final_reward or 0.0))
    others.sort(key=lambda found: -found.reward)
    return [*finalists, *others][:count]


def finalists_of(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Whom to train longer: the best of each controller by their brief trainings.

    Of each, so that controllers are compared as fairly by what they found as by how fast.
    """
    different = sorted(_different(candidates), key=lambda found: -found.reward)
    kinds = dict.fromkeys(found.controller for found in different)
    return [
        found
        for kind in kinds
        for found in [one for one in different if one.controller == kind][:count]
    ]


def _different(candidates: Sequence[Candidate]) -> list[Candidate]:
    whole = [found for found in candidates if not found.is_stopped and not found.reason]
    return list({found.architecture: found for found in reversed(whole)}.values())


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates than which none is both cheaper and more accurate, the cheapest first."""
    front: list[Candidate] = []
    whole = [found for found in candidates if not found.is_stopped and not found.reason]
    for found in sorted(whole, key=lambda found: (found.cost, -found.accuracy)):
        if not front or found.accuracy > front[-1].accuracy:
            front.append(found)
    return front

"""Whether what was measured bears out what the paper says, in one word and with its interval.

Two things make a difference between arms uncertain: the test's people, and the trainings' seeds.
The first is drawn again and again, the same people for both arms; the second is estimated from how
far apart the trainings of one arm lie, pooled over the arms of the table. One interval has both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from openmfr.evaluation.intervals import Measured
from openmfr.reproduce.experiment import Claim, Experiment, Figure
from openmfr.reproduce.outcome import Outcome

FloatArray = npt.NDArray[np.float64]
#: Arm → its trainings by seed.
Outcomes = Mapping[str, Mapping[int, Outcome]]

Word = Literal[
    "agreed",
    "not seen at this scale",
    "contradicted",
    "agreed with one seed",
    "contradicted with one seed",
    "not measured",
]

CONFIDENCE = 0.95
#: Share of the draws of people in which a rate must be defined.
_LEAST_DRAWS = 0.9
_ONE_SEED = "one seed: what trainings differ by is not in the interval"
_BORROWED = "trained once: how far apart trainings lie was taken from other arms"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: The claim.
        paper: By how much the paper's better arm has fewer errors; None where it has no figures.
        ours: The same of ours, with an interval.
        word: Whether ours agrees.
    """

    claim: Claim
    paper: float | None
    ours: Measured
    word: Word

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """Make it again from what `to_json` returned."""
        claim, ours = Claim(**content["claim"]), Measured(**content["ours"])
        return cls(claim=claim, paper=content["paper"], ours=ours, word=content["word"])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "claim": vars(self.claim),
            "paper": self.paper,
            "ours": vars(self.ours),
            "word": self.word,
        }


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far apart trainings of one arm lie.

    Attributes:
        variance: Of one training's figure, pooled over arms.
        freedom: From how many differences it was estimated; 0 if from none.
    """

    variance: float
    freedom: int

    @classmethod
    def of(cls, outcomes: Outcomes, figure: Figure) -> Spread:
        """Estimate it from all arms that were trained more than once.

        Arms of one recipe, which share their trainings, count once.
        """
        squares, freedom = 0.0, 0
        arms = {
            tuple(o.value[figure] for o in trainings.values() if figure in o.value)
            for trainings in outcomes.values()
        }
        for values in arms:
            if len(values) > 1:
                squares += float(np.var(values) * len(values))
                freedom += len(values) - 1
        return cls(variance=squares / freedom if freedom else 0.0, freedom=freedom)

    def widened(self, trainings: float) -> float:
        """Variance of a mean of trainings, widened as it is itself an estimate."""
        if not self.freedom:
            return 0.0
        tail = (1 + CONFIDENCE) / 2
        factor = float(t.ppf(tail, self.freedom) / norm.ppf(tail))
        return factor**2 * self.variance / trainings


def verdicts(experiment: Experiment, outcomes: Outcomes) -> list[Verdict]:
    """Judge all claims of an experiment.

    Args:
        experiment: Its claims.
        outcomes: What was trained so far; an arm may be missing.
    """
    return [_judge(experiment, claim, outcomes) for claim in experiment.claims]


def _judge(experiment: Experiment, claim: Claim, outcomes: Outcomes) -> Verdict:
    better, than = (experiment.arm(name) for name in (claim.better, claim.than))
    printed = [arm.with_both().get(claim.figure) for arm in (better, than)]
    paper = None if None in printed else float(printed[1] or 0) - float(printed[0] or 0)
    ours = gain(claim, outcomes)
    has_spread = Spread.of(outcomes, claim.figure).freedom > 0
    return Verdict(claim=claim, paper=paper, ours=ours, word=_word(ours, has_spread=has_spread))


def _word(gain: Measured, *, has_spread: bool) -> Word:
    if gain.value is None or gain.low is None or gain.high is None:
        return "not measured"
    if gain.low > 0:
        return "agreed" if has_spread else "agreed with one seed"
    if gain.high < 0:
        return "contradicted" if has_spread else "contradicted with one seed"
    return "not seen at this scale"


def gain(claim: Claim, outcomes: Outcomes) -> Measured:
    """By how much the claim's better arm has fewer errors, over the seeds that both have."""
    better, than = (outcomes.get(name, {}) for name in (claim.better, claim.than))
    figure = claim.figure
    seeds = [s for s in better if s in than and figure in better[s].value]
    if not seeds:
        return Measured(value=None, flag="not trained yet, or no such test faces")
    value = [than[s].value[figure] - better[s].value[figure] for s in seeds]
    drawn = np.mean([than[s].drawn[figure] - better[s].drawn[figure] for s in seeds], axis=0)
    spread = Spread.of(outcomes, figure)
    found = _measured(float(np.mean(value)), drawn, spread, spread.widened(len(seeds) / 2))
    is_borrowed = len(seeds) == 1 and found.value is not None and not found.flag
    return replace(found, flag=_BORROWED) if is_borrowed else found


def average(trainings: Sequence[Outcome], figure: Figure, outcomes: Outcomes) -> Measured:
    """Mean of an arm's trainings."""
    found = [outcome for outcome in trainings if figure in outcome.value]
    if not found:
        return Measured(value=None, flag="not measured")
    value = float(np.mean([outcome.value[figure] for outcome in found]))
    drawn = np.mean([outcome.drawn[figure] for outcome in found], axis=0)
    spread = Spread.of(outcomes, figure)
    return _measured(value, drawn, spread, spread.widened(len(found)))


def _measured(value: float, drawn: FloatArray, spread: Spread, variance: float) -> Measured:
    if not math.isfinite(value) or np.isfinite(drawn).mean() < _LEAST_DRAWS:
        return Measured(value=None, flag="too few impostor pairs for this rate")
    flag = "" if spread.freedom else _ONE_SEED
    error = math.sqrt(float(np.nanvar(drawn)) + variance)
    if flag and not error:
        return Measured(value=value, flag=flag)  # of a time, people say nothing
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Measured(value=value, low=value - reach, high=value + reach, flag=flag)

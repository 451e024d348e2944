"""How good a candidate is: its accuracy, weighed by what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from openmfr.errors import UserError, raise_together


@dataclass(frozen=True, kw_only=True)
class Reward:
    """R = accuracy · (cost / target)^α.

    *Soft*: α is the same on both sides of the target, so that candidates on either side trade
    accuracy for cost, twice the cost for 5 % of accuracy. *Hard*: within the target, cost does not
    count; above it, it counts nearly alone.

    Attributes:
        target: Of the cost, in its own unit: multiply-adds or milliseconds.
        alpha_within: Exponent for a cost up to the target, 0 or less.
        alpha_above: Exponent for a cost above it, 0 or less.

    Source:
        MFR paper, §2.4; MnasNet, https://arxiv.org/abs/1807.11626, §3: soft α = −0.07, hard 0
        and −1.
    """

    target: float
    alpha_within: float = -0.07
    alpha_above: float = -0.07

    def __post_init__(self) -> None:
        faults = []
        if not (math.isfinite(self.target) and self.target > 0):
            faults.append(_fault("target", self.target, "numbers above 0"))
        faults += [
            _fault(name, getattr(self, name), "0 and numbers below: cost must not be rewarded")
            for name in ("alpha_within", "alpha_above")
            if not -math.inf < getattr(self, name) <= 0
        ]
        raise_together(faults)

    @classmethod
    def of_kind(cls, kind: Literal["soft", "hard"], target: float) -> Reward:
        """Build one of MnasNet's two.

        Example:
            >>> Reward.of_kind("hard", 100.0)(accuracy=0.8, cost=90.0)
            0.8
        """
        if kind == "soft":
            return cls(target=target)
        return cls(target=target, alpha_within=0.0, alpha_above=-1.0)

    def __call__(self, *, accuracy: float, cost: float) -> float:
        """Compute the reward.

        Args:
            accuracy: 0 to 1, the larger the better.
            cost: In the target's unit, above 0.

        Example:
            >>> soft = Reward(target=100.0)
            >>> [round(soft(accuracy=0.8, cost=cost), 3) for cost in (50.0, 100.0, 200.0)]
            [0.84, 0.8, 0.762]
        """
        if not (0 <= accuracy <= 1 and cost > 0):
            raise ValueError(f"accuracy {accuracy} and cost {cost} of a candidate")
        alpha = self.alpha_within if cost <= self.target else self.alpha_above
        return float(accuracy * (cost / self.target) ** alpha)


def _fault(where: str, found: float, allowed: str) -> UserError:
    return UserError(
        where=f"reward.{where}", found=f"{found:g}", allowed=allowed, next_step="correct it"
    )

"""How a mask is worn: how much of the nose it covers, how wide, loose and askew it sits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, cast, get_args

import numpy as np

from openmfr.errors import UserError, nearest
from openmfr.masking.chance import check_weights, pick
from openmfr.masking.template import Outline

Coverage = Literal["high", "medium", "low", "below_nose", "chin"]

#: How far from the bridge of the nose the upper edge comes to lie, in eye spans. With a template
#: whose edge is at −0.25: the bridge, −0.05 its middle, 0.10 its tip, 0.24 its base, 0.55 the lip.
_SLIPPED: Final[dict[str, float]] = {
    "high": 0.0,
    "medium": 0.20,
    "low": 0.35,
    "below_nose": 0.49,
    "chin": 0.80,
}

#: How often each coverage is drawn by default.
COVERAGES: Final[Mapping[str, float]] = {
    "high": 0.42,
    "medium": 0.44,
    "low": 0.08,
    "below_nose": 0.04,
    "chin": 0.02,
}

# How far the upper edge comes down at the sides, where the loops hold it: really masked faces show
# it nearly straight when it has slipped to the middle of the nose.
_SLIPPED_SIDE: Final[dict[str, float]] = {
    "high": 0.0,
    "medium": 0.04,
    "low": 0.09,
    "below_nose": 0.16,
    "chin": 0.38,
}

# Shares of the upper edge's way that the lower edge goes, in its middle and at its ends.
_CHIN, _JAW = 0.25, 0.30

# The sheet keeps at least this height, however it has slipped.
_LEAST = 0.25


@dataclass(frozen=True, kw_only=True)
class Wear:
    """How one mask is worn; the defaults change nothing.

    Attributes:
        coverage: Where the upper edge lies: "high" on the bridge of the nose, "medium" on its
            middle, "low" on its tip, "below_nose", or "chin" below the mouth.
        lift: How much higher still the whole mask sits, eye spans, −0.3 to 0.3.
        width: Factor on its width, 0.6 to 1.5.
        slack: 0 is tight; 1 is loose: it stands off and sags.
        tilt: Radians; positive lowers its right end in the picture; −0.5 to 0.5.
    """

    coverage: Coverage = "high"
    lift: float = 0.0
    width: float = 1.0
    slack: float = 0.0
    tilt: float = 0.0

    def __post_init__(self) -> None:
        _check_coverage(self.coverage, "wear, coverage")
        ranges = {"lift": (-0.3, 0.3), "width": (0.6, 1.5), "slack": (0, 1), "tilt": (-0.5, 0.5)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    where=f"wear, {name}",
                    found=str(getattr(self, name)),
                    allowed=f"{low} to {high}",
                    next_step="leave it out for a mask that fits",
                )

    def outline(self, outline: Outline) -> Outline:
        """Say where a template's edges lie when it is worn so.

        Args:
            outline: How the template is usually worn.

        Example:
            >>> usual = Outline(nose=-0.25, side=0.0, chin=0.9, jaw=0.6, half_angle=1.1)
            >>> worn = Wear(coverage="low").outline(usual)
            >>> round(worn.nose, 2), round(worn.side, 3)
            (0.1, 0.09)
        """
        slip = _SLIPPED[self.coverage]
        sag = 0.04 * self.slack
        nose = outline.nose + slip - self.lift
        side = outline.side + _SLIPPED_SIDE[self.coverage] - self.lift + 0.5 * sag
        chin = outline.chin + _CHIN * slip - self.lift + sag
        jaw = outline.jaw + _JAW * slip - self.lift + sag
        return replace(
            outline,
            nose=nose,
            side=side,
            chin=max(chin, nose + _LEAST),
            jaw=max(jaw, side + _LEAST),
            half_angle=outline.half_angle * self.width,
            tilt=outline.tilt + self.tilt,
        )


def draw_wear(rng: np.random.Generator, coverages: Mapping[str, float] = COVERAGES) -> Wear:
    """Draw how a mask is worn.

    By default 42 % cover the bridge of the nose, 44 % its middle, 8 % end at its tip, 4 % below
    it, 2 % below the mouth. Heights vary by 0.035 eye spans, widths by 4 %, tilts by 0.035 radians
    (standard deviations); most are rather tight than loose.

    Args:
        rng: Source of randomness.
        coverages: Weight of each coverage, at least 0; those left out are never drawn.

    Raises:
        UserError: If a name is unknown, a weight is negative, or none is above 0.

    Example:
        >>> draw_wear(np.random.default_rng(2), {"chin": 1.0}).coverage
        'chin'
    """
    if coverages is not COVERAGES:  # which need no check for each image of a training
        for name in coverages:
            _check_coverage(name, "coverages")
        check_weights(coverages, "coverages")
    return Wear(
        coverage=cast("Coverage", pick(rng, coverages)),
        lift=_clipped(rng.normal(0, 0.035), -0.12, 0.12),
        width=_clipped(rng.normal(1, 0.04), 0.88, 1.12),
        slack=rng.beta(1.3, 2.6),
        tilt=_clipped(rng.normal(0, 0.035), -0.14, 0.14),
    )


def _clipped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)  # a tenth of what np.clip takes for one number


def _check_coverage(name: str, where: str) -> None:
    known = get_args(Coverage)
    if name not in known:
        raise UserError(
            where=where, found=name, allowed=", ".join(known), next_step=nearest(name, known)
        )

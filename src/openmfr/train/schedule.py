"""The learning rate at any moment of training: linear warm-up, then milestones or a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from openmfr.errors import UserError, nearest, raise_together

Shape = Literal["milestones", "cosine"]
SHAPES: tuple[str, ...] = get_args(Shape)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """When the learning rate moves; all moments are in epochs.

    The defaults are the paper's, with a warm-up of our own (MFR paper, §3.3; it names the
    milestones and the end, not the factor).

    Attributes:
        epochs: Length of training; may end within an epoch.
        warmup_epochs: The rate rises linearly from 0 for so long.
        shape: "milestones" multiplies the rate by `gamma` at each of them; "cosine" lowers it to 0.
        milestones: Epochs of the drops, ascending; unused by "cosine".
        gamma: Factor of each drop, above 0 to 1.
    """

    epochs: float = 17.0
    warmup_epochs: float = 1.0
    shape: Shape = "milestones"
    milestones: tuple[float, ...] = (5.0, 9.0, 12.0, 15.0)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        errors = []
        if self.shape not in SHAPES:
            errors.append(
                UserError(
                    where="schedule.shape",
                    found=repr(self.shape),
                    allowed=" or ".join(SHAPES),
                    next_step=nearest(self.shape, SHAPES),
                )
            )
        if not 0 < self.epochs < math.inf:
            errors.append(
                UserError(
                    where="schedule.epochs",
                    found=f"{self.epochs:g}",
                    allowed="above 0, finite",
                    next_step="train for at least a fraction of an epoch",
                )
            )
        if not 0 <= self.warmup_epochs <= self.epochs:
            errors.append(
                UserError(
                    where="schedule.warmup_epochs",
                    found=f"{self.warmup_epochs:g}",
                    allowed=f"0 to {self.epochs:g}, the length of training",
                    next_step="shorten the warm-up",
                )
            )
        if list(self.milestones) != sorted(self.milestones):
            errors.append(
                UserError(
                    where="schedule.milestones",
                    found=str(self.milestones),
                    allowed="ascending epochs",
                    next_step="sort them",
                )
            )
        if not 0 < self.gamma <= 1:
            errors.append(
                UserError(
                    where="schedule.gamma",
                    found=f"{self.gamma:g}",
                    allowed="above 0 to 1",
                    next_step="use 0.1",
                )
            )
        raise_together(errors)

    def factor(self, epoch: float) -> float:
        """Fraction of the peak learning rate at a moment.

        Args:
            epoch: Epochs done, 0 to `epochs`.

        Returns:
            0 to 1.

        Example:
            >>> schedule = ScheduleConfig()
            >>> [round(schedule.factor(e), 4) for e in (0.0, 0.5, 4.9, 5.0, 16.0)]
            [0.0, 0.5, 1.0, 0.1, 0.0001]
        """
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        if self.shape == "cosine":
            length = max(self.epochs - self.warmup_epochs, 1e-9)
            done = (epoch - self.warmup_epochs) / length
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return float(self.gamma ** sum(epoch >= milestone for milestone in self.milestones))

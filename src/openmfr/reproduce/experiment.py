"""What an experiment is: arms that are trained alike but for one thing, and what the paper says.

An arm is a recipe; a claim is a sentence of the paper about two arms. Nothing here trains or
measures: `runs` does that, and `verdicts` compares what comes out with the claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.train import TrainConfig

#: What a trained recogniser is measured on: masked faces with bare ones, bare ones with each other,
#: a quarter of the first and three quarters of the second (the challenge's ranking), masked ones
#: with each other, FNMR at FMR 1e-3 of all pairs; and the few really masked faces with bare ones,
#: at FMR 1e-2. The paper has FMR 1e-5 on its sets. And how long the training took: CPU seconds; in
#: the paper, days. Of all of them less is better.
Figure = Literal["masked", "bare", "both", "masked pairs", "really masked", "time"]
FIGURES: Final[tuple[Figure, ...]] = get_args(Figure)
#: Table 1 has the InsightFace track, Table 2 WebFace260M's.
TrackTable = Literal["1", "2"]
Number = TypeVar("Number", float, npt.NDArray[np.float64])

#: Share of the masked faces in "both".
MASKED_SHARE: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of training.

    Attributes:
        name: Short, unique within the experiment.
        config: The recipe; its seed is replaced by that of each run.
        paper: What the paper printed for it: false non-match rates, 0–1, and days.
        paper_text: What else it printed, on test sets that we do not have.
        start_from: The arm whose network it fine-tunes; None begins afresh.
        identities: Share of the training set's people that it sees, above 0 to 1.
        is_synthetic: Whether it is trained on synthetic faces in place of the training set.
        is_noisy: Whether its labels are the training set's with noise planted in them.
        cleaned_by: The arm whose network cleans those noisy labels; None leaves them as they are.
    """

    name: str
    config: TrainConfig
    paper: Mapping[Figure, float] = field(default_factory=dict)
    paper_text: str = ""
    start_from: str | None = None
    identities: float = 1.0
    is_synthetic: bool = False
    is_noisy: bool = False
    cleaned_by: str | None = None

    def with_both(self) -> Mapping[Figure, float]:
        """The paper's figures, with "both" where it has masked and bare faces.

        Example:
            >>> from openmfr.recipes import probe_real
            >>> arm = Arm(name="15 %", config=probe_real(), paper={"masked": 0.08, "bare": 0.02})
            >>> round(arm.with_both()["both"], 3)
            0.035
        """
        if not {"masked", "bare"} <= set(self.paper):
            return self.paper
        return {**self.paper, "both": both(self.paper["masked"], self.paper["bare"])}


def both(masked: Number, bare: Number) -> Number:
    """Rank as the challenge's WebFace260M track does.

    Args:
        masked: FNMR of masked faces, or an array of some.
        bare: FNMR of bare ones.

    Source:
        MFR paper, §3.2: 0.25 · All-Masked + 0.75 · All.
    """
    return MASKED_SHARE * masked + (1 - MASKED_SHARE) * bare


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence, mostly of the paper: one arm has fewer errors than another.

    Attributes:
        says: The sentence.
        better: Name of the arm with fewer errors.
        than: Name of the other one.
        figure: On what.
    """

    says: str
    better: str
    than: str
    figure: Figure


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table of the paper.

    Attributes:
        table: Its name: "T6".
        title: What it is about.
        arms: What is trained; an arm that others need stands before them.
        claims: What the paper says of them, or what is asked of those that are not in it.
        notes: What a reader must know: where the paper contradicts itself, what we changed.
        track: The table of the challenge whose published rows its arms stand beside, if any.

    Raises:
        UserError: If names are not unique, or one is used that no arm before it has.
    """

    table: str
    title: str
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    track: TrackTable | None = None

    def __post_init__(self) -> None:
        known: list[str] = []
        for arm in self.arms:
            for name in (arm.start_from, arm.cleaned_by):
                self._check(name is None or name in known, name)
            self._check(arm.name not in known, arm.name)
            known.append(arm.name)
        for claim in self.claims:
            for name in (claim.better, claim.than):
                self._check(name in known, name)

    def _check(self, is_right: bool, name: str | None) -> None:
        if not is_right:
            raise UserError(
                where=f"experiment {self.table}",
                found=f"arm {name}",
                allowed="names that are there once, before they are used",
                next_step="name the arms otherwise, or order them",
            )

    def arm(self, name: str) -> Arm:
        """Find an arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def shortened(self, epochs: float) -> Experiment:
        """The same with trainings of so many epochs, fine-tunings kept in proportion."""
        longest = max(arm.config.schedule.epochs for arm in self.arms)

        def shorter(arm: Arm) -> Arm:
            schedule = arm.config.schedule
            share = epochs * schedule.epochs / longest
            changed = replace(
                schedule,
                epochs=share,
                warmup_epochs=min(schedule.warmup_epochs, share / 4),
            )
            return replace(arm, config=replace(arm.config, schedule=changed))

        return replace(self, arms=tuple(map(shorter, self.arms)))

"""What a score means: the false match rate at it, as far as the measured pairs can say.

A recogniser's cosine of 0.4 is a coincidence for one model and a certainty for another, and for one
model it means less between two masked faces than between two bare ones. A calibration turns a score
into the share of impostor pairs that reach it, by condition (the kinds of the pairs: uu, mu, mm),
and a wanted rate into a threshold. It says of every answer on what it rests:

- *Measured*, down to the rate of ten false matches: the share of impostor pairs with at least this
  score, from a table of 50 steps in each decade. Between two steps the higher rate is given, so a
  threshold never lets through more of the measured pairs than was asked for.
- *Extrapolated*, down to a hundredth of that, or to where the threshold would leave the scores,
  above 1: log-linear, the rate falling by a factor e for each
  `scale` of score. The scale is the mean excess of the highest scores, the largest of those at
  several depths. Log rates of cosines bend downwards, as those of a normal distribution do, so a
  straight line is on the safe side, unless there are pairs of another sort in the far tail (twins,
  or one person under two names).
- Below that there is no answer but "at most this".

All of it holds for people who are to each other as the measured people are. A search compares a
probe with all N templates of a gallery; if these comparisons are independent, a person who is not
enrolled is found with FPIR = 1 − (1 − FMR)^N. They share the probe, so they are not: some faces
look like many others. If, for a given probe, the comparisons are independent at the probe's own
FMR, the true FPIR is lower than the formula's (Jensen: it is concave in the FMR), so thresholds
from it are on the safe side. With real faces of a training set, strangers asked for at 30 % were
found in galleries of 275 people at 22 % with one image each, at 18 % with four and at 9 % with
fifteen, which resemble each other (tests/evaluation/test_calibration.py).

Source:
    ISO/IEC 19795-1 (FPIR, FMR); Grother & Ngan, NISTIR 8009, 2014 (binomial model of a search).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from openmfr.errors import UserError, nearest
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.tails import Calibrated, Condition, fit_condition, read_condition
from openmfr.files import check_format_version, read_json, write_json

FORMAT_VERSION = 1

#: What a calibration's file is called beside its report.
FILE = "calibration.json"

#: Condition of pairs without a kind.
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From scores to false match rates and back, by condition.

    Attributes:
        conditions: By name: the kinds of the pairs, or "all" if they had none.
        model: Fingerprint of the model whose scores these are; empty if unknown.
    """

    conditions: Mapping[str, Condition]
    model: str = ""

    @classmethod
    def fit(
        cls,
        comparisons: Comparisons,
        *,
        model: str = "",
        replicates: int = 200,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> Calibration:
        """Learn from scored impostor pairs.

        Args:
            comparisons: The pairs; their kinds are the conditions.
            model: Fingerprint of the model that scored them.
            replicates: Draws of identities for the intervals; 0 gives none.
            confidence: Probability that the intervals are to cover.
            seed: Of the draws.

        Raises:
            UserError: If a condition has fewer than `MIN_IMPOSTORS` impostor pairs, or a score is
                not finite.
        """
        impostors = comparisons.only(~comparisons.is_genuine)
        kinds = {ALL} if impostors.kind is None else set(np.unique(impostors.kind).tolist())
        return cls(
            conditions={
                kind: fit_condition(
                    impostors if impostors.kind is None else impostors.only(impostors.kind == kind),
                    kind=kind,
                    replicates=replicates,
                    confidence=confidence,
                    seed=seed,
                )
                for kind in sorted(kinds)
            },
            model=model,
        )

    def fmr(self, score: float, condition: str = ALL) -> Calibrated:
        """Say how often two different people reach a score.

        Args:
            score: Cosine similarity.
            condition: What was compared: uu, mu or mm, or "all".

        Raises:
            UserError: If the score is not finite, or the condition was not calibrated.
        """
        if not np.isfinite(score):
            raise UserError(
                where="score", found=f"{score}", allowed="a finite number", next_step="embed again"
            )
        return self._condition(condition).at(float(score))

    def threshold(self, fmr: float, condition: str = ALL) -> Calibrated:
        """Find the smallest score whose false match rate is at most the one that is wanted.

        Args:
            fmr: Wanted false match rate, below 1, from the condition's `lowest`.
            condition: What is compared.

        Raises:
            UserError: If the rate is out of range, its threshold would be above 1, which no cosine
                reaches, or the condition was not calibrated.
        """
        chosen = self._condition(condition)
        if not chosen.reaches(fmr):
            raise UserError(
                where="fmr",
                found=f"{fmr:g} for condition {condition}",
                allowed=f"from {chosen.lowest:.2g} to below 1, with {chosen.basis()}",
                next_step="calibrate on more identities, or ask for a larger fmr",
            )
        return chosen.reaching(fmr)

    def threshold_for_gallery(self, fpir: float, size: int, condition: str = ALL) -> Calibrated:
        """Find the threshold at which a search finds somebody who is not enrolled at a given rate.

        Args:
            fpir: Wanted false positive identification rate, above 0 and below 1.
            size: Templates that a probe is compared with: the gallery's present size N.
            condition: What is compared.

        Returns:
            The threshold, with the false match rate of a single comparison.

        Raises:
            UserError: If the gallery is so large, or the rate so small, that the false match rate
                is below what was calibrated.
        """
        try:
            return self.threshold(fmr_for_fpir(fpir, size), condition)
        except UserError as error:
            if error.where != "fmr":
                raise
            chosen = self._condition(condition)
            raise UserError(
                where="fpir",
                found=f"{fpir:g} in a gallery of {size:,}: fmr {fmr_for_fpir(fpir, size):.2g}",
                allowed=f"fmr from {chosen.lowest:.2g}: fpir from "
                f"{fpir_for_fmr(chosen.lowest, size):.2g} at this size, with {chosen.basis()}",
                next_step="calibrate on more identities, or ask for a larger fpir",
            ) from error

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        conditions = {name: asdict(condition) for name, condition in self.conditions.items()}
        write_json(
            path,
            {
                "format_version": FORMAT_VERSION,
                "kind": "calibration",
                "model": self.model,
                "conditions": conditions,
            },
        )

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            UserError: If it is no calibration, is of a later version, or a table is broken.
        """
        content = read_json(path, what="calibration", required=("conditions", "model"))
        check_format_version(content, path=path, supported=FORMAT_VERSION)
        if not isinstance(content["conditions"], dict):
            raise UserError(
                where=f"{path}, conditions",
                found=type(content["conditions"]).__name__,
                allowed="an object: a table for each condition",
                next_step="make the calibration again",
            )
        conditions = {
            name: read_condition(table, where=f"{path}, condition {name}")
            for name, table in content["conditions"].items()
        }
        return cls(conditions=conditions, model=content["model"])

    def _condition(self, name: str) -> Condition:
        if name not in self.conditions:
            raise UserError(
                where="condition",
                found=repr(name),
                allowed=", ".join(self.conditions),
                next_step=nearest(name, self.conditions),
            )
        return self.conditions[name]


def fpir_for_fmr(fmr: float, size: int) -> float:
    """Rate at which a search in a gallery finds a stranger, if its comparisons are independent.

    Args:
        fmr: False match rate of one comparison, from 0 to below 1.
        size: Templates in the gallery, from 1.

    Example:
        >>> round(fpir_for_fmr(1e-6, 10_000), 6)
        0.00995
    """
    return float(-np.expm1(size * np.log1p(-fmr)))


def fmr_for_fpir(fpir: float, size: int) -> float:
    """False match rate at which a search in a gallery has a given FPIR: `fpir_for_fmr` backwards.

    Args:
        fpir: Above 0 and below 1.
        size: Templates in the gallery, from 1.

    Raises:
        UserError: If either is out of range.

    Example:
        >>> round(fmr_for_fpir(fpir_for_fmr(1e-6, 10_000), 10_000), 12)
        1e-06
    """
    if not 0 < fpir < 1:
        raise UserError(
            where="fpir",
            found=f"{fpir:g}",
            allowed="above 0 and below 1",
            next_step="ask for a rate such as 0.01",
        )
    if size < 1:
        raise UserError(
            where="size of a gallery",
            found=f"{size}",
            allowed="integers from 1",
            next_step="count its templates",
        )
    return float(-np.expm1(np.log1p(-fpir) / size))


def find_calibration(path: Path) -> Path | None:
    """Find the calibration that a path means.

    Args:
        path: A calibration itself, the folder that holds one, or something else.

    Returns:
        Its file; None if the path is something else.
    """
    file = path / FILE if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file():
        return None
    is_one = file.name == FILE or read_json(file, what="JSON").get("kind") == "calibration"
    return file if is_one else None


def describe_calibration(path: Path) -> dict[str, str]:
    """Describe a calibration by name and value, as `openmfr inspect` prints it.

    Args:
        path: Its file.

    Raises:
        UserError: As `Calibration.load` does.
    """
    calibration = Calibration.load(path)
    described = {"kind": "calibration", "model": calibration.model or "unknown"}
    for name, part in calibration.conditions.items():
        intervals = f"{part.confidence:.0%} intervals" if part.low else "no intervals"
        described[f"condition {name}"] = f"{extent(part)}; {intervals}"
        described[f"scores of {name}"] = f"{part.score[0]:.3f} to {part.score[-1]:.3f} measured"
    return described


def extent(part: Condition) -> str:
    """Write what a condition was learnt from, and how far it reaches."""
    return (
        f"{part.impostors:,} impostor pairs of {part.identities:,} people; measured to FMR "
        f"{rate_text(part.lowest_measured)}, extrapolated to {rate_text(part.lowest)}"
    )


def rate_text(fmr: float) -> str:
    """Write a false match rate that was reached.

    Example:
        >>> rate_text(0.00947)
        '0.95 %'
    """
    return f"{100 * fmr:.2g} %"

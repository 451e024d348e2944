"""What a score in a gallery means: false match rates by mask condition, and thresholds from them.

Two bare faces, a masked and a bare one, and two masked ones score differently, so each pair is read
by the calibration of its own condition. A search asks more of a score than one comparison does:
with N images to be mistaken for, the rate of finding a stranger is FPIR = 1 − (1 − FMR)^N, or lower
(`openmfr.evaluation.calibration` says why).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openmfr.deploy.gallery.index import Hit
from openmfr.errors import UserError
from openmfr.evaluation.calibration import ALL, Calibration, fpir_for_fmr

#: Conditions by how many of the two faces wear a mask.
_CONDITIONS: Final = ("uu", "mu", "mm")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How often a stranger may be taken for somebody enrolled: one of the two rates.

    Attributes:
        fmr: False match rate of one comparison.
        fpir: False positive identification rate of a search in the gallery at its present size.
    """

    fmr: float | None = None
    fpir: float | None = None

    def __post_init__(self) -> None:
        if (self.fmr is None) == (self.fpir is None):
            raise UserError(
                where="fmr, fpir",
                found=f"{self.fmr}, {self.fpir}",
                allowed="one of them",
                next_step="ask for fpir 0.01, for example",
            )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A person whom a search found.

    Attributes:
        identity: Who it is.
        score: Of the image that counts: the one with the lowest false match rate, or without a
            calibration the one that scores highest.
        image_id: That image.
        condition: uu, mu or mm: how many of probe and image wear a mask.
        fmr: False match rate of one comparison at this score; None without a calibration.
        fpir: The same for a search in the gallery at its present size.
        flag: Why the rates must not be trusted; empty if they were measured.
        threshold: Score that a match needs in this condition; None if no limit was given.
        is_match: Whether it reaches the threshold; None if no limit was given.
    """

    identity: str
    score: float
    image_id: int
    condition: str
    fmr: float | None = None
    fpir: float | None = None
    flag: str = ""
    threshold: float | None = None
    is_match: bool | None = None


class Meaning:
    """Reads scores by a calibration, if there is one.

    Args:
        calibration: Of the gallery's model.
        model: The model's fingerprint.
        where: The gallery, for errors.

    Raises:
        UserError: If the calibration is another model's.
    """

    def __init__(self, calibration: Calibration | None, *, model: str, where: str) -> None:
        if calibration is not None and calibration.model not in ("", model):
            raise UserError(
                where="calibration",
                found=f"scores of model {calibration.model}",
                allowed=f"those of {model}, whose embeddings are in {where}",
                next_step="embed a store with this model, then openmfr evaluate calibration",
            )
        self.calibration = calibration

    def condition(self, *, is_probe_masked: bool, is_image_masked: bool) -> str:
        """Name what is compared; "all" if the calibration does not tell masks apart."""
        name = _CONDITIONS[is_probe_masked + is_image_masked]
        known = self.calibration.conditions if self.calibration else {name: None}
        return ALL if name not in known and ALL in known else name

    def candidates(
        self,
        hits: Sequence[Hit],
        *,
        is_probe_masked: bool,
        images: int,
        top: int,
        limit: Limit | None,
    ) -> list[Candidate]:
        """Read what a search found, and rank people by how rarely a stranger gets as far.

        Args:
            hits: The best `top` people with bare and with masked images.
            is_probe_masked: Whether the probe wears a mask.
            images: The gallery's size N.
            top: How many people to return.
            limit: What a match is; None leaves that open.

        Raises:
            UserError: If a limit is given without a calibration, or is out of its reach.
        """
        conditions = [
            self.condition(is_probe_masked=is_probe_masked, is_image_masked=hit.is_masked)
            for hit in hits
        ]
        thresholds = self.thresholds(limit, set(conditions), images=images) if limit else {}
        read = [
            self._read(hit, condition, images, thresholds, limit)
            for hit, condition in zip(hits, conditions, strict=True)
        ]
        unknown = 0.0 if self.calibration is None else 1.0
        read.sort(
            key=lambda one: (unknown if one.fmr is None else one.fmr, -one.score, one.image_id)
        )
        best: dict[str, Candidate] = {}
        for candidate in read:
            best.setdefault(candidate.identity, candidate)
        return list(best.values())[:top]

    def thresholds(
        self, limit: Limit, conditions: Collection[str], *, images: int
    ) -> dict[str, float]:
        """Find the score that a match needs, by condition.

        Args:
            limit: What is wanted.
            conditions: Those that are asked for; what was not calibrated is left out.
            images: The gallery's size N.

        Raises:
            UserError: If there is no calibration, or the rate is beyond what it knows.
        """
        if self.calibration is None:
            raise UserError(
                where="calibration",
                found="none",
                allowed="one of the gallery's model: without it a rate has no threshold",
                next_step="openmfr evaluate calibration makes it; pass --calibration",
            )
        found = {}
        for condition in self.calibration.conditions.keys() & set(conditions):
            if limit.fmr is not None:
                calibrated = self.calibration.threshold(limit.fmr, condition)
            else:
                assert limit.fpir is not None
                calibrated = self.calibration.threshold_for_gallery(
                    limit.fpir, max(images, 1), condition
                )
            found[condition] = calibrated.score
        return found

    def _read(
        self,
        hit: Hit,
        condition: str,
        images: int,
        thresholds: Mapping[str, float],
        limit: Limit | None,
    ) -> Candidate:
        fmr, flag = None, ""
        if self.calibration is not None and condition in self.calibration.conditions:
            calibrated = self.calibration.fmr(hit.score, condition)
            fmr, flag = calibrated.fmr, calibrated.flag
        elif self.calibration is not None:
            flag = f"condition {condition} is not calibrated: never a match"
        threshold = thresholds.get(condition)
        return Candidate(
            identity=hit.identity,
            score=hit.score,
            image_id=hit.image_id,
            condition=condition,
            fmr=fmr,
            fpir=None if fmr is None else fpir_for_fmr(min(fmr, 1 - 1e-12), images),
            flag=flag,
            threshold=threshold,
            is_match=None if limit is None else threshold is not None and hit.score >= threshold,
        )

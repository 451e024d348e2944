"""Who may be enrolled: a face that can be seen well, of one person, who is who they are said to be.

A bad enrolment is worse than none: a blurred face misses its person, a wrong name gives somebody
else's. What the gate refuses it explains, and whoever knows better can force it.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmfr.deploy.quality import FaceQuality
from openmfr.errors import UserError, raise_together


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What is asked of a face that is enrolled.

    Attributes:
        least_size: Edge in photo pixels of the square that alignment cuts out.
        least_sharpness: As `openmfr.deploy.quality.sharpness` measures it.
        least_detector_score: The detector's confidence.
        largest_yaw: Degrees by which the head may be turned aside.
        least_own_score: Score that a further image must reach with one of its person's.
        least_own_score_masked: The same if one of the two faces wears a mask.
        largest_other_score: Score with somebody else at which a new person is taken for them, where
            no calibration says more.
        other_fpir: Rate at which strangers may be taken for somebody enrolled, where one does.
    """

    least_size: float = 50.0
    least_sharpness: float = 0.25
    least_detector_score: float = 0.6
    largest_yaw: float = 50.0
    least_own_score: float = 0.25
    least_own_score_masked: float = 0.15
    largest_other_score: float = 0.6
    other_fpir: float = 0.01

    def __post_init__(self) -> None:
        rates = {"least_sharpness": (0, 1), "least_detector_score": (0, 1), "other_fpir": (0, 1)}
        scores = ("least_own_score", "least_own_score_masked", "largest_other_score")
        ranges = rates | dict.fromkeys(scores, (-1, 1)) | {"largest_yaw": (0, 90)}
        raise_together(
            [
                UserError(
                    where=name,
                    found=f"{getattr(self, name):g}",
                    allowed=f"{low} to {high}",
                    next_step="correct it",
                )
                for name, (low, high) in ranges.items()
                if not low <= getattr(self, name) <= high
            ]
        )


class RefusedError(UserError):
    """A face that the gate refuses.

    Attributes:
        reasons: Why, a clause each.
    """

    def __init__(self, who: str, reasons: list[str]) -> None:
        super().__init__(
            where=who,
            found="; ".join(reasons),
            allowed="a large, sharp face of this person alone",
            next_step="take another photo, or force it if you know better",
        )
        self.reasons = reasons


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """What the gallery says of a face before it is enrolled.

    Attributes:
        own_score: Its best score with images of the person that it is said to be; None for a
            person without any.
        is_masked: Whether that score is between faces of which one wears a mask.
        other: Who else it resembles most; empty if there is nobody.
        other_score: The score with them.
        is_other_match: Whether that is taken for the same person.
    """

    own_score: float | None
    is_masked: bool = False
    other: str = ""
    other_score: float = -1.0
    is_other_match: bool = False


def doubts_of_face(quality: FaceQuality, config: GateConfig) -> list[str]:
    """Say what speaks against a face as such.

    Example:
        >>> face = FaceQuality(size=31, sharpness=0.5, yaw=5, roll=0, score=0.9, length=20)
        >>> doubts_of_face(face, GateConfig())
        ['a face of 31 pixels, below 50']
    """
    doubts = []
    if quality.size < config.least_size:
        doubts.append(f"a face of {quality.size:.0f} pixels, below {config.least_size:g}")
    if quality.sharpness < config.least_sharpness:
        least = f"{config.least_sharpness:g}"
        doubts.append(f"a blurred face (sharpness {quality.sharpness:.2f}, below {least})")
    if quality.score < config.least_detector_score:
        least = f"{config.least_detector_score:g}"
        doubts.append(f"hardly a face (detector's score {quality.score:.2f}, below {least})")
    if abs(quality.yaw) > config.largest_yaw:
        doubts.append(f"a face turned by {abs(quality.yaw):.0f}°, above {config.largest_yaw:g}°")
    return doubts


def doubts_of_name(found: Resemblance, identity: str, config: GateConfig) -> list[str]:
    """Say what speaks against a face being the person that it is said to be.

    Example:
        >>> twin = Resemblance(own_score=0.4, other="ben", other_score=0.55)
        >>> doubts_of_name(twin, "ann", GateConfig())
        ['it resembles ben (0.55) more than ann (0.40)']
    """
    if found.own_score is None:
        if found.is_other_match:
            return [f"it resembles {found.other}, who is enrolled (score {found.other_score:.2f})"]
        return []
    if found.other and found.other_score > found.own_score:
        own = f"{identity} ({found.own_score:.2f})"
        return [f"it resembles {found.other} ({found.other_score:.2f}) more than {own}"]
    least = config.least_own_score_masked if found.is_masked else config.least_own_score
    if found.own_score < least:
        return [f"it does not resemble {identity} (score {found.own_score:.2f}, below {least:g})"]
    return []

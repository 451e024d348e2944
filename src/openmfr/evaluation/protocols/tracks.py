"""The two tracks of the ICCV 2021 masked face recognition challenge, on anyone's images.

Neither test set is public. These classes define the tracks' comparisons on images that a user has,
with a column that says what each image is; their figures stand beside published ones only in form.
What a track leaves unsaid is an assumption here, and its class says which.

All pairs are compared, each once and no image with itself; the conventions that the tracks count
pairs by are in `all_pairs.counts`, and every part's `with_self_pairs` says what self-pairs change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, nearest
from openmfr.evaluation.all_pairs.compare import drawn_together
from openmfr.evaluation.all_pairs.rates import AllPairsResult
from openmfr.evaluation.all_pairs.screen import Precision
from openmfr.evaluation.all_pairs.sets import Sets, measurable_sets, measure_sets
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.verification import with_interval

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

WILD, CONTROLLED = "wild", "controlled"

#: The four groups of the InsightFace track, whose union is MR-All.
GROUPS = ("african", "caucasian", "south_asian", "east_asian")

#: Values of the InsightFace track's `test_set` column.
TEST_SETS = ("mask", "children", *GROUPS)

#: Weights of the two parts in either track's score: masked faces and the rest.
MASKED_WEIGHT, STANDARD_WEIGHT = 0.25, 0.75


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackResult:
    """What a recogniser reached on a track.

    Attributes:
        track: Name of the track.
        metric: What `values` and `score` are: "fnmr", the lower the better, or "tar".
        parts: The result of each part that could be measured, by name; each has one rate.
        score: What the track ranks by: 0.25 and 0.75 of two parts; refused if one is missing. Its
            interval draws the identities of both parts together. Someone who is in both moves both
            at once; parts that share nobody are taken for independent, which they are only if
            nobody goes by two identities, as happens where sets were labelled one by one.
        drawn: The score in each of these draws, shape (replicates,); empty if it is refused.
        notes: Which parts could not be measured and why.
    """

    track: str
    metric: Literal["fnmr", "tar"]
    parts: Mapping[str, AllPairsResult]
    score: Measured
    drawn: FloatArray
    notes: tuple[str, ...]

    @property
    def values(self) -> dict[str, Measured]:
        """The metric of each part."""
        rates = {name: part.rates[0] for name, part in self.parts.items()}
        return {name: getattr(rate, self.metric) for name, rate in rates.items()}

    def to_json(self) -> dict[str, Any]:
        """Return every number as JSON values."""
        return {
            "track": self.track,
            "metric": self.metric,
            "score": vars(self.score),
            "values": {name: vars(value) for name, value in self.values.items()},
            "parts": {name: part.to_json() for name, part in self.parts.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a track is measured; only intervals depend on it.

    Attributes:
        precision: What screens the pairs.
        workers: Processes.
        replicates: Draws of identities for the intervals; 0 for none.
        confidence: Probability that the intervals are to cover.
        seed: Of the draws.
    """

    precision: Precision = "float32"
    workers: int = 1
    replicates: int = 1_000
    confidence: float = 0.95
    seed: int = 0


class Track(ABC):
    """A track: which sets of images are compared, and which two parts its score is made of.

    A subclass is a frozen dataclass whose arrays say what each image is.

    Attributes:
        name: What it is called.
        metric: What is read of each part.
        masked: The part of masked faces.
        standard: The part of the rest.
    """

    name: ClassVar[str]
    metric: ClassVar[Literal["fnmr", "tar"]]
    masked: ClassVar[str]
    standard: ClassVar[str]

    @abstractmethod
    def sets(self) -> dict[str, tuple[Sets, float]]:
        """The two sets of each part, and its false match rate."""

    def measure(
        self,
        embedding: FloatArray,
        identity: IntArray,
        options: Options | None = None,
        *,
        keep: BoolArray | None = None,
    ) -> TrackResult:
        """Measure embeddings on the track.

        Args:
            embedding: Shape (N, D), of any length.
            identity: Who is on each image, from 0, shape (N,).
            options: How; `Options()` by default.
            keep: Images that take part, shape (N,); all by default.

        Raises:
            UserError: If a column has another length than the embeddings, or as `all_pairs` does.
        """
        columns = {name: column for name, column in vars(self).items() if np.ndim(column)}
        _check_columns(identity.size, **columns)
        parts, notes = _measure(embedding, identity, self.sets(), options or Options(), keep)
        return _result(self, parts, notes)


@dataclass(frozen=True, kw_only=True, eq=False)
class WebFace260MTrack(Track):
    """FNMR at FMR 1e-5 of masked (MFR) and standard (SFR) comparisons.

    SFR compares unmasked faces with each other, MFR masked ones with unmasked ones; each over all
    images, those taken in the wild, and those taken under control. The score is
    0.25 · MFR-All + 0.75 · SFR-All, the lower the better.

    Assumed, as the track's lists are not public: MFR compares every masked image with every
    unmasked one, genuine pairs included; Wild and Controlled restrict both sides of a pair.

    Attributes:
        is_masked: Whether each image wears a mask, shape (N,).
        scene: "wild" or "controlled" of each image; what is "" belongs to All alone. Shape (N,).
        fmr: The false match rate.

    Source:
        MFR paper, §3.2; Zhu et al., "Masked Face Recognition Challenge: The WebFace260M Track
        Report", 2021.
    """

    name = "WebFace260M"
    metric = "fnmr"
    masked, standard = "MFR-All", "SFR-All"

    is_masked: BoolArray
    scene: StrArray
    fmr: float = 1e-5

    def __post_init__(self) -> None:
        _check_values("scene", self.scene, (WILD, CONTROLLED))

    def sets(self) -> dict[str, tuple[Sets, float]]:
        """The two sets of each part, and its false match rate."""
        bare = ~self.is_masked
        scenes = {
            "All": np.ones(self.is_masked.size, dtype=np.bool_),
            "Wild": self.scene == WILD,
            "Controlled": self.scene == CONTROLLED,
        }
        parts = {}
        for kind, first in (("MFR", self.is_masked), ("SFR", bare)):
            for name, keep in scenes.items():
                parts[f"{kind}-{name}"] = ((first & keep, bare & keep), self.fmr)
        return parts


@dataclass(frozen=True, kw_only=True, eq=False)
class InsightFaceTrack(Track):
    """TAR of the InsightFace track, and of MFR-ongoing after it.

    Mask compares masked faces with unmasked ones at FAR 1e-4; Children all with all at FAR 1e-4;
    each of four groups, and MR-All, the four together, all with all at FAR 1e-6. The score is
    0.25 · TAR@Mask + 0.75 · TAR@MR-All.

    Assumed, as the lists are not public: Mask compares every masked image of its set with every
    unmasked one of it (the published 6,964 masked and 13,928 unmasked images give 96,994,592 such
    pairs; published are 96,997,752), and other sets' images are not in it.

    Attributes:
        test_set: One of `TEST_SETS` for each image, or "" for none, shape (N,).
        is_masked: Whether each image wears a mask, shape (N,); counts in the Mask set alone.

    Source:
        MFR paper, §3.2; Deng et al., "Masked Face Recognition Challenge: The InsightFace Track
        Report", 2021.
    """

    name = "InsightFace"
    metric = "tar"
    masked, standard = "Mask", "MR-All"

    test_set: StrArray
    is_masked: BoolArray

    def __post_init__(self) -> None:
        _check_values("test_set", self.test_set, TEST_SETS)

    def sets(self) -> dict[str, tuple[Sets, float]]:
        """The two sets of each part, and its false accept rate."""
        everyone = {name: self.test_set == name for name in TEST_SETS}
        mask, multiracial = everyone["mask"], np.isin(self.test_set, GROUPS)
        parts = {
            "Mask": ((mask & self.is_masked, mask & ~self.is_masked), 1e-4),
            "Children": ((everyone["children"], everyone["children"]), 1e-4),
        }
        for name in GROUPS:
            label = name.replace("_", " ").title()
            parts[label] = ((everyone[name], everyone[name]), 1e-6)
        return {**parts, "MR-All": ((multiracial, multiracial), 1e-6)}


def _measure(
    embedding: FloatArray,
    identity: IntArray,
    sets: Mapping[str, tuple[Sets, float]],
    options: Options,
    keep: BoolArray | None,
) -> tuple[dict[str, AllPairsResult], list[str]]:
    """Measure each part that has pairs of both sides."""
    keep = np.ones(identity.size, dtype=np.bool_) if keep is None else keep
    _check_columns(identity.size, keep=keep)
    kept = {name: (first & keep, second & keep) for name, ((first, second), _) in sets.items()}
    measurable, notes = measurable_sets(identity, kept)
    parts: dict[str, AllPairsResult] = {}
    for name, both in measurable.items():
        _, fmr = sets[name]
        parts |= measure_sets(embedding, identity, {name: both}, fmrs=[fmr], **vars(options))
    return parts, notes


def _result(track: Track, parts: Mapping[str, AllPairsResult], notes: Sequence[str]) -> TrackResult:
    """Add the score, with an interval from drawing the identities of its two parts together."""
    missing = [name for name in (track.masked, track.standard) if name not in parts]
    flags = [f"refused: {name} is missing" for name in missing]
    if not missing:
        two = {name: parts[name] for name in (track.masked, track.standard)}
        values = {name: getattr(part.rates[0], track.metric) for name, part in two.items()}
        flags = [f"{name} {value.flag}" for name, value in values.items() if value.flag]
        a, b = (value.value for value in values.values())
    if missing or a is None or b is None:
        score, drawn = Measured(value=None, flag="; ".join(flags)), np.empty(0)
    else:
        draws = drawn_together(list(two.values()))
        if track.metric == "tar":
            draws = [1 - part for part in draws]
        drawn = MASKED_WEIGHT * draws[0][:, 0] + STANDARD_WEIGHT * draws[1][:, 0]
        # Where neither part shows an error, the one with fewer people bounds what was not seen.
        people = min(np.unique(part.pairs.genuine.identity_a).size for part in two.values())
        score = with_interval(
            MASKED_WEIGHT * a + STANDARD_WEIGHT * b,
            drawn,
            trials=people,
            confidence=two[track.masked].confidence,
        )
        score = replace(score, flag="; ".join(flags))
    return TrackResult(
        track=track.name,
        metric=track.metric,
        parts=parts,
        score=score,
        drawn=drawn,
        notes=tuple(notes),
    )


def _check_values(column: str, values: StrArray, known: Sequence[str]) -> None:
    for name in np.unique(values).tolist():
        if name not in ("", *known):
            raise UserError(
                where=column,
                found=repr(name),
                allowed=", ".join(map(repr, ("", *known))),
                next_step=nearest(name, known),
            )


def _check_columns(count: int, **columns: npt.NDArray[Any]) -> None:
    for name, column in columns.items():
        if column.shape != (count,):
            raise UserError(
                where=name,
                found=f"shape {column.shape}",
                allowed=f"({count},), one for each image",
                next_step="take the column from the labels of the embedded store",
            )

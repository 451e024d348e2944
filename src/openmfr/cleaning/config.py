"""What a cleaning pass does, and how sure it must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from openmfr.cleaning.center_search import Method
from openmfr.errors import UserError, raise_together

#: How the centre of an identity is made, from the plainest on.
CenterKind = Literal["mean", "leave_one_out", "robust"]
CENTERS: tuple[str, ...] = get_args(CenterKind)


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Settings of one pass. A threshold that is None is searched for, and the report shows how.

    Attributes:
        intra_threshold: Images that score below it against the centre of the others of their
            identity are dropped, −1 to 1. None takes the score below which `strangers_found` of
            strangers lie, apart for masked and unmasked faces, or a lower one (`right_dropped`).
        strangers_found: Share of images of other people that shall be dropped, 0.5 to 1. Nobody
            knows which images are wrong, but everybody knows how images of other people score.
        right_dropped: Largest share of the right images that may be dropped for it, 0 to 1.
        inter_threshold: Identities whose centres are at least as similar are merged, −1 to 1, after
            correction for the number of their images. None searches the one with the fewest errors
            among those at which no more than `wrong_merges` are wrong.
        wrong_merges: Share of merges that may be wrong, 0 to 1.
        relabel_threshold: Images whose evidence for another identity is at least that move there.
            None takes the lowest at which no more than `wrong_moves` are expected to be wrong.
        wrong_moves: Share of moves that may be wrong, 0 to 1, all images that move counted.
        merge: Whether identities are merged.
        relabel: Whether images move.
        center: "robust" weighs each image by how well it agrees with the rest; "leave_one_out"
            counts all others alike; "mean" is the paper's, in which an image votes for itself.
        by_condition: Whether masked faces get a threshold of their own.
        duplicate_threshold: Of two images of one identity that are at least as similar, one is
            dropped; None keeps duplicates. 0.95 finds crops and copies of one photo.
        search: How similar centres are found: all pairs, "exact", or by faiss (extra `ann`),
            "approximate", for millions of identities.
        least_images: Identities with fewer images afterwards are dropped; 1 keeps all.
        seed: Of the search for thresholds.
    """

    intra_threshold: float | None = None
    strangers_found: float = 0.99
    right_dropped: float = 0.05
    inter_threshold: float | None = None
    wrong_merges: float = 0.01
    relabel_threshold: float | None = None
    wrong_moves: float = 0.06
    merge: bool = True
    relabel: bool = True
    center: CenterKind = "robust"
    by_condition: bool = True
    duplicate_threshold: float | None = None
    search: Method = "exact"
    least_images: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        faults = []
        for name in ("intra_threshold", "inter_threshold"):
            value = getattr(self, name)
            if value is not None and not -1 <= value <= 1:
                faults.append(_fault(name, value, "a cosine, -1 to 1"))
        if self.duplicate_threshold is not None and not -1 < self.duplicate_threshold < 1:
            faults.append(
                _fault("duplicate_threshold", self.duplicate_threshold, "above -1, below 1")
            )
        if self.relabel_threshold is not None and not -1 <= self.relabel_threshold <= 5:
            faults.append(_fault("relabel_threshold", self.relabel_threshold, "-1 to 5"))
        shares = {
            "strangers_found": 0.5,
            "right_dropped": 0.0,
            "wrong_merges": 0.0,
            "wrong_moves": 0.0,
        }
        faults += [
            _fault(name, getattr(self, name), f"{low:g} to 1")
            for name, low in shares.items()
            if not low <= getattr(self, name) <= 1
        ]
        if self.center not in CENTERS:
            faults.append(_fault("center", self.center, ", ".join(CENTERS)))
        if self.search not in get_args(Method):
            faults.append(_fault("search", self.search, ", ".join(get_args(Method))))
        if self.least_images < 1:
            faults.append(_fault("least_images", self.least_images, "from 1"))
        raise_together(faults)


def _fault(name: str, value: object, allowed: str) -> UserError:
    return UserError(
        where=name, found=str(value), allowed=allowed, next_step="see openmfr clean pass --help"
    )

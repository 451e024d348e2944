"""How much of a planted noise a cleaning found, and what it broke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.changes import goes_on_as, renumbered
from openmfr.data.labels import Labels
from openmfr.data.noise import FLIP, OUTLIER, SPLIT, PlantedNoise
from openmfr.errors import UserError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class NoiseFound:
    """Counts of a cleaned table beside the truth.

    Attributes:
        outliers: Planted outliers.
        outliers_found: Those that are no longer under the wrong identity: dropped or moved.
        outliers_dropped: Those that are no longer kept.
        flips: Planted label flips.
        flips_found: Those that are no longer under the wrong identity: dropped or moved.
        flips_home: Those that moved to the person they show.
        moves: Outliers and flips that moved.
        wrong_moves: Those that moved to somebody they do not show.
        unplanted: Images on which nothing was planted. Some of a real set are wrong by nature.
        unplanted_dropped: Those that are no longer kept.
        unplanted_moved: Those that moved to another person.
        splits: Identities in two parts, each with a correct image.
        splits_rejoined: Those whose parts are one again.
        merges: Identities that went on under the number of another.
        wrong_merges: Those whose person is not that of the other.
    """

    outliers: int
    outliers_found: int
    outliers_dropped: int
    flips: int
    flips_found: int
    flips_home: int
    moves: int
    wrong_moves: int
    unplanted: int
    unplanted_dropped: int
    unplanted_moved: int
    splits: int
    splits_rejoined: int
    merges: int
    wrong_merges: int

    @property
    def rates(self) -> dict[str, float]:
        """Shares, 0 to 1, by name; NaN where there is nothing to count."""
        parts = {
            "outliers found": (self.outliers_found, self.outliers),
            "outliers dropped": (self.outliers_dropped, self.outliers),
            "flips found": (self.flips_found, self.flips),
            "unplanted images dropped": (self.unplanted_dropped, self.unplanted),
            "flips moved home": (self.flips_home, self.flips),
            "wrong moves": (self.wrong_moves, self.moves),
            "splits rejoined": (self.splits_rejoined, self.splits),
            "wrong merges": (self.wrong_merges, self.merges),
        }
        return {name: count / of if of else float("nan") for name, (count, of) in parts.items()}

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


def judge(planted: PlantedNoise, cleaned: Labels) -> NoiseFound:
    """Count what a cleaning of a noisy table found.

    Args:
        planted: The noisy table and its truth.
        cleaned: What the cleaning made of the noisy table.

    Raises:
        UserError: If the tables do not describe the same store.
    """
    noisy, truth = planted.noisy, planted.truth
    if not noisy.store_fingerprint == truth.store_fingerprint == cleaned.store_fingerprint:
        raise UserError(
            where="truth",
            found=f"labels of store {truth.store_fingerprint}",
            allowed=f"of store {cleaned.store_fingerprint}",
            next_step="judge with the truth that was written beside the noisy table",
        )
    kind = truth.reason
    is_outlier, is_flip = kind == OUTLIER, kind == FLIP
    unplanted = noisy.keep & ~is_outlier & ~is_flip
    went_on = goes_on_as(noisy, cleaned)
    stayed = renumbered(noisy.identity, went_on)
    moved = noisy.keep & cleaned.keep & (cleaned.identity != stayed)
    dropped = noisy.keep & ~cleaned.keep
    owner = owners(cleaned.identity, truth, cleaned.keep & unplanted & ~moved)
    shown = np.array([owner.get(label, -1) for label in cleaned.identity.tolist()])
    home = moved & (shown == truth.identity)
    counted = moved & (is_outlier | is_flip)
    return NoiseFound(
        outliers=int(is_outlier.sum()),
        outliers_found=int((is_outlier & (dropped | moved)).sum()),
        outliers_dropped=int((is_outlier & dropped).sum()),
        flips=int(is_flip.sum()),
        flips_found=int((is_flip & (dropped | moved)).sum()),
        flips_home=int((is_flip & home).sum()),
        moves=int(counted.sum()),
        wrong_moves=int((counted & ~(home & is_flip)).sum()),
        unplanted=int(unplanted.sum()),
        unplanted_dropped=int((unplanted & dropped).sum()),
        unplanted_moved=int((unplanted & moved & ~home).sum()),
        **count_merges(went_on, owners(noisy.identity, truth, unplanted), truth, noisy),
    )


def owners(identity: IntArray, truth: Labels, correct: BoolArray) -> dict[int, int]:
    """Who most of the correct images of each identity show."""
    pairs, counts = np.unique(
        np.stack([identity[correct], truth.identity[correct]]), axis=1, return_counts=True
    )
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    return dict(zip(pairs[0, order].tolist(), pairs[1, order].tolist(), strict=True))


def count_merges(
    went_on: Mapping[int, int], owner: Mapping[int, int], truth: Labels, noisy: Labels
) -> dict[str, int]:
    """Count splits, those rejoined, merges and wrong merges.

    Args:
        went_on: Identity → the number it went on under; only those that were merged.
        owner: Identity of the noisy table → who it shows.
        truth: The table of truth.
        noisy: The noisy table.
    """
    is_part = (truth.reason == SPLIT) & noisy.keep
    parts = set(
        zip(truth.identity[is_part].tolist(), noisy.identity[is_part].tolist(), strict=True)
    )
    both = [(a, b) for a, b in parts if owner.get(a) == a and owner.get(b) == a]
    rejoined = sum(went_on.get(a, a) == went_on.get(b, b) for a, b in both)
    wrong = sum(owner.get(a, -1) != owner.get(b, -2) for a, b in went_on.items())
    return {
        "splits": len(both),
        "splits_rejoined": int(rejoined),
        "merges": len(went_on),
        "wrong_merges": int(wrong),
    }

"""Wrong labels, planted on purpose and known: what a cleaning is judged by.

Nobody knows which labels of a real training set are wrong, so nobody can say how many a cleaning
found. Here a known amount of each kind of noise is planted, and the truth is kept:

- *outliers*: images of people who are in no class. Whole identities are set aside, are absent from
  every arm of an experiment, and lend their images to the others;
- *label flips*: images under another identity of the set: a random one, or one that looks alike,
  as happens when a search engine mixes people up;
- *split identities*: one person under two numbers, as when two sources name them differently.

Source: the kinds of noise of paper section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import Labels
from openmfr.data.texts import Texts
from openmfr.errors import UserError, raise_together
from openmfr.files import check_same_settings, prepare_folder, taken_folder

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Reasons in the table of truth.
OUTLIER, FLIP, SPLIT, SET_ASIDE = "planted outlier", "planted flip", "planted split", "set aside"
#: Files of a folder of planted noise.
NOISY, TRUTH = "noisy.parquet", "truth.parquet"
#: Look-alikes of an identity that a flip may go to.
_LOOKALIKES = 5


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """How much of each kind of noise.

    Attributes:
        outliers: Outliers, as a share of the images that the other identities have, 0 to 1.
        outlier_identities: Identities set aside to lend them; they must have enough images.
        flips: Images under another identity, as a share of the images, 0 to 1.
        lookalike_flips: Which share of the flips goes to one of the most similar identities, 0 to
            1; needs the identities' centres.
        splits: Identities in two parts, as a share of those with `least_images`, 0 to 1.
        least_images: Images that an identity must have to be split; from 2.
        seed: Of every draw.
    """

    outliers: float = 0.10
    outlier_identities: int = 120
    flips: float = 0.10
    lookalike_flips: float = 0.0
    splits: float = 0.20
    least_images: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        faults = [
            _fault(name, value, "0 to 1")
            for name in ("outliers", "flips", "lookalike_flips", "splits")
            if not 0 <= (value := getattr(self, name)) <= 1
        ]
        if self.outlier_identities < 0:
            faults.append(_fault("outlier_identities", self.outlier_identities, "from 0"))
        if self.least_images < 2:
            faults.append(_fault("least_images", self.least_images, "from 2"))
        raise_together(faults)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedNoise:
    """A table with noise in it, and the truth.

    Attributes:
        noisy: What a training or a cleaning gets; its parent is `truth`.
        truth: The same images under their true identities: those set aside are not kept, and
            `reason` says what was planted on each image ("planted outlier", "planted flip",
            "planted split": the part that got a new number).
    """

    noisy: Labels
    truth: Labels

    def counts(self) -> dict[str, int]:
        """Images of each kind of noise, by name."""
        kinds = {"outliers": OUTLIER, "flips": FLIP, "in second parts": SPLIT}
        return {name: int((self.truth.reason == kind).sum()) for name, kind in kinds.items()}

    def write(self, folder: Path) -> None:
        """Write both tables into a folder.

        Raises:
            UserError: If something else, or other noise, stands there.
        """
        with taken_folder(folder, mark=TRUTH, what="planted noise"):
            prepare_folder(folder, mark=TRUTH, what="planted noise")
            if (folder / NOISY).exists():
                found, wanted = (
                    {"noise": table.fingerprint}
                    for table in (Labels.read(folder / NOISY), self.noisy)
                )
                check_same_settings(folder, found, wanted)
                return
            self.truth.write(folder / TRUTH)
            self.noisy.write(folder / NOISY)

    @classmethod
    def read(cls, folder: Path) -> PlantedNoise:
        """Read what `write` wrote.

        Raises:
            UserError: If a table is missing, or they do not belong together.
        """
        noisy, truth = Labels.read(folder / NOISY), Labels.read(folder / TRUTH)
        if noisy.parent != truth.fingerprint:
            raise UserError(
                where=str(folder / NOISY),
                found=f"a table made from {noisy.parent}",
                allowed=f"one made from {TRUTH}, {truth.fingerprint}",
                next_step="plant the noise again",
            )
        return cls(noisy=noisy, truth=truth)


def plant_noise(
    labels: Labels,
    config: NoiseConfig,
    *,
    centers: npt.NDArray[np.floating[Any]] | None = None,
) -> PlantedNoise:
    """Plant a known amount of noise.

    Args:
        labels: What is taken to be true.
        config: How much.
        centers: One unit vector for each identity of `labels.kept_identities`, ascending, shape
            (C, D): who looks alike. Only `lookalike_flips` needs it.

    Returns:
        Noisy table and truth. Numbers of images and identities are rounded down.

    Raises:
        UserError: If the identities set aside have too few images, or no two are left, or
            `lookalike_flips` is asked for without centres.
    """
    rng = np.random.default_rng([config.seed, len(labels)])
    people = labels.kept_identities
    if config.lookalike_flips and centers is None:
        raise UserError(
            where="lookalike_flips",
            found=f"{config.lookalike_flips} without centres",
            allowed="0 without them",
            next_step="give the embeddings that say who looks alike",
        )
    aside = rng.choice(people, min(config.outlier_identities, len(people)), replace=False)
    is_aside = labels.keep & np.isin(labels.identity, aside)
    stays = labels.keep & ~is_aside
    remaining = np.setdiff1d(people, aside)
    if len(remaining) < 2:
        raise _fault("outlier_identities", config.outlier_identities, f"0 to {len(people) - 2}")
    rows = np.flatnonzero(stays)
    true = labels.identity
    identity, kind = true.copy(), np.full(len(labels), "", dtype=object)
    kind[is_aside] = SET_ASIDE

    flipped = rng.choice(rows, int(config.flips * rows.size), replace=False)
    likely = int(config.lookalike_flips * flipped.size)
    identity[flipped] = _someone_else(true[flipped], remaining, rng)
    if likely and centers is not None:
        similar = centers[np.isin(people, remaining)]
        identity[flipped[:likely]] = _lookalike(true[flipped[:likely]], remaining, similar, rng)
    kind[flipped] = FLIP

    lent = _lend(is_aside, int(config.outliers * rows.size), rng)
    identity[lent] = rng.choice(remaining, lent.size)
    kind[lent] = OUTLIER
    keep = stays.copy()
    keep[lent] = True

    # Last, so that both parts of a split identity hold noise.
    moved = _second_parts(true, identity, stays, keep, config, rng)
    identity = np.where(moved >= 0, moved, identity)
    kind[(moved >= 0) & (kind == "")] = SPLIT

    truth = labels.child(keep=stays, reason=labels.reason.replaced(kind != "", Texts.of(kind)))
    reason = labels.reason.replaced(is_aside, SET_ASIDE).replaced(keep, "")
    return PlantedNoise(noisy=truth.child(identity=identity, keep=keep, reason=reason), truth=truth)


def _someone_else(true: IntArray, people: IntArray, rng: np.random.Generator) -> IntArray:
    """Another identity for each image, all others equally likely, shape (F,)."""
    at = np.searchsorted(people, true)
    step = rng.integers(1, len(people), true.size)
    return np.asarray(people[(at + step) % len(people)])


def _lookalike(
    true: IntArray,
    people: IntArray,
    centers: npt.NDArray[np.floating[Any]],
    rng: np.random.Generator,
) -> IntArray:
    """One of the most similar identities for each image, shape (F,)."""
    who, inverse = np.unique(true, return_inverse=True)
    at = np.searchsorted(people, who)
    score = centers[at] @ centers.T
    score[np.arange(at.size), at] = -np.inf
    count = min(_LOOKALIKES, len(people) - 1)
    best = np.argpartition(-score, count - 1, axis=1)[:, :count]
    return np.asarray(people[best[inverse, rng.integers(0, count, true.size)]])


def _lend(is_aside: BoolArray, count: int, rng: np.random.Generator) -> IntArray:
    """Draw the outliers among the images set aside."""
    rows = np.flatnonzero(is_aside)
    if rows.size < count:
        raise UserError(
            where="outlier_identities",
            found=f"{rows.size} images set aside",
            allowed=f"{count} or more, for the share of outliers asked for",
            next_step="set more identities aside, or plant fewer outliers",
        )
    return np.asarray(rng.choice(rows, count, replace=False))


def _second_parts(
    true: IntArray,
    identity: IntArray,
    stays: BoolArray,
    keep: BoolArray,
    config: NoiseConfig,
    rng: np.random.Generator,
) -> IntArray:
    """New numbers of the images that get one, −1 of all others, shape (N,)."""
    known, counts = np.unique(true[stays], return_counts=True)
    eligible = known[counts >= config.least_images]
    chosen = rng.choice(eligible, int(config.splits * eligible.size), replace=False)
    new = np.full(identity.size, -1, dtype=np.int64)
    for number, who in enumerate(chosen, start=int(identity.max()) + 1):
        rows = rng.permutation(np.flatnonzero(keep & (identity == who)))
        new[rows[: rows.size // 2]] = number
    return new


def _fault(name: str, value: float, allowed: str) -> UserError:
    return UserError(where=name, found=f"{value:g}", allowed=allowed, next_step="see NoiseConfig")

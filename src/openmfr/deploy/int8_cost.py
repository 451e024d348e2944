"""What int8 costs: the same people in float32 and in int8, and what becomes of the accuracy.

Faces that chose the ranges say nothing about ranges. So people are split: some are calibrated on,
the others are measured on. Who was held out from the training is measured on, as far as the labels
say so: a network that knows its people by heart shows no loss.

An int8 network passes if its loss is *shown* to be within the limit: if the upper end of the loss's
paired interval is. A loss that only happened to be small on few people does not pass.

The loss is the rise of the equal error rate: what is lost of the accuracy at the threshold where
both errors are equal. Accuracy by folds is given beside it and decides nothing: its threshold is
searched anew for each fold and each draw of people, and the luck in that (its paired interval is
±1 point on 100 people where the equal error rate's is ±0.3) is larger than what int8 does.

What is hardly like float32 any more is refused whatever its rates are: on few people a broken
network may have a lucky one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.deploy.parity import compare
from openmfr.embed import Embedder, decode_batch
from openmfr.errors import UserError, check_fields, raise_together
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.difference import compare_verifications
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import measure
from openmfr.evaluation.wording import describe, percent
from openmfr.run import progress

FloatArray = npt.NDArray[np.floating]

#: Fewer faces than this find no ranges.
_LEAST_CALIBRATED = 32
#: Two folds of two identities: fewer give no accuracy.
_LEAST_IDENTITIES = 4
#: Images of one person that are measured: more of them tell less than other people do.
_MOST_IMAGES_OF_ONE = 8
#: Smallest median cosine to float32 of what still is the same network; trained ones have 0.99.
_LEAST_MEDIAN_COSINE = 0.9
#: False match rate at which the true accept rate is given.
FMR = 0.01
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Int8Config:
    """How an int8 network is calibrated and measured.

    Attributes:
        calibration_images: Faces that choose the ranges, at most.
        measured_images: Faces that the loss is measured on, at most.
        pairs: Genuine pairs of them, and as many impostor pairs, at most.
        max_loss: Largest rise of the equal error rate, 0 to 1, that is let through.
        seed: Of the choice of people, faces and pairs.
    """

    calibration_images: int = 256
    measured_images: int = 2_000
    pairs: int = 6_000
    max_loss: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "calibration_images": (
                self.calibration_images >= _LEAST_CALIBRATED,
                f"from {_LEAST_CALIBRATED}",
            ),
            "measured_images": (self.measured_images >= 8, "from 8"),
            "pairs": (self.pairs >= 1, "from 1"),
            "max_loss": (0 <= self.max_loss <= 1, "a share, from 0 to 1"),
            "seed": (self.seed >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="correct the value, or leave it out")


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Which images of a store are calibrated and which are measured on: no person is in both.

    Attributes:
        calibration: Rows of the store.
        measured: Rows of the store.
        is_held_out: Whether the measured people were held out from the training.
    """

    calibration: IntArray
    measured: IntArray
    is_held_out: bool


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number in float32 and in int8.

    Attributes:
        float32: With its interval.
        int8: With its interval.
        change: The second minus the first, with its paired interval.
    """

    float32: Measured
    int8: Measured
    change: Measured

    def __str__(self) -> str:
        sides = f"{describe(self.float32)} in float32, {describe(self.int8)} in int8"
        return f"{sides}: a change of {describe(self.change)}"


@dataclass(frozen=True, kw_only=True)
class Int8Cost:
    """What int8 costs, on people of whom none was calibrated on.

    Attributes:
        store: Fingerprint of the store.
        labels: Fingerprint of its labels.
        is_held_out: Whether the people were held out from the training.
        calibration_images: Images that chose the ranges.
        images: Images measured on.
        identities: People measured on.
        pairs: Pairs measured on.
        median_cosine: Between an image's embeddings in float32 and int8.
        least_cosine: The smallest.
        eer: Equal error rate.
        accuracy: Accuracy by folds.
        tar: True accept rate at a false match rate of `FMR`.
        max_loss: Largest rise of the equal error rate that was let through.
    """

    store: str
    labels: str
    is_held_out: bool
    calibration_images: int
    images: int
    identities: int
    pairs: int
    median_cosine: float
    least_cosine: float
    eer: Change
    accuracy: Change
    tar: Change
    max_loss: float

    @property
    def worst_loss(self) -> float:
        """Rise of the equal error rate that cannot be ruled out: the upper end of its interval."""
        high = self.eer.change.high
        return float("inf") if high is None else high

    def check(self) -> None:
        """Refuse a loss that may be above the limit, and a network that is another one.

        Raises:
            UserError: With the figures.
        """
        if not self.median_cosine >= _LEAST_MEDIAN_COSINE:
            raise UserError(
                where="--int8",
                found=f"a median cosine of {self.median_cosine:.4f} to the embeddings in float32",
                allowed=f"{_LEAST_MEDIAN_COSINE} and more; trained networks have 0.99",
                next_step="nothing was written; train the network longer, calibrate on faces like "
                "those that it will see, or export in float32",
            )
        if self.worst_loss <= self.max_loss:
            return
        loss = self.eer.change.value
        is_shown = loss is not None and loss > self.max_loss
        remedy = "export in float32" if is_shown else "measure on a store with more people"
        raise UserError(
            where="--max-loss",
            found=f"an equal error rate of {self.eer} on {self.identities:,} people (median cosine "
            f"{self.median_cosine:.4f})",
            allowed=f"a rise of at most {percent(self.max_loss)}, the whole interval of it",
            next_step=f"nothing was written; {remedy}, or raise --max-loss",
        )


def split(labels: Labels, config: Int8Config) -> Split:
    """Choose images to calibrate and to measure on, by the seed alone.

    People who were held out from the training are measured on where there are such; otherwise one
    half of the people is measured and the other calibrated on. Half of the calibration images show
    masks, as far as the labels know so many.

    Raises:
        UserError: If there are too few images or people.
    """
    rng = np.random.default_rng(config.seed)
    rows = labels.kept()
    if labels.is_held_out.any():
        own, others = rows, np.flatnonzero(labels.is_held_out & (labels.identity >= 0))
    else:
        people = rng.permutation(labels.kept_identities)
        is_own = np.isin(labels.identity[rows], people[: len(people) // 2])
        own, others = rows[is_own], rows[~is_own]
    masked = own[labels.is_masked[own]]
    bare = own[~labels.is_masked[own]]
    half = config.calibration_images // 2
    of_masked = min(len(masked), max(half, config.calibration_images - len(bare)))
    chosen = [
        _one_of_each_in_turn(side, labels.identity, count, rng)
        for side, count in ((bare, config.calibration_images - of_masked), (masked, of_masked))
    ]
    calibration = np.concatenate(chosen)
    measured = _some_of_each(others, labels.identity, config.measured_images, rng)
    _check_enough(calibration, labels.identity[measured])
    return Split(
        calibration=calibration,
        measured=measured,
        is_held_out=bool(labels.is_held_out.any()),
    )


def measure_cost(
    float32: Embedder,
    int8: Embedder,
    store: Store,
    labels: Labels,
    chosen: Split,
    config: Int8Config,
) -> Int8Cost:
    """Embed the measured images with both networks and compare them.

    Args:
        float32: The exported network.
        int8: The same in int8.
        store: The images.
        labels: Who is on them.
        chosen: From `split`.
        config: How to measure.
    """
    embedded = _embed_both(float32, int8, store, chosen.measured)
    cosine, _ = compare(*embedded)
    identity = labels.identity[chosen.measured]
    everyone = np.ones(len(identity), dtype=np.bool_)
    pairs = sample_pairs(identity, everyone, pairs=config.pairs, seed=config.seed)
    scored: list[Comparisons] = [pairs.compare(side, identity) for side in embedded]
    first, second = (measure(side, fmrs=(FMR,), seed=config.seed) for side in scored)
    changes = compare_verifications(first, second)
    eer, accuracy, tar = (
        Change(float32=a, int8=b, change=change)
        for a, b, change in (
            (first.eer, second.eer, changes["eer"]),
            (first.accuracy.mean, second.accuracy.mean, changes["accuracy"]),
            (first.rates[0].tar, second.rates[0].tar, changes[f"fnmr@{FMR:g}"].negated()),
        )
    )
    return Int8Cost(
        store=store.fingerprint,
        labels=labels.fingerprint,
        is_held_out=chosen.is_held_out,
        calibration_images=len(chosen.calibration),
        images=len(chosen.measured),
        identities=first.identities,
        pairs=len(pairs),
        median_cosine=float(np.median(cosine)),
        least_cosine=float(cosine.min()),
        eer=eer,
        accuracy=accuracy,
        tar=tar,
        max_loss=config.max_loss,
    )


def _embed_both(
    first: Embedder, second: Embedder, store: Store, rows: IntArray
) -> tuple[FloatArray, FloatArray]:
    parts: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    with progress("measure int8", total=len(rows), unit="images") as advance:
        for start in range(0, len(rows), _BATCH):
            images = decode_batch(store, rows[start : start + _BATCH])
            for part, embedder in zip(parts, (first, second), strict=True):
                part.append(embedder.embed(images))
            advance(len(images))
    return np.concatenate(parts[0]), np.concatenate(parts[1])


def _one_of_each_in_turn(
    rows: IntArray, identity: IntArray, count: int, rng: np.random.Generator
) -> IntArray:
    """Draw images so that everyone has had one before anyone has another."""
    shuffled = rng.permutation(rows)
    turn = _turns(identity[shuffled])
    return shuffled[np.argsort(turn, kind="stable")][:count]


def _some_of_each(
    rows: IntArray, identity: IntArray, count: int, rng: np.random.Generator
) -> IntArray:
    """Draw people who have at least two images, and some images of each, until there are enough."""
    shuffled = rng.permutation(rows)
    turn = _turns(identity[shuffled])
    known, images = np.unique(identity[shuffled], return_counts=True)
    order = {person: place for place, person in enumerate(rng.permutation(known[images >= 2]))}
    place = np.array([order.get(person, -1) for person in identity[shuffled].tolist()])
    is_chosen = (place >= 0) & (turn < _MOST_IMAGES_OF_ONE)
    by_person = shuffled[is_chosen][np.lexsort((turn[is_chosen], place[is_chosen]))]
    return np.sort(by_person[:count])


def _turns(identity: IntArray) -> IntArray:
    """Number the images of each identity from 0, in the order in which they stand."""
    order = np.argsort(identity, kind="stable")
    sorted_identity = identity[order]
    starts = np.searchsorted(sorted_identity, sorted_identity, side="left")
    turns = np.empty(len(identity), dtype=np.int64)
    turns[order] = np.arange(len(identity)) - starts
    return turns


def _check_enough(calibration: IntArray, measured_identity: IntArray) -> None:
    errors = []
    if len(calibration) < _LEAST_CALIBRATED:
        errors.append(
            UserError(
                where="--calibrate",
                found=f"{len(calibration)} images to calibrate on",
                allowed=f"at least {_LEAST_CALIBRATED}, of people who are not measured on",
                next_step="give a store with more images",
            )
        )
    people = int(np.sum(np.unique(measured_identity, return_counts=True)[1] >= 2))
    if people < _LEAST_IDENTITIES:
        errors.append(
            UserError(
                where="--calibrate",
                found=f"{people} people with two images to measure the loss on",
                allowed=f"at least {_LEAST_IDENTITIES} beside those calibrated on; a hundred say "
                "more",
                next_step="give a store with more people",
            )
        )
    raise_together(errors)

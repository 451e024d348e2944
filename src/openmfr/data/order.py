"""In which order images are trained on: a matter of seed and position alone.

Training reads one endless stream, cut into global batches. Where it stands is a single number, so a
run goes on in the middle of an epoch on any number of ranks, and no image is seen twice or missed.
An epoch is as many images as the training set has. By default it holds each of them once, shuffled
over the whole set (not within a window, as readers of tar files do). Balanced over identities, it
holds each identity equally often, whether she has five images or five hundred.
"""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.errors import UserError

logger = logging.getLogger(__name__)

BoolArray = npt.NDArray[np.bool_]
#: Store indices or identities; of 4 bytes each where that is enough.
Integers = npt.NDArray[np.integer]

#: "images": every image once in each epoch. "identities": every identity equally often.
Sampling = Literal["images", "identities"]


#: Rows that are worked on at one time, where the whole would need another copy.
_CHUNK = 2**20
#: Of a number that holds an identity and a place, those for the place.
_BITS = 32


class Draw(NamedTuple):
    """Images of a batch: which, and in which epoch, each of shape (B,), int64."""

    images: IntArray
    epochs: IntArray


class Order(Protocol):
    """An endless order over a training set."""

    size: int

    def draw(self, position: int, count: int) -> Draw:
        """Return what stands at positions `position` to `position + count − 1`, from 0.

        The same image with the same epoch stands at no two positions.
        """
        ...


class Stream:
    """Every image once in each epoch, in an order that is drawn anew for each.

    Args:
        images: Store indices of the training images, shape (N,).
        seed: Two streams with one seed have one order.

    Attributes:
        size: N.

    Example:
        >>> stream = Stream(np.array([10, 11, 12]), seed=0)
        >>> sorted(stream.draw(3, 3).images.tolist())
        [10, 11, 12]
    """

    def __init__(self, images: Integers, *, seed: int) -> None:
        self.size = images.shape[0]
        # numpy draws the same order for any type of number; an epoch of millions in half the memory
        self._images = images.astype(_smallest(images.max(initial=0)), copy=False)
        self._seed = seed
        self._recent: dict[int, Integers] = {}

    def draw(self, position: int, count: int) -> Draw:
        """Return store indices and epochs; epoch e begins at position e · N."""
        first, last = position // self.size, (position + count - 1) // self.size
        epochs = {epoch: self._epoch(epoch) for epoch in range(first, last + 1)}
        self._recent = epochs
        start = position - first * self.size
        images = np.concatenate(
            [
                order[max(start - i * self.size, 0) : max(start + count - i * self.size, 0)]
                for i, order in enumerate(epochs.values())
            ]
        )
        numbers = np.arange(position, position + count) // self.size
        return Draw(images.astype(np.int64), numbers)

    def _epoch(self, epoch: int) -> Integers:
        if epoch in self._recent:
            return self._recent[epoch]
        return np.random.default_rng([self._seed, epoch]).permutation(self._images)


class BalancedStream:
    """Every identity equally often; her images in turn, so that none is left out for long.

    Identities come in rounds: each once, in an order that is drawn anew for each round. In her r-th
    round an identity with n images shows the (r mod n)-th of them, in a drawn order, from a place
    where she is drawn to begin.

    Args:
        images: Store indices of the training images, shape (N,).
        identity: Whose turn each is, shape (N,), below 2³¹.
        seed: Two streams with one seed have one order.

    Attributes:
        size: N.

    Example:
        >>> stream = BalancedStream(np.arange(4), np.array([0, 0, 0, 1]), seed=0)
        >>> stream.draw(0, 6).images.tolist().count(3)
        3
    """

    def __init__(self, images: Integers, identity: Integers, *, seed: int) -> None:
        self.size = images.shape[0]
        if identity.max(initial=0) >= 1 << (63 - _BITS):
            raise ValueError(f"identity {identity.max()}: number them from 0")
        rng = np.random.default_rng([seed, self.size])
        shuffled = rng.permutation(np.arange(self.size, dtype=_smallest(self.size)))
        # By identity, and then as shuffled: both in one number, which is sorted where it stands.
        key = identity[shuffled].astype(np.int64)
        key <<= _BITS
        for start in range(0, self.size, _CHUNK):
            key[start : start + _CHUNK] += np.arange(start, min(start + _CHUNK, self.size))
        key.sort()
        is_first = np.ones(self.size, dtype=np.bool_)
        for start in range(1, self.size, _CHUNK):
            who = key[start - 1 : start + _CHUNK] >> _BITS
            is_first[start : start + _CHUNK] = who[1:] != who[:-1]
        self._starts = np.flatnonzero(is_first)
        key &= (1 << _BITS) - 1
        self._images = images.astype(_smallest(images.max(initial=0)), copy=False)[shuffled[key]]
        self._counts = np.diff(np.append(self._starts, self.size))
        self._begin = rng.integers(self._counts)
        self._seed = seed
        self._recent: dict[int, IntArray] = {}

    def draw(self, position: int, count: int) -> Draw:
        """Return store indices, and for epochs the identities' rounds."""
        places = np.arange(position, position + count)
        rounds = places // self._counts.size
        needed = range(int(rounds[0]), int(rounds[-1]) + 1)
        self._recent = {number: self._round(number) for number in needed}
        who = np.array(
            [self._recent[number][place % self._counts.size]
             for number, place in zip(rounds.tolist(), places.tolist(), strict=True)]
        )  # fmt: skip
        turn = (self._begin[who] + rounds) % self._counts[who]
        return Draw(self._images[self._starts[who] + turn].astype(np.int64), rounds)

    def _round(self, number: int) -> IntArray:
        if number in self._recent:
            return self._recent[number]
        # A third number, so that no round is drawn as an epoch of `Stream` is.
        return np.random.default_rng([self._seed, number, 1]).permutation(self._counts.size)


def order_of(
    images: Integers,
    identity: Integers | None,
    *,
    sampling: Sampling,
    seed: int,
) -> Stream | BalancedStream:
    """Make the order that a configuration asks for.

    Args:
        images: Store indices of the training images, shape (N,).
        identity: Whose turn it is at each of these places, shape (N,); "images" needs none.
        sampling: What an epoch holds equally often.
        seed: Of the order.
    """
    if sampling == "images":
        return Stream(images, seed=seed)
    assert identity is not None
    return BalancedStream(images, identity, seed=seed)


def training_images(labels: Labels, store: Store) -> Integers:
    """Images to train on: those that the table keeps, damaged ones replaced by others.

    Each image that was set aside (see `data.damage`) gives its place to a whole one, of the same
    identity where there is one: so the number of images, the steps and everyone else's place stay,
    and a run that met the damage on its way goes on.

    Args:
        labels: Who is on each image, and which are kept.
        store: The images.

    Returns:
        Store indices, shape (N,), in the order of `labels.kept()`.

    Raises:
        UserError: If no whole image is left.
    """
    images: Integers = labels.kept()
    images = images.astype(_smallest(len(labels)))
    if not store.quarantined.size:
        return images
    is_lost = np.isin(images, store.quarantined)
    if not is_lost.any():
        return images
    if is_lost.all():
        raise UserError(
            where=str(store.path),
            found="damaged images only",
            allowed="at least one that is whole",
            next_step="copy the store again",
        )
    logger.warning(
        "%s: %s damaged images are set aside; others take their places",
        store.path,
        f"{int(is_lost.sum()):,}",
    )
    images[is_lost] = _stand_ins(images, labels.identity[images], is_lost)
    return images


def _stand_ins(images: Integers, identity: IntArray, is_lost: BoolArray) -> Integers:
    """A whole image for each lost one: of the same identity, or of any."""
    rng = np.random.default_rng(images.size)
    lost_people = identity[is_lost]
    kin = np.flatnonzero(np.isin(identity, lost_people) & ~is_lost)
    kin = kin[np.argsort(identity[kin], kind="stable")]
    first, end = (np.searchsorted(identity[kin], lost_people, side=s) for s in ("left", "right"))
    has_kin = end > first
    chosen = rng.choice(np.flatnonzero(~is_lost), lost_people.size)
    chosen[has_kin] = kin[rng.integers(first[has_kin], end[has_kin])]
    found: Integers = images[chosen]
    return found


def _smallest(largest: int) -> type[np.integer]:
    """A type of number that holds all up to this one, of 4 bytes where that is enough."""
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64

"""Batches of decoded faces in an order that depends on seed, epoch and position alone.

Training reads one endless stream: the epochs' permutations one after the other, cut into global
batches. No batch is ever short and no image is dropped; a batch may straddle two epochs. Where the
stream stands is a single number, so a run resumes in the middle of an epoch with any number of
workers, and on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.errors import UserError


class Stream:
    """An endless, shuffled order over the images of a training set.

    Args:
        images: Store indices of the training images, shape (N,).
        seed: Two streams with one seed have one order.

    Example:
        >>> stream = Stream(np.array([10, 11, 12]), seed=0)
        >>> sorted(stream.take(3, 3).tolist())
        [10, 11, 12]
    """

    def __init__(self, images: IntArray, *, seed: int) -> None:
        self.images = images
        self.seed = seed
        self._recent: dict[int, IntArray] = {}

    def take(self, position: int, count: int) -> IntArray:
        """Return the store indices at positions `position` to `position + count − 1`.

        Args:
            position: From 0; epoch e begins at e · N.
            count: How many, from 1.

        Returns:
            Store indices, shape (count,). Within an epoch every image comes exactly once.
        """
        size = self.images.shape[0]
        first, last = position // size, (position + count - 1) // size
        epochs = [self._epoch(epoch) for epoch in range(first, last + 1)]
        self._recent = dict(zip(range(first, last + 1), epochs, strict=True))
        start = position - first * size
        return (
            np.concatenate(epochs)[start : start + count]
            if len(epochs) > 1
            else (epochs[0][start : start + count])
        )

    def _epoch(self, epoch: int) -> IntArray:
        if epoch in self._recent:
            return self._recent[epoch]
        return np.random.default_rng([self.seed, epoch]).permutation(self.images)


class StreamSampler(Sampler[IntArray]):
    """Cuts a stream into this rank's batches.

    Args:
        stream: The order.
        batch_size: Images of all ranks in each step, G; each gets its share of every batch.
        start_step: First step to serve.
        stop_step: The step before which to stop.
        ranks: Those that share each batch; by default this process alone.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        batch_size: int,
        start_step: int,
        stop_step: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.steps = range(start_step, stop_step)
        self.share = (ranks or Ranks()).bounds(batch_size)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[IntArray]:
        for step in self.steps:
            first, last = self.share
            yield self.stream.take(step * self.batch_size + first, last - first)


class FaceDataset:
    """A store's images with their identities, decoded batch by batch.

    Args:
        store: The images.
        identity: Identity of each image of the store, shape (N,), int64.
    """

    def __init__(self, store: Store, identity: IntArray) -> None:
        self.store = store
        self.identity = torch.from_numpy(identity.astype(np.int64))

    def decode(self, indices: IntArray) -> tuple[Tensor, Tensor]:
        """Decode one batch: uint8 (B, H, W, 3), and identities (B,), int64."""
        size = self.store.image_size
        # numpy's allocation, not torch's: it reuses pages, and new ones cost a tenth of decoding
        images = torch.from_numpy(np.empty((len(indices), size, size, 3), dtype=np.uint8))
        if get_worker_info() is not None:
            images.share_memory_()  # type: ignore[no-untyped-call]  # decoded where the other process will read it, without a copy
        pixels = images.numpy()
        for row, index in enumerate(indices):
            self.store.decode(int(index), out=pixels[row])
        return images, self.identity[torch.from_numpy(indices)]


def load_batches(
    dataset: FaceDataset, sampler: Sampler[IntArray], *, workers: int, pin_memory: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Serve a sampler's batches, decoded by worker processes.

    Args:
        dataset: What to decode.
        sampler: Yields the store indices of each batch.
        workers: Processes that decode; 0 decodes in this one. The batches are the same.
        pin_memory: Whether to put batches in page-locked memory for a GPU.

    Yields:
        Images, uint8 (B, H, W, 3), and their identities, int64 (B,).

    Raises:
        UserError: If an image or a shard is damaged.
    """
    loader = DataLoader(
        _SaidInWords(dataset),
        batch_sampler=sampler,  # type: ignore[arg-type]  # torch types it as lists; arrays serve
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _SaidInWords(Dataset[Any]):
    """Hands a user's error on as a batch: DataLoader would wrap it into a traceback."""

    def __init__(self, dataset: FaceDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: IntArray) -> tuple[Tensor, Tensor] | UserError:
        try:
            return self.dataset.decode(indices)
        except UserError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def training_identities(labels: Labels) -> IntArray:
    """Number the kept identities from 0 without gaps, as a classifier needs them.

    Args:
        labels: A table with at least two kept identities.

    Returns:
        Shape (N,), int64: 0 to C − 1 for kept images, −1 for the others.

    Raises:
        UserError: If fewer than two identities are kept.
    """
    known = labels.kept_identities
    if known.shape[0] < 2:
        raise UserError(
            where="labels",
            found=f"{known.shape[0]} identities with kept images",
            allowed="at least 2",
            next_step="training separates identities: ingest photos of more people",
        )
    numbered = np.searchsorted(known, labels.identity)
    return np.where(labels.keep, numbered, -1)

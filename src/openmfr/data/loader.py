"""Batches of decoded faces, in an order that depends on seed, epoch and position alone.

The order (`data.order`) is cut into global batches, and each rank decodes its share of every batch.
No batch is ever short and no image is dropped; a batch may straddle two epochs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from openmfr.data.labels import Labels
from openmfr.data.order import Draw, Order
from openmfr.data.store import Store, UInt8Array
from openmfr.distributed import Ranks
from openmfr.errors import UserError

#: Changes a decoded image in place, given its store index and the epoch: masks, for example.
Change = Callable[[UInt8Array, int, int], None]


class StreamSampler(Sampler[Draw]):
    """Cuts an endless order into this rank's batches.

    Args:
        order: The order.
        batch_size: Images of all ranks in each step, G; each gets its share of every batch.
        start_step: First step to serve.
        stop_step: The step before which to stop.
        ranks: Those that share each batch; by default this process alone.

    Attributes:
        batch: Images of this rank in each step, B.
    """

    def __init__(
        self,
        order: Order,
        *,
        batch_size: int,
        start_step: int,
        stop_step: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.steps = range(start_step, stop_step)
        self.share = (ranks or Ranks()).bounds(batch_size)
        self.batch = self.share[1] - self.share[0]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Draw]:
        for step in self.steps:
            first, last = self.share
            yield self.order.draw(step * self.batch_size + first, last - first)


class FaceDataset:
    """A store's images with their identities, decoded batch by batch.

    Args:
        store: The images.
        identity: Identity of each image of the store, shape (N,).
        change: What is done to each image once it is decoded; nothing by default.
        threads: How many change images at once, beside no worker processes: while a batch is made,
            the network waits. The images are the same.
    """

    def __init__(
        self,
        store: Store,
        identity: npt.NDArray[np.integer],
        *,
        change: Change | None = None,
        threads: int = 1,
    ) -> None:
        self.store = store
        self.identity = identity
        self.change = change
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if change and threads > 1 else None

    def decode(self, draw: Draw, *, out: UInt8Array | None = None) -> tuple[Tensor, Tensor]:
        """Decode one batch.

        Args:
            draw: B images.
            out: Where to decode to, uint8, shape (B, H, W, 3); a new array by default.

        Returns:
            Images, uint8 (B, H, W, 3), and their identities, int64 (B,).
        """
        size = self.store.image_size
        # numpy's allocation, not torch's: it reuses pages, and new ones cost a tenth of decoding
        pixels = np.empty((len(draw.images), size, size, 3), np.uint8) if out is None else out
        indices, epochs = draw.images.tolist(), draw.epochs.tolist()
        for image, index in zip(pixels, indices, strict=True):
            self.store.decode(index, out=image)
        if self.change is not None:
            change = partial(self._change_some, pixels, indices, epochs)
            changed = (self._pool.map if self._pool else map)(change, range(self._threads))
            deque(changed, maxlen=0)  # nothing is returned, but what went wrong is raised
        identity = self.identity[draw.images].astype(np.int64)
        return torch.from_numpy(pixels), torch.from_numpy(identity)

    def _change_some(
        self, pixels: UInt8Array, indices: list[int], epochs: list[int], thread: int
    ) -> None:
        """Change a thread's share: most images stay as they are, and a task for each would cost."""
        assert self.change is not None
        for i in range(thread, len(pixels), self._threads):
            self.change(pixels[i], indices[i], epochs[i])


def load_batches(
    dataset: FaceDataset, sampler: StreamSampler, *, workers: int, pin_memory: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Serve a sampler's batches, decoded by worker processes.

    Args:
        dataset: What to decode.
        sampler: Yields what each batch consists of.
        workers: Processes that decode; 0 decodes in this one, a few batches at once if images are
            changed. The batches are the same.
        pin_memory: Whether to put batches in page-locked memory for a GPU.

    Yields:
        Images, uint8 (B, H, W, 3), and their identities, int64 (B,).

    Raises:
        UserError: If an image or a shard is damaged.
    """
    if not workers:
        for images, identity in _decoded_here(dataset, sampler):
            yield images.pin_memory() if pin_memory else images, identity
        return
    pages = _Pages(workers, sampler.batch, dataset.store.image_size)
    loader = DataLoader(
        _Decoder(dataset, pages),
        batch_sampler=sampler,  # type: ignore[arg-type]  # torch types it as lists; draws serve
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        place, identities = batch
        yield pages.take(place, pin_memory=pin_memory), torch.from_numpy(identities)


#: Batches that are made at once where images are changed between steps. One at a time, they find
#: the processor's caches full of the network, and masks take twice as long.
_AT_ONCE = 4


def _decoded_here(dataset: FaceDataset, sampler: StreamSampler) -> Iterator[tuple[Tensor, Tensor]]:
    draws = iter(sampler)
    while some := list(islice(draws, _AT_ONCE if dataset.change else 1)):
        images, epochs = (np.concatenate(part) for part in zip(*some, strict=True))
        whole = dataset.decode(Draw(images, epochs))
        yield from zip(*(torch.split(part, sampler.batch) for part in whole), strict=True)


#: Rows that are numbered at once: whole, the numbers of 42 million take 0.3 GiB more.
_CHUNK = 2**20

#: Batches that each worker decodes ahead of the one in use.
_AHEAD = 2


class _Pages:
    """Shared memory that workers decode into by turns, allocated once.

    A batch in new shared memory costs as much in page faults as in decoding. A worker is asked for
    its next batch when one of its batches is taken from it, so `_AHEAD` are under way beside that
    one: with a page more than that, none is written while it is read.
    """

    def __init__(self, workers: int, batch: int, size: int) -> None:
        shape = (workers, _AHEAD + 1, batch, size, size, 3)
        self._pages = torch.zeros(shape, dtype=torch.uint8)
        self._pages.share_memory_()  # type: ignore[no-untyped-call]
        self._turn = 0

    def next(self, worker: int) -> tuple[UInt8Array, tuple[int, int]]:
        """In a worker: the page to decode into, shape (B, H, W, 3), and its place."""
        place = (worker, self._turn)
        self._turn = (self._turn + 1) % self._pages.shape[1]
        return self._pages[place].numpy(), place

    def take(self, place: tuple[int, int], *, pin_memory: bool) -> Tensor:
        """Where batches are used: a copy of a page, so that the worker may go on."""
        page = self._pages[place]
        if pin_memory:
            return torch.empty_like(page, pin_memory=True).copy_(page)
        return torch.from_numpy(page.numpy().copy())


class _Decoder(Dataset[Any]):
    """Decodes in a worker process; hands a user's error on as a batch.

    DataLoader would wrap the error into a traceback.
    """

    def __init__(self, dataset: FaceDataset, pages: _Pages) -> None:
        self.dataset = dataset
        self.pages = pages

    def __getitems__(self, draw: Draw) -> tuple[Any, Any] | UserError:
        worker = get_worker_info()
        assert worker is not None
        try:
            page, place = self.pages.next(worker.id)
            identity = self.dataset.decode(draw, out=page)[1]
            return place, identity.numpy()  # as bytes: a tensor would need shared memory of its own
        except UserError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def training_identities(labels: Labels) -> npt.NDArray[np.int32]:
    """Number the kept identities from 0 without gaps, as a classifier needs them.

    Args:
        labels: A table with at least two kept identities.

    Returns:
        Shape (N,), int32: 0 to C − 1 for kept images, −1 for the others.

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
    numbered = np.empty(len(labels), dtype=np.int32)
    for start in range(0, len(labels), _CHUNK):
        part = slice(start, start + _CHUNK)
        numbered[part] = np.searchsorted(known, labels.identity[part])
    numbered[~labels.keep] = -1
    return numbered

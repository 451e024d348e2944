"""Faces of several requests in one call of the network.

While the network computes, faces gather; when it is done, it takes all that wait, up to a limit.
So a lone request never waits for company, and the busier the service, the larger the batches. The
queue is bounded by the door (`threads.Door`): a request waits with at most two faces.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from openmfr.deploy.service.threads import Threads

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
_Waiting = tuple[UInt8Array, asyncio.Future[Float32Array]]

_log = logging.getLogger(__name__)


class Batcher:
    """Embeds single faces, several at once where several wait; used by one event loop.

    Args:
        embed: Maps faces, uint8 (B, S, S, 3), to embeddings, float32 (B, D); called by one thread
            at a time.
        max_batch: Largest B.
        told: Is told the size of each batch.
    """

    def __init__(
        self,
        embed: Callable[[UInt8Array], Float32Array],
        *,
        max_batch: int,
        told: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._embed, self._max_batch, self._told = embed, max_batch, told
        self._threads = Threads(1, name="network")
        self._waiting: deque[_Waiting] = deque()
        self._work: asyncio.Task[None] | None = None

    async def embed(self, face: UInt8Array) -> Float32Array:
        """Embed a face, uint8 (S, S, 3); returns float32 (D,), not normalised.

        Raises:
            Exception: Whatever the network raises for this face; it does not touch the others.
        """
        future: asyncio.Future[Float32Array] = asyncio.get_running_loop().create_future()
        self._waiting.append((face, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._empty())
        return await future

    async def close(self) -> None:
        """Finish what waits and end the thread."""
        if self._work is not None:
            await asyncio.wait([self._work])
        self._threads.close()

    async def _empty(self) -> None:
        while batch := self._next():
            self._told(len(batch))
            await self._answer(batch)

    def _next(self) -> list[_Waiting]:
        """Take the oldest faces that somebody still waits for."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            face, future = self._waiting.popleft()
            if not future.done():
                batch.append((face, future))
        return batch

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        faces = np.stack([face for face, _ in batch])
        try:
            embeddings = await self._threads.run(lambda: self._embed(faces))
        except Exception as error:
            if len(batch) == 1:
                _set(batch[0][1], error=error)
                return
            _log.warning("a batch of %d failed; each face alone", len(batch))
            for one in batch:
                await self._answer([one])
            return
        for (_, future), embedding in zip(batch, embeddings, strict=True):
            _set(future, result=embedding)


def _set(
    future: asyncio.Future[Float32Array],
    *,
    result: Float32Array | None = None,
    error: Exception | None = None,
) -> None:
    """Answer somebody who may have gone."""
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        assert result is not None
        future.set_result(result)

"""Threads that compute, so that the event loop can go on answering; and how many may wait.

A thread cannot be stopped. When a request gives up (its time is over, its caller has gone), a job
that was not begun is dropped, and one that runs goes on to its end; until then it still counts as
being in the house, so that however slow the photos, no more than `places` are held at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from openmfr.deploy.service.problems import Problem

T = TypeVar("T")


class Threads:
    """A few threads for jobs of requests.

    Args:
        count: How many.
        name: What they are called.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._orphans = 0

    @property
    def orphans(self) -> int:
        """Jobs that run although nobody waits for them any more."""
        return self._orphans

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job in a thread and wait for it."""
        future = self._pool.submit(job)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():
                self._adopt(future)
            raise

    def _adopt(self, future: Future[T]) -> None:
        with self._lock:
            self._orphans += 1
        future.add_done_callback(self._release)

    def _release(self, _: Future[T]) -> None:
        with self._lock:
            self._orphans -= 1

    def close(self) -> None:
        """Finish what was begun and end the threads."""
        self._pool.shutdown(wait=True)


class Door:
    """Lets requests in as long as there are places; used by the event loop alone.

    Args:
        places: Requests that may be in the house at once.
        orphans: Says how many jobs of requests that have left are still running.
    """

    def __init__(self, places: int, orphans: Callable[[], int]) -> None:
        self._places, self._orphans, self._guests = places, orphans, 0

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._guests + self._orphans()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for a request.

        Raises:
            Problem: "busy", if there is none.
        """
        if self.taken >= self._places:
            raise Problem("busy", retry_after=1)
        self._guests += 1
        try:
            yield
        finally:
            self._guests -= 1

"""Batches that are waited for with patience: a wait can be watched, and left.

A disk or a network that hangs says nothing; without a look at the clock, training would wait for it
for ever. Nothing here sleeps by itself: clocks are arguments.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from torch import Tensor

from openmfr.errors import UserError, check_fields
from openmfr.run import event

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]

#: How often a wait for a batch looks up, in seconds.
LOOK_EVERY: Final = 0.5
#: What PyTorch says of a worker that is gone: to who waits for it, or to the main thread.
_KILLED: Final = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)")
#: What the system calls the states of a process, for a worker that does not answer.
_STATES: Final = {"R": "computing", "S": "waiting", "D": "waiting for a disk", "T": "stopped"}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long training waits for a batch, in seconds.

    Attributes:
        warn: After so long a warning is logged.
        stop: After so long training stops, with a checkpoint. Less than what the ranks wait for
            each other (`distributed.TIMEOUT`), else they would give up first.
    """

    warn: float = 60.0
    stop: float = 480.0

    def __post_init__(self) -> None:
        limits = {
            "stop": (0 < self.stop < math.inf, "above 0, finite"),
            "warn": (0 < self.warn <= self.stop, "above 0, not above stop"),
        }
        check_fields(self, limits, next_step="leave it out", within="patience.")

    @classmethod
    def within(cls, seconds: float) -> Patience:
        """Patience of a run whose ranks wait so long for each other.

        Example:
            >>> Patience.within(600)
            Patience(warn=60.0, stop=480.0)
        """
        return cls(warn=0.1 * seconds, stop=0.8 * seconds)


class Feeder:
    """Serves batches that another thread waits for, so that a wait can be watched and left.

    The thread works only when it is asked for a batch, so nothing is read ahead.

    Args:
        batches: Where they come from.
        patience: How long to wait.
        look_every: Seconds between two looks at the clock while waiting.
        clock: In seconds.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        *,
        patience: Patience,
        look_every: float = LOOK_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batches = batches
        self._patience = patience
        self._look_every = look_every
        self._clock = clock
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._served: SimpleQueue[Batch | BaseException] = SimpleQueue()
        self._strangers = frozenset(multiprocessing.active_children())
        self._is_waiting = False
        self._thread = threading.Thread(target=self._serve, daemon=True, name="batches")
        self._thread.start()

    def _serve(self) -> None:
        while self._asked.get():
            try:
                self._served.put(next(self._batches))
            except BaseException as error:
                self._served.put(error)
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()  # ends the workers that decode

    def next(self, where: str, *, is_stopping: Callable[[], bool] = lambda: False) -> Batch | None:
        """Wait for the next batch.

        Args:
            where: Which one it is, for warning and error.
            is_stopping: Whether to give up the wait; looked at now and then.

        Returns:
            The batch; None if the wait was given up.

        Raises:
            UserError: If none came in time.
            Exception: What went wrong with it.
        """
        if not self._is_waiting:
            self._asked.put(True)
        self._is_waiting = True
        began, is_warned = self._clock(), False
        while True:
            try:
                item = self._served.get(timeout=self._look_every)
                break
            except Empty:
                waited = self._clock() - began
            if is_stopping():
                return None
            if waited >= self._patience.warn and not is_warned:
                logger.warning(
                    "%s: no batch for %.0f s; %s", where, waited, self._who(), extra=event("stall")
                )
                is_warned = True
            if waited >= self._patience.stop:
                raise self._stalled(where, waited)
        self._is_waiting = False
        if isinstance(item, BaseException):
            raise item
        return item

    def _stalled(self, where: str, waited: float) -> UserError:
        return UserError(
            where=where,
            found=f"no batch for {waited:.0f} s; {self._who()}",
            allowed="a batch in time (--patience says how long)",
            next_step="look at the disk or the network that holds the store, and give the same "
            "command again: it goes on",
        )

    def _who(self) -> str:
        """Which processes decode, and what they are doing."""
        workers = self._workers()
        if not workers:
            return "this process itself reads the store and decodes"
        states = (f"{worker.pid} is {_state(worker.pid)}" for worker in workers)
        return "of the processes that decode, " + ", ".join(states)

    def _workers(self) -> list[BaseProcess]:
        ours = (c for c in multiprocessing.active_children() if c not in self._strangers)
        return sorted(ours, key=lambda worker: worker.pid or 0)

    def close(self) -> None:
        """End the thread, and the processes that decode; those that hang are killed."""
        workers = self._workers()
        self._asked.put(False)
        self._thread.join(timeout=0.0 if self._is_waiting else None)
        for worker in workers:
            worker.kill()


@contextmanager
def feeding(batches: Iterator[Batch], patience: Patience) -> Iterator[Feeder]:
    """Serve batches while the block runs."""
    feeder = Feeder(batches, patience=patience)
    try:
        yield feeder
    finally:
        feeder.close()


@contextmanager
def lost_decoder_said(where: str) -> Iterator[None]:
    """Turn what PyTorch says of a process that decoded, and was killed, into one clear line.

    Args:
        where: The run.

    Raises:
        UserError: If the block fails as one was.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error).splitlines()[0] if str(error) else ""
        if not _KILLED.search(said):
            raise
        raise UserError(
            where=where,
            found=f"a process that decodes was killed ({said})",
            allowed="processes that live",
            next_step="look whether memory ran out (fewer --workers need less), and give the same "
            "command again: it goes on from the last checkpoint",
        ) from error


def _state(process: int | None) -> str:
    """What a process is doing, as Linux knows it."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return _STATES.get(fields.split()[0], "in state " + fields.split()[0])
    except OSError:
        return "gone, or its state is not known"

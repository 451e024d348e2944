"""Stopping on purpose: one rank is asked to, or cannot go on, and all stop at the same step.

SIGTERM is how a machine is taken away (pre-emption, a job's time limit, `docker stop`). It reaches
ranks at different moments, and a rank that stopped alone would leave the others waiting. So before
each step the ranks tell each other whether they may go on: two numbers, over the host's memory.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from openmfr.distributed import Ranks
from openmfr.errors import Preempted, UserError
from openmfr.train.feeder import Batch, Feeder

_AGAIN = "what was done is in a checkpoint: give the same command again, it goes on"


class StopRequest:
    """Whether this process has been asked to stop."""

    def __init__(self) -> None:
        self.is_made = False

    def make(self) -> None:
        """Ask."""
        self.is_made = True

    @contextmanager
    def after(self, seconds: float | None) -> Iterator[None]:
        """Ask after so long, unless the block ends before; None: never."""
        if seconds is None:
            yield
            return
        timer = threading.Timer(seconds, self.make)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Note SIGTERM instead of dying of it, while the block runs.

    Only a process's main thread may do this; in another one nothing is noted.

    Yields:
        The request, which SIGTERM makes; the block looks at it where it can stop.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(*_: Any) -> None:
        request.make()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        # None: a handler that was not set from Python cannot be put back from it
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


class Verdict(NamedTuple):
    """What all ranks know before a step.

    Attributes:
        is_asked: Whether any rank was asked to stop.
        faulty: A rank that has no batch for the step; None if all have theirs.
    """

    is_asked: bool
    faulty: int | None

    @property
    def may_go_on(self) -> bool:
        """Whether all make the step."""
        return not self.is_asked and self.faulty is None


def agree(ranks: Ranks, *, is_asked: bool, is_faulty: bool) -> Verdict:
    """Find out whether all ranks may make the next step; all of them call this before each.

    Args:
        ranks: Those that train together.
        is_asked: Whether this one was asked to stop.
        is_faulty: Whether this one has no batch for the step.

    Returns:
        The same on every rank.

    Example:
        >>> agree(Ranks(), is_asked=False, is_faulty=False).may_go_on
        True
    """
    asked, faulty = ranks.largest([int(is_asked), ranks.rank + 1 if is_faulty else 0])
    return Verdict(bool(asked), faulty - 1 if faulty else None)


def take_batch(
    feeder: Feeder,
    ranks: Ranks,
    stop: StopRequest,
    *,
    where: str,
    waiting: AbstractContextManager[None],
    save: Callable[[], None],
) -> Batch:
    """Wait for a step's batch, and for all ranks to have theirs; or stop, all of them.

    Args:
        feeder: Where it comes from.
        ranks: Those that train together.
        stop: Whether this one was asked to stop.
        where: The run and the step, for errors.
        waiting: Entered while this rank waits for its own batch.
        save: Writes a checkpoint, on all ranks together, unless there is one of this step.

    Raises:
        Preempted: If a rank was asked to stop.
        UserError: If a rank has no batch.
    """
    batch, fault = None, None
    try:
        with waiting:
            batch = feeder.next(where, is_stopping=lambda: stop.is_made)
    except Exception as error:  # the other ranks must know before it is raised
        fault = error
    verdict = agree(ranks, is_asked=stop.is_made, is_faulty=fault is not None)
    if verdict.may_go_on and batch is not None:
        return batch
    save()
    if verdict.is_asked:
        raise Preempted(f"{where}: asked to stop (SIGTERM) before it; {_AGAIN}")
    raise fault or UserError(
        where=where,
        found=f"no batch on rank {verdict.faulty}",
        allowed="a batch on every rank",
        next_step="see what that one says, and give the same command again: it goes on",
    )


def stop_after_the_end(ranks: Ranks, stop: StopRequest, *, where: str) -> None:
    """Stop all ranks if one was asked to since the last step began.

    Raises:
        Preempted: If one was.
    """
    if agree(ranks, is_asked=stop.is_made, is_faulty=False).is_asked:
        raise Preempted(f"{where}: asked to stop (SIGTERM) after the last step; {_AGAIN}")

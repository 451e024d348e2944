"""What goes wrong in a long run without a word: a rank that the others wait for, and NaN.

Nothing here stops a run: it measures, and says what it found. Clocks are arguments.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.files import write_json
from openmfr.run import event

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

DIVERGED_FILE: Final = "diverged.json"

#: A rank is slow if its own part of a step takes so many times that of the median of the others …
SLOW_RATIO: Final = 2.0
#: … and what it takes longer is so large a share of the step.
SLOW_SHARE: Final = 0.1


@dataclass(frozen=True)
class Pace:
    """What this rank's steps were spent on, in seconds of a step, on average.

    Attributes:
        step: The whole step, waits for other ranks included.
        data: Waiting for a batch.
        forward: Preparing the batch and the network's forward pass, the last thing before ranks
            wait for each other. On a GPU, the time until the work is handed over.
    """

    step: float
    data: float
    forward: float


class Stopwatch:
    """Measures the steps between two rows of the metrics.

    Args:
        clock: In seconds.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begin anew; what was done since the last step counts for nothing."""
        self.steps = 0
        self._data = self._forward = 0.0
        self._began = self._clock()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch."""
        began = self._clock()
        yield
        self._data += self._clock() - began

    def begin_step(self) -> None:
        """A step begins: all ranks have their batches."""
        self.steps += 1
        self._step_began: float | None = self._clock()

    def reach_others(self, *_: Any) -> None:
        """The forward pass is done: from now on, ranks wait for each other. Serves as a hook."""
        if self._step_began is not None:
            self._forward += self._clock() - self._step_began
            self._step_began = None  # a batch in several parts is measured by its first

    @property
    def pace(self) -> Pace:
        """The average step since the beginning; there has been one."""
        whole = self._clock() - self._began
        return Pace(whole / self.steps, self._data / self.steps, self._forward / self.steps)


class SlowRanks:
    """Finds ranks that the others wait for.

    A rank is slow if its own part of a step (waiting for its batch, and the forward pass) takes
    `SLOW_RATIO` times the median of the others', and the difference is at least `SLOW_SHARE` of
    the step. It is named when it is so twice in a row, and once only, until it has caught up.
    """

    def __init__(self) -> None:
        self._times: dict[int, int] = {}

    def look(self, paces: Sequence[Pace]) -> list[str]:
        """Look at one interval.

        Args:
            paces: Of all ranks, in their order; from two on.

        Returns:
            A sentence for each rank that has become slow.

        Example:
            >>> slow, lag = SlowRanks(), [Pace(1.0, 0.0, 0.2), Pace(1.0, 0.7, 0.2)]
            >>> slow.look(lag)
            []
            >>> print(slow.look(lag)[0].partition(";")[0])
            rank 1 holds the others up: 0.900 s of its own for each step, the others 0.200 s
        """
        found = {
            rank: text
            for rank in range(len(paces))
            if (text := _lag(rank, paces[rank], [*paces[:rank], *paces[rank + 1 :]]))
        }
        self._times = {rank: self._times.get(rank, 0) + 1 for rank in found}
        return [text for rank, text in found.items() if self._times[rank] == 2]

    def note(self, step: int, pace: Pace, ranks: Ranks) -> None:
        """Let all ranks compare their paces, and warn of those that are slow."""
        if ranks.size == 1 or step == 1:  # the first step is like no other
            return
        own = torch.tensor([[pace.step, pace.data, pace.forward]], dtype=torch.float64)
        for text in self.look([Pace(*row) for row in ranks.gather(own, ranks.size).tolist()]):
            if ranks.is_first:
                logger.warning("step %d: %s", step, text, extra=event("slow_rank", step=step))


def _lag(rank: int, own: Pace, others: Sequence[Pace]) -> str:
    """Say how a rank lags behind; nothing if it does not."""
    usual = statistics.median(pace.data + pace.forward for pace in others)
    mine = own.data + own.forward
    if mine <= SLOW_RATIO * usual or mine - usual < SLOW_SHARE * own.step:
        return ""
    waits = own.data - statistics.median(pace.data for pace in others)
    computes = own.forward - statistics.median(pace.forward for pace in others)
    cause = (
        "it waits for its images: look at its disk, and at --workers"
        if waits >= computes
        else "it computes: look for other programs on its processors, or for one that is throttled"
    )
    return (
        f"rank {rank} holds the others up: {mine:.3f} s of its own for each step, the others "
        f"{usual:.3f} s; {cause}"
    )


class Losses:
    """Losses that were not looked at yet: a look makes a GPU's host wait, so it is done rarely."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        """Forget what was there; the next loss is that of the step after this one."""
        self._losses: list[Tensor] = []
        self._before, self._last = step, 0.0

    def add(self, loss: Tensor) -> None:
        """Keep the loss of the next step, a scalar."""
        self._losses.append(loss)

    def look(self) -> tuple[int, float]:
        """Find the first loss that is not finite, or else the last one.

        Returns:
            Its step, from 1, and its value. What was looked at is forgotten but for the last one.
        """
        if not self._losses:
            return self._before, self._last
        values = torch.stack(self._losses).tolist()
        bad = (place for place, value in enumerate(values) if not math.isfinite(value))
        place = next(bad, len(values) - 1)
        step, value = self._before + place + 1, float(values[place])
        self.begin(self._before + len(values))
        self._last = value
        return step, value


def diverged(
    run: Path,
    *,
    step: int,
    found: str,
    learning_rate: float,
    images: Mapping[int, list[int]],
    good: Path | None,
    is_first: bool,
) -> UserError:
    """Write down what a step saw whose numbers are not finite, and say how to go on.

    Args:
        run: The run's folder.
        step: Which one, from 1.
        found: What is not finite.
        learning_rate: Of the step.
        images: Store indices of the batches that may be concerned, by their steps.
        good: The last checkpoint, whose weights are finite; None if there is none.
        is_first: Whether this rank writes.
    """
    if is_first and run.is_dir():
        content = {
            "step": step,
            "found": found,
            "learning_rate": learning_rate,
            "last_good_checkpoint": None if good is None else str(good),
            "images_of_steps": images,
        }
        with suppress(OSError):  # the disk may be full: the error itself matters more
            write_json(run / DIVERGED_FILE, content)
    start = f" (--from {good} begins with the last good weights)" if good else ""
    return UserError(
        where=f"{run}, step {step}",
        found=found,
        allowed="finite numbers",
        next_step=f"lower the learning rate or lengthen the warm-up, in a new folder{start}; "
        f"{DIVERGED_FILE} names the images of the step",
    )

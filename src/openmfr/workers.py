"""Work for several processes of one machine: spawned, and gone when their parent is.

Processes are spawned, not forked: a fork copies locks that threads of this process may hold. Left
alone, a worker whose parent was killed waits for its next job for ever; these follow the parent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from openmfr.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_workers(workers: int | None, *, where: str = "workers") -> int:
    """Return how many processes or threads a user asked for; one for each CPU by default.

    Args:
        workers: The number.
        where: What the user calls it.

    Raises:
        UserError: If the number is below 1.

    Example:
        >>> choose_workers(3)
        3
    """
    workers = usable_cpus() if workers is None else workers
    if workers < 1:
        raise UserError(
            where=where,
            found=str(workers),
            allowed="from 1",
            next_step="leave it out for one per core",
        )
    return workers


def size_of_part(images: int) -> int:
    """How many images are one part of the work on so many: a shard, mostly.

    Few enough for a bar that moves and little lost to a kill, and enough for millions.

    Example:
        >>> size_of_part(100), size_of_part(20_000), size_of_part(42_000_000)
        (16, 313, 2048)
    """
    return min(max(-(-images // 64), 16), 2_048)


def do_all(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    what: str,
    cluster: str | None = None,
) -> Iterator[Result]:
    """Do jobs in processes and yield each result when it is there, in any order.

    Args:
        function: Takes one job; of a module, so that it can be found by name.
        jobs: What to do; they and the results are pickled.
        workers: Processes, from 1; with one, or one job, everything happens in this process.
        what: The verb, for the error: "synth".
        cluster: Address of a Ray cluster that does them instead; see `openmfr.cluster`.

    Yields:
        Results of `function`. An exception of one job cancels those that wait and is raised.

    Raises:
        UserError: If a worker dies.

    Example:
        >>> list(do_all(abs, [-1, 2], workers=1, what="example"))
        [1, 2]
    """
    if cluster is not None:
        from openmfr.cluster import do_all_on_cluster

        yield from do_all_on_cluster(function, jobs, address=cluster, what=what)
        return
    if workers == 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_follow_parent,
    )
    try:
        for finished in as_completed([pool.submit(function, job) for job in jobs]):
            yield finished.result()
    except BrokenProcessPool as error:
        raise UserError(
            where=what,
            found="a worker process that died: killed, out of memory, or crashed",
            allowed="workers that live",
            next_step="run the same command again, it goes on; with fewer --workers if memory "
            "is short",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent process, and die with it, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

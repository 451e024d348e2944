"""Work for several machines: Ray hands jobs to its nodes, and hands them out again if one is lost.

The nodes share a file system on which all paths mean the same, and have openmfr installed. A job
writes what it makes by rename, so one that is done twice stands there once. Processes of one
machine (`openmfr.workers`) start at once; Ray takes seconds to start and gigabytes of memory.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from openmfr.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Nodes that a job may be lost with before it is given up.
RETRIES = 5

_KNOCK_SECONDS = 10.0

#: Jobs that are handed out for each CPU: one at work, one that waits.
_AHEAD = 2


def do_all_on_cluster(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, address: str, what: str
) -> Iterator[Result]:
    """Do jobs on a Ray cluster and yield each result when it is there, in any order.

    Args:
        function: Takes one job; of a module that the nodes have, so that it can be found by name.
        jobs: What to do; they and the results are pickled.
        address: HOST:PORT of the cluster's head; "auto" for one that this machine belongs to;
            "local" for a new one on this machine alone.
        what: The verb, for the error: "ingest".

    Yields:
        Results of `function`. An exception of one job ends the work and is raised.

    Raises:
        UserError: If no cluster answers, or a job is lost again and again.
    """
    import ray

    _connect(address, what)
    try:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_plain(function))
        waiting = iter(jobs)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus = max(1, int(resources.get("CPU", 1)))
        pending = [task.remote(job) for job in islice(waiting, _AHEAD * cpus)]
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            yield _result(done[0], what)
            pending += [task.remote(job) for job in islice(waiting, len(done))]
    finally:
        ray.shutdown()


def _plain(function: Callable[[Job], Result]) -> Callable[[Job], Result]:
    """Make a function of what can be called: Ray takes no `functools.partial`."""

    def do(job: Job) -> Result:
        return function(job)

    return do


def _connect(address: str, what: str) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        _knock(address)
        # Else a node that is lost fills the terminal with what Ray and its workers think of it.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            where=f"{what}, address",
            found=f"{address}: {str(error).splitlines()[0]}",
            allowed="HOST:PORT of a Ray cluster, auto, or local",
            next_step="start one: ray start --head, and ray start --address on the other machines",
        ) from error


def _knock(address: str) -> None:
    """See that something listens there: Ray itself tries for minutes.

    Raises:
        OSError, ValueError: If nothing does, or the port is no number.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _result(reference: Any, what: str) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise UserError(
            where=what,
            found=f"a job that was lost with {RETRIES} nodes: {str(error).splitlines()[0]}",
            allowed="nodes that live",
            next_step="run the same command again, it goes on; look at ray status",
        ) from error

"""Processes that share work: every job once, faults said, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import factorial, sqrt
from pathlib import Path

import pytest

from openmfr.errors import UserError
from openmfr.workers import do_all, usable_cpus


def test_every_job_is_done_once_by_several_processes() -> None:
    assert sorted(do_all(factorial, range(9), workers=3, what="test")) == [
        factorial(n) for n in range(9)
    ]


def test_a_jobs_mistake_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match=r"nonnegative|math domain"):
        list(do_all(sqrt, [1.0, -1.0, 4.0], workers=2, what="test"))


def test_a_worker_that_dies_is_said_in_one_sentence() -> None:
    with pytest.raises(UserError, match="a worker process that died"):
        list(do_all(os._exit, [3, 3], workers=2, what="test"))


def test_there_is_always_a_cpu() -> None:
    assert usable_cpus() >= 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for a process's children")
def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import time\nfrom openmfr.workers import do_all\n"
        "if __name__ == '__main__':\n"
        "    list(do_all(time.sleep, [60.0, 60.0], workers=2, what='test'))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        children = _wait_for(lambda: _children(parent.pid), at_least=3)  # two and the tracker
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _wait_for(lambda: [1] * (not any(_is_alive(pid) for pid in children)), at_least=1)


def _children(pid: int) -> list[int]:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in words]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(look: Callable[[], list[int]], *, at_least: int) -> list[int]:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if len(seen := look()) >= at_least:
            return seen
        time.sleep(0.1)
    raise AssertionError("it did not happen within 30 s")

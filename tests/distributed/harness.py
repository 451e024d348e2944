"""Run a function on several ranks: real processes, gloo on this machine, and no way to hang."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from openmfr.distributed import Ranks

#: What a function returns: anything of tensors, numbers, texts, lists and dictionaries.
Result = dict[str, Any]

TIMEOUT_SECONDS = 120.0


def run_on_ranks(
    function: Callable[[Ranks], Result],
    size: int,
    folder: Path,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[Result]:
    """Call a function on each of `size` ranks.

    Args:
        function: Of an importable module, as every rank imports it anew.
        size: Ranks, from 1; one alone runs in this process.
        folder: Empty, for the ranks to find each other and for what they return.
        timeout_seconds: After it, ranks that have not ended are killed.

    Returns:
        What each rank returned, in their order.

    Raises:
        AssertionError: If a rank failed or did not end, with the traceback of each that failed.
    """
    if size == 1:
        return [function(Ranks())]
    context = get_context("spawn")
    processes = [
        context.Process(target=_run, args=(function, rank, size, folder), daemon=True)
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    _wait(processes, timeout_seconds)
    faults = [
        f"rank {rank}: exit code {process.exitcode}\n{_text(folder / f'{rank}.txt')}"
        for rank, process in enumerate(processes)
        if process.exitcode != 0
    ]
    if faults:
        raise AssertionError("\n".join(faults))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _wait(processes: Sequence[BaseProcess], timeout_seconds: float) -> None:
    """Wait for all; when one fails, the others wait for it in vain, and have 5 s to end."""
    deadline = time.monotonic() + timeout_seconds
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
        if any(process.exitcode not in (None, 0) for process in processes):
            deadline = min(deadline, time.monotonic() + 5)
            break
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _run(function: Callable[[Ranks], Result], rank: int, size: int, folder: Path) -> None:
    """What a rank does."""
    status = 1
    try:
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
        dist.init_process_group(
            "gloo",
            store=dist.FileStore(str(folder / "store"), size),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=60),
        )
        result = function(Ranks(rank, size, dist.group.WORLD))
        torch.save(result, folder / f"{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()
        status = 0
    except BaseException:
        (folder / f"{rank}.txt").write_text(traceback.format_exc())
    sys.stdout.flush()
    sys.stderr.flush()
    # gloo's threads abort some exits of the interpreter after all work is done.
    os._exit(status)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else "(no traceback: killed, or out of time)"

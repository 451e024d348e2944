"""Ranks that are started again beside what an earlier attempt left in torchrun's store."""

from __future__ import annotations

import os
from datetime import timedelta
from multiprocessing import get_context

import torch
import torch.distributed as dist

from openmfr.distributed import joined

RANKS, DEADLINE_SECONDS = 2, 120


def join_and_go(rank: int, port: int, restarts: int) -> None:
    """Add up over all ranks, and go without a word to the others, as a killed process does."""
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(RANKS),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT=str(restarts),
        GLOO_SOCKET_IFNAME="lo",
    )
    with joined(torch.device("cpu"), timeout=timedelta(seconds=60)) as ranks:
        total = ranks.sum_(torch.ones(3))
        ranks.barrier()
        os._exit(0 if total.eq(RANKS).all() else 1)


def test_a_machine_that_counts_other_restarts_joins() -> None:
    # As torchrun's agent does, it serves both attempts.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    spawn = get_context("spawn")
    for restarts in ((0, 0), (1, 0)):
        processes = [
            spawn.Process(target=join_and_go, args=(rank, store.port, count))
            for rank, count in enumerate(restarts)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(DEADLINE_SECONDS)
            code = process.exitcode
            process.kill()
            assert code == 0

"""Ranks: who takes part in a run, which part of an array is whose, and the collectives.

An array of n rows is split as torch.chunk splits it: every rank has ⌈n / k⌉ rows, the last ones
fewer or none. Where each row lies follows from n and k alone, and what is padded for a collective
stands at the end. One process is the special case k = 1, in which no collective is called.

All ranks hold the same replicated loss. A gradient that flows back into a part is therefore the sum
of what the ranks found for that part, and never an average.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from openmfr.errors import UserError

# torch 2.13 gave two collectives new names, and warns of the old ones.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

#: How long a collective waits for a rank that does not come.
TIMEOUT = timedelta(minutes=10)

#: What gloo and NCCL say of a rank that does not answer, and of one that is gone.
_SILENT = ("timed out", "timeout")
_GONE = ("connection closed by peer", "connection reset by peer", "broken pipe", "socket closed")


def shard_bounds(total: int, rank: int, ranks: int) -> tuple[int, int]:
    """Which rows of an array a rank holds.

    Args:
        total: Rows, from 0.
        rank: 0 to `ranks` − 1.
        ranks: How many, from 1.

    Returns:
        First row, and the one after the last; the same number twice for an empty part.

    Example:
        >>> [shard_bounds(5, rank, 4) for rank in range(4)]
        [(0, 2), (2, 4), (4, 5), (5, 5)]
    """
    size = -(-total // ranks)
    return min(rank * size, total), min((rank + 1) * size, total)


class Ranks:
    """The processes of a run, seen from one of them.

    Args:
        rank: This one, 0 to `size` − 1.
        size: How many there are.
        group: Their process group; None for one process alone.
        background: Another one, for work that goes on beside the training.

    Attributes:
        traffic: Bytes that this rank has handed to each collective, by name.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        group: dist.ProcessGroup | None = None,
        background: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.group = group
        self.background = background
        self.traffic: Counter[str] = Counter()

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what one rank alone must write."""
        return self.rank == 0

    def bounds(self, total: int) -> tuple[int, int]:
        """Which rows of an array of `total` rows this rank holds; see `shard_bounds`."""
        return shard_bounds(total, self.rank, self.size)

    def gather(self, part: Tensor, total: int) -> Tensor:
        """Put the parts of all ranks together.

        Args:
            part: This rank's rows, (n, …).
            total: Rows of the whole.

        Returns:
            (total, …), the same on every rank.
        """
        if self.size == 1:
            return part
        part = self._padded(part, -(-total // self.size))
        whole = part.new_empty((self.size * part.shape[0], *part.shape[1:]))
        self.traffic["gather"] += part.nbytes
        _all_gather(whole, part, group=self.group)
        return whole[:total]

    def scatter_sum(self, whole: Tensor) -> Tensor:
        """Add the ranks' versions of an array, and keep this rank's rows of the sum.

        Args:
            whole: (total, …), another on every rank.

        Returns:
            This rank's rows, (n, …).
        """
        if self.size == 1:
            return whole
        first, last = self.bounds(whole.shape[0])
        padded = self._padded(whole, self.size * -(-whole.shape[0] // self.size))
        part = padded.new_empty((padded.shape[0] // self.size, *padded.shape[1:]))
        self.traffic["scatter_sum"] += padded.nbytes
        _reduce_scatter(part, padded, group=self.group)
        return part[: last - first]

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all ranks."""
        return self._reduce_(tensor, "sum", dist.ReduceOp.SUM)

    def max_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its largest value over all ranks, element by element."""
        return self._reduce_(tensor, "max", dist.ReduceOp.MAX)

    def largest(self, numbers: Sequence[int], group: dist.ProcessGroup | None = None) -> list[int]:
        """Find the largest of each of some numbers over all ranks.

        It waits for all ranks, but never for a GPU: what it sends lies in the host's memory.

        Args:
            numbers: As many on every rank.
            group: Another group than their own.
        """
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.int64)
        self.traffic["largest"] += shared.nbytes
        dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=group or self.group)
        found: list[int] = shared.tolist()
        return found

    def barrier(self, group: dist.ProcessGroup | None = None) -> None:
        """Wait for all ranks, in their own group or in another one."""
        if self.size > 1:
            dist.barrier(group=group or self.group)

    def _reduce_(self, tensor: Tensor, name: str, operation: Any) -> Tensor:
        if self.size > 1:
            self.traffic[name] += tensor.nbytes
            dist.all_reduce(tensor, op=operation, group=self.group)
        return tensor

    @staticmethod
    def _padded(tensor: Tensor, rows: int) -> Tensor:
        tensor = tensor.contiguous()
        if tensor.shape[0] == rows:
            return tensor
        padded = tensor.new_zeros((rows, *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        return padded


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, total: int, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(part, total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.ranks.scatter_sum(gradients[0]), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
        del ctx
        return ranks.sum_(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        del ctx
        return gradients[0], None


def gather(part: Tensor, total: int, ranks: Ranks) -> Tensor:
    """`Ranks.gather` with a gradient: each part receives the sum of what all ranks found for it."""
    whole: Tensor = _Gather.apply(part, total, ranks)  # type: ignore[no-untyped-call]
    return whole


def sum_over_ranks(tensor: Tensor, ranks: Ranks) -> Tensor:
    """`Ranks.sum_` with a gradient: that of the sum, as all ranks hold the same loss."""
    total: Tensor = _Sum.apply(tensor, ranks)  # type: ignore[no-untyped-call]
    return total


@contextmanager
def joined(device: torch.device, *, timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Join the other processes that torchrun started, and leave them at the end.

    Args:
        device: Where this process computes; says whether NCCL or gloo carries the collectives.
        timeout: How long a collective waits for a rank that does not come.

    Yields:
        The ranks; one alone if this process was not started by torchrun.

    Raises:
        UserError: If another rank does not answer any more, or is gone.
    """
    rank, size = _place()
    if size == 1:
        yield Ranks()
        return
    with lost_rank_said(f"rank {rank} of {size}"):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=_store(rank, size, timeout),
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
        try:
            background = dist.new_group(backend="gloo", timeout=timeout)
            yield Ranks(rank, size, dist.group.WORLD, background)
        finally:
            dist.destroy_process_group()


@contextmanager
def lost_rank_said(where: str) -> Iterator[None]:
    """Turn what a collective says when another rank is lost into one clear line.

    Args:
        where: Where the work stood.

    Raises:
        UserError: If the block fails as another rank does not answer in time, or is gone.
    """
    try:
        yield
    except RuntimeError as error:
        said = _lost_rank(error, where)
        if said is None:
            raise
        raise said from error


def _lost_rank(error: RuntimeError, where: str) -> UserError | None:
    text = str(error).lower()
    if any(words in text for words in _SILENT):
        return UserError(
            where=where,
            found="a rank that does not answer: stopped, hanging, or cut off from the network",
            allowed="an answer in time (--patience says how long)",
            next_step="find the process that neither computes nor ended, end it, and give the same "
            "command again: it goes on from the last checkpoint",
        )
    if any(words in text for words in _GONE):
        return UserError(
            where=where,
            found="a rank that is gone: killed, or ended by an error of its own",
            allowed="ranks that live",
            next_step="see what that one said last, and give the same command again: it goes on "
            "from the last checkpoint",
        )
    return None


def _place() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun says it; 0 of 1 without it."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return 0, 1
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    given = {name: os.environ.get(name, "") for name in names}
    numbers = [given[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
    if not (all(number.isdecimal() for number in numbers) and given["MASTER_ADDR"]):
        raise UserError(
            where="environment",
            found=", ".join(f"{name}={value or 'unset'}" for name, value in given.items()),
            allowed="all four, as torchrun sets them",
            next_step="start it with torchrun, or unset WORLD_SIZE",
        )
    return int(given["RANK"]), int(given["WORLD_SIZE"])


def _store(rank: int, size: int, timeout: timedelta) -> Store:
    """Where the ranks find each other, under names that no earlier attempt had.

    After a restart torchrun's store still holds the addresses of the processes that are gone, and
    gloo waits for them for ever.
    """
    is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size=None if is_agents else size,
        is_master=not is_agents and rank == 0,
        timeout=timedelta(seconds=60),
    )
    store.set_timeout(timeout)
    return PrefixStore(_agree_on_attempt(store, rank, size, timeout), store)


def _agree_on_attempt(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """Name this attempt; all ranks get the same name.

    torchrun counts restarts on each machine for itself, so a machine that joined later has another
    count. Rank 0 chooses a name, and tells it each of the others by a word that is theirs alone:
    what an earlier attempt left in the store is answered too, and read by nobody.
    """
    own = uuid.uuid4().hex
    if rank > 0:
        store.set(f"here/{rank}", own)
        store.wait([f"attempt/{own}"])
        name = store.get(f"attempt/{own}").decode()
        store.set(f"heard/{name}/{own}", "")
        return name
    deadline = time.monotonic() + timeout.total_seconds()
    waiting = set(range(1, size))
    while waiting:
        for other in sorted(waiting):
            if store.check([f"here/{other}"]):
                word = store.get(f"here/{other}").decode()
                store.set(f"attempt/{word}", own)
                if store.check([f"heard/{own}/{word}"]):
                    waiting.remove(other)
        if time.monotonic() > deadline:
            raise RuntimeError(f"timed out: ranks {sorted(waiting)} did not come")
        time.sleep(0.02)
    return own

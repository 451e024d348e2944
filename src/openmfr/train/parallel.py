"""A backbone on several ranks: each computes its part of the batch, the gradients are added up."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from openmfr.distributed import Ranks
from openmfr.errors import UserError

#: Fewest images of a rank: batch norm needs two to have a variance.
FEWEST_IMAGES = 2


def parallel(backbone: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """Wrap a backbone so that all ranks get the gradient of the whole batch.

    The loss is the mean over the images of all ranks, and each rank's backward pass gives the part
    of its gradient that comes from the rank's own images. The whole is therefore their sum, where
    DistributedDataParallel would take the mean.

    Batch norm normalises with each rank's own images; the running statistics are the first rank's.
    """
    if ranks.size == 1:
        return backbone
    wrapped = DistributedDataParallel(
        backbone,
        device_ids=[device] if device.type == "cuda" else None,
        process_group=ranks.group,
    )
    wrapped.register_comm_hook(ranks.group, _add_up)
    return wrapped


def rehearse(backbone: nn.Module, backward: Callable[[], None]) -> None:
    """Make a backward pass for nothing, so that all steps add up gradients in one order.

    DistributedDataParallel learns from its first backward pass in which order gradients come, and
    packs them anew for those that follow. Where a gradient lies in its pack decides in which order
    the ranks' parts are added, and so the last bit of the sum: a training that is resumed would
    differ, in its first step, from one that never stopped.

    Args:
        backbone: Its gradients are forgotten, and its buffers are kept.
        backward: Computes embeddings of images like those of a step, through what `parallel` gave,
            and the gradient of anything.
    """
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backward()
    backbone.zero_grad(set_to_none=True)
    for name, buffer in backbone.named_buffers():
        buffer.copy_(before[name])


# Without annotations: DistributedDataParallel compares them, and would find strings.
def _add_up(group, bucket):  # type: ignore[no-untyped-def]
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def check_batch(batch_size: int, ranks: Ranks) -> None:
    """Check that a batch is large enough to be shared.

    Raises:
        UserError: If a rank would get fewer than two images.
    """
    shares = [-(-batch_size // ranks.size)] * (ranks.size - 1)
    if batch_size - sum(shares) < FEWEST_IMAGES:
        raise UserError(
            where="batch_size",
            found=f"{batch_size} images for {ranks.size} ranks",
            allowed=f"at least {FEWEST_IMAGES} images for each rank, the last one too",
            next_step=f"use a multiple of {ranks.size}, or fewer ranks",
        )

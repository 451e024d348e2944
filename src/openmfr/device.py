"""Which device a command runs on."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from openmfr.errors import UserError


def choose_device(name: str | None) -> torch.device:
    """Find the device that a user named, or the best one there is.

    Args:
        name: "cpu", "cuda", "cuda:1", or None: a GPU where there is one.

    Raises:
        UserError: If there is no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpus = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{i}" for i in range(gpus))]
    if name not in known:
        raise UserError(
            where="device", found=name, allowed=", ".join(known), next_step="name one of them"
        )
    return torch.device(name)


def own_device(device: torch.device) -> torch.device:
    """The device of this process, where torchrun has started one for each GPU of a machine.

    Args:
        device: "cuda" without a number becomes the GPU of this process's local rank; any other
            device is taken as it is.

    Example:
        >>> own_device(torch.device("cpu"))
        device(type='cpu')
    """
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


#: Options of glibc's mallopt: from how many bytes at the heap's end memory goes back to the kernel,
#: and from how many an allocation lies outside the heap, gone as soon as it is freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_pages() -> bool:
    """Let freed memory stay with this process, so that the next step need not ask for it again.

    By default glibc returns large temporaries to the kernel, which clears each page when it hands
    it out anew: training on a CPU spends up to a tenth of its time so. Changes the whole process;
    for a program's start, not for a library. Allocations above 256 MiB, such as prototypes, still
    come and go as before. Set from outside, glibc's own variables do the same:
    `MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_MMAP_THRESHOLD_=268435456`.

    Returns:
        Whether the C library has these options; without them nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_MMAP_THRESHOLD, 2**28))

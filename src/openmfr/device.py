"""Which device a command runs on."""

from __future__ import annotations

import os

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

"""Arrays that one process of a machine makes, and that all of them map.

Eight ranks that each decode the labels of 42 million images hold eight copies. Here the first one
writes them into the cache, and all map the files: the pages are the system's, there once however
many processes look at them, and given up when memory is short.

`OPENMFR_CACHE` is the cache's folder, `~/.cache/openmfr` by default. Anything in it may be deleted
at any time; it is made again when it is needed.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.files import atomic_path, only_one, remove_leftovers

logger = logging.getLogger(__name__)

Named = tuple[str, npt.NDArray[Any]]
Arrays = dict[str, npt.NDArray[Any]]

#: Seconds to wait for another process that makes the same.
_PATIENCE = 900.0
#: Arrays that nobody asked for in so many seconds are deleted when others are made.
_FORGOTTEN = 14 * 24 * 3600.0


def cache_folder() -> Path:
    """Where copies are kept that can be made again."""
    named = os.environ.get("OPENMFR_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "openmfr"


def once_per_machine(key: str, make: Callable[[], Iterable[Named]]) -> Arrays:
    """Return arrays that the first process to ask makes, and that all map.

    Args:
        key: Identifies what they hold, for a file's name: the checksum of what they are made from.
        make: Yields name and array, one at a time, so that no more than one is held in memory. It
            is not called where the arrays are there.

    Returns:
        The arrays by name, read-only. Where the cache cannot be written to, those of `make`.
    """
    folder = cache_folder() / "arrays" / key
    try:
        if not _is_there(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with only_one(folder.parent, patience=_PATIENCE):
                if not _is_there(folder):
                    _forget_old(folder.parent)
                    _write(folder, make())
        return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    except (OSError, ValueError) as error:
        logger.warning(
            "%s cannot be used (%s): each process holds labels of its own; name a folder with "
            "room in OPENMFR_CACHE",
            folder.parent,
            error,
        )
        return dict(make())


def _write(folder: Path, arrays: Iterable[Named]) -> None:
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, array in arrays:
            np.save(temporary / f"{name}.npy", array)


def _is_there(folder: Path) -> bool:
    """Whether arrays are there, which are then known to be in use."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _forget_old(parent: Path) -> None:
    remove_leftovers(parent)
    for folder in parent.iterdir():
        if time.time() - folder.stat().st_mtime > _FORGOTTEN:
            shutil.rmtree(folder)

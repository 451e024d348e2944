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
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.files import (
    atomic_path,
    only_one,
    read_json,
    remove_leftovers,
    temporary_path,
    write_json,
)

logger = logging.getLogger(__name__)

Named = tuple[str, npt.NDArray[Any]]
Arrays = dict[str, npt.NDArray[Any]]

#: In a folder of arrays: their names, and how many bytes each file has.
_LIST = "arrays.json"
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
            is not called where the arrays are there. What it raises goes through.

    Returns:
        The arrays by name, read-only. Where the cache cannot be written to, those of `make`.
    """
    folder = cache_folder() / "arrays" / key
    found = _mapped(folder)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder.parent, patience=_PATIENCE):
            found = _mapped(folder)
            if found is None:
                _make_room(folder)
                _write(folder, make())
                found = _mapped(folder)
    except OSError as error:
        logger.warning(
            "%s cannot be written to (%s): each process holds labels of its own; name a folder "
            "with room in OPENMFR_CACHE",
            folder.parent,
            error,
        )
    return dict(make()) if found is None else found


def _mapped(folder: Path) -> Arrays | None:
    """Map the arrays of a folder; None if one is missing, or is not as long as it was."""
    try:
        sizes = read_json(folder / _LIST, what="list of arrays", required=("arrays",))["arrays"]
        if any((folder / f"{name}.npy").stat().st_size != size for name, size in sizes.items()):
            return None
        found = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in sizes}
    except (OSError, ValueError, EOFError, AttributeError):
        return None
    with suppress(OSError):  # another user's
        os.utime(folder)  # in use: not to be forgotten
    return found


def _write(folder: Path, arrays: Iterable[Named]) -> None:
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        sizes = {}
        for name, array in arrays:
            path = temporary / f"{name}.npy"
            np.save(path, array)
            sizes[name] = path.stat().st_size
        write_json(temporary / _LIST, {"arrays": sizes})


def _make_room(folder: Path) -> None:
    """Delete a copy that is not whole, what nobody asked for in a while, and leftovers."""
    for other in folder.parent.iterdir():
        with suppress(OSError):  # one that is gone, or another user's
            if other == folder or time.time() - other.stat().st_mtime > _FORGOTTEN:
                # Away under another name first: a reader finds all of it, or nothing.
                other.replace(temporary_path(other, tag=uuid.uuid4().hex[:8]))
    with suppress(OSError):
        remove_leftovers(folder.parent)
    if folder.exists():
        shutil.rmtree(folder)  # says why it could not be moved

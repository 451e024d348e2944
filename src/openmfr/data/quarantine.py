"""The list of a store's images that were found damaged and set aside: `quarantine.json`.

It names ranges of images, so that a lost shard takes one line. The shards themselves stay as they
are; `data.damage` finds what belongs on the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.files import check_format_version, read_json, write_json

IntArray = npt.NDArray[np.int64]

QUARANTINE: Final = "quarantine.json"
FORMAT_VERSION: Final = 1


def read_quarantine(store: Path, *, images: int) -> IntArray:
    """Read which images of a store are set aside.

    Args:
        store: The store's folder.
        images: How many it has.

    Returns:
        Ascending; empty without a list.

    Raises:
        UserError: If the list is not of this store's images.
    """
    path = store / QUARANTINE
    if not path.exists():
        return np.empty(0, dtype=np.int64)
    content = read_json(path, what="quarantine", required=("ranges", "format_version"))
    check_format_version(content, path=path, supported=FORMAT_VERSION)
    ranges = content["ranges"]
    if not _are_ranges(ranges, images):
        raise UserError(
            where=str(path),
            found="ranges that are not of this store's images",
            allowed=f"rising pairs of integers from 0 to {images:,}",
            next_step=f"delete it, and openmfr inspect {store} --repair writes it anew",
        )
    parts = [np.arange(start, end) for start, end in ranges]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def write_quarantine(store: Path, lost: IntArray, *, found: Mapping[str, str]) -> None:
    """Write which images are set aside, or remove the list if there are none.

    Args:
        store: The store's folder.
        lost: The images, ascending.
        found: What is wrong with each damaged file, in words.
    """
    path = store / QUARANTINE
    if not lost.size:
        path.unlink(missing_ok=True)
        return
    runs = np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1)
    content = {
        "format_version": FORMAT_VERSION,
        "kind": "quarantine",
        "ranges": [[int(run[0]), int(run[-1]) + 1] for run in runs],
        "shards": dict(found),
    }
    write_json(path, content)


def _are_ranges(ranges: Any, images: int) -> bool:
    if not isinstance(ranges, list):
        return False
    at = 0
    for pair in ranges:
        is_pair = isinstance(pair, list) and [type(end) for end in pair] == [int, int]
        if not (is_pair and at <= pair[0] < pair[1] <= images):
            return False
        at = pair[1]
    return True

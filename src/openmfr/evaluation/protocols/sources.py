"""Images that a published list names, found in a store.

A list names images by paths of its own, a store by the paths below the folder that was ingested.
A name and a source are one image if one path ends with the other, file endings of photos aside. So
`African/m.0c7mh2/m.0c7mh2_0003` is found in a store of all four groups and in one of Africans only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, nearest
from openmfr.faces.photo import PHOTO_SUFFIXES

IntArray = npt.NDArray[np.int64]

#: Missing images that an error names one by one.
_NAMED: Final = 10


def find_images(names: Sequence[str], sources: Sequence[str], *, where: str) -> IntArray:
    """Find images by the end of their path; see above.

    Args:
        names: Images as a list names them.
        sources: Where each of N images came from: the store's column `source`.
        where: The list, for the error.

    Returns:
        Row of each image, shape (len(names),).

    Raises:
        UserError: If images are missing, named together, or a name fits several sources.

    Example:
        >>> sources = ["lfw/Ann/Ann_0001.png", "lfw/Bo/Bo_0001.png"]
        >>> find_images(["Bo/Bo_0001.jpg"], sources, where="pairs.txt").tolist()
        [1]
    """
    known = _Sources(sources)
    rows = {name: known.find(name) for name in dict.fromkeys(names)}
    missing = [name for name, found in rows.items() if not found]
    if missing:
        raise _missing(where, missing, sources)
    unclear = next((name for name, found in rows.items() if len(found) > 1), None)
    if unclear is not None:
        first, second = (sources[row] for row in rows[unclear][:2])
        raise UserError(
            where=f"{where}, image {unclear}",
            found=f"{len(rows[unclear])} sources that end like it, {first} and {second} among them",
            allowed="one",
            next_step="ingest the set's own folder, as its authors laid it out",
        )
    return np.array([rows[name][0] for name in names], dtype=np.int64)


class _Sources:
    """Finds images by the end of their path."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._paths = [path_parts(source) for source in sources]
        self._whole = {path: i for i, path in enumerate(self._paths)}
        self._ends: dict[int, dict[tuple[str, ...], list[int]]] = {}

    def find(self, name: str) -> list[int]:
        """Rows whose path ends with the name, or else ends the name; several if unclear."""
        path = path_parts(name)
        if len(path) not in self._ends:
            ends: dict[tuple[str, ...], list[int]] = {}
            for i, source in enumerate(self._paths):
                if len(source) >= len(path):
                    ends.setdefault(source[-len(path) :], []).append(i)
            self._ends[len(path)] = ends
        if found := self._ends[len(path)].get(path):
            return found
        ends_of_name = (path[start:] for start in range(1, len(path)))
        return next(([self._whole[end]] for end in ends_of_name if end in self._whole), [])


def path_parts(path: str) -> tuple[str, ...]:
    """Cut a path into its parts, without a photo's file ending and steps upwards.

    Example:
        >>> path_parts("../Data/m.0c7mh2/m.0c7mh2_0003.jpg")
        ('Data', 'm.0c7mh2', 'm.0c7mh2_0003')
    """
    # A name may hold a dot, m.0c7mh2_0003, so only what ends a photo's name is cut off.
    pure = PurePosixPath(path.replace("\\", "/"))
    if pure.suffix.lower() in PHOTO_SUFFIXES:
        pure = pure.with_suffix("")
    return tuple(part for part in pure.parts if part not in ("..", ".", "/"))


def _missing(where: str, missing: Sequence[str], sources: Sequence[str]) -> UserError:
    named = ", ".join(missing[:_NAMED])
    more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
    asked = PurePosixPath(missing[0])
    # Comparing with every source of a large store takes minutes; a slip leaves one part right.
    near = [s for s in sources if asked.stem in s or (asked.parent.name and asked.parent.name in s)]
    guess = f" ({nearest(missing[0], near)})" if near else ""
    return UserError(
        where=where,
        found=f"{len(missing):,} images that are not in the store: {named}{more}{guess}",
        allowed=f"the {len(sources):,} sources of the embedded store",
        next_step="ingest and embed the photos of the list; rejected.csv says what was left out",
    )

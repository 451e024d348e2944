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


def find_images(
    names: Sequence[str],
    sources: Sequence[str],
    *,
    where: str,
    among: str = "the store",
    next_step: str = "ingest and embed the photos of the list; rejected.csv says what was left out",
) -> IntArray:
    """Find images by the end of their path; see above.

    Args:
        names: Images as a list names them.
        sources: Where each of N images came from: the store's column `source`.
        where: The list, for the error.
        among: What the sources are those of, for the error.
        next_step: What to do about missing images, for the error.

    Returns:
        Row of each image, shape (len(names),).

    Raises:
        UserError: If images are missing, named together, or as `look_up` does.

    Example:
        >>> sources = ["lfw/Ann/Ann_0001.png", "lfw/Bo/Bo_0001.png"]
        >>> find_images(["Bo/Bo_0001.jpg"], sources, where="pairs.txt").tolist()
        [1]
    """
    rows = look_up(names, sources, where=where)
    missing = list(dict.fromkeys(names[i] for i in np.flatnonzero(rows < 0).tolist()))
    if missing:
        raise UserError(
            where=where,
            found=f"{f'{len(missing):,} images' if missing[1:] else 'an image'} not in {among}: "
            f"{listed(missing)}{_guess(missing[0], sources)}",
            allowed=f"the {len(sources):,} sources of {among}",
            next_step=next_step,
        )
    return rows


def look_up(names: Sequence[str], sources: Sequence[str], *, where: str) -> IntArray:
    """Find images that may be missing.

    A source that is the name itself goes before those that only end with it.

    Args:
        names: Images as a list names them.
        sources: Where each of N images came from.
        where: The list, for the error.

    Returns:
        Row of each image, −1 where it is missing, shape (len(names),).

    Raises:
        UserError: If a name fits several sources, or different names fit one.

    Example:
        >>> look_up(["Bo_1.jpg", "Cy_1.jpg"], ["Ann/Ann_1.jpg", "Bo/Bo_1.jpg"], where="a").tolist()
        [1, -1]
    """
    known = _Sources(sources)
    rows = {name: known.find(name) for name in dict.fromkeys(names)}
    unclear = next((name for name, found in rows.items() if len(found) > 1), None)
    if unclear is not None:
        first, second = (sources[row] for row in rows[unclear][:2])
        raise UserError(
            where=f"{where}, image {unclear}",
            found=f"{len(rows[unclear])} sources that end like it, {first} and {second} among them",
            allowed="one",
            next_step="ingest the set's own folder, as its authors laid it out",
        )
    name_of: dict[int, str] = {}
    for name, found in rows.items():
        other = name_of.setdefault(found[0], name) if found else name
        if other != name and path_parts(other) != path_parts(name):
            raise UserError(
                where=f"{where}, image {name}",
                found=f"the source {sources[found[0]]}, which is also all there is of {other}",
                allowed="a source for each image",
                next_step="ingest the set's own folder, as its authors laid it out",
            )
    return np.array([rows[name][0] if rows[name] else -1 for name in names], dtype=np.int64)


class _Sources:
    """Finds images by the end of their path."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._paths = [path_parts(source) for source in sources]
        self._whole: dict[tuple[str, ...], list[int]] = {}
        for i, path in enumerate(self._paths):
            self._whole.setdefault(path, []).append(i)
        self._ends: dict[int, dict[tuple[str, ...], list[int]]] = {}

    def find(self, name: str) -> list[int]:
        """Rows whose path is the name, or ends with it, or else ends it; several if unclear."""
        path = path_parts(name)
        if found := self._whole.get(path):
            return found
        if len(path) not in self._ends:
            ends: dict[tuple[str, ...], list[int]] = {}
            for i, source in enumerate(self._paths):
                if len(source) >= len(path):
                    ends.setdefault(source[-len(path) :], []).append(i)
            self._ends[len(path)] = ends
        if found := self._ends[len(path)].get(path):
            return found
        ends_of_name = (path[start:] for start in range(1, len(path)))
        return next((self._whole[end] for end in ends_of_name if end in self._whole), [])


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


def listed(names: Sequence[str], *, most: int = _NAMED) -> str:
    """Name the first few of many in one line, and count the rest.

    Example:
        >>> listed(["a.jpg", "b.jpg", "c.jpg"], most=2)
        'a.jpg, b.jpg and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def _guess(name: str, sources: Sequence[str]) -> str:
    """What may have been meant; empty if nothing is like it."""
    asked = PurePosixPath(name)
    # Comparing with every source of a large store takes minutes; a slip leaves one part right.
    near = [s for s in sources if asked.stem in s or (asked.parent.name and asked.parent.name in s)]
    return f" ({nearest(name, near)})" if near else ""

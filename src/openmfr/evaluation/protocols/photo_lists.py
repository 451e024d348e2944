"""MegaFace's lists of photos, and InsightFace's lists of what is wrong in them.

The published lists have photos of other people in them. InsightFace's lists of noise name these;
here a noisy probe takes part in no search and a noisy distractor is left out. (InsightFace's own
script keeps the noisy probes and gives each its person's mean embedding, which is easily found.)

Source:
    MegaFace's development kit; deepinsight/insightface `recognition/_evaluation_/megaface`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.protocols.sources import find_images, path_parts

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoList:
    """A published list of photos.

    Attributes:
        path: Path of each photo, N of them.
        identity: Who is on each, numbered in the order of the names; −1 for photos that are left
            out as noise, and for all photos of a list of distractors; shape (N,).
        keep: Photos that are not left out as noise, shape (N,).
    """

    path: Sequence[str]
    identity: IntArray
    keep: BoolArray

    def rows(self, sources: Sequence[str], *, where: str = "list of photos") -> IntArray:
        """Find the kept photos in a store, by the end of their paths.

        Args:
            sources: Where each image of the store came from: its column `source`.
            where: What the list is called in an error.

        Returns:
            Row of each kept photo, shape (K,).

        Raises:
            UserError: If photos are missing, named together, or unclear.
        """
        kept = [path for path, is_kept in zip(self.path, self.keep, strict=True) if is_kept]
        return find_images(kept, sources, where=where)


def read_photo_list(
    path: Path | str, *, noise: Path | str | None = None, is_named: bool = False
) -> PhotoList:
    """Read one of the development kit's lists, such as facescrub_features_list.json.

    Args:
        path: JSON with the lists `path` and, for people who are looked for, `id`.
        noise: InsightFace's list of photos to leave out: lines with the end of a path, the last of
            several columns between tabs; `#` begins a comment.
        is_named: Whether it must say who is on the photos, as a list of probes does.

    Raises:
        UserError: If a file is unreadable or not such a list.
    """
    content = _read_json(Path(path))
    photos, names = content.get("path"), content.get("id")
    if is_named and names is None:
        raise UserError(
            where=str(path),
            found="no list `id`",
            allowed="who is on each photo that is looked for",
            next_step="give facescrub_features_list.json; distractors go with --distractor-list",
        )
    if not _are_names(photos) or not (names is None or len(names) == len(photos)):
        raise UserError(
            where=str(path),
            found="no list `path`, or an `id` of another length",
            allowed="JSON with the lists path and, for probes, id",
            next_step="give facescrub_features_list.json or megaface_features_list.json_1000000_1",
        )
    noisy = _read_noise(Path(noise)) if noise is not None else frozenset()
    keep = np.array([not noisy.intersection(_ends(photo)) for photo in photos], dtype=np.bool_)
    identity = np.full(len(photos), -1, dtype=np.int64)
    if names is not None:
        identity = np.unique([str(name) for name in names], return_inverse=True)[1].astype(np.int64)
    return PhotoList(path=photos, identity=np.where(keep, identity, -1), keep=keep)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        content, reason = None, f"no readable JSON ({type(error).__name__})"
    else:
        reason = f"a {type(content).__name__}"
    if not isinstance(content, dict):
        raise UserError(
            where=str(path),
            found=reason,
            allowed="JSON with the lists path and, for probes, id",
            next_step="check the path",
        )
    return content


def _are_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _read_noise(path: Path) -> frozenset[tuple[str, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable text ({type(error).__name__})",
            allowed="a line for each photo to leave out",
            next_step="check the path",
        ) from error
    words = (line.split("\t")[-1].strip() for line in lines if not line.startswith("#"))
    return frozenset(path_parts(word) for word in words if word)


def _ends(path: str) -> set[tuple[str, ...]]:
    """All ends of a path: b/c and c of a/b/c.jpg, and itself."""
    parts = path_parts(path)
    return {parts[start:] for start in range(len(parts))}

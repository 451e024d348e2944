"""What a table says of a set's images beyond who is on them: group, scene, test set."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.protocols.sources import look_up

StrArray = npt.NDArray[np.str_]

#: The column that names images.
PATH = "path"


def read_image_columns(
    path: Path | str, sources: Sequence[str], columns: Sequence[str]
) -> dict[str, StrArray]:
    """Read columns of a CSV file and put them in the order of a store's images.

    Args:
        path: The file; its column `path` names images, which are found as `find_images` does.
            Rows of images that are not in the store do not count.
        sources: Where each of N images came from.
        columns: The columns to read.

    Returns:
        Column → its value for each image, shape (N,); "" for an empty cell.

    Raises:
        UserError: If the file cannot be read, lacks a column or a cell, contradicts itself, or does
            not list all of the images.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            where=str(path),
            found=f"no readable table ({type(error).__name__})",
            allowed=f"a CSV file with the columns {', '.join([PATH, *columns])}",
            next_step="check the path",
        ) from error
    missing = [name for name in (PATH, *columns) if name not in header]
    if missing:
        raise UserError(
            where=f"{path}, header",
            found=", ".join(header) or "nothing",
            allowed=", ".join([PATH, *columns]),
            next_step=f"add a column {missing[0]}, or give another one that name",
        )
    _check_cells(path, rows)
    images = look_up([row[PATH] for row in rows], sources, where=str(path))
    values = {name: np.full(len(sources), "", dtype=object) for name in columns}
    line_of = np.zeros(len(sources), dtype=np.int64)
    for line, (image, row) in enumerate(zip(images.tolist(), rows, strict=True), start=2):
        if image < 0:  # of the set, but not of this store
            continue
        cells = {name: row[name].strip() for name in columns}
        if line_of[image] and any(values[name][image] != cells[name] for name in columns):
            raise UserError(
                where=f"{path}, line {line}",
                found=f"{row[PATH]} again, and otherwise than in line {line_of[image]}",
                allowed="one row for each image",
                next_step="remove the wrong one",
            )
        line_of[image] = line
        for name in columns:
            values[name][image] = cells[name]
    unlisted = np.flatnonzero(line_of == 0)
    if unlisted.size:
        raise UserError(
            where=str(path),
            found=f"{unlisted.size:,} images of the store not listed, {sources[unlisted[0]]} first",
            allowed="a row for each image of the store, named as its column source is",
            next_step="add them; an image of no group has an empty cell",
        )
    return {name: column.astype(np.str_) for name, column in values.items()}


def _check_cells(path: Path, rows: Sequence[Mapping[Any, Any]]) -> None:
    """Refuse rows with fewer or more cells than the header."""
    for line, row in enumerate(rows, start=2):
        found = (
            len(row) - 1 + len(row[None])
            if None in row
            else sum(v is not None for v in row.values())
        )
        allowed = len(row) - (None in row)
        if found != allowed:
            raise UserError(
                where=f"{path}, line {line}",
                found=f"{found} cells",
                allowed=f"{allowed}, as in the header",
                next_step="mend the line: an image of no group has an empty cell",
            )

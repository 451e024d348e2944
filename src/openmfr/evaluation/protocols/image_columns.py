"""What a table says of a set's images beyond who is on them: group, scene, test set."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, nearest
from openmfr.evaluation.protocols.sources import path_parts

StrArray = npt.NDArray[np.str_]

#: The column that names images.
PATH = "path"


def read_image_columns(
    path: Path | str, sources: Sequence[str], columns: Sequence[str]
) -> dict[str, StrArray]:
    """Read columns of a CSV file and put them in the order of a store's images.

    Args:
        path: The file; its column `path` names images as the store's column `source` does.
        sources: Where each of N images came from.
        columns: The columns to read.

    Returns:
        Column → its value for each image, shape (N,); "" for an empty cell.

    Raises:
        UserError: If the file cannot be read, lacks a column, or lists not all of the images.
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
            next_step=f"add {missing[0]}; {nearest(missing[0], header)}" if header else "fill it",
        )
    row_of = {path_parts(source): i for i, source in enumerate(sources)}
    values = {name: np.full(len(sources), "", dtype=object) for name in columns}
    is_listed = np.zeros(len(sources), dtype=np.bool_)
    for row in rows:
        image = row_of.get(path_parts(row[PATH] or ""))
        if image is None:
            continue
        is_listed[image] = True
        for name in columns:
            values[name][image] = (row[name] or "").strip()
    unlisted = np.flatnonzero(~is_listed)
    if unlisted.size:
        raise UserError(
            where=str(path),
            found=f"{unlisted.size:,} images of the store not listed, {sources[unlisted[0]]} first",
            allowed="a row for each image of the store, named as its column source is",
            next_step="add them; an image of no group has an empty cell",
        )
    return {name: column.astype(np.str_) for name, column in values.items()}

"""A store's images as InsightFace's RecordIO: `train.rec`, `train.idx`, `property` and a listing.

Images stand identity by identity, as the records of identities ask for ranges; the listing keeps
the store's order and the names. Records are appended to one file, and a small account of how far it
was flushed lets a run that was killed cut off what came after, and go on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from openmfr.data.convert.selection import Selection, plan
from openmfr.data.convert.sources import MOST_OF_A_PART
from openmfr.data.formats.listing import LISTING
from openmfr.data.formats.recordio import MOST_EXACT, RecordWriter
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.files import put_in_place, read_json, write_json, write_text
from openmfr.run import progress

IntArray = npt.NDArray[np.int64]

RECORDS: Final = "train.rec"
INDEX: Final = "train.idx"
#: Number of identities and edge of the images: older programs of InsightFace read it.
PROPERTY: Final = "property"

_WRITTEN: Final = "written.json"


def check_identities(selection: Selection) -> None:
    """Refuse more identities than RecordIO's float32 labels can tell apart."""
    if len(selection.names) > MOST_EXACT:
        raise UserError(
            where="labels",
            found=f"{len(selection.names):,} identities",
            allowed=f"at most {MOST_EXACT:,}: RecordIO's labels are float32",
            next_step="convert to tar, or keep fewer",
        )


def write_records(store: Store, selection: Selection, out: Path, *, work: Path) -> None:
    """Write the pair, its listing and `property`; go on where an earlier run was killed.

    Args:
        store: The store.
        selection: The images, all of someone known.
        out: Where the files come to stand.
        work: Folder below it for what is not finished.
    """
    first = _first_key(selection)
    keys = np.empty(len(selection), dtype=np.int64)
    keys[selection.by_identity] = np.arange(first, first + len(selection))
    plan(store, selection, work, size=None, keys=keys)
    if not (out / RECORDS).exists():
        if (out / INDEX).exists():  # killed between the two renames below
            (out / INDEX).replace(work / INDEX)
        _write_pair(store, selection, first, work)
        put_in_place(work / INDEX, out / INDEX)
        put_in_place(work / RECORDS, out / RECORDS)
    edge = store.image_size
    write_text(out / PROPERTY, f"{len(selection.names)},{edge},{edge}\n")
    put_in_place(work / LISTING, out / LISTING)


def _first_key(selection: Selection) -> int:
    """Key of the first image: 1 behind a first record, 0 where there can be none.

    The first record and those of identities hold keys as float32. Where that would round them,
    InsightFace would read beyond the images; without these records it takes every key for one.
    """
    return 1 if 1 + len(selection) + len(selection.names) <= MOST_EXACT else 0


def _write_pair(store: Store, selection: Selection, first: int, work: Path) -> None:
    written = _written(work)
    rows = selection.rows[selection.by_identity]
    number = selection.number[selection.by_identity]
    with (
        _open_at(work / RECORDS, written["records"]) as records,
        _open_at(work / INDEX, written["index"]) as index,
        progress("convert", total=rows.size, unit="images", done=written["images"]) as advance,
    ):
        writer = RecordWriter(records, index)
        if first and not written["records"]:
            writer.put_first()
        for start in range(written["images"], rows.size, MOST_OF_A_PART):
            part = slice(start, start + MOST_OF_A_PART)
            pairs = zip(rows[part].tolist(), number[part].tolist(), strict=True)
            for key, (row, identity) in enumerate(pairs, start=first + start):
                writer.put(key, (float(identity),), store.read(row))
            _save(work, records, index, min(part.stop, rows.size))
            advance(min(part.stop, rows.size) - start)
        if first:
            ends = first + np.cumsum(selection.counts)
            ranges = zip((ends - selection.counts).tolist(), ends.tolist(), strict=True)
            writer.finish(first + rows.size, list(ranges))


def _written(work: Path) -> dict[str, int]:
    """How far an earlier run came; from the start if its files are not what it says."""
    if (work / _WRITTEN).exists():
        sizes = ("images", "records", "index")
        written: dict[str, int] = read_json(work / _WRITTEN, what="account", required=sizes)
        files = (work / RECORDS, written["records"]), (work / INDEX, written["index"])
        if all(path.exists() and path.stat().st_size >= size for path, size in files):
            return written
    return {"images": 0, "records": 0, "index": 0}


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open a file for writing behind its first `size` bytes; what came after them is cut off."""
    path.touch()
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def _save(work: Path, records: BinaryIO, index: BinaryIO, images: int) -> None:
    for file in (records, index):
        file.flush()
        os.fsync(file.fileno())
    sizes = {"images": images, "records": records.tell(), "index": index.tell()}
    write_json(work / _WRITTEN, sizes)

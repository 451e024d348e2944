"""A plan carried out by worker processes: one tar, or some photos of a folder, at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from openmfr.data.formats.found import FoundImage
from openmfr.data.formats.listing import LISTING, ListedRows, Listing, Rows, write_listing
from openmfr.data.formats.tar import picture_suffix, write_tar
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.run import progress
from openmfr.workers import do_all

#: Names of files in a folder of photos, and what is no name on one system or another.
_UNSAFE: Final = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f]|^[.]|[. ]$')
#: Names that stand in the folder already.
_RESERVED: Final = frozenset({"listing.parquet", "conversion.json", "work"})
#: A file system takes 255 bytes.
_MOST_BYTES: Final = 200

_LISTED: Final = ("row", "number", "identity", "source", "path")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A part of the plan, as it travels to a worker process."""

    store: Path
    fingerprint: str
    rows: ListedRows
    out: Path
    target: Path
    digits: int = 0


def write_tars(store: Store, plan: Listing, out: Path, *, workers: int) -> None:
    """Write `shard-000000.tar` and so on, one for each group of the plan's rows."""
    most = max(plan.groups)
    jobs = [
        _Job(
            store=store.path,
            fingerprint=store.fingerprint,
            rows=rows,
            out=out,
            target=out / f"shard-{number:06d}.tar",
        )
        for number, rows in enumerate(plan.parts(most))
    ]
    _run(_write_tar, jobs, workers=workers)


def write_folder(
    store: Store, plan: Listing, out: Path, *, work: Path, most: int, workers: int
) -> None:
    """Write `IDENTITY/NNN.jpg`, and the listing of all.

    Args:
        store: The store.
        plan: Its `key` is an image's number within its identity.
        out: The folder.
        work: Folder below it for the parts of the listing.
        most: The largest `key`.
        workers: Processes.
    """
    digits = max(3, len(str(most)))
    jobs = [
        _Job(
            store=store.path,
            fingerprint=store.fingerprint,
            rows=rows,
            out=out,
            target=work / f"part-{number:06d}.parquet",
            digits=digits,
        )
        for number, rows in enumerate(plan.parts(max(plan.groups)))
    ]
    _run(_write_photos, jobs, workers=workers)
    parts = (pq.read_table(job.target).to_pydict() for job in jobs)
    write_listing(out / LISTING, parts, columns=_LISTED)


def folder_name(identity: str) -> str:
    """Name the folder of an identity: one folder, whatever the name; of two names never the same.

    Example:
        >>> folder_name("ann"), folder_name("../a b/%"), folder_name("")
        ('ann', '%2E.%2Fa b%2F%25', '%')
    """
    name = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", identity)
    if name.lower() in _RESERVED:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name.encode()) > _MOST_BYTES:
        start = name.encode()[:100].decode(errors="ignore")
        name = f"{start}%%{sha256(identity.encode()).hexdigest()}"
    return name or "%"


def _run(function: Callable[[_Job], int], jobs: Sequence[_Job], *, workers: int) -> None:
    """Do the jobs whose target is missing."""
    left = [job for job in jobs if not job.target.exists()]
    total = sum(len(job.rows) for job in jobs)
    done = total - sum(len(job.rows) for job in left)
    with progress("convert", total=total, unit="images", done=done) as advance:
        for count in do_all(function, left, workers=workers, what="convert"):
            advance(count)


def _images(job: _Job, rows: Rows) -> Iterator[FoundImage]:
    store = _store(job.store, job.fingerprint)
    for row, source, name in zip(rows["row"], rows["source"], rows["identity"], strict=True):
        yield FoundImage(source, name, store.read(row))


@lru_cache(maxsize=1)
def _store(path: Path, fingerprint: str) -> Store:
    """Open the store once per process: what it knows of 20,000 shards is no luggage for each job.

    Raises:
        UserError: If it is another one by now.
    """
    store = Store(path)
    if store.fingerprint != fingerprint:
        raise UserError(
            where=str(path),
            found=f"store {store.fingerprint}",
            allowed=f"store {fingerprint}, as when the work began",
            next_step="convert it again to another folder",
        )
    return store


def _write_tar(job: _Job) -> int:
    rows = job.rows.read()
    keys = (f"{key:09d}" for key in rows["key"])
    write_tar(job.target, zip(keys, rows["number"], _images(job, rows), strict=True))
    return len(job.rows)


def _write_photos(job: _Job) -> int:
    """Write photos, and then their part of the listing: what it lists is on the disk."""
    rows = job.rows.read()
    paths = list[str]()
    for place, found in zip(rows["key"], _images(job, rows), strict=True):
        name = f"{place:0{job.digits}d}{picture_suffix(found.image)}"
        if found.identity_name is None:
            path = f"%unknown-{name}"
        else:
            path = f"{folder_name(found.identity_name)}/{name}"
        file = job.out / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(found.image)
        paths.append(path)
    os.sync()  # all at once: flushing each photo takes longer than writing it
    write_listing(job.target, [rows | {"path": paths}], columns=_LISTED)
    return len(job.rows)

"""Another format → a store that keeps the encoded bytes, its labels, and what was refused and why.

Unlike `openmfr ingest`, nothing is decoded to be encoded again: an image goes into the store as it
is, or not at all. Each is decoded once to see that a loader can read it. Parts of the set are the
store's shards, so a run that is killed goes on when the same command is given again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from openmfr.data.convert.sources import Part, Source, open_source
from openmfr.data.formats.found import MOST_BYTES
from openmfr.data.ingest import LABELS
from openmfr.data.labels import Labels
from openmfr.data.rejected import (
    REJECTED,
    forget_accounts,
    gather_rejected,
    kinds_of_rejected,
    note_rejected,
)
from openmfr.data.store import Store, decode_image
from openmfr.data.store_writer import StoreWriter, writing_store
from openmfr.errors import UserError
from openmfr.faces.photo import JPEG_MAGIC, PhotoError, read_photo
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all

_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """What became of a set.

    Attributes:
        kind: The format that it was in.
        images: How many are in the store.
        identities: Of how many people.
        refused: Kind of reason → how many images.
        left_out: Files of a folder that are no photos by their suffix.
        was_finished: Whether an earlier run had done everything.
    """

    kind: str
    images: int
    identities: int
    refused: Mapping[str, int]
    left_out: int
    was_finished: bool


def convert_to_store(
    source: Path | str, out: Path | str, *, size: int = 112, workers: int | None = None
) -> StoreSummary:
    """Make a store of a set in another format, with `labels.parquet` and `rejected.csv` in it.

    Args:
        source: A `.rec` file, or a folder with `train.rec` or with the files of a set that was
            split; a `.tar`, or a folder of some; a folder with one folder of images per identity.
        out: Folder to make; one that the same call began is gone on with.
        size: Edge of the images in pixels; whole JPEGs and PNGs of this size are kept byte for
            byte, all others are refused.
        workers: Worker processes, one per core by default; 1 works in this process.

    Returns:
        What became of the images; the reason of each that was refused is in `rejected.csv`.

    Raises:
        UserError: If the set is damaged or empty, no image is of this size, or something else
            stands in `out`.
    """
    workers = choose_workers(workers)
    if size < 1:
        raise UserError(
            where="size", found=str(size), allowed="from 1", next_step="112 suits most sets"
        )
    found = open_source(Path(source), workers=workers)
    settings = {
        "format": found.kind,
        "fingerprint": found.fingerprint,
        "images": len(found),
        "size": size,
    }
    out = Path(out)
    with writing_store(out, image_size=size, settings=settings) as writer:
        was_finished = isinstance(writer, Store)
        store = writer if isinstance(writer, Store) else _write(found, writer, workers=workers)
        return _finish(store, found, was_finished=was_finished)


def fault_of(encoded: bytes, size: int) -> str:
    """Say why a store cannot keep an image as it is.

    Args:
        encoded: The image.
        size: Edge of the store's images in pixels.

    Returns:
        "kind: detail", or nothing if it can.
    """
    if not encoded.startswith((JPEG_MAGIC, _PNG_MAGIC)):
        return "not a JPEG or PNG: a store keeps no other format" if encoded else "empty file"
    if len(encoded) > MOST_BYTES:
        return f"too large: {len(encoded):,} bytes"
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            width, height = image.size
        if (width, height) != (size, size):
            return f"wrong size: {width}×{height} pixels, not {size}×{size}"
        photo = read_photo(encoded)
    except PhotoError as error:
        return str(error)
    except Exception as error:  # Pillow raises whatever it likes on damaged headers
        return f"damaged or incomplete: {error}"
    if photo.notes and not _is_read_alike(encoded, photo.pixels):
        return f"read differently by different programs: {', '.join(photo.notes)}"
    return ""


def _is_read_alike(encoded: bytes, pixels: np.typing.NDArray[np.uint8]) -> bool:
    """Whether a loader would see the photo as it is meant: upright, with its colours."""
    try:
        seen = decode_image(encoded)
    except (ValueError, OSError):
        return False
    return seen.shape == pixels.shape and bool(np.abs(seen.astype(int) - pixels).max() <= 4)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One shard's work, as it travels to a worker process."""

    number: int
    part: Part
    writer: StoreWriter


def _write(source: Source, writer: StoreWriter, *, workers: int) -> Store:
    jobs = [
        _Job(number=number, part=part, writer=writer) for number, part in enumerate(source.parts)
    ]
    left = [job for job in jobs if not writer.has_shard(job.number)]
    total = len(source)
    done = total - sum(len(job.part) for job in left)
    with progress("convert", total=total, unit="images", done=done) as advance:
        for count in do_all(_do, left, workers=workers, what="convert"):
            advance(count)
    if gather_rejected(writer.path, shards=len(jobs)) == total:
        raise _nothing_kept(writer.path, source.kind, total)
    return writer.commit(shards=len(jobs))


def _do(job: _Job) -> int:
    """Make one shard, and its account before it: a shard that exists is accounted for."""
    images, sources, names = list[bytes](), list[str](), list[str | None]()
    refused: list[tuple[str, str]] = []
    for found in job.part.read():
        fault = found.fault or fault_of(found.image, job.writer.image_size)
        if fault:
            refused.append((found.source, fault))
            continue
        images.append(found.image)
        sources.append(found.source)
        names.append(found.identity_name)
    note_rejected(job.writer.path, job.number, refused)
    job.writer.write_shard(job.number, images, {"source": sources, "identity_name": names})
    return len(job.part)


def how_to_keep_others(kind: str) -> str:
    """Say what takes images that are refused here."""
    ingest = "openmfr ingest --aligned scales such images and encodes them anew"
    return f"unpack the tars; {ingest}" if kind == "tar" else ingest


def _nothing_kept(out: Path, kind: str, images: int) -> UserError:
    return UserError(
        where=str(out / REJECTED),
        found=f"a reason for each of {images:,} images",
        allowed="at least one whole JPEG or PNG of the store's --size",
        next_step=f"read the reasons there; {how_to_keep_others(kind)}",
    )


def _finish(store: Store, source: Source, *, was_finished: bool) -> StoreSummary:
    """Write what is made from the whole store; an earlier run may have been killed before it."""
    if not (store.path / LABELS).exists():
        Labels.from_names(store).write(store.path / LABELS)
    forget_accounts(store.path)
    return StoreSummary(
        kind=source.kind,
        images=len(store),
        identities=len(store.coded_column("identity_name")[1]),
        refused=kinds_of_rejected(store.path, count=len(source) - len(store)),
        left_out=source.left_out,
        was_finished=was_finished,
    )

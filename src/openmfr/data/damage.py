"""What a disk or a network did to a store: which images are damaged, and setting them aside.

A shard whose SHA-256 is the manifest's is whole. In one that differs, each image is compared with
its own checksum, so that one flipped bit costs one image; a shard that is missing, cut short,
unreadable, or says other names costs all of its images. `quarantine` lists them in the store's
folder. The shards stay as they are, and so do the store's fingerprint and everyone's place in it:
labels, geometry and embeddings still fit, and training, embedding and cleaning go on with the other
images. Whoever copies the shard again and repairs once more gets its images back.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from openmfr.data.quarantine import write_quarantine
from openmfr.data.remote import REMOTE, OtherBytesError
from openmfr.data.store import CHECKSUM, Store, fingerprint_columns, open_shard
from openmfr.files import sha256_of_file
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Damage:
    """What is wrong with one shard.

    Attributes:
        file: Its name.
        found: In words.
        images: Store indices of the images that are lost, ascending; empty if only bytes that
            nothing reads are concerned.
    """

    file: str
    found: str
    images: IntArray


def find_damage(store: Store, *, workers: int | None = None) -> list[Damage]:
    """Read a whole store and compare it with its checksums.

    Args:
        store: The store.
        workers: Processes, one per core by default.

    Returns:
        One entry for each shard that is missing or differs, in order; none if the store is whole.
    """
    shards = range(len(store.manifest))
    damaged: list[Damage] = []
    with progress("check", total=len(shards), unit="shards") as advance:
        check: Callable[[int], Damage | None] = partial(_check, store)
        for found in do_all(check, shards, workers=choose_workers(workers), what="inspect"):
            advance(1)
            if found is not None:
                damaged.append(found)
    return sorted(damaged, key=lambda damage: damage.file)


def quarantine(store: Store, damaged: list[Damage]) -> IntArray:
    """Set damaged images aside, and those alone: earlier ones that are whole again come back.

    Args:
        store: The store; opened again, it knows.
        damaged: What `find_damage` found.

    Returns:
        The images that are set aside now, ascending.
    """
    images = np.sort(np.concatenate([np.empty(0, np.int64), *(d.images for d in damaged)]))
    write_quarantine(store.path, images, found={damage.file: damage.found for damage in damaged})
    return images


def _check(store: Store, shard: int) -> Damage | None:
    entry, images = store.manifest[shard], store.shards[shard]
    everything = np.arange(images.start, images.stop)
    try:
        path = store.shard_path(shard)
    except OtherBytesError:
        return Damage(file=entry["file"], found="other bytes in the storage", images=everything)
    if not path.exists():
        return Damage(file=entry["file"], found="missing", images=everything)
    try:
        if sha256_of_file(path) == entry["sha256"]:
            return None
        if (store.path / REMOTE).exists():  # the copy is at fault: the storage has another
            path.unlink()
            return _check(store, shard)
        table = open_shard(path, images=len(images))
        lost = _lost_images(table)
        is_told = fingerprint_columns(table) == entry.get("columns")
    except (OSError, pa.ArrowException, ValueError, KeyError, IndexError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Damage(file=entry["file"], found=f"unreadable ({text})", images=everything)
    if not is_told:
        found = "names or other columns differ: nothing in it can be believed"
        return Damage(file=entry["file"], found=found, images=everything)
    found = f"{lost.size:,} of {len(images):,} images differ from their checksums"
    if not lost.size:
        found = "bytes differ that no image and no name is read from"
    return Damage(file=entry["file"], found=found, images=everything[lost])


def _lost_images(table: pa.Table) -> IntArray:
    """Rows of a damaged shard whose image is not what was written.

    Raises:
        ValueError: If nothing in the shard can be trusted.
    """
    if CHECKSUM not in table.schema.names:
        raise ValueError("it differs, and has no checksums of images")
    images, checksums = table.column("image"), table.column(CHECKSUM)
    return np.array(
        [
            row
            for row, (image, checksum) in enumerate(zip(images, checksums, strict=True))
            if zlib.crc32(image.as_buffer()) != checksum.as_py()
        ],
        dtype=np.int64,
    )

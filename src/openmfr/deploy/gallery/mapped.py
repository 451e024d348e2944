"""An index that outlives its process and is shared by several: memory-mapped files.

Its rows are embeddings in low precision: whoever reads them has the faces. So where they may lie
follows from what the user chose for the gallery. Beside a gallery without encryption, as a folder
`NAME.index`. For an encrypted one never on a disk: in a file system that lives in memory,
`/dev/shm`, in a folder that only its owner can open, until it is deleted or the machine stops
(where there is swap, encrypt that). `Gallery.remove` deletes either, so that nobody stays in it who
was removed.

A mapped index is believed only about whom to look at: scores come from the store's sealed rows.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from openmfr.deploy.gallery.index import Index, Part
from openmfr.deploy.gallery.screen import Matrix, Precision
from openmfr.deploy.gallery.store import GalleryStore, State
from openmfr.errors import UserError
from openmfr.files import atomic_path, read_json, write_json

FORMAT_VERSION = 1

#: Where files live in memory.
MEMORY: Final = Path("/dev/shm")
_IN_MEMORY: Final = ("tmpfs", "ramfs")
_META: Final = "index.json"


def index_folder(store: GalleryStore) -> Path | None:
    """Say where a gallery's mapped index belongs; None if it is on a server and has none."""
    if store.path is None:
        return None
    if store.header.is_encrypted:
        return MEMORY / f"openmfr-{os.getuid()}-{store.header.gallery_id.hex()}"
    return store.path.with_name(store.path.name + ".index")


def open_mapped(store: GalleryStore, precision: Precision) -> Index:
    """Map the index of a gallery, brought up to date; made first if there is none.

    Args:
        store: The gallery.
        precision: Of the rows; an index of another precision is made again.

    Raises:
        UserError: If the gallery is encrypted and this machine has no file system in memory.
    """
    folder = index_folder(store)
    empty = Index.empty(store, precision, room=store.state().images + 1)
    if folder is None:
        return empty.refreshed()
    if store.header.is_encrypted:
        _check_in_memory(folder.parent)
    found = _load(store, folder, precision)
    index = (found or empty).refreshed()
    if index is not found:
        forget_mapped(store)
        # Another process may have been quicker: then its folder stands there, and is as good.
        with suppress(OSError):
            _save(index, folder)
        index = _load(store, folder, precision) or index
    return index


def forget_mapped(store: GalleryStore) -> None:
    """Delete a gallery's mapped index, if there is one."""
    if folder := index_folder(store):
        shutil.rmtree(folder, ignore_errors=True)


def _save(index: Index, folder: Path) -> None:
    with atomic_path(folder) as temporary:
        temporary.mkdir(mode=0o700)
        for name, part in (("bare", index.bare), ("masked", index.masked)):
            for column, array in part.used().arrays().items():
                np.save(temporary / f"{name}-{column}.npy", array)
        meta = {
            "format_version": FORMAT_VERSION,
            "kind": "gallery index",
            "gallery": index.store.header.context.hex(),
            "precision": index.precision,
            "state": asdict(index.state),
            "people": index.people,
        }
        write_json(temporary / _META, meta)


def _load(store: GalleryStore, folder: Path, precision: Precision) -> Index | None:
    """Map what `_save` wrote; None if it is not there, or not this gallery's."""
    if not _is_own(folder):
        return None
    try:
        return _map_all(store, folder, precision)
    except (OSError, ValueError):  # another process has deleted it meanwhile; or it is damaged
        return None


def _map_all(store: GalleryStore, folder: Path, precision: Precision) -> Index | None:
    meta = read_json(folder / _META, what="index of a gallery")
    wanted = {
        "format_version": FORMAT_VERSION,
        "gallery": store.header.context.hex(),
        "precision": precision,
    }
    if any(meta.get(name) != value for name, value in wanted.items()):
        return None
    people: list[str] = meta["people"]
    return Index(
        store=store,
        state=State(**meta["state"]),
        bare=_map(folder, "bare", precision),
        masked=_map(folder, "masked", precision),
        people=people,
        number_of={name: number for number, name in enumerate(people)},
    )


def _map(folder: Path, name: str, precision: Precision) -> Part:
    columns = ("rows", "scale", "rounding", "person", "image_id")
    arrays: dict[str, Any] = {
        column: np.load(folder / f"{name}-{column}.npy", mmap_mode="r") for column in columns
    }
    # As plain arrays: slices of a memmap object are slow to make.
    arrays = {column: np.asarray(array) for column, array in arrays.items()}
    image_id = arrays.pop("image_id")
    return Part(
        matrix=Matrix(precision=precision, **arrays), image_id=image_id, count=image_id.size
    )


def _is_own(folder: Path) -> bool:
    """Whether a folder is ours alone: another user could have made one of this name."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _check_in_memory(folder: Path) -> None:
    mounts = Path("/proc/mounts")
    lines = mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else []
    kinds = {line.split()[1]: line.split()[2] for line in lines}
    if kinds.get(str(folder)) not in _IN_MEMORY:
        raise UserError(
            where=str(folder),
            found=f"file system {kinds.get(str(folder), 'unknown')}",
            allowed="one in memory (tmpfs): the gallery is encrypted, its index is not",
            next_step="search without a mapped index",
        )

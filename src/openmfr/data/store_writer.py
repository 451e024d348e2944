"""Writes a store, shard by shard, in many processes if need be.

A shard's number is chosen by whoever writes it, not by the order in which shards arrive, so
parallel workers, and a run that was killed and repeated, end in the same store. Each worker sums up
its own shards; one `commit` makes all of them visible at once.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from openmfr.data.store import (
    CHECKSUM,
    FORMAT_VERSION,
    MANIFEST,
    SCHEMA,
    SHARD_SUFFIX,
    Store,
    fingerprint_columns,
    open_shard,
)
from openmfr.errors import UserError
from openmfr.files import (
    atomic_path,
    check_same_settings,
    fingerprint,
    prepare_folder,
    read_json,
    sha256_of_file,
    taken_folder,
    write_json,
)

#: Stands in an unfinished store, so that a repeated run knows its own.
SETTINGS = "settings.json"
#: Of the file beside each shard of an unfinished store: the shard's line in the manifest.
SEAL_SUFFIX = ".json"


class StoreWriter:
    """Writes a store shard by shard; what is already written is kept when the run is repeated.

    Args:
        path: Folder to create, or one that the same writer began and did not finish.
        image_size: Height and width of every image in pixels.
        settings: What determines the content (inputs and options, as JSON): kept in the manifest
            for a person who asks, and compared when a run is repeated.

    Raises:
        UserError: If a finished store, a store begun with other settings, or foreign files stand
            there.
    """

    def __init__(self, path: Path | str, *, image_size: int, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.image_size = image_size
        self.settings = json.loads(json.dumps(settings))
        if (self.path / MANIFEST).exists():
            raise UserError(
                where=str(self.path),
                found="a finished store",
                allowed="a new folder",
                next_step="choose another folder, or delete this one",
            )
        prepare_folder(self.path, mark=SETTINGS, what="unfinished store")
        begun = self.path / SETTINGS
        if begun.exists():
            check_same_settings(self.path, read_json(begun, what="store"), self.settings)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(begun, self.settings)

    def has_shard(self, number: int) -> bool:
        """Whether a shard was written, by this run or one that was killed."""
        return self._shard_path(number).exists()

    def write_shard(
        self, number: int, images: Sequence[bytes], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Write one shard atomically.

        Args:
            number: Place of the shard in the store, from 0. Numbers may come in any order.
            images: Encoded images, JPEG or PNG, each `image_size` squared; may be empty.
            columns: Source columns, each as long as `images`; `source` and `identity_name` are
                required, others are the caller's.
        """
        self._seal_path(number).unlink(missing_ok=True)
        arrays: dict[str, pa.Array] = {"image": pa.array(images, pa.binary())}
        arrays[CHECKSUM] = pa.array([zlib.crc32(image) for image in images], pa.uint32())
        for name, values in columns.items():
            field_type = SCHEMA.field(name).type if name in SCHEMA.names else None
            arrays[name] = pa.array(values, field_type)
        batch = pa.record_batch(arrays)
        with (
            atomic_path(self._shard_path(number)) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)
        # Here, where many processes write: summing up all shards at the end takes hours.
        write_json(self._seal_path(number), self._seal(number))

    def commit(self, *, shards: int) -> Store:
        """Write the manifest: from now on the folder is a store.

        Args:
            shards: How many shards there must be, numbered from 0.

        Returns:
            The store, opened.

        Raises:
            UserError: If a shard is missing.
        """
        entries = []
        for number in range(shards):
            path = self._shard_path(number)
            if not path.exists():
                raise UserError(
                    where=str(path),
                    found="no such shard",
                    allowed=f"shards 0 to {shards - 1}",
                    next_step="run the same command again; it writes what is missing",
                )
            seal = self._seal_path(number)
            entry = read_json(seal, what="seal") if seal.exists() else self._seal(number)
            if entry["images"]:
                entries.append(entry)
        manifest = {
            "format_version": FORMAT_VERSION,
            "kind": "store",
            "image_size": self.image_size,
            "images": sum(entry["images"] for entry in entries),
            "fingerprint": fingerprint(*(entry["sha256"] for entry in entries)),
            "settings": self.settings,
            "shards": entries,
        }
        write_json(self.path / MANIFEST, manifest)
        _tidy(self.path)
        return Store(self.path)

    def _seal(self, number: int) -> dict[str, Any]:
        """A shard's line in the manifest."""
        path = self._shard_path(number)
        table = open_shard(path)
        return {
            "file": path.name,
            "images": table.num_rows,
            "sha256": sha256_of_file(path),
            "columns": fingerprint_columns(table),
        }

    def _shard_path(self, number: int) -> Path:
        return self.path / f"shard-{number:06d}{SHARD_SUFFIX}"

    def _seal_path(self, number: int) -> Path:
        return self.path / f"shard-{number:06d}{SEAL_SUFFIX}"


@contextmanager
def writing_store(
    path: Path | str, *, image_size: int, settings: Mapping[str, Any]
) -> Iterator[StoreWriter | Store]:
    """Take a folder for one command: to write a store, or to have the one that it has finished.

    Args:
        path: The store's folder.
        image_size: Height and width of every image in pixels.
        settings: As for `StoreWriter`.

    Yields:
        The store, if a command with these settings has finished it; else a writer, which goes on
        where a command with these settings stopped.

    Raises:
        UserError: If another command works there, or a store with other settings or foreign files
            stand there.
    """
    path = Path(path)
    with taken_folder(path, mark=SETTINGS, what="unfinished store"):
        if not (path / MANIFEST).exists():
            yield StoreWriter(path, image_size=image_size, settings=settings)
            return
        store = Store(path)
        check_same_settings(path, store.settings, json.loads(json.dumps(settings)))
        _tidy(path)  # a kill may have come just after the manifest
        yield store


def _tidy(path: Path) -> None:
    """Remove from a finished store what only an unfinished one needs."""
    for seal in path.glob(f"shard-*{SEAL_SUFFIX}"):
        seal.unlink(missing_ok=True)
    (path / SETTINGS).unlink(missing_ok=True)

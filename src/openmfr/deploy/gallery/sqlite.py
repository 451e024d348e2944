"""A gallery in one SQLite file: the default.

*What was acknowledged stays.* The write-ahead log is flushed to the disk (`synchronous=FULL`)
before `add` returns, so neither kill -9 nor a power cut takes it back. Readers never wait; writers
wait for each other, and say so.

*What is removed is gone.* `secure_delete` overwrites freed cells; `erase` then rewrites the file
without gaps and empties the log, where older copies of pages stand. A kill between the two leaves a
note, and whoever opens the gallery next finishes. What file systems and disks keep of overwritten
blocks, and backups, is beyond us; with a key it is ciphertext.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from openmfr.deploy.gallery.cipher import BrokenSealError
from openmfr.deploy.gallery.records import (
    DIGEST_BYTES,
    Added,
    Float32Array,
    Image,
    IntArray,
    NewImage,
    Rows,
)
from openmfr.deploy.gallery.sqlite_file import (
    SILENT,
    connect,
    explained,
    is_made,
    make_tables,
    read_header,
    writing,
)
from openmfr.deploy.gallery.store import (
    CHUNK,
    PATIENCE,
    OtherNameError,
    State,
    refuse_unlike_rows,
)
from openmfr.errors import UserError

_COLUMNS = "image_id, identity, is_masked, source, added_at, digest"

_log = logging.getLogger(__name__)


class SQLiteStore:
    """A gallery's file.

    Args:
        path: An existing file; `create` makes one.
        key: What opens it, if it is encrypted.

    Attributes:
        where: The path, for people.
        path: The path.
        header: What it is.

    Raises:
        UserError: If there is none, it is something else or of a later version, the key is missing
            or wrong, or the header was changed.
    """

    def __init__(self, path: Path, *, key: bytes | None = None) -> None:
        self.where, self.path = str(path), path
        self._lock = RLock()
        if not path.is_file() or path.stat().st_size == 0:
            raise UserError(
                where=self.where,
                found="no gallery",
                allowed="a file that openmfr gallery add made",
                next_step="check the path, or enrol somebody",
            )
        self._connection = connect(path)
        with explained(self.where):
            self.header, self._cipher = read_header(self._connection, self.where, key)
            self._header_context = self.header.context
            self._finish_erasure()

    @classmethod
    def create(
        cls, path: Path, *, model: str, dim: int, key: bytes | None, patience: float = PATIENCE
    ) -> SQLiteStore:
        """Make a gallery, or open it if another process was quicker.

        Args:
            path: The file; its folder is made.
            model: Fingerprint of the model whose embeddings it will hold.
            dim: Their dimension.
            key: 32 bytes; None for a gallery without encryption.
            patience: Seconds to wait for another process.

        Raises:
            UserError: As opening it does.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made first, so that nobody but its owner can read it, nor the log that takes its rights.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = connect(path)
        with explained(str(path)), writing(connection, str(path), patience):
            if not is_made(connection):
                make_tables(connection, model, dim, key)
        connection.close()
        return cls(path, key=key)

    def state(self) -> State:
        """Say how far it has come."""
        with self._reading() as connection:
            found = connection.execute("SELECT last_image, removals, images FROM counter")
            last, removals, images = found.fetchone()
        return State(last_image=last, removals=removals, images=images)

    def add(self, images: Sequence[NewImage], *, patience: float = PATIENCE) -> list[Added]:
        """Enrol all or none; see `GalleryStore.add`."""
        self.header.check_rows(images)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with (
            self._lock,
            explained(self.where),
            writing(self._connection, self.where, patience) as connection,
        ):
            return [self._add_one(connection, image, now) for image in images]

    def find_photo(self, digest: bytes) -> Image | None:
        """Find the image that was enrolled from a photo, given its SHA-256."""
        with self._reading() as connection:
            found = self._find_photo(connection, self._cipher.blind(digest))
        return _image(found) if found else None

    def images(self, identity: str | None = None) -> list[Image]:
        """List the images of a person, or all, by number."""
        chosen, values = ("WHERE identity = ?", [identity]) if identity is not None else ("", [])
        query = f"SELECT {_COLUMNS} FROM image {chosen} ORDER BY image_id"
        with self._reading() as connection:
            return [_image(row) for row in connection.execute(query, values)]

    def image_ids(self) -> IntArray:
        """List all numbers, ascending."""
        with self._reading() as connection:
            found = connection.execute("SELECT image_id FROM image ORDER BY image_id").fetchall()
        return np.array(found, dtype=np.int64).reshape(-1)

    def embeddings(self, image_ids: Sequence[int]) -> dict[int, Float32Array]:
        """Read some embeddings; what is not enrolled is left out."""
        found = []
        query = f"SELECT {_COLUMNS}, embedding FROM image WHERE image_id = ?"
        with self._reading() as connection:
            for number in image_ids:
                found += connection.execute(query, [int(number)]).fetchall()
        return {row[0]: self._unseal(row)[0] for row in found}

    def rows(self, *, after: int = 0, upto: int | None = None) -> Iterator[Rows]:
        """Read all images in chunks; between two, others may write."""
        last, end = after, 2**62 if upto is None else upto
        query = (
            f"SELECT {_COLUMNS}, embedding FROM image WHERE image_id > ? AND image_id <= ?"
            f" ORDER BY image_id LIMIT {CHUNK}"
        )
        while True:
            with self._reading() as connection:
                found = connection.execute(query, [last, end]).fetchall()
            if not found:
                return
            last = found[-1][0]
            unsealed = [self._unseal(row) for row in found]
            yield Rows(
                image_id=np.array([row[0] for row in found], dtype=np.int64),
                identity=[row[1] for row in found],
                is_masked=np.array([row[2] for row in found], dtype=np.bool_),
                source=[row[3] for row in found],
                added_at=[row[4] for row in found],
                digest=[digest for _, digest in unsealed],
                embedding=np.stack([embedding for embedding, _ in unsealed]),
            )

    def remove(self, image_ids: Sequence[int], *, patience: float = PATIENCE) -> int:
        """Remove images; `erase` must follow, and does on the next opening if it could not."""
        with (
            self._lock,
            explained(self.where),
            writing(self._connection, self.where, patience) as connection,
        ):
            before = connection.total_changes
            connection.executemany(
                "DELETE FROM image WHERE image_id = ?", [[int(number)] for number in image_ids]
            )
            removed = connection.total_changes - before
            connection.execute(
                "UPDATE counter SET removals = removals + ?, images = images - ?,"
                " is_erasure_due = max(is_erasure_due, ?)",
                [removed, removed, int(removed > 0)],
            )
        return removed

    def erase(self, *, patience: float = PATIENCE) -> None:
        """Rewrite the file without what was removed, and empty the log.

        A connection of its own does it, so that others read meanwhile; writers wait.

        Raises:
            UserError: If another process keeps the log in use.
        """
        with explained(self.where), closing(connect(self.path, patience=patience)) as connection:
            removals = connection.execute("SELECT removals FROM counter").fetchone()[0]
            connection.execute("VACUUM")
            is_in_use, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not is_in_use:
                done = "UPDATE counter SET is_erasure_due = 0 WHERE removals = ?"
                connection.execute(done, [removals])
        if is_in_use:
            raise UserError(
                where=self.where,
                found="another process that is reading: what was removed is still in the log",
                allowed="a moment without readers",
                next_step="open the gallery again later; nobody is found meanwhile who was removed",
            )

    def close(self) -> None:
        """Close the file; the last one to do so empties the log into it."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self.where):
            yield self._connection

    def _add_one(self, connection: sqlite3.Connection, image: NewImage, now: str) -> Added:
        digest = self._cipher.blind(image.digest)
        if found := self._find_photo(connection, digest):
            enrolled = _image(found)
            if enrolled.identity != image.identity:
                raise OtherNameError(self.where, image, enrolled)
            return Added(image=enrolled, is_new=False)
        connection.execute("UPDATE counter SET last_image = last_image + 1, images = images + 1")
        number = connection.execute("SELECT last_image FROM counter").fetchone()[0]
        row = (number, image.identity, int(image.is_masked), image.source, now, digest)
        content = image.embedding.astype("<f4").tobytes() + image.digest
        stored = self._cipher.seal(content, self._context(row))
        connection.execute("INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?)", [*row, stored])
        return Added(image=_image(row), is_new=True)

    def _find_photo(self, connection: sqlite3.Connection, digest: bytes) -> Sequence[Any] | None:
        query = f"SELECT {_COLUMNS} FROM image WHERE digest = ?"
        row: Sequence[Any] | None = connection.execute(query, [digest]).fetchone()
        return row

    def _context(self, row: Sequence[Any]) -> bytes:
        """What a row's embedding is bound to; `context_of` would take ten times as long."""
        number, identity, is_masked, source, added_at, digest = row
        lengths = f"{number},{is_masked},{len(identity)},{len(source)},{len(added_at)}:"
        told = f"{lengths}{identity}{source}{added_at}".encode()
        return b"".join((self._header_context, told, digest))

    def _unseal(self, row: Sequence[Any]) -> tuple[Float32Array, bytes]:
        """Take embedding and digest out of a row of `_COLUMNS` and what is stored of both."""
        try:
            content = self._cipher.unseal(row[-1], self._context(row[:-1]))
        except BrokenSealError as error:
            why = "a broken seal: the row was changed, or moved here from another place"
            raise refuse_unlike_rows(self.where, row[0], row[1], why=why) from error
        if len(content) != 4 * self.header.dim + DIGEST_BYTES:
            why = f"{len(content)} bytes"
            raise refuse_unlike_rows(self.where, row[0], row[1], why=why)
        embedding = np.frombuffer(content, dtype="<f4", count=self.header.dim)
        return embedding, content[-DIGEST_BYTES:]

    def _finish_erasure(self) -> None:
        is_due = self._connection.execute("SELECT is_erasure_due FROM counter").fetchone()[0]
        if is_due:
            _log.info("%s: finishing the removal that was cut short", self.where)
            try:
                self.erase(patience=SILENT)
            except UserError as error:  # others use it; the next opening tries again
                _log.info("%s", error)


def _image(row: Sequence[Any]) -> Image:
    return Image(
        image_id=row[0],
        identity=row[1],
        is_masked=bool(row[2]),
        source=row[3],
        added_at=row[4],
    )

"""A gallery's SQLite file: how it is made, opened, locked, and what its errors mean."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from openmfr.deploy.gallery.cipher import (
    KEY_VARIABLE,
    BrokenSealError,
    Cipher,
    KeyCipher,
    PlainCipher,
)
from openmfr.deploy.gallery.store import FORMAT_VERSION, Header
from openmfr.errors import UserError

#: Marks the file as ours: "omfG".
APPLICATION_ID = 0x6F6D6647

#: Seconds before a waiting writer says that it waits.
SILENT = 1.0

_TABLES = (
    "CREATE TABLE header (gallery_id BLOB, model TEXT, dim INTEGER, is_encrypted INTEGER,"
    " key_check BLOB, seal BLOB, created_at TEXT)",
    "CREATE TABLE counter (last_image INTEGER, removals INTEGER, images INTEGER,"
    " is_erasure_due INTEGER)",
    "INSERT INTO counter VALUES (0, 0, 0, 0)",
    "CREATE TABLE image (image_id INTEGER PRIMARY KEY, identity TEXT NOT NULL,"
    " is_masked INTEGER NOT NULL, source TEXT NOT NULL, added_at TEXT NOT NULL,"
    " digest BLOB NOT NULL UNIQUE, embedding BLOB NOT NULL)",
    "CREATE INDEX image_of ON image (identity)",
)
_log = logging.getLogger(__name__)


def connect(path: Path, *, patience: float = SILENT) -> sqlite3.Connection:
    """Open a file as galleries need it.

    Args:
        path: The file.
        patience: Seconds that a statement waits for other processes.
    """
    with explained(str(path)):
        connection = sqlite3.connect(
            path, timeout=patience, isolation_level=None, check_same_thread=False
        )
        # An embedding of 512 numbers with its seal takes 2,076 bytes: seven rows in a page.
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        return connection


def describe_gallery(path: Path) -> dict[str, str] | None:
    """Describe a gallery by name and value, without its key, as `openmfr inspect` prints it.

    Args:
        path: A file.

    Returns:
        The description; None if the file is something else.
    """
    with path.open("rb") as file:
        start = file.read(100)
    if start[:15] != b"SQLite format 3" or start[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        return None
    with explained(str(path)), closing(connect(path)) as connection:
        query = "SELECT model, dim, is_encrypted, created_at FROM header"
        model, dim, is_encrypted, created_at = connection.execute(query).fetchone()
        images = connection.execute("SELECT images FROM counter").fetchone()[0]
        query = "SELECT count(DISTINCT identity) FROM image"
        people = connection.execute(query).fetchone()[0]
    return {
        "kind": "gallery",
        "people": f"{people:,}",
        "images": f"{images:,}",
        "model": model,
        "embedding_dim": str(dim),
        "encrypted": "yes" if is_encrypted else "no",
        "made": created_at,
    }


def is_made(connection: sqlite3.Connection) -> bool:
    """Whether tables were made in it."""
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def make_tables(connection: sqlite3.Connection, model: str, dim: int, key: bytes | None) -> None:
    """Make the tables of an empty gallery, in the caller's transaction."""
    header = Header(gallery_id=os.urandom(16), model=model, dim=dim, is_encrypted=key is not None)
    cipher = KeyCipher(key, header.gallery_id) if key is not None else None
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO header VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            header.gallery_id,
            model,
            dim,
            int(header.is_encrypted),
            cipher.check if cipher else b"",
            cipher.seal(b"", header.context) if cipher else b"",
            datetime.now(UTC).isoformat(timespec="seconds"),
        ],
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def read_header(
    connection: sqlite3.Connection, where: str, key: bytes | None
) -> tuple[Header, Cipher]:
    """Read what a gallery is, and make what opens its rows.

    Raises:
        UserError: If it is no gallery or of a later version, the key is missing or wrong, or the
            header was changed.
    """
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if kind != APPLICATION_ID or not 1 <= version <= FORMAT_VERSION:
        ours = f"a gallery of format version {version}" if kind == APPLICATION_ID else "no gallery"
        raise UserError(
            where=where,
            found=ours,
            allowed=f"a gallery of format version 1 to {FORMAT_VERSION}",
            next_step="check the path, or update openmfr",
        )
    columns = "gallery_id, model, dim, is_encrypted, key_check, seal"
    row = connection.execute(f"SELECT {columns} FROM header").fetchone()
    header = Header(gallery_id=row[0], model=row[1], dim=row[2], is_encrypted=bool(row[3]))
    if not header.is_encrypted:
        return header, PlainCipher()
    return header, _open_cipher(header, where, key, check=row[4], seal=row[5])


def _open_cipher(
    header: Header, where: str, key: bytes | None, *, check: bytes, seal: bytes
) -> Cipher:
    if key is None:
        raise UserError(
            where=KEY_VARIABLE,
            found="nothing",
            allowed=f"the key that {where} was made with",
            next_step=f"set it: export {KEY_VARIABLE}=…",
        )
    cipher = KeyCipher(key, header.gallery_id)
    if cipher.check != check:
        raise UserError(
            where=KEY_VARIABLE,
            found="another key",
            allowed=f"the key that {where} was made with",
            next_step="look for the right one: nothing else opens the gallery",
        )
    try:
        cipher.unseal(seal, header.context)
    except BrokenSealError as error:
        raise UserError(
            where=f"{where}, header",
            found="a broken seal: the model's fingerprint or the dimension was changed",
            allowed="what openmfr wrote",
            next_step="restore a copy",
        ) from error
    return cipher


@contextmanager
def writing(
    connection: sqlite3.Connection, where: str, patience: float
) -> Iterator[sqlite3.Connection]:
    """Be the one process that writes; say so when another is waited for."""
    deadline, has_said = time.monotonic() + patience, False
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
        if not has_said:
            _log.info("%s: waiting for another process that is writing", where)
            has_said = True
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn what SQLite says of a file into an error that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        allowed, next_step = "a gallery that openmfr wrote", "check the path, or restore a copy"
        if _is_busy(error):
            allowed, next_step = "one writer at a time", "wait for the other process"
        elif "readonly" in str(error) or "unable to open" in str(error):
            allowed, next_step = "a folder and a file that may be written", "check their rights"
        elif "full" in str(error):
            allowed, next_step = "space on the disk", "make room, and give the command again"
        raise UserError(
            where=where, found=str(error), allowed=allowed, next_step=next_step
        ) from error


def _is_busy(error: sqlite3.DatabaseError) -> bool:
    return "locked" in str(error) or "busy" in str(error)

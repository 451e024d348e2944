"""A gallery in PostgreSQL with pgvector, for those who outgrow a file.

What differs: embeddings are *not* encrypted at rest (pgvector must read them); rely on the server's
disks and rights. Search runs in the server, and nothing is held here. It is exact all the same: the
server's scores, sums in float32, screen; rows that may be among the best are scored here like any
other (`openmfr.deploy.gallery.screen` says why none is lost). An approximate index (HNSW, IVFFlat)
is neither made nor used.

Removed rows are vacuumed; old versions of pages may stand in the server's write-ahead log until it
is recycled, and in its backups.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import RLock
from typing import Any, Final

import numpy as np
import psycopg

from openmfr.deploy.gallery.index import Hit
from openmfr.deploy.gallery.kernels import exact_scores
from openmfr.deploy.gallery.records import Added, Float32Array, Image, IntArray, NewImage, Rows
from openmfr.deploy.gallery.store import (
    CHUNK,
    FORMAT_VERSION,
    Header,
    OtherNameError,
    State,
)
from openmfr.errors import UserError

_SCHEMA: Final = "openmfr_gallery"
_COLUMNS: Final = "image_id, identity, is_masked, source, added_at"

#: Every gallery's tables are made under this lock, so that two processes do not collide.
_LOCK: Final = 0x6F6D6647


class PostgresStore:
    """A gallery in a database.

    Args:
        url: Of the database, postgresql://user@host/database.

    Attributes:
        where: The URL without the password.
        path: None: it is no file.
        header: What it is.

    Raises:
        UserError: If the server cannot be reached, or holds no gallery.
    """

    path = None

    def __init__(self, url: str) -> None:
        self.where = _without_password(url)
        self._lock = RLock()
        self._connection = _connect(url, self.where)
        with self._reading() as cursor:
            self.header = self._read_header(cursor)

    @classmethod
    def create(cls, url: str, *, model: str, dim: int) -> PostgresStore:
        """Make a gallery in a database, or open the one that is there.

        Args:
            url: Of the database.
            model: Fingerprint of the model whose embeddings it will hold.
            dim: Their dimension.
        """
        where = _without_password(url)
        connection = _connect(url, where)
        with _explained(where), connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            cursor.execute("SELECT to_regclass(%s)", [f"{_SCHEMA}.header"])
            found = cursor.fetchone()
            if found is None or found[0] is None:
                _make_tables(cursor, model, dim)
        connection.close()
        return cls(url)

    def state(self) -> State:
        """Say how far it has come."""
        with self._reading() as cursor:
            cursor.execute("SELECT last_image, removals, images FROM counter")
            last, removals, images = _only(cursor)
        return State(last_image=last, removals=removals, images=images)

    def add(self, images: Sequence[NewImage]) -> list[Added]:
        """Enrol all or none; see `GalleryStore.add`."""
        self.header.check_rows(images)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._reading() as cursor:
            # Whoever adds holds this row until the end, so numbers appear in their order.
            cursor.execute("SELECT last_image FROM counter FOR UPDATE")
            return [self._add_one(cursor, image, now) for image in images]

    def find_photo(self, digest: bytes) -> Image | None:
        """Find the image that was enrolled from a photo, given its SHA-256."""
        with self._reading() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM image WHERE digest = %s", [digest])
            found = cursor.fetchone()
        return _image(found) if found else None

    def images(self, identity: str | None = None) -> list[Image]:
        """List the images of a person, or all, by number."""
        chosen, values = ("WHERE identity = %s", [identity]) if identity is not None else ("", [])
        with self._reading() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM image {chosen} ORDER BY image_id", values)
            return [_image(row) for row in cursor]

    def image_ids(self) -> IntArray:
        """List all numbers, ascending."""
        with self._reading() as cursor:
            cursor.execute("SELECT image_id FROM image ORDER BY image_id")
            return np.array(cursor.fetchall(), dtype=np.int64).reshape(-1)

    def embeddings(self, image_ids: Sequence[int]) -> dict[int, Float32Array]:
        """Read some embeddings; what is not enrolled is left out."""
        query = "SELECT image_id, vector_send(embedding) FROM image WHERE image_id = ANY(%s)"
        with self._reading() as cursor:
            cursor.execute(query, [[int(number) for number in image_ids]])
            found = {row[0]: _embedding(row[1]) for row in cursor}
        return {number: found[number] for number in image_ids if number in found}

    def rows(self, *, after: int = 0, upto: int | None = None) -> Iterator[Rows]:
        """Read all images in chunks; between two, others may write."""
        last, end = after, 2**62 if upto is None else upto
        query = (
            f"SELECT {_COLUMNS}, digest, vector_send(embedding) FROM image"
            f" WHERE image_id > %s AND image_id <= %s ORDER BY image_id LIMIT {CHUNK}"
        )
        while True:
            with self._reading() as cursor:
                cursor.execute(query, [last, end])
                found = cursor.fetchall()
            if not found:
                return
            last = found[-1][0]
            yield Rows(
                image_id=np.array([row[0] for row in found], dtype=np.int64),
                identity=[row[1] for row in found],
                is_masked=np.array([row[2] for row in found], dtype=np.bool_),
                source=[row[3] for row in found],
                added_at=[row[4] for row in found],
                digest=[bytes(row[5]) for row in found],
                embedding=np.stack([_embedding(row[6]) for row in found]),
            )

    def remove(self, image_ids: Sequence[int]) -> int:
        """Remove images; returns how many there were."""
        with self._reading() as cursor:
            numbers = [int(number) for number in image_ids]
            cursor.execute("SELECT last_image FROM counter FOR UPDATE")
            cursor.execute("DELETE FROM image WHERE image_id = ANY(%s)", [numbers])
            removed = cursor.rowcount
            cursor.execute(
                "UPDATE counter SET removals = removals + %s, images = images - %s",
                [removed, removed],
            )
        return removed

    def erase(self) -> None:
        """Rewrite the table without what was removed."""
        with self._lock, _explained(self.where):
            self._connection.execute("VACUUM FULL image")

    def nearest(self, probes: Float32Array, k: int) -> list[list[Hit]]:
        """Find the people that score highest; see `index.Searcher`."""
        return [
            [*self._best(probe, k, is_masked=False), *self._best(probe, k, is_masked=True)]
            for probe in probes
        ]

    def close(self) -> None:
        """Let go of the server."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Cursor[Any]]:
        """Work in one transaction."""
        with (
            self._lock,
            _explained(self.where),
            self._connection.transaction(),
            self._connection.cursor() as cursor,
        ):
            yield cursor

    def _read_header(self, cursor: psycopg.Cursor[Any]) -> Header:
        cursor.execute("SELECT to_regclass(%s)", [f"{_SCHEMA}.header"])
        if _only(cursor)[0] is None:
            raise UserError(
                where=self.where,
                found="no gallery",
                allowed="a database in which openmfr gallery add made one",
                next_step="check the URL, or enrol somebody",
            )
        cursor.execute("SELECT format_version, gallery_id, model, dim FROM header")
        version, gallery_id, model, dim = _only(cursor)
        if not 1 <= version <= FORMAT_VERSION:
            raise UserError(
                where=self.where,
                found=f"a gallery of format version {version}",
                allowed=f"1 to {FORMAT_VERSION}",
                next_step="update openmfr",
            )
        return Header(gallery_id=bytes(gallery_id), model=model, dim=dim, is_encrypted=False)

    def _add_one(self, cursor: psycopg.Cursor[Any], image: NewImage, now: str) -> Added:
        cursor.execute(f"SELECT {_COLUMNS} FROM image WHERE digest = %s", [image.digest])
        if found := cursor.fetchone():
            enrolled = _image(found)
            if enrolled.identity != image.identity:
                raise OtherNameError(self.where, image, enrolled)
            return Added(image=enrolled, is_new=False)
        cursor.execute(
            "UPDATE counter SET last_image = last_image + 1, images = images + 1"
            " RETURNING last_image"
        )
        row = (_only(cursor)[0], image.identity, image.is_masked, image.source, now)
        cursor.execute(
            "INSERT INTO image VALUES (%s, %s, %s, %s, %s, %s, %s::vector)",
            [*row, image.digest, _text(image.embedding)],
        )
        return Added(image=_image(row), is_new=True)

    def _best(self, probe: Float32Array, k: int, *, is_masked: bool) -> list[Hit]:
        """Screen in the server, and score what is left exactly."""
        score = "-(embedding <#> %(probe)s::vector)"
        own = f"SELECT max({score}) AS score FROM image WHERE is_masked = %(masked)s"
        near = (
            "SELECT image_id, identity, vector_send(embedding) FROM image"
            f" WHERE is_masked = %(masked)s AND {score} >= (SELECT min(score) FROM"
            f" ({own} GROUP BY identity ORDER BY score DESC LIMIT %(k)s) AS best) - %(margin)s"
            " ORDER BY image_id"
        )
        # Sums of D products in float32, theirs by twice what rounding needs, on either side.
        margin = 2 * (self.header.dim + 1) * 2.0**-22
        values = {"probe": _text(probe), "masked": is_masked, "k": k, "margin": margin}
        with self._reading() as cursor:
            cursor.execute(near, values)
            found = cursor.fetchall()
        if not found:
            return []
        scores = exact_scores(np.stack([_embedding(row[2]) for row in found]), probe)
        best: dict[str, Hit] = {}
        for place in np.argsort(-scores, kind="stable"):
            number, identity, _ = found[place]
            hit = Hit(
                identity=identity,
                image_id=number,
                is_masked=is_masked,
                score=float(scores[place]),
            )
            best.setdefault(identity, hit)
        return list(best.values())[:k]


def _connect(url: str, where: str) -> psycopg.Connection[Any]:
    with _explained(where):
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
        connection.execute(f"SET search_path TO {_SCHEMA}, public")
        return connection


def _make_tables(cursor: psycopg.Cursor[Any], model: str, dim: int) -> None:
    cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    cursor.execute(f"CREATE SCHEMA {_SCHEMA}")
    cursor.execute(
        "CREATE TABLE header (format_version integer, gallery_id bytea, model text, dim integer)"
    )
    cursor.execute("CREATE TABLE counter (last_image bigint, removals bigint, images bigint)")
    cursor.execute(
        "CREATE TABLE image (image_id bigint PRIMARY KEY, identity text NOT NULL,"
        " is_masked boolean NOT NULL, source text NOT NULL, added_at text NOT NULL,"
        f" digest bytea NOT NULL UNIQUE, embedding vector({int(dim)}) NOT NULL)"
    )
    cursor.execute("CREATE INDEX image_of ON image (identity)")
    header = [FORMAT_VERSION, os.urandom(16), model, dim]
    cursor.execute("INSERT INTO header VALUES (%s, %s, %s, %s)", header)
    cursor.execute("INSERT INTO counter VALUES (0, 0, 0)")


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn what the server says into an error that says what to do."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise UserError(
            where=where,
            found=str(error).splitlines()[0],
            allowed="a PostgreSQL server that answers",
            next_step="check the URL and the server",
        ) from error
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
        raise UserError(
            where=where,
            found=str(error).splitlines()[0],
            allowed="a database with pgvector, in which the user may make a schema",
            next_step="as its owner: CREATE EXTENSION vector",
        ) from error


def _only(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)


def _image(row: Sequence[Any]) -> Image:
    return Image(image_id=row[0], identity=row[1], is_masked=row[2], source=row[3], added_at=row[4])


def _text(embedding: Float32Array) -> str:
    """Write a row as pgvector reads it; float32 comes back bit by bit."""
    return "[" + ",".join(map(str, embedding.tolist())) + "]"


def _embedding(sent: Any) -> Float32Array:
    """Read pgvector's binary form: two numbers of 16 bits, then float32, most significant first."""
    return np.frombuffer(bytes(sent), dtype=">f4", offset=4).astype(np.float32)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}"

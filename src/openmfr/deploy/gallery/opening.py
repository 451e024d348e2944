"""Find the store that a word means: a file, or a PostgreSQL server; with its key.

Without a key nothing is made and nothing that is encrypted is opened. A gallery without encryption
is made and opened only by somebody who says so, or has no key at all: otherwise whoever can replace
the file could put one in its place that anybody can write.
"""

from __future__ import annotations

from pathlib import Path

from openmfr.deploy.gallery.cipher import KEY_VARIABLE
from openmfr.deploy.gallery.gallery import Gallery, GalleryConfig
from openmfr.deploy.gallery.sqlite import SQLiteStore
from openmfr.deploy.gallery.store import GalleryStore
from openmfr.errors import UserError
from openmfr.evaluation.calibration import Calibration, find_calibration

_SERVERS = ("postgresql://", "postgres://")


def is_server(where: str) -> bool:
    """Whether a word names a PostgreSQL server and not a file."""
    return where.startswith(_SERVERS)


def open_gallery(
    where: str | Path,
    *,
    key: bytes | None = None,
    allow_plain: bool = False,
    calibration: Path | None = None,
    config: GalleryConfig | None = None,
) -> Gallery:
    """Open a gallery that exists.

    Args:
        where: Its file, or the URL of a PostgreSQL database.
        key: 32 bytes; `read_key` takes them from the environment.
        allow_plain: Whether a file without encryption is welcome although there is a key.
        calibration: What `openmfr evaluate calibration` wrote: the folder, or its file.
        config: How it is searched.

    Raises:
        UserError: If there is none, it does not open, or the calibration is another model's.
    """
    store = open_store(str(where), key=key, allow_plain=allow_plain)
    return Gallery(store, calibration=read_calibration(calibration), config=config)


def make_gallery(
    where: str | Path,
    *,
    model: str,
    dim: int,
    key: bytes | None = None,
    allow_plain: bool = False,
    calibration: Path | None = None,
    config: GalleryConfig | None = None,
) -> Gallery:
    """Open a gallery for a model, or make it.

    Args:
        where: Its file, or the URL of a PostgreSQL database.
        model: Fingerprint of the model whose embeddings it holds.
        dim: Their dimension.
        key: 32 bytes; `read_key` takes them from the environment.
        allow_plain: Whether to make a file without encryption.
        calibration: What `openmfr evaluate calibration` wrote: the folder, or its file.
        config: How it is searched.

    Raises:
        UserError: As `open_gallery`; if it holds another model's embeddings; or if there is neither
            a key nor the wish to do without.
    """
    store = make_store(str(where), model=model, dim=dim, key=key, allow_plain=allow_plain)
    return Gallery(store, calibration=read_calibration(calibration), config=config)


def read_calibration(path: Path | None) -> Calibration | None:
    """Read a calibration; None for none.

    Raises:
        UserError: If there is none at the path.
    """
    if path is None:
        return None
    return Calibration.load(find_calibration(path) or path)


def open_store(where: str, *, key: bytes | None, allow_plain: bool = False) -> GalleryStore:
    """Open a gallery.

    Args:
        where: Its file, or the URL of a PostgreSQL database.
        key: From `read_key`.
        allow_plain: Whether a file without encryption is welcome although there is a key.

    Raises:
        UserError: If there is none, or it does not open.
    """
    if is_server(where):
        from openmfr.deploy.gallery.postgres import PostgresStore

        return PostgresStore(where)
    store = SQLiteStore(Path(where), key=key)
    if key is not None and not store.header.is_encrypted and not allow_plain:
        store.close()
        raise UserError(
            where=where,
            found="a gallery without encryption",
            allowed=f"an encrypted one, as {KEY_VARIABLE} is set",
            next_step="pass --no-encryption, if it is the right file",
        )
    return store


def make_store(
    where: str, *, model: str, dim: int, key: bytes | None, allow_plain: bool = False
) -> GalleryStore:
    """Open a gallery for a model, or make it.

    Args:
        where: Its file, or the URL of a PostgreSQL database.
        model: Fingerprint of the model whose embeddings it holds.
        dim: Their dimension.
        key: From `read_key`.
        allow_plain: Whether to make a file without encryption.

    Raises:
        UserError: If it cannot be opened, holds another model's embeddings, or there is neither a
            key nor the wish to do without.
    """
    if is_server(where):
        from openmfr.deploy.gallery.postgres import PostgresStore

        store: GalleryStore = PostgresStore.create(where, model=model, dim=dim)
    elif (path := Path(where)).exists() and path.stat().st_size:
        store = open_store(where, key=key, allow_plain=allow_plain)
    else:
        if key is None and not allow_plain:
            raise UserError(
                where=KEY_VARIABLE,
                found="nothing",
                allowed="a key: the gallery's embeddings are encrypted with it",
                next_step=f'export {KEY_VARIABLE}="$(openmfr gallery key)", and keep it; or pass '
                "--no-encryption",
            )
        chosen = None if allow_plain else key
        store = SQLiteStore.create(path, model=model, dim=dim, key=chosen)
    store.header.check_model(model, where=where)
    return store

"""Stores to test galleries with: SQLite with and without encryption, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploy.gallery.people import DIM, KEY, MODEL

from openmfr.deploy.gallery import GalleryStore
from openmfr.deploy.gallery.opening import make_store

#: Makes the store, or opens it again.
Reopen = Callable[[], GalleryStore]


@pytest.fixture(
    params=["sqlite", "plain sqlite", pytest.param("postgres", marks=pytest.mark.slow)],
)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Makes an empty store at the first call and opens it again at the next ones."""
    opened: list[GalleryStore] = []
    where, key = str(tmp_path / "people.db"), KEY
    if request.param == "postgres":
        import psycopg

        where = request.getfixturevalue("postgres_url")
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS openmfr_gallery CASCADE")

    def make() -> GalleryStore:
        plain = request.param == "plain sqlite"
        opened.append(make_store(where, model=MODEL, dim=DIM, key=key, allow_plain=plain))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Reopen) -> GalleryStore:
    """An empty store."""
    return reopen()

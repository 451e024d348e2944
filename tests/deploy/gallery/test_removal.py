"""What is removed is gone from the file: its bytes are looked for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from deploy.gallery.people import DIM, MODEL, new_image

from openmfr.deploy.gallery import Gallery, GalleryConfig
from openmfr.deploy.gallery.mapped import index_folder
from openmfr.deploy.gallery.sqlite import SQLiteStore
from openmfr.errors import UserError

#: Without encryption, so that an embedding's bytes can be found.
KEY = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.db"


def make(path: Path) -> SQLiteStore:
    store = SQLiteStore.create(path, model=MODEL, dim=DIM, key=KEY)
    for person in range(30):
        store.add([new_image(person, image) for image in range(3)])
    return store


def bytes_of(path: Path) -> bytes:
    """All that stands in the gallery's file, its log, and its mapped index."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return b"".join(file.read_bytes() for file in files)


def secrets(person: int) -> list[bytes]:
    images = [new_image(person, image) for image in range(3)]
    found = [image.embedding.tobytes() for image in images] + [image.digest for image in images]
    return [*found, f"person {person}".encode(), f"{person}-2.jpg".encode()]


def test_nothing_of_a_removed_person_is_left_in_any_file(path: Path) -> None:
    gallery = Gallery(make(path))
    assert all(secret in bytes_of(path) for secret in secrets(17))
    removed = gallery.remove(identity="person 17")
    assert [image.image_id for image in removed] == [52, 53, 54]
    assert not any(secret in bytes_of(path) for secret in secrets(17))
    assert all(secret in bytes_of(path) for secret in secrets(18))
    gallery.close()
    assert not any(secret in bytes_of(path) for secret in secrets(17))


def test_one_image_is_removed_and_the_others_stay(path: Path) -> None:
    gallery = Gallery(make(path))
    gallery.remove(image_id=53)
    assert new_image(17, 1).embedding.tobytes() not in bytes_of(path)
    assert [image.image_id for image in gallery.images("person 17")] == [52, 54]
    gallery.close()


def test_the_mapped_index_of_a_removed_person_goes_too(path: Path) -> None:
    gallery = Gallery(make(path), config=GalleryConfig(precision="float32", keep_index=True))
    probe = new_image(17)
    assert gallery.search(probe.embedding)[0].identity == "person 17"
    folder = index_folder(gallery.store)
    assert folder is not None
    assert probe.embedding.tobytes() in (folder / "bare-rows.npy").read_bytes()
    gallery.remove(identity="person 17")
    assert not any(secret in bytes_of(path) for secret in secrets(17))
    assert gallery.search(probe.embedding)[0].identity != "person 17"
    gallery.close()


def test_an_erasure_that_was_cut_short_is_finished_by_the_next_opening(path: Path) -> None:
    store = make(path)
    store.remove([52, 53, 54])  # and then the process is killed
    before = bytes_of(path)
    assert any(secret in before for secret in secrets(17))
    store.close()
    SQLiteStore(path).close()
    assert not any(secret in bytes_of(path) for secret in secrets(17))


def test_a_reader_that_stays_delays_the_erasure_and_the_error_says_so(path: Path) -> None:
    store = make(path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM image").fetchone()
    store.remove([52])
    with pytest.raises(UserError, match="still in the log"):
        store.erase(patience=0.1)
    SQLiteStore(path).close()  # opens all the same
    reader.close()
    store.close()
    SQLiteStore(path).close()  # finishes it
    assert new_image(17).embedding.tobytes() not in bytes_of(path)


def test_whom_nobody_knows_cannot_be_removed(path: Path) -> None:
    gallery = Gallery(make(path))
    with pytest.raises(UserError, match="nobody called person 99"):
        gallery.remove(identity="person 99")
    with pytest.raises(UserError, match="no image 1000"):
        gallery.remove(image_id=1_000)
    with pytest.raises(UserError, match="one of them"):
        gallery.remove()
    gallery.close()

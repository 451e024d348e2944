"""Without the key a gallery's file shows no face, and with it no change goes unnoticed."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from deploy.gallery.people import DIM, KEY, MODEL, OTHER_KEY, embedding, new_image

from openmfr.deploy.gallery.cipher import (
    KEY_VARIABLE,
    NONCE_BYTES,
    BrokenSealError,
    KeyCipher,
    context_of,
    new_key,
    read_key,
)
from openmfr.deploy.gallery.opening import make_store, open_store
from openmfr.deploy.gallery.sqlite import SQLiteStore
from openmfr.deploy.gallery.sqlite_file import describe_gallery
from openmfr.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An encrypted gallery of two people."""
    path = tmp_path / "people.db"
    store = SQLiteStore.create(path, model=MODEL, dim=DIM, key=KEY)
    store.add([new_image(0), new_image(1)])
    store.close()
    return path


def run(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Change a gallery's file behind its back."""
    connection = sqlite3.connect(path)
    with connection:
        rows = [row for statement in statements for row in connection.execute(statement).fetchall()]
    connection.close()
    return rows


def read_all(path: Path) -> None:
    store = SQLiteStore(path, key=KEY)
    try:
        for _ in store.rows():
            pass
    finally:
        store.close()


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_neither_embeddings_nor_digests_stand_in_the_file(path: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.db"
    open_file = SQLiteStore.create(plain, model=MODEL, dim=DIM, key=None)
    open_file.add([new_image(0)])
    open_file.close()
    image = new_image(0)
    for secret in (image.embedding.tobytes(), image.embedding[:2].tobytes(), image.digest):
        assert secret in bytes_of(plain)  # the test would see it
        assert secret not in bytes_of(path)


def test_the_file_is_its_owners_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


def test_a_wrong_key_is_one_clear_error(path: Path) -> None:
    with pytest.raises(UserError, match="OPENMFR_GALLERY_KEY: found another key"):
        SQLiteStore(path, key=OTHER_KEY)


def test_no_key_is_one_clear_error(path: Path) -> None:
    with pytest.raises(UserError, match=r"found nothing; allowed: the key that .*people.db"):
        SQLiteStore(path)


def test_without_a_key_no_gallery_is_made_and_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"openmfr gallery key.*--no-encryption"):
        make_store(str(tmp_path / "new.db"), model=MODEL, dim=DIM, key=None)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_file_in_place_of_the_encrypted_one_is_refused(tmp_path: Path) -> None:
    where = str(tmp_path / "people.db")
    make_store(where, model=MODEL, dim=DIM, key=None, allow_plain=True).close()
    with pytest.raises(UserError, match="found a gallery without encryption"):
        open_store(where, key=KEY)
    assert not open_store(where, key=KEY, allow_plain=True).header.is_encrypted
    assert not open_store(where, key=None).header.is_encrypted


def test_swapped_embeddings_are_noticed_and_named(path: Path) -> None:
    run(
        path,
        "CREATE TEMP TABLE kept AS SELECT embedding FROM image WHERE image_id = 1",
        "UPDATE image SET embedding = (SELECT embedding FROM image WHERE image_id = 2)"
        " WHERE image_id = 1",
        "UPDATE image SET embedding = (SELECT embedding FROM kept) WHERE image_id = 2",
    )
    with pytest.raises(UserError, match=r"image 1 \(person 0\): found a broken seal"):
        read_all(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("identity", "'person 1'"),
        ("image_id", "9"),
        ("is_masked", "1"),
        ("source", "'other.jpg'"),
        ("added_at", "'2000-01-01T00:00:00+00:00'"),
        ("digest", "x'00'"),
        ("embedding", "x'00'"),
    ],
)
def test_no_column_of_a_row_can_be_changed_unnoticed(path: Path, column: str, value: str) -> None:
    run(path, f"UPDATE image SET {column} = {value} WHERE image_id = 1")
    with pytest.raises(UserError, match="broken seal"):
        read_all(path)


def test_a_flipped_bit_is_noticed_and_the_row_can_be_removed(path: Path) -> None:
    stored = run(path, "SELECT embedding FROM image WHERE image_id = 2")[0][0]
    assert isinstance(stored, bytes)
    for place in (0, NONCE_BYTES, len(stored) - 1):
        changed = bytearray(stored)
        changed[place] ^= 1
        run(path, f"UPDATE image SET embedding = x'{changed.hex()}' WHERE image_id = 2")
        with pytest.raises(UserError, match=r"image 2 \(person 1\)"):
            read_all(path)
    store = SQLiteStore(path, key=KEY)
    store.remove([2])
    store.erase()
    store.close()
    read_all(path)


@pytest.mark.parametrize("change", ["model = 'ffffffffffffffff'", "dim = 32"])
def test_a_changed_header_is_noticed(path: Path, change: str) -> None:
    run(path, f"UPDATE header SET {change}")
    with pytest.raises(UserError, match="header: found a broken seal"):
        SQLiteStore(path, key=KEY)


def test_a_row_of_another_gallery_with_the_same_key_is_noticed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    store = SQLiteStore.create(other, model=MODEL, dim=DIM, key=KEY)
    store.add([new_image(0), new_image(7)])
    store.close()
    row = run(other, "SELECT hex(embedding), hex(digest), added_at FROM image WHERE image_id = 1")
    sealed, digest, added_at = row[0]
    run(
        path,
        f"UPDATE image SET embedding = x'{sealed}', digest = x'{digest}',"
        f" added_at = '{added_at}' WHERE image_id = 1",
    )
    with pytest.raises(UserError, match="broken seal"):
        read_all(path)


def test_nonces_are_all_different() -> None:
    cipher = KeyCipher(KEY, bytes(16))
    sealed = [cipher.seal(b"same", b"context") for _ in range(10_000)]
    assert len({text[:NONCE_BYTES] for text in sealed}) == 10_000
    assert len({text[NONCE_BYTES:] for text in sealed}) == 10_000


def test_what_was_sealed_opens_in_its_context_alone() -> None:
    cipher = KeyCipher(KEY, bytes(16))
    row = embedding(0).tobytes()
    assert cipher.unseal(cipher.seal(row, b"a"), b"a") == row
    with pytest.raises(BrokenSealError):
        cipher.unseal(cipher.seal(row, b"a"), b"b")
    with pytest.raises(BrokenSealError):
        KeyCipher(KEY, b"another gallery!").unseal(cipher.seal(row, b"a"), b"a")
    with pytest.raises(BrokenSealError):
        cipher.unseal(b"", b"a")


def test_contexts_of_different_parts_differ() -> None:
    parts = [("a", "b"), ("ab",), ("ab", ""), ("", "ab"), (1, "b"), (b"a", b"b", b"")]
    assert len({context_of(*each) for each in parts}) == len(parts)


def test_a_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key() is None
    key = new_key()
    monkeypatch.setenv(KEY_VARIABLE, key)
    assert read_key() == base64.b64decode(key)
    assert new_key() != key


@pytest.mark.parametrize(
    "text", ["secret", "c2hvcnQ=", "ä" * 44, base64.b64encode(KEY).decode()[1:]]
)
def test_what_is_no_key_is_refused_without_being_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, text)
    with pytest.raises(UserError, match="base64 of 32 bytes") as raised:
        read_key()
    assert text not in str(raised.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no gallery " * 1_000)
    with pytest.raises(UserError, match="not a database"):
        SQLiteStore(path, key=KEY)
    other = tmp_path / "other.db"
    run(other, "CREATE TABLE song (name TEXT)")
    with pytest.raises(UserError, match="found no gallery"):
        SQLiteStore(other, key=KEY)
    with pytest.raises(UserError, match="found no gallery"):
        SQLiteStore(tmp_path / "nothing.db", key=KEY)
    assert path.read_text() == "no gallery " * 1_000


def test_a_later_format_is_refused(path: Path) -> None:
    run(path, "PRAGMA user_version = 2")
    with pytest.raises(UserError, match="format version 2; allowed: a gallery of format version 1"):
        SQLiteStore(path, key=KEY)


def test_a_gallery_is_described_without_its_key(path: Path, tmp_path: Path) -> None:
    described = describe_gallery(path)
    assert described is not None
    assert described["people"] == described["images"] == "2"
    assert described["encrypted"] == "yes"
    assert described["model"] == MODEL
    (tmp_path / "notes.txt").write_text("none")
    assert describe_gallery(tmp_path / "notes.txt") is None


def test_embeddings_survive_a_change_of_key(path: Path, tmp_path: Path) -> None:
    from openmfr.deploy.gallery.export import copy_gallery

    source = SQLiteStore(path, key=KEY)
    target = SQLiteStore.create(tmp_path / "new.db", model=MODEL, dim=DIM, key=OTHER_KEY)
    assert copy_gallery(source, target, advance=lambda _: None) == 2
    assert copy_gallery(source, target, advance=lambda _: None) == 0
    assert np.array_equal(target.embeddings([2])[2], embedding(1))
    assert target.find_photo(new_image(1).digest) is not None
    source.close()
    target.close()

"""What one process makes, all processes of the machine map."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import make_store

import openmfr.data.labels_file
from openmfr.data.labels import Labels
from openmfr.data.mapped import Named, once_per_machine
from openmfr.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENMFR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A label table with all kinds of columns, which counts as one of millions of rows."""
    labels = Labels.from_names(make_store(tmp_path / "s", identities=8, images=6))
    is_even = np.arange(len(labels)) % 2 == 0
    labels = labels.without(labels.identity == 3, reason="blurred")
    labels.child(
        is_masked=is_even,
        mask_style=labels.mask_style.replaced(is_even, "kn95"),
        center_score=np.linspace(0, 1, len(labels), dtype=np.float32),
    ).write(tmp_path / "labels.parquet")
    monkeypatch.setattr(openmfr.data.labels_file, "_SHARED_ROWS", 1)
    return tmp_path / "labels.parquet"


READ = """
import sys
import openmfr.data.labels_file as module
from openmfr.data.labels import Labels
module._SHARED_ROWS = 1
labels = Labels.read(sys.argv[1])
print(labels.fingerprint, type(labels.identity.base).__name__)
"""


def test_processes_that_read_labels_at_once_share_one_copy(table: Path, cache: Path) -> None:
    command = [sys.executable, "-c", READ, str(table)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate()[0] for process in processes}
    assert found == {f"{Labels.read(table).fingerprint} memmap\n"}
    (folder,) = (cache / "arrays").iterdir()
    columns = {path.stem for path in folder.iterdir()}
    assert {"identity", "keep", "mask_style", "mask_style.names"} <= columns


def test_mapped_labels_are_those_that_are_read(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = Labels.read(table)
    monkeypatch.setattr(openmfr.data.labels_file, "_SHARED_ROWS", 1_000)
    read = Labels.read(table)
    assert not isinstance(read.identity.base, np.memmap)
    assert read.fingerprint == mapped.fingerprint


def test_labels_made_anew_are_not_those_of_before(table: Path) -> None:
    before = Labels.read(table)
    assert set(before.mask_style) == {"", "kn95"}
    before.without(before.identity == 5, reason="twice").write(table)
    assert not Labels.read(table).keep[before.identity == 5].any()


def test_a_child_of_shared_labels_is_written_and_read_like_any(table: Path, tmp_path: Path) -> None:
    child = Labels.read(table).without(np.arange(48) == 7, reason="twice")
    child.write(tmp_path / "child.parquet")
    assert Labels.read(tmp_path / "child.parquet").fingerprint == child.fingerprint


def test_a_cache_that_cannot_be_written_to_costs_memory_only(
    table: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_cache = Labels.read(table).fingerprint
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        (cache / "file").write_text("in the way")
        patch.setenv("OPENMFR_CACHE", str(cache / "file"))
        assert Labels.read(table).fingerprint == with_cache
    assert "OPENMFR_CACHE" in caplog.text


def numbers() -> Iterator[Named]:
    yield "numbers", np.arange(5)


def test_what_fails_half_way_is_said_once_and_made_again(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def failing() -> Iterator[Named]:
        calls.append(1)
        yield from numbers()
        raise UserError(where="labels", found="a gap", allowed="none", next_step="fill it")

    with pytest.raises(UserError):
        once_per_machine("key", failing)
    assert (len(calls), caplog.text) == (1, "")
    assert not [*(cache / "arrays").iterdir()]
    assert once_per_machine("key", numbers)["numbers"].tolist() == [0, 1, 2, 3, 4]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, emptied, Path.unlink])
@pytest.mark.parametrize("name", ["numbers.npy", "arrays.json"])
def test_a_copy_that_is_not_whole_is_made_again(
    cache: Path, damage: Callable[[Path], None], name: str
) -> None:
    once_per_machine("key", numbers)
    damage(cache / "arrays" / "key" / name)
    found = once_per_machine("key", numbers)["numbers"]
    assert (found.tolist(), type(found)) == ([0, 1, 2, 3, 4], np.memmap)


def test_what_nobody_asks_for_is_deleted_in_time(cache: Path) -> None:
    for key in ("old", "recent", "asked for"):
        once_per_machine(key, numbers)
    (cache / "arrays" / "a file of somebody").touch()
    month_ago = time.time() - 30 * 24 * 3600
    for key in ("old", "asked for"):
        os.utime(cache / "arrays" / key, (month_ago, month_ago))
    once_per_machine("asked for", numbers)
    once_per_machine("new", numbers)
    left = {path.name for path in (cache / "arrays").iterdir() if path.is_dir()}
    assert left == {"recent", "asked for", "new"}


def test_a_table_put_in_place_while_another_is_read_is_not_taken_for_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its checksum and its columns, say while another process holds the lock."""
    first = table.read_bytes()
    before = Labels.read(table)
    before.without(before.identity == 5, reason="twice").write(tmp_path / "second.parquet")
    monkeypatch.setenv("OPENMFR_CACHE", str(tmp_path / "another"))

    def replaced(key: str, make: Callable[[], Iterator[Named]]) -> dict[str, Any]:
        (tmp_path / "second.parquet").replace(table)
        return once_per_machine(key, make)

    with monkeypatch.context() as patch:
        patch.setattr(openmfr.data.labels_file, "once_per_machine", replaced)
        assert Labels.read(table).fingerprint == before.fingerprint
    table.write_bytes(first)
    assert Labels.read(table).fingerprint == before.fingerprint

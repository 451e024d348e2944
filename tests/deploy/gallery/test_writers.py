"""Several processes at one gallery: nothing is lost, and whoever waits says so."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from deploy.gallery.people import DIM, KEY, MODEL, embedding, new_image

from openmfr.deploy.gallery.sqlite import SQLiteStore
from openmfr.errors import UserError

#: How often the writer is killed; the nightly target sets 100.
KILLS = int(os.environ.get("OPENMFR_GALLERY_KILLS", "20"))

#: Enrols people from a number on, and says each number once it is enrolled.
WRITER = """
import sys
from pathlib import Path
from deploy.gallery.people import DIM, KEY, MODEL, new_image
from openmfr.deploy.gallery.sqlite import SQLiteStore

path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = SQLiteStore.create(path, model=MODEL, dim=DIM, key=KEY)
for person in range(first, last):
    store.add([new_image(person)])
    print(person, flush=True)
"""


def start(path: Path, first: int, last: int) -> subprocess.Popen[bytes]:
    folder = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(last)],
        env=os.environ | {"PYTHONPATH": folder},
        stdout=subprocess.PIPE,
    )


def enrolled(path: Path) -> dict[str, int]:
    """Who is in a gallery, after every row was opened and compared with what was enrolled."""
    store = SQLiteStore(path, key=KEY)
    found = {}
    for rows in store.rows():
        for identity, row in zip(rows.identity, rows.embedding, strict=True):
            number = int(identity.removeprefix("person "))
            assert np.array_equal(row, embedding(number))
            found[identity] = number
    assert store.state().images == len(found)
    store.close()
    return found


def test_two_processes_that_make_and_fill_one_gallery_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    writers = [start(path, 0, 150), start(path, 150, 300)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert sorted(enrolled(path).values()) == list(range(300))


def test_a_writer_that_must_wait_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "people.db"
    store = SQLiteStore.create(path, model=MODEL, dim=DIM, key=KEY)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="one writer at a time"):
        store.add([new_image(0)], patience=0.0)
    store.state()  # readers do not wait
    records = logging.getLogger("openmfr.deploy.gallery.sqlite_file")

    def let_go(*_: object) -> None:
        other.execute("COMMIT")

    monkeypatch.setattr(records, "info", let_go)
    assert store.add([new_image(0)])[0].is_new
    other.close()
    store.close()


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    rng = np.random.default_rng(0)
    acknowledged: set[int] = set()
    begun = 0
    for _ in range(KILLS):
        writer = start(path, begun, begun + 100_000)
        assert writer.stdout is not None
        said = [int(writer.stdout.readline())]  # it has begun
        time.sleep(rng.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        # A line that was cut short was not an acknowledgement yet.
        said += [int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
        acknowledged |= set(said)
        there = set(enrolled(path).values())
        assert acknowledged <= there
        assert len(there - acknowledged) <= KILLS  # at most the one that was on its way each time
        begun = max(there) + 1
    assert len(acknowledged) >= KILLS

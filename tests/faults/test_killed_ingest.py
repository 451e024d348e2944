"""`openmfr ingest` under kill -9: the whole run, or one of its workers, at several moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmfr.data.damage import find_damage
from openmfr.data.store import Store
from openmfr.faces.align import template

pytestmark = pytest.mark.slow

PHOTOS = 600
DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Photos with the user's own landmarks, so that the run needs no detector."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    originals = []
    for number in range(8):
        pixels = rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)
        original = folder / f"{number}.jpg"
        Image.fromarray(pixels).resize((800, 800)).save(original)
        originals.append(original)
    rows = ["path," + ",".join(f"x{i},y{i}" for i in range(5))]
    for number in range(PHOTOS):
        path = folder / "photos" / f"{number % 20}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 50 == 0:
            path.write_bytes(originals[0].read_bytes()[:900])  # one bad photo in fifty
        else:
            path.hardlink_to(originals[number % 8])
        points = template(300) + rng.uniform(0, 400, 2)
        name = path.relative_to(folder / "photos").as_posix()
        rows.append(f"{name}," + ",".join(f"{number:.2f}" for number in points.ravel()))
    (folder / "landmarks.csv").write_text("\n".join(rows))
    return [str(folder / "photos"), "--landmarks", str(folder / "landmarks.csv"), "--workers", "2"]


@pytest.fixture(scope="module")
def whole(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run makes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert start(arguments, out).wait(DEADLINE_SECONDS) == 0
    return out


def start(arguments: list[str], out: Path) -> subprocess.Popen[bytes]:
    photos, *flags = arguments
    command = [sys.executable, "-m", "openmfr", "ingest", photos, str(out), *flags]
    with log_of(out).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def log_of(out: Path) -> Path:
    return out.with_suffix(".log")


def wait_for(out: Path, *, shards: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many shards are written, or the run is over."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(list(out.glob("shard-*.arrow"))) < shards and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def children(process: subprocess.Popen[bytes]) -> set[int]:
    """Process ids of a process's workers."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            is_worker = b"spawn_main" in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status[1]) == process.pid and is_worker:
            found.add(int(folder.name))
    return found


def assert_same(out: Path, whole: Path) -> None:
    assert Store(out).fingerprint == Store(whole).fingerprint
    assert find_damage(Store(out), workers=1) == []
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    for name in ("rejected.csv", "labels.parquet", "manifest.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("shards", [0, 1, 9, 25, 38])
def test_a_run_killed_at_any_moment_goes_on_and_ends_in_the_same_store(
    shards: int, arguments: list[str], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = start(arguments, out)
    wait_for(out, shards=shards, process=run)
    workers = children(run)
    run.kill()
    run.wait()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(is_alive(worker) for worker in workers):  # workers do not outlive their run
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("shard-*.arrow")}
    again = start(arguments, out)
    assert again.wait(DEADLINE_SECONDS) == 0
    assert_same(out, whole)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_run_killed_three_times_ends_in_the_same_store(
    arguments: list[str], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for shards in (3, 14, 30):
        run = start(arguments, out)
        wait_for(out, shards=shards, process=run)
        run.kill()
        run.wait()
    assert start(arguments, out).wait(DEADLINE_SECONDS) == 0
    assert_same(out, whole)


def test_a_worker_killed_alone_gives_one_clear_error_and_the_rest_is_kept(
    arguments: list[str], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = start(arguments, out)
    wait_for(out, shards=4, process=run)
    victims = children(run)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    run.wait(DEADLINE_SECONDS)
    error = log_of(out).read_bytes()
    if victims and run.returncode != 0:  # it may have been over before the blow
        assert run.returncode == 2
        assert b"a worker process that died" in error
        assert b"run the same command again" in error
        assert b"Traceback" not in error
    assert start(arguments, out).wait(DEADLINE_SECONDS) == 0
    assert_same(out, whole)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

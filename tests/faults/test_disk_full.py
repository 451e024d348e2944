"""A full disk is one clear line; the earlier checkpoint is whole, and with room the run goes on."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from faults.long_runs import (
    SAVED_EVERY,
    STEPS,
    assert_same_weights,
    events,
    kill_all,
    last_step,
    make_folder,
    start,
    train,
    under_torchrun,
    wait_until,
    weights,
)
from toys import make_store

from openmfr.checkpoint import CheckpointFolder, CheckpointInfo
from openmfr.cli.main import main
from openmfr.errors import UserError, full_disk_said
from openmfr.models import BackboneConfig
from openmfr.run import Run, run_metrics

#: A device that is always full; every Linux has it.
FULL = Path("/dev/full")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_said_with_where_and_how_much(tmp_path: Path, number: int) -> None:
    missing = tmp_path / "run" / "checkpoints"
    librarys = RuntimeError("a library's own words")
    librarys.__cause__ = OSError(number, os.strerror(number))
    with pytest.raises(UserError) as error, full_disk_said(missing, needed=3 * 2**20):
        raise librarys
    assert str(error.value).startswith(f"{missing}: found no room on the disk")
    assert "MiB free of 3.0 MiB needed" in str(error.value)


def test_other_errors_of_the_disk_keep_their_own_words() -> None:
    with pytest.raises(PermissionError), full_disk_said(Path()):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_the_command_line_says_it_for_every_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "store", identities=4, images=4)
    (tmp_path / "writes.py").write_text(
        "from pathlib import Path\n\n\ndef recipe():\n    Path('/dev/full').write_text('x')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["train", "writes:recipe", "--store", "store", "--out", "out"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("openmfr train: ")
    assert shown.count("\n") == 1
    assert "no room on the disk" in shown


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_log_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", settings={}, about={})
    run.begin()
    (run.path / "log.jsonl").symlink_to(FULL)
    with pytest.raises(UserError, match="no room"), full_disk_said(run.path), run.log_to_file():
        logging.getLogger("openmfr.test").info("a line")


def test_a_line_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run", settings={}, about={})
    run.begin()
    run.add_metrics({"step": 1, "loss": 2.0})
    before = (run.path / "metrics.jsonl").read_bytes()
    with limited_file_size(len(before) + 5), pytest.raises(OSError, match=r"metrics\.jsonl"):
        run.add_metrics({"step": 2, "loss": 2.0})
    assert (run.path / "metrics.jsonl").read_bytes() == before
    run.add_metrics({"step": 2, "loss": 1.0})
    assert [row["step"] for row in run_metrics(run.path)] == [1, 2]


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is nearly full."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def info(step: int) -> CheckpointInfo:
    return CheckpointInfo(
        backbone=BackboneConfig(name="tiny", input_size=32, embedding_dim=16),
        step=step,
        images_seen=step,
        identities=4,
        store="",
        labels="",
    )


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("large", ["backbone", "training", "shards"])
def test_a_checkpoint_that_does_not_fit_leaves_nothing_and_the_one_before(
    tmp_path: Path, large: str, in_background: bool
) -> None:
    folder = CheckpointFolder(tmp_path, in_background=in_background)
    state = {name: {"weight": torch.ones(4, 2)} for name in ("backbone", "training", "shards")}
    folder.add(info(1), score=None, **state)
    kept = folder.last()
    too_large = state | {large: {"weight": torch.ones(4, 50_000)}}

    def add() -> None:
        folder.add(info(2), score=None, **too_large)
        folder.wait()

    with limited_file_size(200_000), pytest.raises(Exception, match="File too large"):
        add()
    assert folder.last() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "step-00000001"]
    folder.add(info(2), score=None, **too_large)
    assert folder.last() == tmp_path / "step-00000002"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for three checkpoints; needs the right to mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small file system")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    make_folder(folder)
    return folder


def command(out: str, ranks: int) -> list[str]:
    return train(out) if ranks == 1 else under_torchrun(train(out), ranks)


def fill(disk: Path, *, left: int) -> Path:
    """Take all room of a disk but so many bytes."""
    space = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(space.f_bavail * space.f_frsize - left, 1))
    return ballast


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "left"), [(1, 0), (1, 100_000), (2, 0)])
def test_a_run_whose_disk_fills_says_so_and_goes_on_when_there_is_room(
    folder: Path, small_disk: Path, ranks: int, left: int
) -> None:
    whole, run, log = f"whole-{ranks}", small_disk / "run", folder / "output.txt"
    subprocess.run(command(whole, ranks), cwd=folder, check=True, timeout=300)
    process = start(command(str(run), ranks), folder, log)
    try:
        wait_until(lambda: last_step(run) >= SAVED_EVERY, process, log)
        ballast = fill(small_disk, left=left)
        assert process.wait(120) == (2 if ranks == 1 else 1)  # torchrun's own code is 1
    finally:
        kill_all(process)
    said = log.read_text()
    assert "no room on the disk" in said
    if ranks == 1:
        assert "Traceback" not in said
        assert said.count("no room") == 1
    assert weights(run), "the checkpoint before is damaged"
    assert SAVED_EVERY <= last_step(run) < STEPS
    assert not list(run.rglob(".*.tmp"))
    ballast.unlink()
    subprocess.run(command(str(run), ranks), cwd=folder, check=True, timeout=300)
    assert_same_weights(run, folder / whole)
    assert events(run)[-1]["step"] == STEPS

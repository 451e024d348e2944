"""Shards written by some ranks are read by any others, and damage is said, never run."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint.reshard import info, part, read_all, whole, write_all
from distributed.harness import run_on_ranks

from openmfr.checkpoint import Checkpoint, CheckpointFolder
from openmfr.checkpoint.shards import read_shards, write_shards
from openmfr.distributed import Ranks
from openmfr.errors import UserError

#: Rows: a multiple of the ranks, none of them, and fewer than ranks.
SIZES = [12, 10, 2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for size in (1, 2, 3):
        meeting = tmp_path_factory.mktemp(f"writers{size}")
        run_on_ranks(partial(write_all, folder=folder, sizes=SIZES), size, meeting)
    return folder


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_every_number_of_ranks_reads_what_any_other_wrote(
    written: Path, tmp_path: Path, readers: int
) -> None:
    read = partial(read_all, folder=written, sizes=SIZES, writers=[1, 2, 3])
    for right in run_on_ranks(read, readers, tmp_path):
        assert right == dict.fromkeys(right, True)
        assert len(right) == 9


@pytest.mark.parametrize("size", [1, 2, 3])
def test_checkpoints_written_in_the_background_are_whole(written: Path, size: int) -> None:
    folder = CheckpointFolder(written / f"checkpoints-{size}")
    last = folder.last()
    assert last is not None
    checkpoint = Checkpoint.open(last)
    assert checkpoint.info.step == 2
    assert checkpoint.read_backbone()["weight"].tolist() == [2.0, 2.0]
    assert torch.equal(checkpoint.read_prototypes(), whole(10)["prototypes"])
    assert sorted(path.name for path in folder.path.iterdir()) == ["index.json", last.name]


def test_other_numbers_of_rows_and_other_names_are_refused(written: Path) -> None:
    for tensors, rows in (
        ({"prototypes": torch.zeros(11, 3)}, 11),
        ({"prototypes": torch.zeros(10, 4)}, 10),
        ({"weights": torch.zeros(10, 3)}, 10),
    ):
        with pytest.raises(UserError, match="unreadable or other tensors"):
            read_shards(written / "10-by-2", tensors, Ranks(), rows=rows)


class Crafted:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", [".metadata", "shard-00001-model-00001-of-00001.safetensors"])
def test_a_crafted_pickle_among_the_shards_is_never_run(tmp_path: Path, name: str) -> None:
    folder, marker = tmp_path / "shards", tmp_path / "has-run"
    content = pickle.dumps(Crafted(marker))
    pickle.loads(content)
    assert marker.exists(), "the file would not run code at all"
    marker.unlink()

    folder.mkdir()
    write_shards(folder, part(10, Ranks()), Ranks(), rows=10)
    is_needed = (folder / name).exists()
    (folder / name).write_bytes(content)
    found = {"prototypes": torch.zeros(10, 3)}
    if is_needed:
        with pytest.raises(UserError, match="unreadable or other tensors"):
            read_shards(folder, found, Ranks(), rows=10)
    else:
        read_shards(folder, found, Ranks(), rows=10)
        assert torch.equal(found["prototypes"], whole(10)["prototypes"])
    assert not marker.exists()


def test_a_checkpoint_that_was_cut_off_before_it_was_named_is_written_anew(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    state = {"backbone": {"weight": torch.ones(2)}, "training": {}, "shards": part(10, Ranks())}
    folder.add(info(10, 1), score=None, **state)
    first = folder.last()
    folder.add(info(10, 2), score=None, **state)
    index = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").write_text(index.replace("00000002", "00000001"))
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000001")
    (tmp_path / "step-00000002").mkdir()  # written, and cut off before the index named it
    (tmp_path / ".step-00000003.ranks.tmp").mkdir()
    assert folder.last() == first
    folder.add(info(10, 2), score=None, **state)
    last = folder.last()
    assert last is not None
    assert Checkpoint.open(last).info.step == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", last.name]


def test_what_went_wrong_in_the_background_is_raised_at_the_next_call(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file, where the folder should be")
    folder = CheckpointFolder(tmp_path / "blocked", in_background=True)
    folder.add(info(10, 1), score=None, backbone={}, training={}, shards={})
    with pytest.raises(OSError, match="blocked"):
        folder.wait()

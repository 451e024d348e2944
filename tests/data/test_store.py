"""A store gives back what was put in, survives kills and copies, and says what is damaged."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from toys import make_store

from openmfr.data.store import MANIFEST, Store, decode_image, encode_jpeg
from openmfr.data.store_writer import StoreWriter, writing_store
from openmfr.errors import UserError
from openmfr.files import only_one


def write_shards(path: Path, numbers: list[int]) -> StoreWriter:
    writer = StoreWriter(path, image_size=8, settings={"seed": 1})
    for number in numbers:
        columns: dict[str, list[str | None]] = {
            "source": [f"{number}.jpg"],
            "identity_name": [None],
        }
        writer.write_shard(number, [b"image %d" % number], columns)
    return writer


def test_reads_every_image_at_its_place(tmp_path: Path) -> None:
    store = write_shards(tmp_path / "s", [2, 0, 1]).commit(shards=3)
    assert [store.read(i) for i in range(len(store))] == [b"image 0", b"image 1", b"image 2"]
    assert store.column("source") == ["0.jpg", "1.jpg", "2.jpg"]


def test_an_empty_shard_takes_no_place(tmp_path: Path) -> None:
    writer = write_shards(tmp_path / "s", [0, 2])
    writer.write_shard(1, [], {"source": [], "identity_name": []})
    assert [writer.commit(shards=3).read(i) for i in range(2)] == [b"image 0", b"image 2"]


def test_the_order_of_writing_does_not_change_the_store(tmp_path: Path) -> None:
    first = write_shards(tmp_path / "a", [0, 1, 2]).commit(shards=3)
    second = write_shards(tmp_path / "b", [2, 1, 0]).commit(shards=3)
    assert first.fingerprint == second.fingerprint


def test_a_folder_without_manifest_is_no_store_and_can_be_finished(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [0])
    with pytest.raises(UserError, match="no readable store"):
        Store(tmp_path / "s")
    again = StoreWriter(tmp_path / "s", image_size=8, settings={"seed": 1})
    assert again.has_shard(0)
    assert not again.has_shard(1)
    with pytest.raises(UserError, match="run the same command again"):
        again.commit(shards=2)
    assert len(again.commit(shards=1)) == 1


def test_other_settings_in_a_begun_folder_are_refused_by_name(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [0])
    with pytest.raises(UserError, match="seed: found 1; allowed: 2"):
        StoreWriter(tmp_path / "s", image_size=8, settings={"seed": 2})


def test_a_finished_store_is_opened_by_its_own_settings_alone(tmp_path: Path) -> None:
    with writing_store(tmp_path / "s", image_size=8, settings={"seed": 1}) as found:
        assert isinstance(found, StoreWriter)
    write_shards(tmp_path / "s", [0]).commit(shards=1)
    with writing_store(tmp_path / "s", image_size=8, settings={"seed": 1}) as found:
        assert isinstance(found, Store)
    with (
        pytest.raises(UserError, match="seed"),
        writing_store(tmp_path / "s", image_size=8, settings={"seed": 2}),
    ):
        pass


def test_a_kill_just_after_the_manifest_leaves_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path / "whole", [0, 1]).commit(shards=2)
    with monkeypatch.context() as patched:
        patched.setattr("openmfr.data.store_writer._tidy", killed)
        with pytest.raises(KeyboardInterrupt):
            write_shards(tmp_path / "s", [0, 1]).commit(shards=2)
    (tmp_path / "s" / ".labels.parquet.0.tmp").write_text("half of the labels")
    with writing_store(tmp_path / "s", image_size=8, settings={"seed": 1}) as found:
        assert isinstance(found, Store)
    assert files_of(tmp_path / "s") == files_of(tmp_path / "whole")


def test_a_helper_killed_while_it_wrote_leaves_nothing_in_the_finished_store(
    tmp_path: Path,
) -> None:
    write_shards(tmp_path / "whole", [0]).commit(shards=1)
    with writing_store(tmp_path / "s", image_size=8, settings={"seed": 1}) as writer:
        assert isinstance(writer, StoreWriter)
        (tmp_path / "s" / ".shard-000000.json.0.tmp").write_text("half of a seal")
        write_shards(tmp_path / "s", [0]).commit(shards=1)
    assert files_of(tmp_path / "s") == files_of(tmp_path / "whole")


def test_a_second_command_waits_and_has_what_the_first_one_finished(tmp_path: Path) -> None:
    taken, settings = threading.Event(), {"seed": 1}
    found: list[object] = []

    def second() -> None:
        taken.wait()
        with writing_store(tmp_path / "s", image_size=8, settings=settings) as got:
            found.append(got)

    other = threading.Thread(target=second)
    other.start()
    with writing_store(tmp_path / "s", image_size=8, settings=settings) as writer:
        assert isinstance(writer, StoreWriter)
        taken.set()
        write_one(writer)
        writer.commit(shards=1)
    other.join()
    assert isinstance(found[0], Store)
    assert files_of(tmp_path / "s") == {MANIFEST, "shard-000000.arrow"}


def test_a_second_command_looks_at_the_folder_only_when_the_first_has_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first one's end there is a moment with neither settings nor manifest."""
    folder, waits = tmp_path / "s", threading.Event()
    found: list[object] = []

    def waiting(path: Path) -> AbstractContextManager[None]:
        waits.set()
        return only_one(path)

    def second() -> None:
        with writing_store(folder, image_size=8, settings={}) as got:
            found.append(got)

    with writing_store(tmp_path / "whole", image_size=8, settings={}) as writer:
        assert isinstance(writer, StoreWriter)
        write_one(writer)
        writer.commit(shards=1)
    monkeypatch.setattr("openmfr.files.only_one", waiting)
    folder.mkdir()
    other = threading.Thread(target=second)
    with only_one(folder):
        shutil.copy(tmp_path / "whole" / "shard-000000.arrow", folder)
        other.start()
        assert waits.wait(60)
        shutil.copy(tmp_path / "whole" / MANIFEST, folder)
    other.join()
    assert isinstance(found[0], Store)


def write_one(writer: StoreWriter) -> None:
    writer.write_shard(0, [b"image"], {"source": ["0.jpg"], "identity_name": [None]})


def killed(store: Path) -> None:
    raise KeyboardInterrupt(store)


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_foreign_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="a new or empty folder"):
        StoreWriter(tmp_path, image_size=8, settings={})


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_store_is_an_error(tmp_path: Path, index: int) -> None:
    store = write_shards(tmp_path / "s", [0, 1, 2]).commit(shards=3)
    with pytest.raises(IndexError, match="store with 3 images"):
        store.read(index)


def test_a_truncated_shard_is_a_clear_error(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [0]).commit(shards=1)
    shard = tmp_path / "s" / "shard-000000.arrow"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(UserError, match=r"shard-000000\.arrow: found an unreadable shard"):
        Store(tmp_path / "s").read(0)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [0]).commit(shards=1)
    manifest = tmp_path / "s" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(UserError, match="update openmfr"):
        Store(tmp_path / "s")


def test_a_store_travels_to_other_processes_without_its_data(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    store.read(0)
    assert len(pickle.dumps(store)) < 5_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(store.read, (0,)) == store.read(0)


def test_jpeg_round_trip_stays_close() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.stack([np.tile(ramp, (64, 1))] * 3, axis=2)
    difference = np.abs(decode_image(encode_jpeg(picture)).astype(int) - picture)
    assert difference.mean() < 1.0


def test_an_unknown_column_names_those_that_exist(tmp_path: Path) -> None:
    store = write_shards(tmp_path / "s", [0]).commit(shards=1)
    with pytest.raises(UserError, match="allowed: source, identity_name"):
        store.column("sauce")

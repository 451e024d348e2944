"""A store's faces fitted in parts: killed, repeated, by any number of workers."""

from __future__ import annotations

import shutil
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from toy_provider import BrightnessProvider, NoFaceProvider

from openmfr.data import fit
from openmfr.data.fit import FitSummary, fit_geometry
from openmfr.data.geometry import Geometry, GeometryWriter, Status
from openmfr.data.store import Store, encode_jpeg
from openmfr.data.store_writer import StoreWriter
from openmfr.errors import UserError
from openmfr.faces import occlusion
from openmfr.files import only_one


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """72 pictures of one colour each: what the provider makes of it, and nothing to be covered."""
    writer = StoreWriter(tmp_path / "store", image_size=32, settings={})
    colours = np.random.default_rng(0).integers(0, 256, (72, 3), dtype=np.uint8)
    for shard in range(8):
        rows = range(9 * shard, 9 * shard + 9)
        writer.write_shard(
            shard,
            [encode_jpeg(np.full((32, 32, 3), colours[row], np.uint8)) for row in rows],
            {"source": [f"{row}.jpg" for row in rows], "identity_name": ["a"] * 9},
        )
    return writer.commit(shards=8)


def run(store: Store, out: Path | None = None, *, workers: int = 1) -> FitSummary:
    return fit_geometry(store, out, provider_factory=BrightnessProvider, workers=workers)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_image_is_fitted_or_counted_and_listed(store: Store) -> None:
    summary = run(store)
    assert summary.geometry.path == store.path / "geometry"
    assert summary.fitted + sum(summary.failed.values()) == summary.images == len(store) == 72
    assert set(summary.failed) == {Status.NO_FACE.reason, Status.ELSEWHERE.reason}
    listed = summary.failed_list.read_text(encoding="utf-8").splitlines()
    assert len(listed) == 1 + sum(summary.failed.values())
    geometry = Geometry.open(store.path / "geometry", store)
    for index in range(len(store)):
        found = BrightnessProvider().reconstruct(store.decode(index))
        vertices = geometry.vertices(index)
        if vertices is not None:
            assert found is not None
            np.testing.assert_allclose(vertices, found, atol=0.03)
        else:
            assert (
                geometry.reason(index) in listed[1 + list(~geometry.is_fitted[:index]).count(True)]
            )


def test_every_number_of_workers_writes_the_same_bytes(store: Store, tmp_path: Path) -> None:
    run(store, tmp_path / "one", workers=1)
    run(store, tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")


@pytest.mark.parametrize("place", ["write_part", "commit", "_write_failed", "tidy"])
def test_a_run_that_was_cut_off_anywhere_ends_in_the_same_bytes(
    place: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, tmp_path / "whole")
    original, calls = getattr(GeometryWriter, place), []

    def stop(*arguments: object, **named: object) -> object:
        calls.append(place)
        if place != "write_part" or len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(GeometryWriter, place, stop)
        with pytest.raises(KeyboardInterrupt):
            run(store, tmp_path / "cut")
    run(store, tmp_path / "cut")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_parts_that_are_there_are_not_fitted_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, tmp_path / "out")
    fitted: list[int] = []

    def count(self: GeometryWriter, number: int, *_: object) -> None:
        fitted.append(number)

    writer = GeometryWriter(
        tmp_path / "cut", store, provider=BrightnessProvider.name, checks=fit.CHECKS_VERSION
    )
    for number in (0, 2, 3, 4):
        writer.write_part(number, np.zeros((1, 47), np.int16), np.zeros(1, np.uint8))
    monkeypatch.setattr(GeometryWriter, "write_part", count)
    monkeypatch.setattr(GeometryWriter, "commit", lambda *_, **__: Geometry(tmp_path / "out"))
    run(store, tmp_path / "cut")
    assert fitted == [1]


def test_a_finished_geometry_is_opened_and_not_touched(store: Store, tmp_path: Path) -> None:
    first = run(store, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = run(store, tmp_path / "out")
    assert (first.was_finished, again.was_finished) == (False, True)
    assert (again.fitted, again.failed) == (first.fitted, first.failed)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_a_second_command_finds_what_the_first_one_finished_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out, waits = tmp_path / "whole", tmp_path / "out", threading.Event()
    run(store, whole)
    GeometryWriter(out, store, provider=BrightnessProvider.name, checks=fit.CHECKS_VERSION)
    found: list[FitSummary] = []

    def waiting(folder: Path) -> AbstractContextManager[None]:
        waits.set()
        return only_one(folder)

    monkeypatch.setattr("openmfr.files.only_one", waiting)
    second = threading.Thread(target=lambda: found.append(run(store, out)))
    with only_one(out):  # as the first one, which has begun
        second.start()
        assert waits.wait(60)
        shutil.copytree(whole, out, dirs_exist_ok=True)
    second.join()
    assert found[0].was_finished
    assert content(out) == content(whole)


def test_another_provider_does_not_go_on_with_what_was_begun(store: Store, tmp_path: Path) -> None:
    run(store, tmp_path / "out")
    with pytest.raises(UserError, match=r"provider: found 'brightness-1'; allowed: '.*NoFace"):
        fit_geometry(store, tmp_path / "out", provider_factory=NoFaceProvider, workers=1)


def test_a_covered_face_stays_unmasked_and_says_why(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = run(store, tmp_path / "bare")
    monkeypatch.setattr(occlusion, "is_covered", lambda image, _: image[0, 0, 0] % 2 == 0)
    covered = run(store, tmp_path / "covered")
    reason = "something lies in front of the lower face"
    assert 0 < covered.failed[reason] == bare.fitted - covered.fitted < bare.fitted


def test_a_store_in_which_no_face_is_found_is_said_so(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary = fit_geometry(store, tmp_path / "out", provider_factory=NoFaceProvider, workers=1)
    assert (summary.fitted, summary.failed) == (0, {"no face found": 72})
    assert "no face could be fitted" in caplog.text


def test_no_workers_are_refused(store: Store) -> None:
    with pytest.raises(UserError, match="workers: found 0"):
        run(store, workers=0)


def test_a_folder_of_something_else_is_left_alone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="no unfinished geometry"):
        run(store, tmp_path / "notes")
    assert content(tmp_path / "notes") == {"diary.txt": b"mine"}

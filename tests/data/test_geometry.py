"""What a Geometry holds, refuses and says, with faces that the test has placed."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from toys import make_store

from openmfr.artefacts import describe, kind_of
from openmfr.data.fit import write_geometry
from openmfr.data.geometry import (
    META,
    PACKED_FILE,
    Geometry,
    GeometryWriter,
    Status,
    judge_fit,
)
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.faces.geometry import Float32Array, face_model
from openmfr.files import read_json, write_json


def placed(size: int = 112, *, shift: float = 0.0, scale: float = 1.0) -> Float32Array:
    """The mean face as an aligned crop has it; shift in edges of the crop."""
    middle = np.array([0.5 + shift, 0.59, 0.0])
    return np.asarray((face_model().mean * 0.46 * scale + middle) * size, np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store", identities=2, images=3)


def written(store: Store, folder: Path) -> Geometry:
    """All six images but the second and the fourth have a face."""
    faces = [placed(32, shift=i / 100) if i not in (1, 3) else None for i in range(6)]
    return write_geometry(folder, store, faces, provider="test")


def test_vertices_come_back_for_the_images_that_have_them(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path / "geometry")
    geometry = Geometry.open(tmp_path / "geometry", store)
    assert len(geometry) == 6
    assert geometry.is_fitted.tolist() == [True, False, True, False, True, True]
    assert geometry.vertices(1) is None
    vertices = geometry.vertices(4)
    assert vertices is not None
    assert vertices.dtype == np.float32
    np.testing.assert_allclose(vertices, placed(32, shift=0.04), atol=0.03)
    assert (geometry.reason(0), geometry.reason(3)) == ("fitted", "no face found")
    assert geometry.counts() == {Status.FITTED: 4, Status.NO_FACE: 2}


def test_images_without_geometry_are_listed_with_their_source(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path / "geometry")
    with (tmp_path / "geometry" / "failed.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["index", "source", "reason"],
            ["1", "000/001.jpg", "no face found"],
            ["3", "001/000.jpg", "no face found"],
        ]


def test_an_index_outside_the_store_is_an_error(store: Store, tmp_path: Path) -> None:
    geometry = written(store, tmp_path / "geometry")
    for index in (-1, 6):
        with pytest.raises(IndexError, match=f"image {index} of a geometry of 6"):
            geometry.vertices(index)


def test_a_pickled_geometry_carries_no_faces_and_reads_the_same(
    store: Store, tmp_path: Path
) -> None:
    geometry = written(store, tmp_path / "geometry")
    vertices = geometry.vertices(0)
    carried = pickle.dumps(geometry)
    assert geometry.packed.tobytes() not in carried
    np.testing.assert_array_equal(pickle.loads(carried).vertices(0), vertices)


def test_the_geometry_of_another_store_is_refused_with_the_command_to_run(
    store: Store, tmp_path: Path
) -> None:
    written(store, tmp_path / "geometry")
    other = make_store(tmp_path / "other", identities=3, images=2)
    with pytest.raises(UserError) as error:
        Geometry.open(tmp_path / "geometry", other)
    for part in (store.fingerprint, other.fingerprint, f"openmfr mask fit {other.path}"):
        assert part in str(error.value)


def test_a_missing_geometry_is_told_from_an_unfinished_one(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no geometry.*openmfr mask fit {store.path}"):
        Geometry.open(tmp_path / "geometry", store)
    GeometryWriter(tmp_path / "geometry", store, provider="test", checks="none")
    with pytest.raises(UserError, match="an unfinished geometry"):
        Geometry.open(tmp_path / "geometry", store)
    assert kind_of(tmp_path / "geometry") == "unfinished geometry"


def test_faces_packed_with_another_face_model_are_refused(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path / "geometry")
    meta = read_json(tmp_path / "geometry" / META, what="geometry")
    meta["settings"]["face_model"] = "0" * 16
    write_json(tmp_path / "geometry" / META, meta)
    with pytest.raises(UserError, match="face model 0000000000000000"):
        Geometry(tmp_path / "geometry")


def test_a_cut_file_is_named(store: Store, tmp_path: Path) -> None:
    geometry = written(store, tmp_path / "geometry")
    path = tmp_path / "geometry" / PACKED_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"packed\.npy: found no readable array"):
        Geometry(geometry.path).vertices(0)


def test_inspect_describes_a_geometry(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path / "geometry")
    described = describe(tmp_path / "geometry")
    assert described["kind"] == "geometry"
    assert described["settings.store"] == store.fingerprint
    assert described["settings.provider"] == "test"
    assert (described["counts.fitted"], described["counts.no face found"]) == ("4", "2")


def test_the_same_faces_written_again_change_nothing_and_others_are_refused(
    store: Store, tmp_path: Path
) -> None:
    first = written(store, tmp_path / "geometry")
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    assert written(store, tmp_path / "geometry").fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    with pytest.raises(UserError, match="provider: found 'test'; allowed: 'mine'"):
        write_geometry(tmp_path / "geometry", store, [placed(32)] * 6, provider="mine")


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([placed(32)] * 5, "5 items; allowed: 6"),
        ([placed(32)] * 7, "more than 6 items; allowed: 6"),
        ([placed(32)[:68]] * 6, r"vertices of image 0: found shape \(68, 3\)"),
        ([placed(32), placed(32) * np.float32(np.nan)] * 3, "image 1: found a number that is not"),
    ],
)
def test_vertices_that_cannot_be_right_are_refused(
    faces: list[Float32Array], message: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        write_geometry(tmp_path / "geometry", store, faces, provider="test")
    assert not (tmp_path / "geometry" / META).exists()


def test_mirrored_vertices_are_no_geometry(store: Store, tmp_path: Path) -> None:
    mirrored = np.asarray(placed(32) * [-1, 1, 1] + [31, 0, 0], np.float32)
    geometry = write_geometry(tmp_path / "geometry", store, [mirrored] * 6, provider="test")
    assert geometry.counts() == {Status.MIRRORED: 6}
    assert geometry.vertices(0) is None


@pytest.mark.parametrize("size", [64, 112, 224])
def test_a_fit_is_judged_by_where_an_aligned_crop_has_the_face(size: int) -> None:
    assert judge_fit(placed(size), size=size) is Status.FITTED
    assert judge_fit(placed(size, shift=0.15), size=size) is Status.FITTED
    assert judge_fit(placed(size, shift=0.25), size=size) is Status.ELSEWHERE
    assert judge_fit(placed(size, scale=0.5), size=size) is Status.WRONG_SIZE
    assert judge_fit(placed(size, scale=1.7), size=size) is Status.WRONG_SIZE
    upside_down = size - placed(size) * [1, 1, 0]
    assert judge_fit(upside_down, size=size) is not Status.FITTED
    assert judge_fit(placed(size) * np.float32(np.nan), size=size) is Status.NO_FACE

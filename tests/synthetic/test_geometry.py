"""The exact geometry of synthetic faces: where Face Mesh's vertices truly are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from openmfr.data.geometry import FOLDER, META, PACKED_FILE, SETTINGS, Geometry
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.faces.geometry import Float32Array, face_model, fit_pose
from openmfr.synthetic.anatomy import EXPRESSIONS
from openmfr.synthetic.dataset import synthesise
from openmfr.synthetic.geometry import mesh_vertices, on_mesh
from openmfr.synthetic.head import head_model
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import Face, render_face

NOSE_TIP, CHIN, INNER_LIPS = 4, 152, (13, 14)
EYE_CORNERS, MOUTH_CORNERS = ((33, 133), (362, 263)), (61, 291)


@cache
def faces() -> list[Face]:
    return [render_face(make_identity(2, n), rng=image_rng(2, n, 0)) for n in range(24)]


def signed_area(vertices: Float32Array) -> Float32Array:
    a, b, c = (vertices[face_model().triangles[:, corner], :2] for corner in range(3))
    ab, ac = b - a, c - a
    area: Float32Array = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    return area


def test_features_lie_where_the_head_has_them() -> None:
    for face in faces():
        vertices = mesh_vertices(face)[:, :2]
        eyes = [vertices[list(corners)].mean(axis=0) for corners in EYE_CORNERS]
        found = np.stack([*eyes, vertices[NOSE_TIP], *vertices[list(MOUTH_CORNERS)]])
        # An eye's centre lies in front of its corners, a corner of the mouth outside the lips'.
        assert np.linalg.norm(found - face.landmarks, axis=1).max() < 4
        assert np.linalg.norm(found[2] - face.landmarks[2]) < 1


def test_vertices_are_points_of_the_head() -> None:
    """On a head, however it is moved; the surface between grid points is linear."""
    head = head_model().mean
    linear = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    moved = on_mesh(np.einsum("vx,yx->vy", head, linear) + np.float32(2))
    expected = np.einsum("vx,yx->vy", on_mesh(head), linear) + np.float32(2)
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_the_mesh_on_the_mean_head_is_symmetric_and_nowhere_folded() -> None:
    vertices = on_mesh(head_model().mean)
    mirrored = vertices[face_model().mirrored] * np.array([-1, 1, 1], np.float32)
    assert np.abs(vertices - mirrored).max() < 0.02  # decimetres: about 1 pixel of 112
    # Nearly all triangles face the viewer, as on Face Mesh's own mean face.
    front = np.abs(vertices[face_model().triangles].mean(axis=1)[:, 0]) < 0.5
    assert (signed_area(vertices)[front] > 0).mean() > 0.95


def test_the_mean_face_fits_the_mean_head_within_hundredths_of_an_eye_span() -> None:
    vertices = on_mesh(head_model().mean)
    pose = fit_pose(vertices)
    head = (vertices - pose.shift) @ pose.rotation / pose.scale
    assert np.linalg.norm(head - face_model().mean, axis=1).mean() < 0.05


def test_the_lips_part_when_the_jaw_drops() -> None:
    model = head_model()
    drop = np.float32(0.2) * model.expression_modes[EXPRESSIONS.index("jaw")]
    closed, open_ = on_mesh(model.mean), on_mesh(model.mean + drop)
    moved = (open_ - closed)[:, 1]
    upper, lower = INNER_LIPS
    assert moved[upper] == 0
    assert moved[lower] == pytest.approx(0.2, abs=0.01)
    assert moved[CHIN] > 0.1


@pytest.mark.parametrize("size", [64, 160])
def test_vertices_scale_with_the_image(size: int) -> None:
    identity = make_identity(0, 1)
    reference = mesh_vertices(render_face(identity, rng=image_rng(0, 1, 0)))
    vertices = mesh_vertices(render_face(identity, rng=image_rng(0, 1, 0), size=size))
    scaled = (vertices[:, :2] + 0.5) * (112 / size) - 0.5
    np.testing.assert_allclose(scaled, reference[:, :2], atol=0.02)
    np.testing.assert_allclose(vertices[:, 2] * (112 / size), reference[:, 2], atol=0.02)


def make(out: Path, *, geometry: bool, workers: int = 1) -> Store:
    settings = {"identities": 2, "images": 126, "seed": 3, "size": 32}
    store, _ = synthesise(out, **settings, workers=workers, geometry=geometry)
    return store


@pytest.fixture(scope="module")
def masked_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make(tmp_path_factory.mktemp("synth") / "store", geometry=True)


def test_a_store_brings_the_geometry_of_each_of_its_images(masked_store: Store) -> None:
    geometry = Geometry.open(masked_store.path / FOLDER, masked_store)
    assert geometry.is_fitted.all()
    for index in (0, 125, 126, 251):
        person, image = divmod(index, 126)
        face = render_face(make_identity(3, person), rng=image_rng(3, person, image), size=32)
        vertices = geometry.vertices(index)
        assert vertices is not None
        error = np.linalg.norm((vertices - mesh_vertices(face))[:, :2], axis=1)
        # Packing costs 1 pixel of 112 in the mean; Face Mesh's own error is 2.5.
        assert error.mean() < 0.6


def test_geometry_does_not_change_the_store_or_depend_on_workers(
    masked_store: Store, tmp_path: Path
) -> None:
    plain = make(tmp_path / "plain", geometry=False)
    assert plain.fingerprint == masked_store.fingerprint
    assert not (plain.path / FOLDER).exists()
    # The same command with geometry adds it to a finished store.
    later = make(tmp_path / "plain", geometry=True, workers=2)
    found = [(store.path / FOLDER / PACKED_FILE).read_bytes() for store in (later, masked_store)]
    assert found[0] == found[1]


def test_a_killed_geometry_is_finished_by_the_same_command(
    masked_store: Store, tmp_path: Path
) -> None:
    store = make(tmp_path / "store", geometry=False)
    whole = (masked_store.path / FOLDER / PACKED_FILE).read_bytes()
    geometry = Geometry.open(make(store.path, geometry=True).path / FOLDER, store)
    fingerprint = geometry.fingerprint
    (store.path / FOLDER / META).unlink()
    (store.path / FOLDER / PACKED_FILE).unlink()
    (store.path / FOLDER / SETTINGS).write_text(json.dumps(geometry.settings))
    again = Geometry.open(make(store.path, geometry=True).path / FOLDER, store)
    assert again.fingerprint == fingerprint
    assert (again.path / PACKED_FILE).read_bytes() == whole


def test_a_geometry_that_something_else_made_is_not_overwritten(tmp_path: Path) -> None:
    store = make(tmp_path / "store", geometry=False)
    (store.path / FOLDER).mkdir()
    (store.path / FOLDER / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="geometry"):
        make(store.path, geometry=True)

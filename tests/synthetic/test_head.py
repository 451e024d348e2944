"""The head model: what an image's geometry and landmarks rest on."""

from __future__ import annotations

import numpy as np
import pytest

from openmfr.faces.align import ARCFACE_TEMPLATE, similarity
from openmfr.synthetic.anatomy import EXPRESSIONS, EYE, MOUTH_CORNER, NOSE_TIP
from openmfr.synthetic.head import COLUMNS, ROWS, head_model, vertex_normals
from openmfr.synthetic.identity import make_identity


def test_landmarks_lie_where_eyes_nose_and_mouth_are_painted() -> None:
    model = head_model()
    places = model.landmarks(model.mean)[:, :2]
    (ex, ey), (mx, my) = EYE, MOUTH_CORNER
    expected = [(-ex, ey), (ex, ey), NOSE_TIP, (-mx, my), (mx, my)]
    np.testing.assert_allclose(places, expected, atol=1e-5)


def test_landmarks_follow_the_mesh_exactly() -> None:
    model = head_model()
    rng = np.random.default_rng(0)
    linear, shift = rng.normal(size=(3, 3)).astype(np.float32), np.array([1, -2, 3], np.float32)
    moved = model.landmarks(model.mean @ linear + shift)
    np.testing.assert_allclose(moved, model.landmarks(model.mean) @ linear + shift, atol=1e-5)


def test_the_mean_face_has_the_proportions_of_the_arcface_template() -> None:
    landmarks = head_model().landmarks(head_model().mean)[:, :2]
    matrix = similarity(landmarks, ARCFACE_TEMPLATE)
    aligned = landmarks @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(aligned - ARCFACE_TEMPLATE).max() < 1.5


@pytest.mark.parametrize("number", range(5))
def test_faces_at_rest_are_symmetric(number: int) -> None:
    grid = make_identity(0, number).shape.reshape(ROWS, COLUMNS, 3)
    mirrored = grid[:, ::-1] * np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(grid, mirrored, atol=2e-4)


@pytest.mark.parametrize("number", range(10))
def test_no_identity_turns_the_surface_inside_out(number: int) -> None:
    """Seen from the front, the middle of the face must not fold over itself."""
    model = head_model()
    grid = make_identity(1, number).shape.reshape(ROWS, COLUMNS, 3)
    front = np.abs(model.angle) < 0.35
    assert (np.diff(grid[2:-2, front, 0], axis=1) > 0).mean() > 0.99
    assert (vertex_normals(model.mean).reshape(ROWS, COLUMNS, 3)[10:30, front, 2] > 0).all()


def test_closing_the_eyes_brings_the_lids_together_and_leaves_the_mouth() -> None:
    model = head_model()
    closed = model.mean + model.expression_modes[EXPRESSIONS.index("blink")]
    lids = np.abs(model.mean - [EYE[0], 0, model.mean[:, 2].max()])[:, :2].max(axis=1) < 0.06
    lids &= model.mean[:, 2] > 0
    assert np.ptp(closed[lids, 1]) < 0.25 * np.ptp(model.mean[lids, 1])
    np.testing.assert_allclose(
        model.landmarks(closed)[3:], model.landmarks(model.mean)[3:], atol=1e-6
    )


def test_dropping_the_jaw_opens_the_lips() -> None:
    model = head_model()
    jaw = model.expression_modes[EXPRESSIONS.index("jaw"), :, 1]
    middle = (np.abs(model.mean[:, 0]) < 0.05) & (model.mean[:, 2] > 0)
    y = model.mean[:, 1]
    above, below = MOUTH_CORNER[1] - 0.02, MOUTH_CORNER[1] + 0.03
    assert np.abs(jaw[middle & (y < above)]).max() == 0
    assert jaw[middle & (y > below) & (y < 1.0)].min() > 0.5


def test_normals_are_unit_and_point_out_of_the_head() -> None:
    mean = head_model().mean
    normals = vertex_normals(mean).reshape(ROWS, COLUMNS, 3)[1:]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
    horizontal = mean.reshape(ROWS, COLUMNS, 3)[1:] * np.array([1, 0, 1], np.float32)
    assert (np.einsum("rcx,rcx->rc", normals, horizontal) > 0).mean() > 0.97

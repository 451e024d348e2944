"""The cloth drawn tight over a face, and the sheet laid upon it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.faces.geometry import face_model, fit_pose
from openmfr.masking.render.hull import find_pose, lay_hull, look_up, place_sheet
from openmfr.masking.render.surface import SHEET_COLUMNS, SHEET_ROWS, cylinder, sheet_places, skin
from openmfr.masking.template import Outline

Float32Array = npt.NDArray[np.float32]
OUTLINE = Outline(nose=-0.2, side=-0.02, chin=0.93, jaw=0.55, half_angle=1.1, tilt=0.05)


def hull(vertices: Float32Array) -> Float32Array:
    worn, rotation, shift = skin(), np.zeros((3, 3)), np.zeros(3)
    scale = find_pose(vertices, face_model().mean, rotation, shift)
    maps: Float32Array = lay_hull(
        vertices, scale, rotation, shift,
        worn.triangles, worn.anchors, worn.offsets, worn.corners, worn.weights, worn.mean,
    )  # fmt: skip
    return maps


def a_face(seed: int = 0) -> Float32Array:
    rng = np.random.default_rng(seed)
    model = face_model()
    head = model.mean + np.einsum("k,kvx->vx", rng.normal(0, 1, 40), model.modes)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    face: Float32Array = (head @ turn.T * 40 + [50, 60, 5]).astype(np.float32)
    return face


def test_compiled_pose_is_that_of_fit_pose() -> None:
    for seed in range(5):
        face, rotation, shift = a_face(seed), np.zeros((3, 3)), np.zeros(3)
        scale = find_pose(face, face_model().mean, rotation, shift)
        expected = fit_pose(face)
        assert abs(scale - expected.scale) < 1e-9
        np.testing.assert_allclose(rotation, expected.rotation, atol=1e-9)
        np.testing.assert_allclose(shift, expected.shift, atol=1e-9)


def test_sheet_places_are_the_inverse_of_the_outline() -> None:
    places = sheet_places(OUTLINE)
    u, v = OUTLINE.sheet(places[..., 0], places[..., 1])
    columns, rows = np.linspace(0, 1, SHEET_COLUMNS), np.linspace(0, 1, SHEET_ROWS)
    np.testing.assert_allclose(u, np.tile(columns, (SHEET_ROWS, 1)), atol=1e-5)
    np.testing.assert_allclose(v, np.tile(rows[:, None], (1, SHEET_COLUMNS)), atol=1e-5)


def test_no_part_of_a_face_lies_outside_its_hull() -> None:
    for seed in range(4):
        face = a_face(seed)
        pose = fit_pose(face)
        head = cylinder((face - pose.shift) @ pose.rotation / pose.scale)
        radius = hull(face)[0]
        outside = [r - look_up(radius, angle, height) for angle, height, r in head]
        lower = (head[:, 1] > -0.3) & (np.abs(head[:, 0]) < 1.4)
        # Between nodes it may, by less than a sheet stands off and a depth test forgives.
        assert np.array(outside)[lower].max() < 0.06


def test_hull_bridges_lips_and_dent_of_chin() -> None:
    mean = face_model().mean
    radius = hull((mean * 50).astype(np.float32))[0]
    # From 17, below the lower lip, to the deepest point between lip and chin (18).
    assert look_up(radius, 0.0, float(mean[18, 1])) > cylinder(mean)[18, 2] + 0.01
    # The corner between nostril and cheek.
    corner = cylinder(mean)[203]
    assert look_up(radius, corner[0], corner[1]) > corner[2] - 0.005


def test_drift_is_nought_for_the_mean_face_and_follows_a_dropped_chin() -> None:
    mean = face_model().mean
    assert np.abs(hull((mean * 50).astype(np.float32))[1:]).max() < 1e-4
    dropped = mean.copy()
    low = mean[:, 1] > 0.5
    dropped[low, 1] += 0.2
    pose = fit_pose(dropped)
    moved = cylinder((dropped - pose.shift) @ pose.rotation / pose.scale)[152, 1] - mean[152, 1]
    assert abs(look_up(hull((dropped * 50).astype(np.float32))[2], 0.0, 0.8) - moved) < 0.04


def test_sheet_lies_off_the_hull_by_its_height_and_faces_outwards() -> None:
    rotation, shift = np.eye(3), np.zeros(3)
    maps, places = hull((face_model().mean * 50).astype(np.float32)), sheet_places(OUTLINE)
    flat = np.zeros((SHEET_ROWS, SHEET_COLUMNS), np.float32)
    low = place_sheet(maps, places, flat, 0.0, 1.0, rotation, shift)
    high = place_sheet(maps, places, flat + np.float32(0.2), 0.0, 1.0, rotation, shift)
    lifted = cylinder(high[..., :3])[..., 2] - cylinder(low[..., :3])[..., 2]
    np.testing.assert_allclose(lifted, 0.2, atol=1e-4)
    outwards = low[..., 0] * low[..., 3] + (low[..., 2] + 0.62) * low[..., 5]
    assert outwards[:-2].min() > 0
    np.testing.assert_allclose((low[..., 3:] ** 2).sum(axis=-1), 1, atol=1e-4)

"""A face packed into 94 bytes, and the pose of a head, against poses and shapes that are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.faces.geometry import MODES, face_model, fit_pose, pack, unpack

Float64Array = npt.NDArray[np.float64]


def turned(yaw: float, pitch: float, roll: float) -> Float64Array:
    """Rotation that rolls, then pitches, then yaws; degrees."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_y @ about_x @ about_z)


def someone(rng: np.random.Generator, *, deviations: float = 1.0) -> Float64Array:
    """A face in coordinates of the head."""
    model = face_model()
    weights = rng.normal(0, deviations, MODES)
    return np.asarray(model.mean + np.einsum("k,kvx->vx", weights, model.modes), np.float64)


@pytest.mark.parametrize("size", [112, 250])
def test_random_faces_in_random_poses_survive_packing(size: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        rotation = turned(rng.uniform(-70, 70), rng.uniform(-60, 60), rng.uniform(-40, 40))
        scale = rng.uniform(0.2, 0.6) * size
        face = someone(rng) @ rotation.T * scale + rng.uniform(0.3, 0.7, 3) * size
        packed = pack(face, size=size)
        assert packed.nbytes == 94
        error = np.linalg.norm(unpack(packed, size=size) - face, axis=1)
        assert error.max() < 0.1 * size / 112


def test_a_face_packed_at_one_size_is_unpacked_at_another() -> None:
    face = someone(np.random.default_rng(1)) * 50 + 56
    twice = unpack(pack(face, size=112), size=224)
    np.testing.assert_allclose(twice, 2 * face, atol=0.2)


def test_what_the_modes_cannot_say_is_lost_and_nothing_else() -> None:
    """Noise on each vertex is not the shape of a face: packing takes most of it away."""
    rng = np.random.default_rng(2)
    face = someone(rng) * 50 + 56
    noise = rng.normal(0, 1, face.shape)
    left = unpack(pack(face + noise, size=112), size=112) - face
    assert np.sqrt((left**2).mean()) < 0.35 * np.sqrt((noise**2).mean())


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(0, 0, 0), (60, 0, 0), (-60, 10, 5), (0, 35, 0), (20, -30, 170)]
)
def test_a_known_pose_is_found(yaw: float, pitch: float, roll: float) -> None:
    rotation = turned(yaw, pitch, roll)
    shift = np.array([40.0, 70.0, -3.0])
    pose = fit_pose(face_model().mean @ rotation.T * 47 + shift)
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(pose.shift, shift, atol=1e-3)
    assert pose.scale == pytest.approx(47, rel=1e-5)
    if roll == 0:
        assert np.degrees(pose.yaw) == pytest.approx(yaw, abs=1e-3)
        assert np.degrees(pose.pitch) == pytest.approx(pitch, abs=1e-3)


def test_the_nose_turns_right_with_positive_yaw_and_down_with_positive_pitch() -> None:
    """The signs are stated in words; a renderer that lights faces depends on them."""
    mean, nose = face_model().mean.astype(np.float64), 4
    right, down = mean @ turned(30, 0, 0).T, mean @ turned(0, 30, 0).T
    assert right[nose, 0] > mean[nose, 0] + 0.1
    assert down[nose, 1] > mean[nose, 1] + 0.1
    assert fit_pose(right * 50).yaw > 0.5
    assert fit_pose(down * 50).pitch > 0.5


def test_a_mirrored_face_gets_a_rotation_all_the_same() -> None:
    mirrored = face_model().mean * np.array([-50, 50, 50])
    assert np.linalg.det(fit_pose(mirrored).rotation) == pytest.approx(1)


def test_half_a_turn_survives_packing() -> None:
    face = face_model().mean @ turned(0, 0, 179.99).T * 50 + 56
    assert np.abs(unpack(pack(face, size=112), size=112) - face).max() < 0.1

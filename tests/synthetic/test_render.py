"""One image: aligned, lit, of the person asked for, and known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from openmfr.faces.align import template
from openmfr.synthetic.head import head_model
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import render_face
from openmfr.synthetic.shot import directional_light, draw_shot


def test_landmarks_land_on_the_template_within_a_detectors_error() -> None:
    identity = make_identity(0, 0)
    faces = [render_face(identity, rng=image_rng(0, 0, j)) for j in range(40)]
    frontal = [f for f in faces if abs(f.shot.yaw) < 0.2 and abs(f.shot.pitch) < 0.1]
    errors = np.array([face.landmarks - template(112) for face in faces])
    assert len(frontal) > 3
    for face in frontal:
        assert np.abs(face.landmarks - template(112)).max() < 6
    assert np.abs(errors.mean(axis=1)).max() < 2  # the least-squares fit leaves no shift


@pytest.mark.parametrize("size", [64, 112, 160])
def test_the_same_picture_is_taken_at_any_size(size: int) -> None:
    identity = make_identity(0, 1)
    reference = render_face(identity, rng=image_rng(0, 1, 0))
    face = render_face(identity, rng=image_rng(0, 1, 0), size=size)
    assert face.image.shape == (size, size, 3)
    assert face.image.dtype == np.uint8
    in_reference = (face.landmarks + 0.5) * (112 / size) - 0.5
    np.testing.assert_allclose(in_reference, reference.landmarks, atol=0.01)
    assert abs(float(face.image.mean()) - float(reference.image.mean())) < 4


def test_landmarks_are_points_of_the_returned_geometry() -> None:
    face = render_face(make_identity(0, 2), rng=image_rng(0, 2, 0))
    np.testing.assert_array_equal(head_model().landmarks(face.vertices)[:, :2], face.landmarks)


def test_a_person_keeps_shape_and_colours_and_another_number_or_seed_is_another_person() -> None:
    one, again = make_identity(3, 7), make_identity(3, 7)
    np.testing.assert_array_equal(one.shape, again.shape)
    np.testing.assert_array_equal(one.texture, again.texture)
    for other in (make_identity(3, 8), make_identity(4, 7)):
        assert np.abs(one.shape - other.shape).max() > 0.05
        assert np.abs(one.texture - other.texture).mean() > 0.01


def test_the_same_circumstances_show_two_people_differently_and_in_the_same_pose() -> None:
    faces = [render_face(make_identity(0, n), rng=image_rng(0, 0, 5)) for n in (0, 1)]
    assert faces[0].shot.yaw == faces[1].shot.yaw
    np.testing.assert_array_equal(faces[0].shot.background, faces[1].shot.background)
    assert np.abs(faces[0].image.astype(int) - faces[1].image).mean() > 5


def test_eyes_are_seen_where_the_landmarks_say() -> None:
    """A frontal face has more contrast around its eye centres than on its cheeks."""
    contrasts = []
    for number in range(12):
        face = render_face(make_identity(5, number), rng=image_rng(5, number, 0))
        if abs(face.shot.yaw) > 0.4:
            continue
        grey = face.image.mean(axis=2)
        spread = []
        for x, y in np.round(face.landmarks[:2]).astype(int):
            eye, cheek = grey[y - 5 : y + 6, x - 6 : x + 7], grey[y + 14 : y + 25, x - 6 : x + 7]
            spread.append(np.std(eye) - np.std(cheek))
        contrasts.append(np.mean(spread))
    assert len(contrasts) > 4
    assert np.mean(np.array(contrasts) > 0) > 0.8


def test_harmonic_light_is_close_to_lamberts_law() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(2_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    x, y, z = normals.T
    direction = np.array([0.36, -0.48, 0.8])
    basis = np.stack(
        [np.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=1
    )
    got = basis @ directional_light(direction, np.array([1.0, 0.5, 0.0]))
    expected = np.maximum(normals @ direction, 0)[:, None] * [1.0, 0.5, 0.0]
    np.testing.assert_allclose(got, expected, atol=0.1)


def test_circumstances_are_drawn_without_knowing_the_person() -> None:
    one, two = draw_shot(image_rng(0, 4, 4)), draw_shot(image_rng(0, 4, 4))
    assert (one.yaw, one.pitch, one.blur) == (two.yaw, two.pitch, two.blur)
    np.testing.assert_array_equal(one.light, two.light)

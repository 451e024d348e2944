"""How a head is turned, against synthetic faces that know it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.faces.align import template
from openmfr.faces.pose import roll, yaw
from openmfr.synthetic.head import head_model, weighted_sum
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import Camera
from openmfr.synthetic.shot import draw_shot


def turned(landmarks: npt.NDArray[np.float64], degrees: float) -> npt.NDArray[np.float64]:
    """Clockwise in a picture, whose y points down; three times as large, and elsewhere."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.asarray(3 * landmarks @ turn + [20, 70])


@pytest.fixture(scope="module")
def faces() -> list[tuple[float, npt.NDArray[np.float64]]]:
    """Yaw in degrees and landmarks of different people, a pixel of 112 off."""
    model, seen = head_model(), []
    people = [make_identity(0, number).shape for number in range(12)]
    for number in range(240):
        rng = np.random.default_rng(number)
        shot = draw_shot(rng)
        expression = weighted_sum(shot.expression, model.expression_modes)
        head = people[number % len(people)] + expression
        projected = Camera(shot, model.landmarks(head), 112).project(head)
        landmarks = model.landmarks(projected)[:, :2] + rng.normal(0, 1, (5, 2))
        seen.append((float(np.degrees(shot.yaw)), landmarks))
    return seen


def test_yaw_is_within_10_degrees_nearly_always(
    faces: list[tuple[float, npt.NDArray[np.float64]]],
) -> None:
    errors = np.array([yaw(landmarks) - known for known, landmarks in faces])
    assert np.median(np.abs(errors)) < 4
    assert np.percentile(np.abs(errors), 95) < 10
    assert abs(np.median(errors)) < 2


def test_yaw_does_not_change_when_the_picture_is_turned_or_scaled(
    faces: list[tuple[float, npt.NDArray[np.float64]]],
) -> None:
    for _, landmarks in faces[:10]:
        assert yaw(turned(landmarks, 130)) == pytest.approx(yaw(landmarks))


@pytest.mark.parametrize("degrees", [-170, -30, 0, 5, 90])
def test_roll_is_how_far_a_face_is_turned_in_the_picture(degrees: float) -> None:
    assert roll(turned(template(112), degrees)) == pytest.approx(degrees, abs=1e-6)

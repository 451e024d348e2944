"""Which face of a photo is taken, and how large it is."""

from __future__ import annotations

import numpy as np
import pytest

from openmfr.faces.align import template
from openmfr.faces.detect import DetectedFace, choose_face, face_size


def face(x: float, y: float, edge: float) -> DetectedFace:
    box = (x - edge / 2, y - edge / 2, x + edge / 2, y + edge / 2)
    return DetectedFace(box=box, score=0.9, landmarks=template(112) * edge / 112 + [x, y])


def test_of_equal_faces_the_central_one_is_taken() -> None:
    left, middle, right = face(100, 100, 60), face(300, 100, 60), face(500, 100, 60)
    assert choose_face([left, middle, right], width=600, height=200) is middle


def test_a_much_larger_face_wins_over_a_central_one() -> None:
    small, large = face(300, 200, 30), face(220, 200, 200)
    assert choose_face([small, large], width=600, height=400) is large


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
@pytest.mark.parametrize("edge", [7.0, 112.0, 2000.0])
def test_the_size_of_a_face_is_the_edge_of_what_is_cut_out(degrees: float, edge: float) -> None:
    turn = np.exp(1j * np.radians(degrees))
    points = (template(112) @ [1, 1j]) * turn * edge / 112
    landmarks = np.column_stack([points.real, points.imag])
    assert face_size(landmarks) == pytest.approx(edge)

"""Face Mesh as we run it against MediaPipe's own, and the reading of its messages."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.faces.mesh_graph import (
    DetectionGraph,
    MeshGraph,
    load_mediapipe,
    quiet,
    read_landmarks,
)
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import render_face

Float32Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def mediapipe() -> Any:
    try:
        return load_mediapipe()
    except UserError as error:
        if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def by_attribute(landmarks: Any) -> Float32Array:
    found = [(landmark.x, landmark.y, landmark.z) for landmark in landmarks.landmark]
    return np.array(found, np.float32).reshape(-1, 3)


def make_list(mediapipe: Any, places: Float32Array) -> Any:
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmarkList

    landmarks = NormalizedLandmarkList()
    for x, y, z in places.tolist():
        landmarks.landmark.add(x=x, y=y, z=z)
    return landmarks


@pytest.mark.filterwarnings("ignore:SymbolDatabase:UserWarning")
def test_the_vertices_are_those_that_mediapipe_s_own_face_mesh_finds(mediapipe: Any) -> None:
    ours = MeshGraph()
    with quiet():
        theirs = mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=True, min_detection_confidence=0.3
        )
        theirs.process(np.zeros((64, 64, 3), np.uint8))
    count = 0
    for person in range(6):
        image = render_face(make_identity(7, person), rng=image_rng(7, person, 0)).image
        expected, found = theirs.process(image).multi_face_landmarks, ours.find(image)
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_array_equal(found, by_attribute(expected[0]))
            count += 1
    assert count >= 4


@pytest.mark.filterwarnings("ignore:SymbolDatabase:UserWarning")
@pytest.mark.parametrize(("reach", "selection"), [("near", 0), ("far", 1)])
def test_the_boxes_are_those_that_mediapipe_s_own_detector_finds(
    mediapipe: Any, reach: Literal["near", "far"], selection: int
) -> None:
    ours, count = DetectionGraph(reach), 0
    with quiet():
        theirs = mediapipe.solutions.face_detection.FaceDetection(model_selection=selection)
        theirs.process(np.zeros((64, 64, 3), np.uint8))
    for person in range(6):
        image = render_face(make_identity(7, person), rng=image_rng(7, person, 0)).image
        expected, found = theirs.process(image).detections or [], ours.find(image)
        assert found == list(expected)
        count += len(found)
    assert count >= 4
    assert ours.find(np.zeros((64, 64, 3), np.uint8)) == []


def test_a_face_is_not_remembered_in_the_next_picture(mediapipe: Any) -> None:
    graph = MeshGraph()
    image = render_face(make_identity(7, 0), rng=image_rng(7, 0, 0)).image
    first = graph.find(image)
    assert graph.find(np.zeros_like(image)) is None
    again = graph.find(image)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first, again)


def test_landmarks_are_read_bit_for_bit(mediapipe: Any) -> None:
    places = np.random.default_rng(0).normal(0.5, 0.3, (468, 3)).astype(np.float32)
    places[3] = 0, 1, -0.0
    found = read_landmarks(make_list(mediapipe, places))
    np.testing.assert_array_equal(found.view(np.uint32), places.view(np.uint32))


def test_landmarks_that_say_more_or_less_than_their_place_are_read_too(mediapipe: Any) -> None:
    places = np.random.default_rng(1).normal(0.5, 0.3, (5, 3)).astype(np.float32)
    more, less, both = (make_list(mediapipe, places) for _ in range(3))
    more.landmark[2].visibility = 0.5
    less.landmark[1].ClearField("z")
    # As many bytes as five plain landmarks have, with other fields in them.
    both.landmark[4].ClearField("z")
    both.landmark[4].presence = 0.25
    assert len(both.SerializeToString()) == 5 * 17
    for landmarks in (more, less, both):
        np.testing.assert_array_equal(read_landmarks(landmarks), by_attribute(landmarks))


def test_a_list_without_landmarks_has_none(mediapipe: Any) -> None:
    assert read_landmarks(make_list(mediapipe, np.empty((0, 3), np.float32))).shape == (0, 3)

"""MediaPipe's Face Mesh for single pictures, run as a graph in the thread that asks.

MediaPipe's own `FaceMesh` hands each step from thread to thread and makes a class for each answer;
read landmark by landmark, that answer takes longer than a small network. Here one thread does all,
and the landmarks are read from the message's bytes: the same numbers for a fifth less CPU time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

#: The graph in MediaPipe's package, and what it answers with.
_GRAPH: Final = "modules/face_landmark/face_landmark_front_cpu.binarypb"
_ANSWER: Final = "multi_face_landmarks"

#: From which score on the detector's box is given to the mesh; MediaPipe's default loses masks.
_LEAST_SCORE: Final = 0.3

#: How protobuf writes a landmark of a list: field 1 of the list with a length of 15 bytes, then
#: field and value of x, y and z.
_LANDMARK: Final = np.dtype(
    [("head", np.uint8, 2), ("axes", [("field", np.uint8), ("value", "<f4")], 3)]
)
_HEAD: Final = np.array([0x0A, 15], np.uint8)
_FIELDS: Final = np.array([0x0D, 0x15, 0x1D], np.uint8)


class MeshGraph:
    """Finds the vertices of one face in a picture, on the CPU.

    Loading takes a second: make one per process. Not safe to share between threads.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """

    def __init__(self) -> None:
        self._mediapipe = load_mediapipe()
        create = self._mediapipe.packet_creator
        self._answer: Any = None
        self._pictures = 0
        with quiet():
            self._graph = self._mediapipe.CalculatorGraph(graph_config=_configure(self._mediapipe))
            self._graph.observe_output_stream(_ANSWER, self._keep, True)
            self._graph.start_run(
                {
                    "num_faces": create.create_int(1),
                    "with_attention": create.create_bool(False),
                    "use_prev_landmarks": create.create_bool(False),
                }
            )
            self.find(np.zeros((64, 64, 3), np.uint8))  # it reports its start at the first picture

    def find(self, picture: UInt8Array) -> Float32Array | None:
        """Find the vertices of the face that is seen best.

        Args:
            picture: RGB, uint8, shape (H, W, 3).

        Returns:
            x in widths and y in heights of the picture from its left top corner, and depth in
            widths, away from the viewer, shape (V, 3), float32; None where no face is found.
        """
        self._answer = None
        self._pictures += 1
        frame = self._mediapipe.packet_creator.create_image_frame(
            np.ascontiguousarray(picture), image_format=self._mediapipe.ImageFormat.SRGB
        )
        self._graph.add_packet_to_input_stream("image", frame.at(self._pictures))
        self._graph.wait_until_idle()
        if self._answer is None or self._answer.is_empty():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MediaPipe calls what protobuf has deprecated
            (face,) = self._mediapipe.packet_getter.get_proto_list(self._answer)
        return read_landmarks(face)

    def _keep(self, _: str, answer: Any) -> None:
        self._answer = answer


def read_landmarks(landmarks: Any) -> Float32Array:
    """Read one of MediaPipe's lists of landmarks.

    Args:
        landmarks: A `NormalizedLandmarkList` of L landmarks.

    Returns:
        Their x, y and z, shape (L, 3), float32.
    """
    message = landmarks.SerializeToString()
    if len(message) == len(landmarks.landmark) * _LANDMARK.itemsize:
        found = np.frombuffer(message, _LANDMARK)
        if (found["head"] == _HEAD).all() and (found["axes"]["field"] == _FIELDS).all():
            return np.ascontiguousarray(found["axes"]["value"], np.float32)
    # Landmarks that say more than their place, or less.
    places = [(landmark.x, landmark.y, landmark.z) for landmark in landmarks.landmark]
    return np.array(places, np.float32).reshape(-1, 3)


def _configure(mediapipe: Any) -> Any:
    """Read MediaPipe's graph; let it run in the calling thread, and see masked faces."""
    from mediapipe.calculators.tensor.tensors_to_detections_calculator_pb2 import (
        TensorsToDetectionsCalculatorOptions as Options,
    )
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig

    # Where the graph's models are looked for.
    mediapipe.resource_util.set_resource_dir(str(files(mediapipe).joinpath("..")))
    graph = CalculatorGraphConfig.FromString(files(mediapipe).joinpath(_GRAPH).read_bytes())
    graph.executor.add(type="ApplicationThreadExecutor")
    # Only with its parts put in does the graph show the detector's options.
    whole = mediapipe.ValidatedGraphConfig()
    whole.initialize(graph_config=graph)
    graph = CalculatorGraphConfig.FromString(whole.binary_config)
    (detector,) = (n for n in graph.node if n.calculator == "TensorsToDetectionsCalculator")
    (packed,) = detector.node_options
    options = Options.FromString(packed.value)
    options.min_score_thresh = _LEAST_SCORE
    packed.Pack(options)
    return graph


def load_mediapipe() -> Any:
    """Import MediaPipe.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mediapipe
    except ImportError as error:
        raise UserError(
            where="face detection",
            found=f"no usable MediaPipe ({error})",
            allowed="mediapipe 0.10.14 with the system library libGL",
            next_step="pip install 'openmfr[face]' and, on Debian, apt-get install libgl1; "
            "or pass --landmarks or --aligned, which need no detector",
        ) from error
    return mediapipe


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MediaPipe's start-up messages, written by C++ past Python, off standard error."""
    standard_error = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(nowhere)

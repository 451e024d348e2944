"""MediaPipe's detectors and Face Mesh for single pictures, as graphs in the thread that asks.

MediaPipe's own classes hand each step from thread to thread and make a class for each answer; read
landmark by landmark, that answer takes longer than a small network. Here one thread does all, and
the landmarks are read from the message's bytes: the same numbers for a fifth less CPU time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

#: The graphs in MediaPipe's package.
_MESH: Final = "modules/face_landmark/face_landmark_front_cpu.binarypb"
_DETECTORS: Final[Mapping[str, str]] = {
    "near": "modules/face_detection/face_detection_short_range_cpu.binarypb",
    "far": "modules/face_detection/face_detection_full_range_cpu.binarypb",
}

#: From which score on the detector's box is given to the mesh; MediaPipe's default loses masks.
_LEAST_SCORE: Final = 0.3

#: How protobuf writes a landmark of a list: field 1 of the list with a length of 15 bytes, then
#: field and value of x, y and z.
_LANDMARK: Final = np.dtype(
    [("head", np.uint8, 2), ("axes", [("field", np.uint8), ("value", "<f4")], 3)]
)
_HEAD: Final = np.array([0x0A, 15], np.uint8)
_FIELDS: Final = np.array([0x0D, 0x15, 0x1D], np.uint8)


class _PictureGraph:
    """A graph of MediaPipe's that takes pictures, on the CPU; not safe to share between threads.

    Args:
        config: The graph.
        answer: The stream that it answers on, with a list.
        constants: What it is started with.
    """

    def __init__(self, config: Any, answer: str, constants: Mapping[str, Any]) -> None:
        self._mediapipe = load_mediapipe()
        self._answer: Any = None
        self._pictures = 0
        with quiet():
            self._graph = self._mediapipe.CalculatorGraph(graph_config=config)
            self._graph.observe_output_stream(answer, self._keep, True)
            self._graph.start_run(dict(constants))
            self.ask(np.zeros((64, 64, 3), np.uint8))  # it reports its start at the first picture

    def ask(self, picture: UInt8Array) -> list[Any]:
        """Give it a picture, RGB, uint8, shape (H, W, 3); return the messages that it answers."""
        self._answer = None
        self._pictures += 1
        frame = self._mediapipe.packet_creator.create_image_frame(
            np.ascontiguousarray(picture), image_format=self._mediapipe.ImageFormat.SRGB
        )
        self._graph.add_packet_to_input_stream("image", frame.at(self._pictures))
        self._graph.wait_until_idle()
        if self._answer is None or self._answer.is_empty():
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MediaPipe calls what protobuf has deprecated
            found: list[Any] = self._mediapipe.packet_getter.get_proto_list(self._answer)
        return found

    def _keep(self, _: str, answer: Any) -> None:
        self._answer = answer


class MeshGraph:
    """Finds the vertices of one face in a picture, on the CPU.

    Loading takes a second: make one per process. Not safe to share between threads.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """

    def __init__(self) -> None:
        mediapipe = load_mediapipe()
        create = mediapipe.packet_creator
        constants = {
            "num_faces": create.create_int(1),
            "with_attention": create.create_bool(False),
            "use_prev_landmarks": create.create_bool(False),
        }
        config = _see_masks(_read_graph(mediapipe, _MESH))
        self._graph = _PictureGraph(config, "multi_face_landmarks", constants)

    def find(self, picture: UInt8Array) -> Float32Array | None:
        """Find the vertices of the face that is seen best.

        Args:
            picture: RGB, uint8, shape (H, W, 3).

        Returns:
            x in widths and y in heights of the picture from its left top corner, and depth in
            widths, away from the viewer, shape (V, 3), float32; None where no face is found.
        """
        faces = self._graph.ask(picture)
        return read_landmarks(faces[0]) if faces else None


class DetectionGraph:
    """Finds the boxes of faces, on the CPU. Not safe to share between threads.

    Args:
        reach: "near" for faces within two metres, "far" for small ones too.

    Raises:
        UserError: If MediaPipe, or the system library libGL that it needs, is missing.
    """

    def __init__(self, reach: Literal["near", "far"]) -> None:
        config = _read_graph(load_mediapipe(), _DETECTORS[reach])
        self._graph = _PictureGraph(config, "detections", {})

    def find(self, picture: UInt8Array) -> list[Any]:
        """Find faces in a picture, RGB, uint8, shape (H, W, 3): MediaPipe's `Detection` of each."""
        return self._graph.ask(picture)


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


def _read_graph(mediapipe: Any, name: str) -> Any:
    """Read one of MediaPipe's graphs, with its parts put in; it runs in the calling thread."""
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig

    # Where the graph's models are looked for.
    mediapipe.resource_util.set_resource_dir(str(files(mediapipe).joinpath("..")))
    graph = CalculatorGraphConfig.FromString(files(mediapipe).joinpath(name).read_bytes())
    graph.executor.add(type="ApplicationThreadExecutor")
    whole = mediapipe.ValidatedGraphConfig()
    whole.initialize(graph_config=graph)
    return CalculatorGraphConfig.FromString(whole.binary_config)


def _see_masks(graph: Any) -> Any:
    """Let the detector within Face Mesh's graph pass on faces with a mask."""
    from mediapipe.calculators.tensor.tensors_to_detections_calculator_pb2 import (
        TensorsToDetectionsCalculatorOptions as Options,
    )

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

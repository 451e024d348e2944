"""From a photo to an embedding: which face, what is refused and why; threads; no torch."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter
from toy_onnx import expected, write_own

from openmfr.deploy import runtime
from openmfr.deploy.model import OnnxModel, Pixels
from openmfr.deploy.quality import FaceQuality, sharpness
from openmfr.deploy.runtime import Recognizer
from openmfr.errors import UserError
from openmfr.faces.align import align_face, template
from openmfr.faces.detect import DetectedFace
from openmfr.faces.photo import PhotoError
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import render_face

UInt8Array = npt.NDArray[np.uint8]


def face_at(x: float, y: float, size: float, score: float = 0.9) -> DetectedFace:
    """A face whose aligned crop has its left top corner there."""
    landmarks = template(112) * (size / 112) + [x, y]
    return DetectedFace(box=(x, y, x + size, y + size), score=score, landmarks=landmarks)


class FixedDetector:
    """Finds what it was told; notices if two threads use it at once."""

    def __init__(self, *faces: DetectedFace) -> None:
        self.faces = list(faces)
        self._used = threading.Lock()
        self.was_shared = False

    def detect(self, _: UInt8Array) -> list[DetectedFace]:
        self.was_shared |= not self._used.acquire(blocking=False)
        try:
            threading.Event().wait(0.01)
            return self.faces
        finally:
            self._used.release()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel(write_own(tmp_path_factory.mktemp("model") / "own.onnx"), threads=1)


def noise(height: int = 300, width: int = 400) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def portrait(person: int, size: int = 240) -> UInt8Array:
    return render_face(make_identity(0, person), rng=np.random.default_rng(person), size=size).image


def encoded(pixels: UInt8Array, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_an_embedding_is_that_of_the_aligned_face_at_length_1(model: OnnxModel) -> None:
    photo, detected = noise(), face_at(40, 30, 130)
    face = Recognizer(model, detector=FixedDetector(detected)).embed(photo)
    aligned = align_face(photo, detected.landmarks)
    np.testing.assert_array_equal(face.aligned, aligned)
    wanted = expected((aligned.transpose(2, 0, 1)[None] - 127.5) / 127.5)[0]
    np.testing.assert_allclose(face.embedding, wanted / np.linalg.norm(wanted), atol=1e-4)
    assert face.quality.length == pytest.approx(np.linalg.norm(wanted), rel=1e-4)
    assert (face.box, face.score) == (detected.box, detected.score)


def test_path_bytes_and_pixels_of_a_photo_are_the_same(model: OnnxModel, tmp_path: Path) -> None:
    recognizer = Recognizer(model, detector=FixedDetector(face_at(40, 30, 130)))
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise()))
    sources = (path, str(path), path.read_bytes(), noise())
    first, *others = (recognizer.embed(source).embedding for source in sources)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_of_several_faces_the_largest_central_one_is_embedded(model: OnnxModel) -> None:
    corner, middle = face_at(0, 0, 60), face_at(150, 100, 120)
    recognizer = Recognizer(model, detector=FixedDetector(corner, middle))
    assert recognizer.embed(noise()).box == middle.box
    assert [face.box for face in recognizer.faces(noise())] == [middle.box, corner.box]
    with pytest.raises(PhotoError, match="several faces: 2"):
        recognizer.embed(noise(), allow_several=False)


def test_a_photo_without_a_face_is_refused_and_has_an_empty_list(model: OnnxModel) -> None:
    recognizer = Recognizer(model, detector=FixedDetector())
    assert recognizer.faces(noise()) == []
    with pytest.raises(PhotoError, match="no face found"):
        recognizer.embed(noise())


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (b"", "empty file"),
        (b"no picture", "not a picture"),
        (encoded(np.zeros((100, 100, 3), np.uint8) + 7, "JPEG")[:400], "damaged or incomplete"),
        (encoded(np.zeros((300, 201, 3), np.uint8)), "too large: 201×300 pixels, at most 60,000"),
        (np.zeros((300, 201, 3), np.uint8), "too large: 201×300 pixels, at most 60,000"),
        ("missing.jpg", "cannot be read: No such file"),
    ],
)
def test_a_photo_that_cannot_be_used_says_why(
    model: OnnxModel, photo: bytes | str | UInt8Array, message: str
) -> None:
    recognizer = Recognizer(model, detector=FixedDetector(), max_pixels=60_000)
    with pytest.raises(PhotoError, match=message):
        recognizer.embed(photo)


def test_pixels_that_are_no_rgb_picture_are_the_programmers_mistake(model: OnnxModel) -> None:
    recognizer = Recognizer(model, detector=FixedDetector())
    for pixels in (noise()[..., :2], noise().astype(np.float32), noise()[:0]):
        with pytest.raises(UserError, match=r"allowed: RGB, uint8 \(H, W, 3\)"):
            recognizer.embed(pixels)  # type: ignore[arg-type]


def test_a_detector_that_fails_is_a_fault_of_the_photo(model: OnnxModel) -> None:
    class Failing:
        def detect(self, _: UInt8Array) -> list[DetectedFace]:
            raise ValueError("odd")

    recognizer = Recognizer(model, detector=Failing())
    for _ in range(2):  # it is given back, and may be used again
        with pytest.raises(PhotoError, match="detector failed: ValueError: odd"):
            recognizer.embed(noise())


def test_a_users_detector_is_never_used_by_two_threads_at_once(model: OnnxModel) -> None:
    detector = FixedDetector(face_at(40, 30, 130))
    recognizer = Recognizer(model, detector=detector)
    with ThreadPoolExecutor(4) as pool:
        faces = list(pool.map(recognizer.embed, [noise()] * 12))
    assert not detector.was_shared
    assert all((face.embedding == faces[0].embedding).all() for face in faces)


def test_threads_have_own_detectors_up_to_a_limit(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FixedDetector] = []

    def make() -> FixedDetector:
        made.append(FixedDetector(face_at(40, 30, 130)))
        return made[-1]

    monkeypatch.setattr(runtime, "_own_detector", make)
    recognizer = Recognizer(model, detectors=3)
    assert made == []  # a program that only compares embeddings loads none
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(recognizer.embed, [noise()] * 24))
    assert 1 <= len(made) <= 3
    assert not any(detector.was_shared for detector in made)


def test_quality_tells_small_blurred_and_turned_faces(model: OnnxModel) -> None:
    def quality(photo: UInt8Array, detected: DetectedFace) -> FaceQuality:
        return Recognizer(model, detector=FixedDetector(detected)).embed(photo).quality

    photo = noise()
    blurred = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2)))
    whole = face_at(40, 30, 112, score=0.8)
    found = quality(photo, whole)
    assert found.size == pytest.approx(112)
    assert found.score == 0.8
    assert abs(found.roll) < 1e-6
    assert quality(blurred, whole).sharpness < 0.8 * found.sharpness
    assert quality(photo, face_at(40, 30, 40)).size == pytest.approx(40)
    quarter = np.array([[0, -1], [1, 0]])  # clockwise in pictures, whose y points down
    turned = DetectedFace(
        box=whole.box, score=0.8, landmarks=(whole.landmarks - 100) @ quarter.T + 100
    )
    assert quality(photo, turned).roll == pytest.approx(90)


@pytest.mark.parametrize("size", [64, 112, 224])
def test_sharpness_does_not_depend_on_contrast_and_falls_with_blur(size: int) -> None:
    picture = Image.fromarray(portrait(1, size))
    pale = np.asarray(picture) // 3 + 80
    seen = [
        sharpness(np.asarray(picture.filter(ImageFilter.GaussianBlur(blur * size / 112))))
        for blur in (0, 1, 2, 4)
    ]
    assert seen == sorted(seen, reverse=True)
    assert seen[3] < 0.5 * seen[0]
    assert sharpness(pale.astype(np.uint8)) == pytest.approx(seen[0], abs=0.1)


def test_photos_are_embedded_from_several_threads_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")
    write_own(tmp_path / "model.onnx")
    for person in (1, 2):
        Image.fromarray(portrait(person)).save(tmp_path / f"{person}.png")
    script = """
import without_torch
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from openmfr.deploy.runtime import Recognizer
recognizer = Recognizer("model.onnx", detectors=2)
photos = ["1.png", "2.png"] * 6
alone = [recognizer.embed(photo).embedding for photo in photos[:2]]
with ThreadPoolExecutor(4) as pool:
    together = list(pool.map(recognizer.embed, photos))
for i, face in enumerate(together):
    np.testing.assert_array_equal(face.embedding, alone[i % 2])
print(len(together), "faces")
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert (run.returncode, run.stdout) == (0, "12 faces\n"), run.stderr


def test_real_photos_give_the_embeddings_of_published_crops(real_data: Path) -> None:
    """Detected and aligned here, against crops that others have cut with another detector."""
    pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")
    spec = Pixels(color="RGB", mean=127.5, std=128.0)
    model = OnnxModel(real_data / "reference" / "r1.onnx", spec=spec, threads=1)
    recognizer = Recognizer(model)
    published = np.load(real_data / "reference" / "r1_lfw112.npz", allow_pickle=False)
    row_of = {str(path): row for row, path in enumerate(published["path"])}
    with (real_data / "raw-ingest" / "frames.csv").open(encoding="utf-8") as file:
        photos = [row["path"] for row in csv.DictReader(file) if row["path"].startswith("lfw250/")]
    ours, theirs = [], []
    for path in photos[:20]:
        ours.append(recognizer.embed(real_data / "raw-ingest" / path).embedding)
        wanted = published["embedding"][row_of[path.removeprefix("lfw250/")], :128]
        theirs.append(wanted.astype(np.float32) / np.linalg.norm(wanted.astype(np.float32)))
    scores = np.array(ours) @ np.array(theirs).T
    assert np.median(scores.diagonal()) > 0.85
    names = np.array([Path(path).parent.name for path in photos[:20]])
    strangers = scores[names[:, None] != names[None]]
    assert scores.diagonal().min() > strangers.max()

"""MediaPipe's landmarks on real photos, held against those that published crops were cut by."""

from __future__ import annotations

import csv
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from openmfr.errors import UserError
from openmfr.faces.align import ARCFACE_TEMPLATE, similarity
from openmfr.faces.detect import choose_face, face_size
from openmfr.faces.face_mesh import FaceMeshDetector
from openmfr.faces.photo import read_photo

FloatArray = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def detector() -> FaceMeshDetector:
    try:
        return FaceMeshDetector()
    except UserError as error:
        if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def distance(ours: FloatArray, theirs: FloatArray) -> float:
    """How far two alignments lie apart: mean over the template's points, in pixels of 112."""

    def move(points: FloatArray, matrix: FloatArray) -> FloatArray:
        return points @ matrix[:, :2].T + matrix[:, 2]

    in_photo = move(ARCFACE_TEMPLATE, similarity(ARCFACE_TEMPLATE, theirs))
    in_our_crop = move(in_photo, similarity(ours, ARCFACE_TEMPLATE))
    return float(np.linalg.norm(in_our_crop - ARCFACE_TEMPLATE, axis=1).mean())


def distances(
    detector: FaceMeshDetector, photos: Path, images_csv: Path, *, masked: bool
) -> list[float]:
    with images_csv.open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    found = []
    for path in sorted(photos.rglob("*.*")):
        row = rows[path.relative_to(photos).with_suffix(".jpg").as_posix()]
        if masked != (row.get("mask", "no-mask") != "no-mask"):
            continue
        pixels = read_photo(path).pixels
        if faces := detector.detect(pixels):
            face = choose_face(faces, width=pixels.shape[1], height=pixels.shape[0])
            yunet = np.array(row["landmarks5_source"].split(), np.float64).reshape(5, 2)
            found.append(distance(face.landmarks, yunet))
    return found


def test_bare_faces_are_aligned_about_3_pixels_from_published_crops(
    detector: FaceMeshDetector, real_data: Path
) -> None:
    photos, images = real_data / "raw-ingest" / "lfw250", real_data / "lfw-112" / "images.csv"
    found = distances(detector, photos, images, masked=False)
    assert len(found) == 80
    assert np.median(found) < 3.2
    assert max(found) < 9


def test_masked_faces_are_found_and_aligned_about_7_pixels_from_published_crops(
    detector: FaceMeshDetector, real_data: Path
) -> None:
    photos, images = real_data / "raw-ingest" / "mfr2-160", real_data / "mfr2-dev" / "images.csv"
    found = distances(detector, photos, images, masked=True)
    assert len(found) >= 18  # of 19; YuNet's own points under a mask are guesses too
    assert np.median(found) < 8
    assert max(found) < 15


def test_the_size_of_a_photo_does_not_move_its_landmarks(
    detector: FaceMeshDetector, real_data: Path
) -> None:
    path = next((real_data / "raw-ingest" / "lfw250").rglob("*.jpg"))
    small = read_photo(path).pixels
    large = np.asarray(Image.fromarray(small).resize((3000, 3000), Image.Resampling.BICUBIC))
    (from_small,), (from_large,) = detector.detect(small), detector.detect(large)
    shrunk = (from_large.landmarks + 0.5) / 12 - 0.5
    assert np.abs(shrunk - from_small.landmarks).max() < 0.03 * face_size(from_small.landmarks)


def test_a_mask_without_a_person_is_no_face(detector: FaceMeshDetector, real_data: Path) -> None:
    mask = real_data / "raw-ingest" / "awkward" / "noface_mask_only.png"
    assert detector.detect(read_photo(mask).pixels) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (17, 3000), (64, 64)])
def test_pictures_of_any_shape_are_looked_at(
    detector: FaceMeshDetector, shape: tuple[int, int]
) -> None:
    assert detector.detect(np.full((*shape, 3), 127, np.uint8)) == []


def test_loading_and_detecting_write_nothing_on_the_terminal(
    detector: FaceMeshDetector, capfd: pytest.CaptureFixture[str]
) -> None:
    FaceMeshDetector().detect(np.zeros((300, 200, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


def test_without_mediapipe_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mediapipe")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    module = importlib.import_module("openmfr.faces.face_mesh")
    with pytest.raises(UserError, match=r"openmfr\[face\].*libgl1.*--landmarks"):
        module.FaceMeshDetector()

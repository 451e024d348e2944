"""Alignment against slow arithmetic, against OpenCV, and against crops that others have cut."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openmfr.errors import UserError
from openmfr.faces.align import ARCFACE_TEMPLATE, align_face, similarity, template

FloatArray = npt.NDArray[np.float64]
UInt8Array = npt.NDArray[np.uint8]


def move(points: FloatArray, matrix: FloatArray) -> FloatArray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def placed(scale: float, degrees: float, shift: tuple[float, float]) -> FloatArray:
    """The template's face, scaled and turned about its middle, somewhere in a photo."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray((ARCFACE_TEMPLATE - 55.5) @ turn.T * scale + shift)


def smooth_noise(height: int, width: int) -> UInt8Array:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def warp_slowly(photo: UInt8Array, matrix: FloatArray, size: int) -> FloatArray:
    """Bilinear by its definition, pixel by pixel, black outside."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    crop = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            x, y, _ = inverse @ [column, row, 1]
            left, top = int(np.floor(x)), int(np.floor(y))
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                if 0 <= top + i < photo.shape[0] and 0 <= left + j < photo.shape[1]:
                    weight = (1 - abs(y - top - i)) * (1 - abs(x - left - j))
                    crop[row, column] += weight * photo[top + i, left + j]
    return crop


@given(
    scale=st.floats(0.1, 10),
    degrees=st.floats(-180, 180),
    x=st.floats(-100, 100),
    y=st.floats(-100, 100),
)
def test_a_known_similarity_is_found_again(
    scale: float, degrees: float, x: float, y: float
) -> None:
    there = placed(scale, degrees, (x, y))
    np.testing.assert_allclose(move(there, similarity(there, ARCFACE_TEMPLATE)), ARCFACE_TEMPLATE)


@given(seed=st.integers(0, 1000))
def test_no_nearby_similarity_fits_better_and_none_mirrors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(0, 1, (5, 2)), rng.normal(0, 1, (5, 2))
    best = similarity(source, target)
    assert np.linalg.det(best[:, :2]) > 0
    error = np.sum((move(source, best) - target) ** 2)
    for a, b, x, y in rng.normal(0, 0.01, (20, 4)):
        other = best + np.array([[a, -b, x], [b, a, y]])
        assert np.sum((move(source, other) - target) ** 2) >= error


@pytest.mark.parametrize("found", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_points_that_give_no_alignment_are_refused(found: FloatArray) -> None:
    with pytest.raises(UserError, match="landmarks"):
        similarity(found, ARCFACE_TEMPLATE)


@pytest.mark.parametrize(
    ("scale", "degrees", "shift"),
    [(0.5, 0, (80, 60)), (0.3, 25, (60, 70)), (0.8, -40, (90, 50)), (0.6, 170, (10, 10))],
)
def test_crops_equal_bilinear_sampling_by_its_definition(
    scale: float, degrees: float, shift: tuple[float, float]
) -> None:
    photo, landmarks = smooth_noise(120, 160), placed(scale, degrees, shift)
    slow = warp_slowly(photo, similarity(landmarks, template(48)), 48)
    assert np.abs(align_face(photo, landmarks, 48) - slow).max() <= 1 + 1e-9


@pytest.mark.parametrize("degrees", [0, 12, -33])
def test_crops_equal_those_of_opencv(degrees: float) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    photo, landmarks = smooth_noise(250, 250), placed(1.25, degrees, (120, 130))
    theirs = cv2.warpAffine(photo, similarity(landmarks, ARCFACE_TEMPLATE), (112, 112))
    ours = align_face(photo, landmarks, 112)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_crop_twice_as_large_averages_to_the_crop() -> None:
    photo, landmarks = smooth_noise(600, 600), placed(2.0, 0, (300, 300))
    large = align_face(photo, landmarks, 224)
    halved = np.asarray(Image.fromarray(large).reduce(2)).astype(int)
    assert (
        np.abs(align_face(photo, landmarks, 112) - halved).mean() < 2
    )  # a quarter of a pixel: 3.6


def test_a_face_that_shrinks_much_is_averaged_not_sampled() -> None:
    chessboard = np.indices((1200, 1200)).sum(axis=0) % 2 * 255
    photo = np.repeat(chessboard[..., None], 3, axis=2).astype(np.uint8)
    crop = align_face(photo, placed(8.0, 0, (600, 600)), 112)
    assert np.abs(crop.astype(int) - 127).max() <= 2


def test_a_face_outside_the_photo_is_black() -> None:
    photo = np.full((50, 50, 3), 255, np.uint8)
    assert not align_face(photo, placed(1.0, 0, (500, 500)), 112).any()


def test_published_crops_are_cut_again_from_their_photos(real_data: Path) -> None:
    with (real_data / "lfw-112" / "images.csv").open(encoding="utf-8") as file:
        rows = {row["path"]: row["landmarks5_source"] for row in csv.DictReader(file)}
    photos = sorted((real_data / "raw-ingest" / "lfw250").rglob("*.jpg"))[:20]
    for path in photos:
        name = path.relative_to(real_data / "raw-ingest" / "lfw250").as_posix()
        landmarks = np.array(rows[name].split(), np.float64).reshape(5, 2)
        with Image.open(path) as photo, Image.open(real_data / "lfw-112" / name) as published:
            ours = align_face(np.asarray(photo), landmarks).astype(int)
            # What is left is the JPEG's loss; a shift by half a pixel would give 3 and more.
            assert np.abs(ours - np.asarray(published)).mean() < 2.5, name


def test_eyes_and_nose_place_a_face_whatever_the_corners_of_the_mouth_are() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    landmarks = placed(1.4, 12, (150, 140))
    guessed = landmarks + np.array([[0, 0], [0, 0], [0, 0], [9, -14], [-6, 11]])
    of_three = align_face(photo, guessed, alignment="eyes-nose")
    np.testing.assert_array_equal(of_three, align_face(photo, landmarks, alignment="eyes-nose"))
    assert (align_face(photo, guessed) != align_face(photo, landmarks)).any()


def test_landmarks_that_fit_the_template_are_placed_alike_by_all_and_by_three() -> None:
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    photo = np.stack([*np.meshgrid(ramp, ramp), np.full((300, 300), 90, np.uint8)], axis=-1)
    landmarks = placed(1.4, 12, (150, 140))
    five, three = (align_face(photo, landmarks, alignment=name) for name in ("five", "eyes-nose"))
    assert np.abs(five.astype(int) - three).max() <= 1

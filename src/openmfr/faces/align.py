"""Turn a photograph and five landmarks into an upright face of fixed size: the ArcFace alignment.

Coordinates are (x, y) in pixels, and a pixel's centre lies at whole numbers: the first pixel of a
picture is centred at (0, 0). This is OpenCV's convention, in which the ArcFace template is written
and nearly every published crop was cut. Pillow puts centres at halves; `align_face` translates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.errors import UserError

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

#: Edge length in pixels of the crops that the template is written for.
TEMPLATE_SIZE: Final = 112

#: Where the five landmarks lie in a 112×112 crop: the eye on the left of the picture, the eye on
#: the right, tip of the nose, left and right corner of the mouth. Source: deepinsight/insightface.
ARCFACE_TEMPLATE: Final[FloatArray] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
ARCFACE_TEMPLATE.setflags(write=False)

#: Which landmarks place a face: all five, or only those that a mask leaves bare.
Alignment = Literal["five", "eyes-nose"]

_PLACING: Final[Mapping[Alignment, slice]] = {"five": slice(5), "eyes-nose": slice(3)}


def template(size: int) -> FloatArray:
    """Return the landmarks' places in a crop of another size.

    A crop of 224 pixels averaged down by two is the crop of 112: the picture is scaled, not the
    pixels' centres.

    Args:
        size: Edge length of the crop in pixels.

    Returns:
        Landmarks, shape (5, 2), float64.

    Example:
        >>> template(112)[2].round(4).tolist()
        [56.0252, 71.7366]
        >>> template(224)[2].round(4).tolist()
        [112.5504, 143.9732]
    """
    return (ARCFACE_TEMPLATE + 0.5) * (size / TEMPLATE_SIZE) - 0.5


def similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """Find the rotation, scale and shift that move points nearest to others, by least squares.

    In the plane the least-squares similarity has a closed form: as complex numbers about their
    means, target ≈ a · source, and a is one division.

    Args:
        source: Points to move, shape (K, 2), K ≥ 2.
        target: Where they should go, shape (K, 2).

    Returns:
        Matrix of shape (2, 3), float64: `target ≈ source @ matrix[:, :2].T + matrix[:, 2]`. It
        never mirrors.

    Raises:
        UserError: If a coordinate is not finite, or all source points are one.

    Source:
        Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
        PAMI 1991.

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> similarity(square, 2 * square + 3).tolist()
        [[2.0, 0.0, 3.0], [0.0, 2.0, 3.0]]
    """
    points = (source - source.mean(axis=0)) @ [1, 1j]
    wanted = (target - target.mean(axis=0)) @ [1, 1j]
    spread = float(np.vdot(points, points).real)
    if not spread > 0 or not np.isfinite(points).all() or not np.isfinite(wanted).all():
        raise UserError(
            where="landmarks",
            found=np.array2string(source, precision=1, separator=", ").replace("\n", ""),
            allowed="finite (x, y) points that are not all the same",
            next_step="give five landmarks in pixels of the photo",
        )
    a = np.vdot(points, wanted) / spread
    linear = np.array([[a.real, 0.0 - a.imag], [a.imag, a.real]])
    return np.column_stack([linear, target.mean(axis=0) - linear @ source.mean(axis=0)])


def align_face(
    photo: UInt8Array,
    landmarks: FloatArray,
    size: int = TEMPLATE_SIZE,
    *,
    alignment: Alignment = "five",
) -> UInt8Array:
    """Cut an upright face out of a photo so that its landmarks lie where the template has them.

    Bilinear. A face that shrinks by 2 or more is first averaged over blocks of pixels, so that fine
    texture does not turn into noise. What lies outside the photo is black.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        landmarks: Left eye, right eye, nose, left and right corner of the mouth, as one sees them
            in the picture, shape (5, 2), in pixels.
        size: Edge length of the crop in pixels.
        alignment: Which of the landmarks place the face.

    Returns:
        The face, RGB, uint8, shape (size, size, 3).

    Raises:
        UserError: If the landmarks are not finite, or all the same.
    """
    used = _PLACING[alignment]
    points = np.asarray(landmarks, np.float64)[used]
    crop_to_photo = _inverse(similarity(points, template(size)[used]))
    return warp(photo, crop_to_photo, size)


def warp(photo: UInt8Array, crop_to_photo: FloatArray, size: int) -> UInt8Array:
    """Sample a photo on a square grid, as `align_face` does.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        crop_to_photo: Similarity from the crop's pixels to the photo's, shape (2, 3).
        size: Edge length of the crop in pixels.

    Returns:
        The crop, RGB, uint8, shape (size, size, 3).
    """
    linear, shift = crop_to_photo[:, :2], crop_to_photo[:, 2]
    corners = np.array([[-1, -1], [size, -1], [size, size], [-1, size]]) @ linear.T + shift
    edge = np.array([photo.shape[1], photo.shape[0]]) + 2
    # Two black pixels around the photo, so that its edge fades as OpenCV's does.
    low = np.clip(np.floor(corners.min(axis=0)) - 1, -2, edge).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 2, -2, edge).astype(int)
    if (high <= low).any():
        return np.zeros((size, size, 3), np.uint8)
    region = Image.fromarray(cut_out(photo, low[0], low[1], high[0], high[1]))
    pixels_per_pixel = float(np.sqrt(abs(np.linalg.det(linear))))
    block = max(1, int(pixels_per_pixel + 1e-6))  # twice is 1.9999… at times
    if block > 1:
        region = region.reduce(block)
    # Pillow's centres lie at halves: shift the crop's by −½, the photo's by +½.
    offset = (shift + 0.5 - linear @ [0.5, 0.5] - low) / block
    matrix = np.column_stack([linear / block, offset])
    warped = region.transform(
        (size, size),
        Image.Transform.AFFINE,
        tuple(matrix.ravel()),
        resample=Image.Resampling.BILINEAR,
    )
    return np.asarray(warped)


def cut_out(photo: UInt8Array, left: int, top: int, right: int, bottom: int) -> UInt8Array:
    """Cut a rectangle out of a photo; what lies beyond the photo is black.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        left: First column; may be below 0.
        top: First row; may be below 0.
        right: Column after the last, above `left`; may lie beyond the photo.
        bottom: Row after the last, above `top`.

    Returns:
        A copy, RGB, uint8, shape (bottom − top, right − left, 3).

    Example:
        >>> cut_out(np.full((2, 2, 3), 9, np.uint8), -1, 0, 2, 1)[:, :, 0].tolist()
        [[0, 9, 9]]
    """
    rectangle = np.zeros((bottom - top, right - left, 3), np.uint8)
    seen = photo[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    row, column = max(-top, 0), max(-left, 0)
    rectangle[row : row + seen.shape[0], column : column + seen.shape[1]] = seen
    return rectangle


def _inverse(matrix: FloatArray) -> FloatArray:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])

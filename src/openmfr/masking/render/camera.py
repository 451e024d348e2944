"""What a photo says of the camera: how far its values reach, how blurred and how noisy it is."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.code_cache import compiled

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

# In single precision, so that what is computed in it stays there.
_RED: Final[Any] = np.float32(0.299)
_BLUE: Final[Any] = np.float32(0.114)


@compiled
def luminance(red: float, green: float, blue: float) -> float:
    """Rec. 601 luma; exactly the value itself for a grey."""
    value: float = green + _RED * (red - green) + _BLUE * (blue - green)
    return value


@compiled
def _pixel_luminance(image: UInt8Array, y: int, x: int) -> float:
    """A pixel's luminance, 0–255; differences of unsigned numbers would wrap around."""
    red, green, blue = float(image[y, x, 0]), float(image[y, x, 1]), float(image[y, x, 2])
    value: float = luminance(red, green, blue)
    return value


@compiled
def read_levels(image: UInt8Array) -> tuple[float, float]:
    """The photo's darkest and its bright parts.

    Args:
        image: RGB, uint8, shape (H, W, 3).

    Returns:
        The luminance, 0–1, below which a half percent of the pixels lie, and 95 %.
    """
    height, width = image.shape[:2]
    step = max(1, min(height, width) // 56)
    histogram = np.zeros(256, np.int64)
    total = 0
    for y in range(0, height, step):
        for x in range(0, width, step):
            value = _pixel_luminance(image, y, x)
            histogram[min(max(int(value), 0), 255)] += 1
            total += 1
    count, dark, bright = 0, 0, 255
    for value in range(256):
        before = count
        count += histogram[value]
        if before < 0.005 * total <= count:
            dark = value
        if before < 0.95 * total <= count:
            bright = value
    return dark / 255.0, bright / 255.0


@compiled
def read_sharpness(image: UInt8Array, vertices: Float32Array) -> tuple[float, float]:
    """Blur from how fast differences grow with distance, noise from the calmest pixels.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        vertices: Of the face, in pixels, shape (V, 3), float32; its upper three quarters are read.

    Returns:
        Deviation of the blur in pixels, deviation of the noise in 0–1.
    """
    height, width = image.shape[:2]
    left, right, top, bottom = np.inf, -np.inf, np.inf, -np.inf
    for v in range(vertices.shape[0]):
        left, right = min(left, vertices[v, 0]), max(right, vertices[v, 0])
        top, bottom = min(top, vertices[v, 1]), max(bottom, vertices[v, 1])
    bottom = top + 0.75 * (bottom - top)
    x0, x1 = int(max(left, 1.0)), int(min(right, width - 4.0))
    y0, y1 = int(max(top, 1.0)), int(min(bottom, height - 4.0))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return 0.6, 0.0
    near, far, total = 0, 0, 0
    histogram = np.zeros(256, np.int64)
    for y in range(y0, y1, max(1, (y1 - y0) // 40)):
        row, below, second = image[y, x0:x1, 1], image[y + 1, x0:x1, 1], image[y + 2, x0:x1, 1]
        near += _squares(row, image[y, x0 + 1 : x1 + 1, 1]) + _squares(row, below)
        far += _squares(row, image[y, x0 + 2 : x1 + 2, 1]) + _squares(row, second)
        _count_corners(image, y, x0, x1, histogram)
        total += x1 - x0
    count = 0.0
    quarter = 0.0
    for value in range(256):
        if count + histogram[value] >= 0.25 * total:
            quarter = value - 0.5 + (0.25 * total - count) / max(histogram[value], 1)
            break
        count += histogram[value]
    # A quarter of normal noise lies below 0.319 of its deviation; this filter's gain is 6.
    noise = max(quarter, 0.0) / (6 * 0.319)
    pairs = 2.0 * total
    mean_near = max(near / pairs - 2 * noise * noise, 1e-3)
    mean_far = max(far / pairs - 2 * noise * noise, 1e-3)
    return blur_of(mean_far / mean_near), min(noise, 12.0) / 255.0


@compiled
def _squares(one: UInt8Array, other: UInt8Array) -> int:
    """Sum of the squared differences of two lists of pixels."""
    total = 0
    for i in range(np.uintp(one.shape[0])):
        difference = np.int64(one[i]) - other[i]
        total += difference * difference
    return total


@compiled
def _count_corners(
    image: UInt8Array, y: int, x0: int, x1: int, histogram: npt.NDArray[np.int64]
) -> None:
    """Count by size what a row's pixels have that no smooth surface has."""
    # Unsigned, as numba asks of a signed index whether it counts from the end.
    one = np.uintp(1)
    here = np.uintp(y)
    for x in range(np.uintp(x0), np.uintp(x1)):
        before, after = x - one, x + one
        cross = np.int64(image[here, before, one]) + image[here, after, one]
        cross += np.int64(image[here - one, x, one]) + image[here + one, x, one]
        corner = np.int64(image[here - one, before, one]) + image[here - one, after, one]
        corner += np.int64(image[here + one, before, one]) + image[here + one, after, one]
        size = corner - 2 * cross + 4 * np.int64(image[here, x, one])
        histogram[np.uintp(min(abs(size), 255))] += 1


@compiled
def blur_of(growth: float) -> float:
    """The blur of a photo whose squared differences grow so much from one pixel to two.

    Args:
        growth: 2 for sharp texture, 4 for a smooth slope.

    Returns:
        Deviation of a Gaussian in pixels, 0.3–2.5.
    """
    lack = max(4.0 - growth, 0.02)
    blur: float = min(max(0.62 / np.sqrt(lack) + 0.05, 0.3), 2.5)
    return blur


@compiled
def read_variety(image: UInt8Array) -> float:
    """How many hues a photo has: none in one that is grey, sepia, or toned otherwise.

    Args:
        image: RGB, uint8, shape (H, W, 3).

    Returns:
        Deviation over the pixels, neither dark nor white, of red and blue over luminance.
    """
    height, width = image.shape[:2]
    step = max(1, min(height, width) // 56)
    count, red, blue, square = 1e-9, 0.0, 0.0, 0.0
    for y in range(0, height, step):
        for x in range(0, width, step):
            value = _pixel_luminance(image, y, x)
            if 50.0 < value < 235.0:
                share = 1.0 / value
                r, b = image[y, x, 0] * share, image[y, x, 2] * share
                count += 1.0
                red += r
                blue += b
                square += r * r + b * b
    spread = square / count - (red / count) ** 2 - (blue / count) ** 2
    deviation: float = np.sqrt(max(spread, 0.0))
    return deviation

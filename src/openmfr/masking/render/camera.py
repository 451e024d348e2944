"""What a photo says of the camera: how far its values reach, how blurred and how noisy it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.faces.rasteriser import compiled

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


@compiled
def luminance(red: float, green: float, blue: float) -> float:
    """Rec. 601 luma; exactly the value itself for a grey."""
    return green + 0.299 * (red - green) + 0.114 * (blue - green)


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
    near, far = 0.0, 0.0
    histogram = np.zeros(256, np.int64)
    total = 0
    for y in range(y0, y1, max(1, (y1 - y0) // 40)):
        for x in range(x0, x1):
            here = np.int64(image[y, x, 1])
            a, b = here - image[y, x + 1, 1], here - image[y, x + 2, 1]
            near += a * a
            far += b * b
            a, b = here - image[y + 1, x, 1], here - image[y + 2, x, 1]
            near += a * a
            far += b * b
            cross = np.int64(image[y, x - 1, 1]) + image[y, x + 1, 1]
            cross += np.int64(image[y - 1, x, 1]) + image[y + 1, x, 1]
            corner = np.int64(image[y - 1, x - 1, 1]) + image[y - 1, x + 1, 1]
            corner += np.int64(image[y + 1, x - 1, 1]) + image[y + 1, x + 1, 1]
            histogram[min(abs(corner - 2 * cross + 4 * here), 255)] += 1
            total += 1
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
    near = max(near / pairs - 2 * noise * noise, 1e-3)
    far = max(far / pairs - 2 * noise * noise, 1e-3)
    return blur_of(far / near), min(noise, 12.0) / 255.0


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
                r, b = image[y, x, 0] / value, image[y, x, 2] / value
                count += 1.0
                red += r
                blue += b
                square += r * r + b * b
    spread = square / count - (red / count) ** 2 - (blue / count) ** 2
    deviation: float = np.sqrt(max(spread, 0.0))
    return deviation

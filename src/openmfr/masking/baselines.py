"""What others do instead of a mask in space: a flat overlay, and erasing half a face.

They stand in for `render.render_mask` in comparisons.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.geometry import face_model
from openmfr.faces.rasteriser import rasterise
from openmfr.masking.render import Masked, Worn, check, unchanged
from openmfr.masking.render.surface import SHEET_COLUMNS, SHEET_ROWS, cylinder, sheet_places
from openmfr.masking.template import MaskTemplate

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# Vertices of Face Mesh that tools with 2D landmarks have too: the jaw's line from ear to ear, the
# nose's bridge and tip, the chin.
_LANDMARKS: Final = (234, 93, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 323,
                     454, 168, 6, 4)  # fmt: skip


def overlay_flat(
    image: UInt8Array, vertices: Float32Array, template: MaskTemplate, wear: Worn | None = None
) -> Masked:
    """Lay a mask on a face as tools without depth do: a flat picture moved to fit the outline.

    The sheet, as seen from the front, is moved by the affine map that brings the mean face's
    landmarks nearest to this face's. No light, no depth, no shadow, no bands.

    Args:
        image: RGB, uint8, shape (H, W, 3), any size.
        vertices: In pixels, shape (V, 3), float32; depth is not looked at.
        template: The mask.
        wear: How it is worn; None is as its outline says.

    Returns:
        The photo with the overlay; as it was where vertices are not finite or nothing is in it.

    Raises:
        UserError: If the image or the vertices have another shape or type.

    Source:
        What MaskTheFace and FMA-3D's forerunners do: a template warped to 2D landmarks.
    """
    check(image, vertices)
    height, width = image.shape[:2]
    if not np.isfinite(vertices).all() or not np.ptp(vertices[:, :2], axis=0).min() > 0:
        return unchanged(image)
    outline = template.outline if wear is None else wear.outline(template.outline)
    sheet = _seen_from_front(sheet_places(outline))
    flat = sheet @ _affine(vertices.astype(np.float64)).T
    u, v = np.meshgrid(np.linspace(0, 1, SHEET_COLUMNS), np.linspace(0, 1, SHEET_ROWS))
    corners = np.column_stack([flat, np.zeros(len(flat))]).astype(np.float32)
    attributes = np.column_stack([u.ravel(), v.ravel(), np.ones(u.size)]).astype(np.float32)
    raster = rasterise(
        corners, _sheet_triangles(), attributes, height=height, width=width, cull=False
    ).attributes
    rows = np.round(raster[..., 1] * (template.rgba.shape[0] - 1)).astype(int)
    columns = np.round(raster[..., 0] * (template.rgba.shape[1] - 1)).astype(int)
    texels = template.rgba[rows, columns].astype(np.float32)
    alpha = np.where(raster[..., 2] > 0, texels[..., 3] / 255, 0).astype(np.float32)
    mixed = image * (1 - alpha[..., None]) + texels[..., :3] * alpha[..., None]
    out = np.where(alpha[..., None] > 0, np.round(mixed), image).astype(np.uint8)
    return Masked(image=out, alpha=alpha, box=_box(alpha > 0))


def erase_lower(image: UInt8Array, rng: np.random.Generator) -> Masked:
    """Paint the lower part of an aligned face in one colour.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        rng: Draws where it begins, 50–65 % down, and its colour.

    Returns:
        The photo with the rows below in one colour.

    Example:
        >>> face = np.zeros((112, 112, 3), np.uint8)
        >>> masked = erase_lower(face, np.random.default_rng(0))
        >>> masked.alpha[:50].max().item(), masked.alpha[80:].min().item()
        (0.0, 1.0)
    """
    height, width = image.shape[:2]
    top = round(height * rng.uniform(0.5, 0.65))
    out = image.copy()
    out[top:] = rng.integers(0, 256, 3)
    alpha = np.zeros((height, width), np.float32)
    alpha[top:] = 1
    return Masked(image=out, alpha=alpha, box=(0, top, width, height))


def _seen_from_front(places: Float32Array) -> Float64Array:
    """x, y and 1 of the sheet's vertices on the mean face, shape (·, 3)."""
    mean = cylinder(face_model().mean)
    nearest = ((places.reshape(-1, 1, 2) - mean[None, :, :2]) ** 2).sum(axis=2).argmin(axis=1)
    angle, height = places.reshape(-1, 2).astype(np.float64).T
    return np.column_stack([mean[nearest, 2] * np.sin(angle), height, np.ones(len(angle))])


def _affine(vertices: Float64Array) -> Float64Array:
    """The affine map from the mean face, seen from the front, to a picture, shape (2, 3)."""
    chosen = list(_LANDMARKS)
    mean = face_model().mean[chosen].astype(np.float64)
    source = np.column_stack([mean[:, :2], np.ones(len(chosen))])
    solution = np.linalg.solve(source.T @ source, source.T @ vertices[chosen, :2])
    return solution.T


def _sheet_triangles() -> Int32Array:
    index = np.arange(SHEET_ROWS * SHEET_COLUMNS).reshape(SHEET_ROWS, SHEET_COLUMNS)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    both = [np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)]
    return np.concatenate(both).reshape(-1, 3).astype(np.int32)


def _box(changed: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

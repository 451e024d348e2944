"""Taking a template off a photo of somebody who wears a mask: rendering backwards."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.faces.geometry import face_model
from openmfr.masking.render import check
from openmfr.masking.render.draw import NOTHING, SAMPLES, draw_sheet
from openmfr.masking.render.hull import find_pose, lay_hull, place_sheet
from openmfr.masking.render.surface import SHEET_COLUMNS, SHEET_ROWS, sheet_places, skin
from openmfr.masking.styles import SIZES, fabric
from openmfr.masking.template import USUAL_OUTLINE, Outline

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

# How squarely a texel must face the camera to be trusted at all, and wholly (cosines).
_FACING: Final = (0.12, 0.45)

# A texel is seen where the picture shows the sheet within this of its own place.
_SAME_PLACE: Final = 0.04

# Light may change over the sheet by at most this factor either way.
_LIGHT_RANGE: Final = 1.8


def lift_template(
    photo: UInt8Array, vertices: Float32Array, outline: Outline = USUAL_OUTLINE, size: int = 512
) -> UInt8Array:
    """Take a mask off a photo and lay it flat.

    What is turned away from the camera is filled from the other half, mirrored (words there are
    mirrored, too). The light is taken out as far as it changes slowly over the mask; how bright the
    mask itself is cannot be told from how bright the light was, so its mean stays. Whatever of the
    photo lies within the outline is taken for mask: make the rest transparent in an image editor.

    Args:
        photo: RGB, uint8, shape (H, W, 3).
        vertices: The wearer's face in pixels, shape (V, 3), float32.
        outline: Where the mask's edges lie; keep the default for a template that
            `MaskBank.read` will use.
        size: Texels along each side of the sheet, S.

    Returns:
        The sheet's colour and cover, uint8, shape (S, S, 4); cover is 0 where neither half shows.

    Raises:
        UserError: If the image, vertices or size are not allowed, or hardly any of the mask can be
            seen.
    """
    check(photo, vertices)
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(
            where="lifted template, size",
            found=str(size),
            allowed=f"{SIZES[0]} to {SIZES[1]} texels",
            next_step="leave it out for 512",
        )
    sheet = _lay(vertices, outline)
    places = _enlarge(sheet, size)
    seen = _trust(photo.shape[:2], sheet, places)
    if (seen > 0.5).mean() < 0.2:
        raise UserError(
            where="photo",
            found=f"{(seen > 0.5).mean():.0%} of the mask in sight",
            allowed="at least 20 %",
            next_step="take a photo from closer to the front, with the whole mask in it",
        )
    colour = _sample(photo, places[..., 0], places[..., 1])
    mirrored, mirrored_seen = colour[:, ::-1], seen[:, ::-1]
    own = seen[..., None]
    other = ((1 - seen) * mirrored_seen)[..., None]
    whole = (own * colour + other * mirrored) / np.maximum(own + other, 1e-6)
    # Each half is lit in its own way: even out what was seen, then fill.
    lit = _light(colour, seen)
    filled_light = (own[..., 0] * lit + other[..., 0] * lit[:, ::-1]) / np.maximum(
        (own + other)[..., 0], 1e-6
    )
    whole = whole / np.maximum(filled_light, 1e-6)[..., None]
    cover = _cover(outline, size) * np.clip(2 * (own + other)[..., 0], 0, 1)
    out = np.empty((size, size, 4), np.uint8)
    out[..., :3] = np.clip(whole * 255 + 0.5, 0, 255)
    out[..., 3] = np.clip(cover * 255 + 0.5, 0, 255)
    out[out[..., 3] == 0] = 0
    return out


def _lay(vertices: Float32Array, outline: Outline) -> Float32Array:
    """Vertices of a sheet without relief on a face, with normals: (rows, columns, 6), pixels."""
    vertices = np.ascontiguousarray(vertices, np.float32)
    rotation, shift = np.zeros((3, 3)), np.zeros(3)
    scale = find_pose(vertices, face_model().mean, rotation, shift)
    if not scale > 0:
        raise UserError(
            where="vertices",
            found="flat, mirrored or not finite",
            allowed="a face in pixels",
            next_step="take them from a GeometryProvider",
        )
    worn = skin()
    maps = lay_hull(
        vertices, scale, rotation, shift,
        worn.triangles, worn.anchors, worn.offsets, worn.corners, worn.weights, worn.mean,
    )  # fmt: skip
    flat = np.zeros((SHEET_ROWS, SHEET_COLUMNS), np.float32)
    sheet: Float32Array = place_sheet(
        maps, sheet_places(outline), flat, 0.0, scale, rotation, shift
    )
    return sheet


def _enlarge(sheet: Float32Array, size: int) -> fabric.Array:
    """Pixels and normals at every texel's centre, between the sheet's vertices."""
    rows, columns = sheet.shape[:2]
    place = (np.arange(size) + 0.5) / size
    down, along = place * (rows - 1), place * (columns - 1)
    top = np.minimum(down.astype(np.intp), rows - 2)
    left = np.minimum(along.astype(np.intp), columns - 2)
    fy, fx = (down - top)[:, None, None], (along - left)[None, :, None]
    upper = sheet[top] * (1 - fy) + sheet[top + 1] * fy
    whole: fabric.Array = upper[:, left] * (1 - fx) + upper[:, left + 1] * fx
    return whole


def _trust(shape: tuple[int, ...], sheet: Float32Array, places: fabric.Array) -> fabric.Array:
    """How well the photo shows each texel, 0–1: inside it, towards the camera, not hidden."""
    height, width = shape[:2]
    size = len(places)
    nothing = np.full((height, width), NOTHING, np.float32)
    shown = draw_sheet(sheet, np.array([0, 0, width, height]), nothing)
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    column = np.clip(np.round(SAMPLES * (x + 0.5) - 0.5), 0, SAMPLES * width - 1).astype(np.intp)
    row = np.clip(np.round(SAMPLES * (y + 0.5) - 0.5), 0, SAMPLES * height - 1).astype(np.intp)
    there = shown[row, column]  # −1 where the sheet is not seen
    texel = (np.arange(size) + 0.5) / size
    # A point is a pixel's half, and may be more than a few texels of a small face.
    step = np.hypot(np.gradient(x, axis=1), np.gradient(y, axis=1)) * size
    near = _SAME_PLACE + 1 / np.maximum(step, 8)
    is_same = (np.abs(there[..., 0] - texel[None]) < near) & (
        np.abs(there[..., 1] - texel[:, None]) < near
    )
    facing = fabric.smooth(places[..., 5], *_FACING)
    trust: fabric.Array = facing * (inside & is_same)
    return trust


def _sample(photo: UInt8Array, x: fabric.Array, y: fabric.Array) -> fabric.Array:
    """The photo's colour at points between pixels, shares of white."""
    height, width = photo.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left = np.minimum(x.astype(np.intp), max(width - 2, 0))
    top = np.minimum(y.astype(np.intp), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    upper = photo[top, left] * (1 - fx) + photo[top, right] * fx
    lower = photo[bottom, left] * (1 - fx) + photo[bottom, right] * fx
    colour: fabric.Array = (upper * (1 - fy) + lower * fy) / 255
    return colour


def _light(colour: fabric.Array, seen: fabric.Array) -> fabric.Array:
    """A smooth field of light: a parabola through the logarithm of luminance, about 1 on average.

    Prints and seams are far from it and are left out of the second fit.
    """
    size = len(colour)
    u = np.broadcast_to((np.arange(size) + 0.5) / size * 2 - 1, (size, size))
    terms = np.stack([np.ones_like(u), u, u.T, u * u, u * u.T, u.T * u.T], axis=-1)
    grey = np.log(np.maximum(colour @ np.array([0.299, 0.587, 0.114]), 0.02))
    keep = seen > 0.5
    for _ in range(3):
        fit = np.linalg.lstsq(terms[keep], grey[keep], rcond=None)[0]
        off = np.abs(grey - terms @ fit)
        keep = (seen > 0.5) & (off <= np.quantile(off[seen > 0.5], 0.8))
    field = terms @ fit
    limit = np.log(_LIGHT_RANGE)
    light: fabric.Array = np.exp(np.clip(field - field[seen > 0.5].mean(), -limit, limit))
    return light


def _cover(outline: Outline, size: int) -> fabric.Array:
    """A soft rim round the sheet."""
    canvas = fabric.blank(outline, size, (0.0, 0.0, 0.0))
    fabric.cut(canvas, corner=0.01)
    return canvas.cover

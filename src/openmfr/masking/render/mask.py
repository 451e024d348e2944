"""Put a mask on a face in a photo: geometry in, picture out, in about a millisecond.

The way of FMA-3D, dressed in our own surface: lay the template's sheet on a cloth drawn tight over
the reconstructed face (`hull`), see which part of it each pixel shows (`draw`), light it as the
photo's skin is lit (`light`), add bands (`loops`), and blend (`blend`). Nothing outside the mask,
its bands and its shadow changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.faces.code_cache import compiled
from openmfr.faces.geometry import VERTICES, face_model
from openmfr.masking.render.blend import blend, margin
from openmfr.masking.render.draw import GROUP, draw_canvas, draw_face
from openmfr.masking.render.hull import find_pose, lay_hull, place_sheet
from openmfr.masking.render.light import read_photo, skin_vertices, vertex_normals
from openmfr.masking.render.loops import POINTS, draw_loops, place_loops
from openmfr.masking.render.shade import shade_sheet
from openmfr.masking.render.surface import SHEET_COLUMNS, SHEET_ROWS, place_on_head, skin
from openmfr.masking.template import MaskTemplate, Outline

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# Fewer pixels per eye span than these are no face that could be dressed.
_SMALLEST: Final = 4.0


class Worn(Protocol):
    """How a mask is worn; see `masking.wear`."""

    @property
    def slack(self) -> float:
        """0 is tight, 1 loose."""

    def outline(self, outline: Outline) -> Outline:
        """Where the sheet's edges lie when it is worn so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Masked:
    """A photo with a mask in it.

    Attributes:
        image: RGB, uint8, shape (H, W, 3); outside `box` that of the photo, bit for bit.
        alpha: How much of each pixel is mask, shape (H, W), float32, 0–1.
        box: Left, top, right and bottom of all that may have changed, pixels; the last two
            exclusive; all 0 where nothing has.
    """

    image: UInt8Array
    alpha: Float32Array
    box: tuple[int, int, int, int]


def render_mask(
    image: UInt8Array, vertices: Float32Array, template: MaskTemplate, wear: Worn | None = None
) -> Masked:
    """Put a mask on a face.

    The same arguments give the same picture in every process.

    Args:
        image: RGB, uint8, shape (H, W, 3), any size.
        vertices: Of the face without a mask, in pixels, shape (V, 3), float32; the face may lie
            partly or wholly outside the picture.
        template: The mask.
        wear: How it is worn; None is as its outline says.

    Returns:
        The masked photo. Where the geometry is no face (flat, mirrored, not finite, less than four
        pixels wide) or nothing of the mask is in the picture, the photo as it was and no alpha.

    Raises:
        UserError: If the image or the vertices have another shape or type.
    """
    check(image, vertices)
    vertices = np.ascontiguousarray(vertices, np.float32)
    image = np.ascontiguousarray(image)
    rotation, shift = np.empty((3, 3)), np.empty(3)
    scale = find_pose(vertices, face_model().mean, rotation, shift)
    if not scale >= _SMALLEST:
        return unchanged(image)
    outline = template.outline if wear is None else wear.outline(template.outline)
    worn, cloth = skin(), _cloth(template)
    out, alpha = image.copy(), np.zeros(image.shape[:2], np.float32)
    box = _put_on(
        image, vertices, scale, rotation, shift,
        worn.triangles, worn.anchors, worn.offsets, worn.corners, worn.weights, worn.mean,
        worn.closed, skin_vertices(),
        outline.nose, outline.side, outline.chin, outline.jaw, outline.half_angle, outline.tilt,
        0.0 if wear is None else float(wear.slack),
        cloth.height, cloth.texture(outline.half_angle * scale), template.gloss, cloth.bands,
        GROUP, out, alpha,
    )  # fmt: skip
    return Masked(image=out, alpha=alpha, box=box)


# One call from Python for all of it: each call of compiled code takes as long as some of the steps.
@compiled
def _put_on(
    image: UInt8Array,
    vertices: Float32Array,
    scale: float,
    rotation: Float64Array,
    shift: Float64Array,
    triangles: Int32Array,
    anchors: Int32Array,
    offsets: Float32Array,
    corners: Int32Array,
    weights: Float32Array,
    mean: Float32Array,
    closed: Int32Array,
    samples: Int32Array,
    nose: float,
    side: float,
    chin: float,
    jaw: float,
    half_angle: float,
    tilt: float,
    slack: float,
    height: Float32Array,
    texture: Float32Array,
    gloss: float,
    bands: Float64Array,
    group: int,
    out: UInt8Array,
    alpha: Float32Array,
) -> tuple[int, int, int, int]:
    """Draw a mask into a copy of the photo, `out`, and its cover into `alpha`; return the box."""
    places = place_on_head(nose, side, chin, jaw, half_angle, tilt)
    maps = lay_hull(
        vertices, scale, rotation, shift, triangles, anchors, offsets, corners, weights, mean
    )
    sheet = place_sheet(maps, places, height, slack, scale, rotation, shift)
    curves = np.empty((0, POINTS, 6), np.float32)
    if bands.shape[0]:
        curves = place_loops(maps, places, sheet, bands[4:], scale, rotation, shift)
    core = _box(sheet, curves[:0], 1, image.shape[1], image.shape[0])
    box = _box(sheet, curves, margin(scale), image.shape[1], image.shape[0])
    if box[2] <= box[0] or box[3] <= box[1]:
        return 0, 0, 0, 0
    photo = read_photo(image, vertices, vertex_normals(vertices, closed), samples)
    face = draw_face(vertices, closed, scale, box)
    canvas = draw_canvas(sheet, core, face, box, group)
    layer = shade_sheet(canvas, core, sheet, texture, half_angle, gloss, rotation, photo, box)
    if bands.shape[0]:
        draw_loops(curves, bands[:3], bands[3] * scale, image, photo, box, face, layer)
    blend(image, layer, face, photo, scale, box, out, alpha)
    return box[0], box[1], box[2], box[3]


def unchanged(image: UInt8Array) -> Masked:
    """The photo as it was."""
    alpha = np.zeros(image.shape[:2], np.float32)
    return Masked(image=image.copy(), alpha=alpha, box=(0, 0, 0, 0))


def check(image: UInt8Array, vertices: Float32Array) -> None:
    """Refuse what is no RGB picture or no face.

    Raises:
        UserError: If the image or the vertices have another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            where="image",
            found=f"{image.dtype} of shape {image.shape}",
            allowed="uint8 of shape (H, W, 3), RGB",
            next_step='open it with Pillow and .convert("RGB")',
        )
    if vertices.shape != (VERTICES, 3):
        raise UserError(
            where="vertices",
            found=f"shape {vertices.shape}",
            allowed=f"({VERTICES}, 3): Face Mesh's vertices in pixels",
            next_step="take them from a GeometryProvider or from a Geometry",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cloth:
    """A template made ready.

    Attributes:
        levels: Its picture and smaller and smaller ones, see `shade.shade_sheet`.
        height: How far it stands off at the sheet's vertices, eye spans.
        bands: Their red, green and blue, 0–1, width in eye spans, and v of their upper and lower
            ends; empty if it has none.
    """

    levels: tuple[Float32Array, ...]
    height: Float32Array
    bands: Float64Array

    def texture(self, reach: float) -> Float32Array:
        """Choose the picture with about a texel to a pixel.

        Args:
            reach: Half the sheet's angle times pixels per eye span.
        """
        texels = self.levels[0].shape[0] / max(1.5 * reach, 1.0)
        level = math.floor(math.log2(max(texels, 1.0)) + 0.65)
        return self.levels[min(level, len(self.levels) - 1)]


_cloths: WeakKeyDictionary[MaskTemplate, _Cloth] = WeakKeyDictionary()


def _cloth(template: MaskTemplate) -> _Cloth:
    cloth = _cloths.get(template)
    if cloth is None:
        cloth = _cloths[template] = _prepare(template)
    return cloth


def _prepare(template: MaskTemplate) -> _Cloth:
    """Split a template's height into what geometry shows and what shading must; premultiply."""
    height = template.height.astype(np.float64)
    down, along = _hats(height.shape[0], SHEET_ROWS), _hats(height.shape[1], SHEET_COLUMNS)
    mean_down = down / down.sum(axis=0)
    mean_along = along / along.sum(axis=0)
    # Two factors at a time: all three in one sum take a hundred times as long.
    coarse = np.einsum("rt,tc->rc", np.einsum("sr,st->rt", mean_down, height), mean_along)
    fine = height - np.einsum("sc,tc->st", np.einsum("sr,rc->sc", down, coarse), along)
    per_v, per_u = np.gradient(fine)
    per_v *= height.shape[0]
    per_u *= height.shape[1]
    rgba = template.rgba.astype(np.float64) / 255
    texture = np.dstack([rgba[..., :3] * rgba[..., 3:], rgba[..., 3], per_u, per_v])
    levels = [texture.astype(np.float32)]
    while min(texture.shape[:2]) >= 32 and not (texture.shape[0] % 2 or texture.shape[1] % 2):
        texture = (
            texture[::2, ::2] + texture[1::2, ::2] + texture[::2, 1::2] + texture[1::2, 1::2]
        ) / 4
        levels.append(texture.astype(np.float32))
    bands: list[float] = []
    if (loops := template.loops) is not None:
        bands = [*(value / 255 for value in loops.colour), loops.width, loops.upper, loops.lower]
    return _Cloth(
        levels=tuple(levels), height=coarse.astype(np.float32), bands=np.array(bands, np.float64)
    )


def _hats(size: int, nodes: int) -> Float64Array:
    """Weight of each node at each texel's centre, linear between nodes, shape (size, nodes)."""
    at = (np.arange(size) + 0.5) / size * (nodes - 1)
    hats: Float64Array = np.clip(1 - np.abs(at[:, None] - np.arange(nodes)[None, :]), 0, 1)
    return hats


@compiled
def _box(
    sheet: Float32Array, curves: Float32Array, around: int, width: int, height: int
) -> Int64Array:
    """The part of the picture that a mask and its bands may touch."""
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for part in (sheet, curves):
        for i in range(part.shape[0]):
            for j in range(part.shape[1]):
                left, right = min(left, part[i, j, 0]), max(right, part[i, j, 0])
                top, bottom = min(top, part[i, j, 1]), max(bottom, part[i, j, 1])
    box = np.zeros(4, np.int64)
    if np.isfinite(left + top + right + bottom):
        box[0] = int(min(max(np.floor(left) - around, 0.0), width))
        box[1] = int(min(max(np.floor(top) - around, 0.0), height))
        box[2] = int(min(max(np.ceil(right) + around + 1.0, 0.0), width))
        box[3] = int(min(max(np.ceil(bottom) + around + 1.0, 0.0), height))
    return box

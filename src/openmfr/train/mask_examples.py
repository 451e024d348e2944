"""Faces with and without a mask, to learn the difference from: pairs of one face, spoilt at random.

Every face is there once bare and once masked, and whatever else may be in the way, such as a beard,
a hand, a microphone, dark glasses, the black beyond a photo's edge, is drawn for both alike: so
nothing but the mask tells them apart. A mask below the mouth counts as none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from openmfr.data.geometry import Geometry
from openmfr.data.labels import IntArray
from openmfr.data.store import Store, decode_image, encode_jpeg
from openmfr.errors import UserError
from openmfr.faces.align import TEMPLATE_SIZE
from openmfr.masking.bank import MaskBank
from openmfr.masking.baselines import overlay_flat
from openmfr.masking.render import render_mask
from openmfr.masking.wear import COVERAGES, draw_wear
from openmfr.run import progress

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Point = tuple[float, float]

_WORN: Final = {name: weight for name, weight in COVERAGES.items() if name != "chin"}
_ON_THE_CHIN: Final = {"chin": 1.0}
#: Shares of bare faces that have a mask below the mouth, and of masks that are laid on flat.
_CHIN, _FLAT = 0.1, 0.15

# Vertices of Face Mesh: the jaw from ear to ear, corners of the mouth, upper and lower lip, base of
# the nose, the middle of a cheek, corners of the eyes.
_JAW: Final = (132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361)
_MOUTH: Final = (61, 0, 291, 17)
_UNDER_NOSE, _CHEEK = 2, 50
_EYES: Final = (33, 263)


class Examples(NamedTuple):
    """Faces and whether each wears a mask: RGB, uint8 (M, S, S, 3); bool (M,)."""

    images: UInt8Array
    is_worn: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Face:
    image: UInt8Array
    vertices: Float32Array

    def point(self, vertex: int) -> Point:
        return float(self.vertices[vertex, 0]), float(self.vertices[vertex, 1])

    @property
    def skin(self) -> npt.NDArray[np.float64]:
        """Colour of a cheek."""
        x, y = (int(np.clip(value, 0, TEMPLATE_SIZE - 1)) for value in self.point(_CHEEK))
        colour: npt.NDArray[np.float64] = self.image[y, x].astype(np.float64)
        return colour


def make_examples(
    store: Store,
    images: IntArray,
    geometry: Geometry,
    bank: MaskBank,
    *,
    pairs: int,
    seed: int,
) -> Examples:
    """Draw bare and masked examples of faces.

    Args:
        store: Faces, none of which wears a mask.
        images: Which of them to take; those whose geometry is not known are passed over.
        geometry: Where their faces are.
        bank: The masks.
        pairs: How many bare and as many masked examples to make of each.
        seed: The examples depend on it, the image's number and that of the pair alone.

    Returns:
        Bare and masked in turn, of 112 × 112 pixels.

    Raises:
        UserError: If no face is known.
    """
    faces: list[UInt8Array] = []
    is_worn: list[bool] = []
    with progress("mask learn, examples", total=len(images), unit="faces") as advance:
        for index in images.tolist():
            advance(1)
            vertices = geometry.vertices(index)
            if vertices is None:
                continue
            face = _scaled(store.decode(index), vertices)
            for pair in range(pairs):
                for worn in (False, True):
                    rng = np.random.default_rng([seed, index, pair, worn])
                    faces.append(_example(face, bank, rng, worn=worn))
                    is_worn.append(worn)
    if not faces:
        raise UserError(
            where=str(store.path),
            found="no face whose geometry is known",
            allowed="some hundred",
            next_step="openmfr mask fit",
        )
    return Examples(np.stack(faces), np.array(is_worn))


def _scaled(image: UInt8Array, vertices: Float32Array) -> _Face:
    size = image.shape[0]
    if size == TEMPLATE_SIZE:
        return _Face(image=image, vertices=vertices)
    small = Image.fromarray(image).resize((TEMPLATE_SIZE,) * 2, Image.Resampling.BOX)
    scale = np.float32(TEMPLATE_SIZE / size)
    # Centres of pixels lie at whole numbers.
    moved = (vertices + np.float32(0.5)) * scale - np.float32(0.5)
    return _Face(image=np.asarray(small), vertices=moved.astype(np.float32))


def _example(face: _Face, bank: MaskBank, rng: np.random.Generator, *, worn: bool) -> UInt8Array:
    image = face.image
    for chance, draw in ((0.2, _beard), (0.1, _moustache), (0.35, _smile)):
        if rng.random() < chance:
            image = draw(image, face, rng)
    if worn or rng.random() < _CHIN:
        wear = draw_wear(rng, _WORN if worn else _ON_THE_CHIN)
        put_on = overlay_flat if rng.random() < _FLAT else render_mask
        image = put_on(image, face.vertices, bank.pick(rng), wear).image
    changes: tuple[tuple[float, Callable[..., UInt8Array]], ...] = (
        (0.2, partial(_glasses, face=face)),
        (0.25, partial(_hand, face=face)),
        (0.2, _thing),
        (0.15, _edge),
        (0.8, _colours),
        (0.5, _coarse),
        (0.7, _compress),
    )
    for chance, change in changes:
        if rng.random() < chance:
            image = change(image, rng=rng)
    return image


# What grows on a face or shows in it, below any mask.


def _beard(image: UInt8Array, face: _Face, rng: np.random.Generator) -> UInt8Array:
    """Let a beard grow, up to twelve pixels beyond the chin."""
    longer = rng.uniform(0, 12) if rng.random() < 0.5 else 0.0
    jaw = [face.point(vertex) for vertex in _JAW]
    middle = len(jaw) // 2
    jaw = [(x, y + longer * max(0.0, 1 - abs(i - middle) / middle)) for i, (x, y) in enumerate(jaw)]
    left, _, right, _ = mouth = [face.point(vertex) for vertex in _MOUTH]
    shape = _canvas()
    draw = ImageDraw.Draw(shape)
    draw.polygon([*jaw, right, face.point(_UNDER_NOSE), left], fill=255)
    draw.polygon(mouth, fill=0)
    tone = rng.uniform(5, 70) if rng.random() < 0.75 else rng.uniform(90, 220)
    colour = tone * (1 + np.array([0.25, 0.0, -0.2]) * rng.uniform(0, 1))
    thickness = rng.uniform(0.4, 1.0) * (1 - 0.4 * rng.random((TEMPLATE_SIZE, TEMPLATE_SIZE, 1)))
    return _lay(image, shape, colour, rng, soft=rng.uniform(1, 2.5), cover=thickness)


def _moustache(image: UInt8Array, face: _Face, rng: np.random.Generator) -> UInt8Array:
    left, top, right, _ = (face.point(vertex) for vertex in _MOUTH)
    base = face.point(_UNDER_NOSE)
    droop = rng.uniform(-1, 6)
    thick = max(1, round(abs(top[1] - base[1]) * rng.uniform(0.5, 1.2)))
    shape = _canvas()
    line = [(left[0], left[1] + droop), _between(base, top), (right[0], right[1] + droop)]
    ImageDraw.Draw(shape).line(line, fill=255, width=thick, joint="curve")
    colour = np.full(3, rng.uniform(5, 80) if rng.random() < 0.6 else rng.uniform(80, 230))
    return _lay(image, shape, colour, rng, soft=rng.uniform(0.7, 1.5), cover=rng.uniform(0.5, 1))


def _smile(image: UInt8Array, face: _Face, rng: np.random.Generator) -> UInt8Array:
    """Open the mouth, dark inside and teeth above, and fold the cheeks beside it."""
    left, top, right, bottom = (face.point(vertex) for vertex in _MOUTH)
    x, y = (left[0] + right[0]) / 2, (top[1] + bottom[1]) / 2
    wide, high = rng.uniform(0.3, 0.6) * (right[0] - left[0]), rng.uniform(1.5, 7)
    for place, colour, fill in (
        ((x - wide, y - high, x + wide, y + high), np.array([70, 25, 25]), rng.uniform(0.4, 1)),
        ((x - wide, y - high, x + wide, y + high * rng.uniform(-0.2, 1)), np.full(3, 225), 0.95),
    ):
        if place[2] <= place[0] or place[3] <= place[1]:
            continue  # a face from the side
        shape = _canvas()
        ImageDraw.Draw(shape).ellipse(place, fill=255)
        image = _lay(image, shape, colour * rng.uniform(0.7, 1.1), rng, soft=0.7, cover=fill)
    shape = _canvas()
    draw = ImageDraw.Draw(shape)
    nose = face.point(_UNDER_NOSE)
    for corner, outwards in ((left, -1), (right, 1)):
        out = outwards * rng.uniform(3, 8)
        start = (_between(nose, corner)[0] + out / 2, nose[1] - 6)
        end = (corner[0] + out, corner[1] + rng.uniform(0, 8))
        draw.line([start, (corner[0] + out * 1.2, corner[1] - 5), end], fill=255, width=2)
    shade = np.array([0.5, 0.35, 0.3]) * face.skin
    return _lay(image, shape, shade, rng, soft=rng.uniform(0.7, 1.5), cover=rng.uniform(0, 0.7))


# What stands between the face and the camera, above any mask.


def _glasses(image: UInt8Array, *, face: _Face, rng: np.random.Generator) -> UInt8Array:
    """Put glasses on, dark ones or others, in frames of any thickness."""
    left, right = (face.point(vertex) for vertex in _EYES)
    span = abs(right[0] - left[0])
    wide, high = span * rng.uniform(0.2, 0.28), span * rng.uniform(0.13, 0.24)
    lenses, frame = _canvas(), _canvas()
    on_lenses, on_frame = ImageDraw.Draw(lenses), ImageDraw.Draw(frame)
    for (x, y), inwards in ((left, 1), (right, -1)):
        x += inwards * 0.18 * span
        place = (x - wide, y - high, x + wide, y + high)
        on_lenses.ellipse(place, fill=255)
        on_frame.rounded_rectangle(
            place, radius=high * 0.7, outline=255, width=int(rng.integers(1, 4))
        )
    on_frame.line([left, right], fill=255, width=2)
    if rng.random() < 0.6:
        dark = rng.uniform(5, 60, 3) if rng.random() < 0.7 else rng.uniform(0, 255, 3)
        image = _lay(image, lenses, dark, rng, soft=0.7, cover=rng.uniform(0.4, 1))
    metal = rng.uniform(0, 60, 3) if rng.random() < 0.7 else rng.uniform(0, 255, 3)
    return _lay(image, frame, metal, rng, soft=0.5, cover=rng.uniform(0.3, 1))


def _hand(image: UInt8Array, *, face: _Face, rng: np.random.Generator) -> UInt8Array:
    """Hold fingers of the face's own colour before it, most often before mouth and chin."""
    fingers, thick = int(rng.integers(1, 5)), rng.uniform(6, 13)
    centre = rng.normal([56, 92], [20, 16])
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(20, 50)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    tone = rng.uniform(0.75, 1.2)
    for finger in range(fingers):
        tip = centre + across * thick * (finger - fingers / 2) + along * rng.uniform(-5, 5)
        end = tip + along * length
        shape = _canvas()
        draw = ImageDraw.Draw(shape)
        draw.line([tuple(tip), tuple(end)], fill=255, width=round(thick))
        radius = thick / 2
        draw.ellipse((*(tip - radius), *(tip + radius)), fill=255)
        image = _lay(image, shape, face.skin * tone * rng.uniform(0.85, 1.1), rng, soft=1.0)
    return image


def _thing(image: UInt8Array, *, rng: np.random.Generator) -> UInt8Array:
    """Hold some small thing of any colour before the picture: a microphone, a cup, a sleeve."""
    shape = _canvas()
    draw = ImageDraw.Draw(shape)
    x, y = rng.normal([56, 80], [28, 24])
    wide, high = rng.uniform(3, 15, 2)
    if rng.random() < 0.5:
        draw.ellipse((x - wide, y - high, x + wide, y + high), fill=255)
    else:
        corners = rng.uniform(-1, 1, (4, 2)) * [wide, high] + [x, y]
        draw.polygon([(float(a), float(b)) for a, b in corners], fill=255)
    if rng.random() < 0.4:
        draw.line([(x, y), (x + rng.normal(0, 30), 120)], fill=255, width=int(rng.integers(2, 8)))
    colour = rng.uniform(0, 60, 3) if rng.random() < 0.4 else rng.uniform(0, 255, 3)
    return _lay(image, shape, colour, rng, soft=rng.uniform(0.5, 1.5))


# What the camera and the alignment do.


def _edge(image: UInt8Array, *, rng: np.random.Generator) -> UInt8Array:
    """End the photo within the picture: black beyond a straight line."""
    angle = rng.choice([0, 90, 180, 270]) + rng.normal(0, 12)
    normal = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    y, x = np.mgrid[:TEMPLATE_SIZE, :TEMPLATE_SIZE] - TEMPLATE_SIZE / 2
    is_beyond = x * normal[0] + y * normal[1] > rng.uniform(36, 56)
    return np.where(is_beyond[..., None], 0, image).astype(np.uint8)


def _colours(image: UInt8Array, *, rng: np.random.Generator) -> UInt8Array:
    """Take the picture in another light, with another camera."""
    gain, gamma = np.exp(rng.normal(0, 0.1, 3)), np.exp(rng.normal(0, 0.25))
    table = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain
    if rng.random() < 0.12:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
        table = table[:, :1].repeat(3, axis=1)
    relit: UInt8Array = np.clip(table, 0, 255).astype(np.uint8)[image, np.arange(3)]
    return relit


def _coarse(image: UInt8Array, *, rng: np.random.Generator) -> UInt8Array:
    """Take it from farther away, or out of focus, with noise."""
    picture = Image.fromarray(image)
    if rng.random() < 0.5:
        size = int(rng.integers(28, 100))
        small = picture.resize((size, size), Image.Resampling.BOX)
        picture = small.resize((TEMPLATE_SIZE, TEMPLATE_SIZE), Image.Resampling.BILINEAR)
    else:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.5)))
    noise = rng.normal(0, rng.uniform(0, 10), image.shape)
    return np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)


def _compress(image: UInt8Array, *, rng: np.random.Generator) -> UInt8Array:
    return decode_image(encode_jpeg(image, quality=int(rng.integers(30, 96))))


def _between(one: Point, other: Point) -> Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def _canvas() -> Image.Image:
    return Image.new("L", (TEMPLATE_SIZE, TEMPLATE_SIZE))


def _lay(
    image: UInt8Array,
    shape: Image.Image,
    colour: npt.NDArray[np.floating],
    rng: np.random.Generator,
    *,
    soft: float,
    cover: npt.NDArray[np.floating] | float = 1.0,
) -> UInt8Array:
    """Lay a shape of one colour, unevenly lit, on a picture; its border is soft."""
    alpha = np.asarray(shape.filter(ImageFilter.GaussianBlur(soft)), np.float64)[..., None] / 255
    y, x = np.mgrid[:TEMPLATE_SIZE, :TEMPLATE_SIZE] / TEMPLATE_SIZE - 0.5
    slope = rng.normal(0, 0.5, 2)
    lit = np.clip(1 + slope[0] * x + slope[1] * y, 0.3, 1.7)[..., None]
    alpha = alpha * cover
    mixed = image * (1 - alpha) + np.clip(lit * colour, 0, 255) * alpha
    laid: UInt8Array = np.round(mixed).astype(np.uint8)
    return laid

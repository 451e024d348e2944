"""Things drawn in front of a drawn face: what is found, and what must not be taken for a thing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from openmfr.faces.geometry import face_model
from openmfr.faces.occlusion import THRESHOLD, covering, is_covered
from openmfr.faces.rasteriser import rasterise

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

SIZE = 112
SKIN = (205, 160, 135)


def placed(yaw: float = 0.0) -> Float32Array:
    """The mean face as an aligned crop has it; yaw in degrees."""
    angle = np.radians(yaw)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    return np.asarray(face_model().mean @ turn.T * 0.46 * SIZE + [56, 66, 0], np.float32)


def drawn(
    vertices: Float32Array,
    *,
    skin: tuple[int, int, int] = SKIN,
    light: tuple[float, float, float] = (0.0, -0.3, 1.0),
    ambient: float = 0.4,
    beard: float = 0.0,
) -> Image.Image:
    """A face of one colour under one light; a beard darkens what lies below the nose."""
    model = face_model()
    corners = vertices[model.triangles].astype(np.float64)
    of_triangles = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, model.triangles[:, corner], of_triangles)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    if normals[4, 2] < 0:
        normals = -normals
    towards = np.array(light) / np.linalg.norm(light)
    shade = ambient + (1 - ambient) * np.clip(normals @ towards, 0, 1)
    colours = shade[:, np.newaxis] * np.array(skin)
    colours[model.mean[:, 1] > 0.3] *= 1 - beard
    raster = rasterise(
        vertices, model.triangles, colours.astype(np.float32), height=SIZE, width=SIZE
    )
    background = np.full((SIZE, SIZE, 3), 90.0)
    picture = np.where(np.isfinite(raster.depth)[..., np.newaxis], raster.attributes, background)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def finished(picture: Image.Image, *, noise: float = 3.0) -> UInt8Array:
    """A little blur and noise, as a camera adds them."""
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)), np.float64)
    noisy = blurred + np.random.default_rng(0).normal(0, noise, blurred.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def with_microphone(picture: Image.Image, *, x: float = 68, y: float = 96) -> Image.Image:
    """A dark blue ball before the mouth, on a handle."""
    draw = ImageDraw.Draw(picture)
    draw.ellipse((x - 9, y - 9, x + 9, y + 9), fill=(30, 40, 90))
    draw.line((x + 4, y + 4, x + 30, y + 40), fill=(30, 40, 90), width=8)
    return picture


def with_glove(picture: Image.Image) -> Image.Image:
    """Four fingers of another colour over one cheek and half of the mouth."""
    draw = ImageDraw.Draw(picture)
    for finger in range(4):
        top = 74 + 9 * finger
        draw.rounded_rectangle((22, top, 58, top + 8), radius=4, fill=(150, 30, 70))
    return picture


def test_a_bare_face_is_not_covered() -> None:
    assert covering(finished(drawn(placed())), placed()) < THRESHOLD / 2


@pytest.mark.parametrize("x", [44, 68, 74])
def test_a_microphone_before_the_mouth_is_found(x: float) -> None:
    assert is_covered(finished(with_microphone(drawn(placed()), x=x)), placed())


@pytest.mark.parametrize("skin", [(240, 205, 190), (120, 80, 60), (60, 40, 32)])
def test_no_colour_of_skin_is_taken_for_a_thing(skin: tuple[int, int, int]) -> None:
    assert not is_covered(finished(drawn(placed(), skin=skin)), placed())


def test_a_glove_over_half_of_the_mouth_stands_out() -> None:
    """So large a thing is partly taken for light, so it may stay below the threshold."""
    bare = covering(finished(drawn(placed())), placed())
    assert covering(finished(with_glove(drawn(placed()))), placed()) > 5 * bare


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_light_from_one_side_is_not_taken_for_a_thing(side: float) -> None:
    face = drawn(placed(), light=(side, -0.2, 0.5), ambient=0.25)
    assert not is_covered(finished(face), placed())


def test_a_beard_is_not_taken_for_a_thing() -> None:
    assert not is_covered(finished(drawn(placed(), beard=0.6), noise=12), placed())


@pytest.mark.parametrize("yaw", [-35, 35])
def test_a_face_that_is_turned_is_not_taken_for_covered(yaw: float) -> None:
    assert not is_covered(finished(drawn(placed(yaw))), placed(yaw))


def test_near_profile_nothing_can_be_compared_and_nothing_is_said() -> None:
    face = finished(with_microphone(drawn(placed(80))))
    assert covering(face, placed(80)) == 0.0


def test_a_face_that_the_picture_cuts_off_is_measured_on_what_is_left() -> None:
    below = placed() + np.array([0, 20, 0], np.float32)
    assert not is_covered(finished(drawn(below)), below)
    outside = placed() + np.array([0, 200, 0], np.float32)
    assert covering(finished(drawn(placed())), outside) == 0.0


def test_the_size_of_the_picture_hardly_matters() -> None:
    small = finished(with_microphone(drawn(placed())))
    large = np.asarray(Image.fromarray(small).resize((336, 336), Image.Resampling.BICUBIC))
    vertices = ((placed() + 0.5) * 3 - 0.5).astype(np.float32)
    assert covering(large, vertices) == pytest.approx(covering(small, placed()), rel=0.15)

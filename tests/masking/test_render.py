"""The renderer on faces of known geometry: what may change, what is in sight, how it is lit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from openmfr.errors import UserError
from openmfr.faces.geometry import face_model
from openmfr.faces.rasteriser import rasterise
from openmfr.masking.render import render_mask
from openmfr.masking.template import EarLoops, MaskTemplate, Outline

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

SKIN = (205, 160, 135)
OUTLINE = Outline(nose=-0.2, side=-0.02, chin=0.93, jaw=0.55, half_angle=1.1)


def turned(yaw: float = 0, *, size: int = 112, scale: float = 0.42) -> Float32Array:
    """The mean face, turned about its vertical axis by degrees, in the middle of a picture."""
    angle = np.radians(yaw)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    middle = (size - 1) / 2
    head = face_model().mean @ rotation.T
    face: Float32Array = (head * scale * size + [middle, middle, 0]).astype(np.float32)
    return face


def numbers(*values: float) -> Float32Array:
    return np.array(values, np.float32)


def plain(colour: tuple[int, int, int] = (120, 170, 220), *, beak: float = 0) -> MaskTemplate:
    """A sheet of one colour; its beak stands off in the middle, in eye spans."""
    u, v = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64))
    height = beak * np.exp(-((u / 0.3) ** 2)) * np.clip(1 - v * v, 0, 1)
    rgba = np.full((64, 64, 4), 255, np.uint8)
    rgba[..., :3] = colour
    return MaskTemplate(
        style="own", rgba=rgba, height=height.astype(np.float32), outline=OUTLINE, loops=None
    )


def photo(size: int = 112, colour: tuple[int, int, int] = SKIN) -> UInt8Array:
    """Skin all over, with a little texture, but for a few rows of another hue (unless grey)."""
    rows = np.full((size, size, 3), colour, float)
    rows[: size // 14] = np.roll(colour, 1)
    rows += np.random.default_rng(1).normal(0, 3, (size, size, 1))
    image: UInt8Array = np.clip(rows, 0, 255).astype(np.uint8)
    return image


def test_pixels_outside_the_box_are_untouched() -> None:
    image = photo()
    masked = render_mask(image, turned(20), plain())
    left, top, right, bottom = masked.box
    outside = np.ones((112, 112), bool)
    outside[top:bottom, left:right] = False
    assert 0 < outside.sum() < 112 * 112
    assert np.array_equal(masked.image[outside], image[outside])
    assert masked.alpha[outside].max() == 0
    assert masked.alpha.max() == 1


def test_pixels_far_from_the_mask_are_untouched_within_the_box_too() -> None:
    image = photo(224)
    masked = render_mask(image, turned(0, size=224), plain())
    # The eyes' corners lie inside the box's columns, above the mask and its shadow.
    assert np.array_equal(masked.image[:80], image[:80])


def test_the_given_image_and_vertices_are_not_written_to() -> None:
    image, face = photo(), turned()
    before = image.copy(), face.copy()
    render_mask(image, face, plain())
    assert np.array_equal(image, before[0])
    assert np.array_equal(face, before[1])


def test_two_calls_give_the_same_bits() -> None:
    image, template = photo(), replace(plain(beak=0.1), loops=EarLoops(colour=(240, 240, 240)))
    first = render_mask(image, turned(35), template)
    render_mask(photo(150, (90, 60, 50)), turned(-50, size=150), plain((10, 10, 10)))
    second = render_mask(image, turned(35), replace(template))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.alpha, second.alpha)


@pytest.mark.parametrize("yaw", [-75, -60, 60, 75])
def test_the_far_cheek_does_not_show_through_a_turned_face(yaw: int) -> None:
    face = turned(yaw)
    # The cheek's side that is turned away; positive yaw turns the nose to the right.
    u = np.linspace(0, 1, 64)
    far = u < 0.42 if yaw < 0 else u > 0.58
    template = plain()
    rgba = template.rgba.copy()
    rgba[:, far, :3] = (255, 0, 0)
    masked = render_mask(photo(), face, replace(template, rgba=rgba))
    model = face_model()
    side = (model.mean[:, :1] * (1 if yaw > 0 else -1)).astype(np.float32)
    near = rasterise(face, model.triangles, side, height=112, width=112)
    near_cheek = np.isfinite(near.depth) & (near.attributes[..., 0] < -0.1)
    covered = near_cheek & (masked.alpha > 0.99)
    assert covered.sum() > 200
    red = masked.image[..., 0].astype(int) - masked.image[..., 2]
    assert red[covered].max() < 60


def test_a_nose_in_front_hides_the_part_of_a_low_mask_behind_it() -> None:
    low = replace(OUTLINE, nose=0.24, side=-0.1)
    template = replace(plain(), outline=low)
    face = turned(70)
    masked = render_mask(photo(), face, template)
    tip = face[4]
    nose = masked.alpha[int(tip[1]) - 1 : int(tip[1]) + 2, int(tip[0]) - 3 : int(tip[0]) + 1]
    assert nose.max() < 0.5


def test_a_beak_changes_the_silhouette_of_a_turned_face() -> None:
    face = turned(60)
    flat = render_mask(photo(), face, plain()).alpha
    beaked = render_mask(photo(), face, plain(beak=0.25)).alpha
    ends = [np.flatnonzero(alpha.max(axis=0) > 0.5)[-1] for alpha in (flat, beaked)]
    # A quarter of an eye span of 47 pixels, seen at 60 degrees, is ten pixels.
    assert 5 <= ends[1] - ends[0] <= 12


def test_a_mask_covers_the_lower_lip_of_an_open_mouth() -> None:
    head = face_model().mean.copy()
    below = head[:, 1] > 0.435
    drop = 0.25 * np.clip((head[:, 1] - 0.435) / 0.05, 0, 1) * (np.abs(head[:, 0]) < 0.5)
    head[below, 1] += drop[below]
    face = (head * 44 + [56, 46, 0]).astype(np.float32)
    alpha = render_mask(photo(), face, plain()).alpha
    # 0 and 17 are the middles of the lips' outer edges, 152 is the chin.
    for vertex in (0, 17, 152):
        x, y = np.round(face[vertex, :2]).astype(int)
        assert alpha[y - 1, x] > 0.95


@pytest.mark.parametrize("side", [-1, 1])
def test_the_mask_is_brighter_where_the_skin_is(side: int) -> None:
    ramp = 1 + 0.4 * side * np.linspace(-1, 1, 112)[None, :, None]
    image = np.clip(photo(colour=(150, 115, 95)) * ramp, 0, 255).astype(np.uint8)
    masked = render_mask(image, turned(), plain((200, 200, 200)))
    row = masked.image[80, :, 1].astype(int)
    assert (row[74:80].mean() - row[32:38].mean()) * side > 25


def test_a_dark_photo_gets_a_darker_mask() -> None:
    bright = render_mask(photo(), turned(), plain()).image[80, 56].sum()
    dark = render_mask(photo(colour=(60, 45, 38)), turned(), plain()).image[80, 56].sum()
    assert dark < 0.6 * bright


def test_a_grey_photo_stays_grey() -> None:
    image = np.repeat(photo(colour=(150, 150, 150))[..., :1], 3, axis=2)
    template = replace(plain((40, 90, 230)), loops=EarLoops(colour=(250, 20, 20)), gloss=0.5)
    masked = render_mask(image, turned(25), template).image.astype(int)
    assert np.ptp(masked, axis=2).max() == 0
    assert np.abs(masked[80, 56] - image[80, 56]).max() > 10


def test_a_sepia_photo_stays_sepia() -> None:
    grey = photo(colour=(150, 150, 150)).astype(float)
    sepia = np.clip(grey * [1.15, 0.98, 0.75], 0, 255).astype(np.uint8)
    masked = render_mask(sepia, turned(), plain((60, 120, 230))).image[80, 56].astype(float)
    np.testing.assert_allclose(masked / masked[1], sepia[80, 56] / sepia[80, 56, 1], atol=0.08)


def test_warm_light_tints_a_white_mask() -> None:
    warm = render_mask(photo(colour=(220, 140, 60)), turned(), plain((230, 230, 230)))
    red, _, blue = warm.image[80, 56].astype(int)
    assert red - blue > 40


@pytest.mark.parametrize("yaw", [-60, 60])
def test_loops_are_drawn_on_the_near_side_only(yaw: int) -> None:
    template = replace(plain((10, 10, 10)), loops=EarLoops(colour=(250, 250, 250), width=0.04))
    face, image = turned(yaw), photo()
    without = render_mask(image, face, replace(template, loops=None))
    bands = render_mask(image, face, template).alpha - without.alpha > 0.2
    columns = np.flatnonzero(bands.any(axis=0))
    assert len(columns) > 5
    tip = face[4, 0]
    # Positive yaw turns the nose to the right: the near ear is on the left.
    assert (columns < tip - 20).all() if yaw > 0 else (columns > tip + 20).all()


def test_loops_fade_where_hair_covers_the_ear() -> None:
    template = replace(plain(), loops=EarLoops(colour=(250, 250, 250), width=0.04))
    image = photo()
    haired = image.copy()
    haired[:, :28] = haired[:, 84:] = (25, 20, 18)
    open_ear, hidden = (render_mask(i, turned(), template).alpha for i in (image, haired))
    assert open_ear[:, :22].max() > 0.5
    assert hidden[:, :22].max() < 0.25


@pytest.mark.parametrize(
    "face",
    [
        turned() + numbers(500, 0, 0),
        turned() * numbers(1, 1, 0),
        turned() * numbers(-1, 1, 1),
        turned() * np.float32(0.02),
        np.full((468, 3), np.nan, np.float32),
        np.zeros((468, 3), np.float32),
    ],
    ids=["outside", "flat", "mirrored", "tiny", "not finite", "one point"],
)
def test_what_is_no_face_in_the_picture_changes_nothing(face: Float32Array) -> None:
    image = photo()
    masked = render_mask(image, face, plain())
    assert np.array_equal(masked.image, image)
    assert masked.alpha.max() == 0
    assert masked.box == (0, 0, 0, 0)


def test_a_face_partly_outside_is_dressed_as_the_whole_one_is() -> None:
    face = turned()
    moved = face - numbers(40, 0, 0)
    whole = render_mask(photo(), face, plain()).alpha
    part = render_mask(photo(), moved, plain()).alpha
    assert np.abs(part[:, 5:60] - whole[:, 45:100]).max() < 0.15


def test_twice_the_size_averaged_down_is_nearly_the_same_picture() -> None:
    template = plain(beak=0.1)
    smooth = np.full((112, 112, 3), SKIN, np.uint8)
    large = np.full((224, 224, 3), SKIN, np.uint8)
    face = turned(30)
    small = render_mask(smooth, face, template)
    doubled = render_mask(large, ((face + 0.5) * 2 - 0.5).astype(np.float32), template)
    reduced = np.asarray(Image.fromarray(doubled.image).reduce(2)).astype(int)
    assert np.abs(reduced - small.image).mean() < 1
    assert np.percentile(np.abs(reduced - small.image), 98) < 14


@pytest.mark.parametrize(
    ("image", "face"),
    [
        (np.zeros((112, 112), np.uint8), turned()),
        (np.zeros((112, 112, 3), np.float32), turned()),
        (photo(), turned()[:, :2]),
    ],
)
def test_wrong_arrays_are_refused(image: UInt8Array, face: Float32Array) -> None:
    with pytest.raises(UserError, match="found"):
        render_mask(image, face, plain())

"""The baselines do what other tools do, and no more."""

from __future__ import annotations

import numpy as np

from openmfr.faces.geometry import face_model
from openmfr.masking.baselines import erase_lower, overlay_flat
from openmfr.masking.template import MaskTemplate, Outline

OUTLINE = Outline(nose=-0.2, side=-0.02, chin=0.93, jaw=0.55, half_angle=1.1)
FACE = (face_model().mean * 48 + [56, 56, 0]).astype(np.float32)


def two_coloured() -> MaskTemplate:
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[:, :16, :3], rgba[:, 16:, :3] = (10, 20, 200), (200, 20, 10)
    return MaskTemplate(
        style="own", rgba=rgba, height=np.zeros((32, 32), np.float32), outline=OUTLINE
    )


def test_flat_overlay_shows_the_sheets_own_colours_on_nose_and_chin() -> None:
    image = np.full((112, 112, 3), 77, np.uint8)
    masked = overlay_flat(image, FACE, two_coloured())
    # 50 and 280 are the cheeks, left and right in the picture.
    for vertex, colour in ((50, (10, 20, 200)), (280, (200, 20, 10))):
        x, y = np.round(FACE[vertex, :2]).astype(int)
        assert tuple(masked.image[y + 8, x]) == colour
    assert np.array_equal(masked.image[masked.alpha == 0], image[masked.alpha == 0])
    left, top, right, bottom = masked.box
    assert masked.alpha[top:bottom, left:right].sum() == masked.alpha.sum() > 1000


def test_flat_overlay_knows_no_depth() -> None:
    image = np.full((112, 112, 3), 77, np.uint8)
    deep = FACE * np.array([1, 1, 3], np.float32)
    one, other = (overlay_flat(image, face, two_coloured()).image for face in (FACE, deep))
    assert np.array_equal(one, other)


def test_flat_overlay_leaves_a_picture_without_a_face_alone() -> None:
    image = np.full((112, 112, 3), 77, np.uint8)
    for face in (FACE + np.array([900, 0, 0], np.float32), np.full_like(FACE, np.nan), FACE * 0):
        masked = overlay_flat(image, face, two_coloured())
        assert np.array_equal(masked.image, image)
        assert masked.box == (0, 0, 0, 0)


def test_erasing_leaves_the_upper_half_and_one_colour_below() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    masked = erase_lower(image, np.random.default_rng(1))
    top = masked.box[1]
    assert 56 <= top <= 73
    assert np.array_equal(masked.image[:top], image[:top])
    assert len(np.unique(masked.image[top:].reshape(-1, 3), axis=0)) == 1
    assert masked.alpha[:top].max() == 0
    assert masked.alpha[top:].min() == 1

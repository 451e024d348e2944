"""Contact sheets: every image where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from openmfr.errors import UserError
from openmfr.report.sheet import contact_sheet, pair_strip

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]


def images(size: tuple[int, int] = (112, 112)) -> list[np.ndarray]:
    return [np.full((*size, 3), colour, np.uint8) for colour in COLOURS]


def test_images_stand_in_reading_order() -> None:
    sheet = contact_sheet(images(), columns=2, cell=20)
    middles = [(16 + 26 * (i % 2), 16 + 26 * (i // 2)) for i in range(5)]
    assert [sheet.getpixel(middle) for middle in middles] == COLOURS


def test_images_of_any_shape_fit_their_cell_undistorted() -> None:
    sheet = np.asarray(contact_sheet(images((40, 80)), columns=5, cell=20))
    red = (sheet == COLOURS[0]).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert (rows.size, columns.size) == (10, 20)


def test_captions_are_drawn_below_and_never_reach_the_next_image() -> None:
    captions = ["a/very/long/path/that/does/not/fit/0001.jpg", "", "", "", ""]
    plain = np.asarray(contact_sheet(images(), columns=5, captions=[""] * 5))
    drawn = np.asarray(contact_sheet(images(), columns=5, captions=captions))
    changed = np.argwhere((plain != drawn).any(axis=2))
    assert changed.size
    assert changed[:, 0].min() >= 6 + 112
    assert changed[:, 1].max() < 6 + 112


def test_a_pair_stands_side_by_side() -> None:
    left, right = images()[:2]
    strip = pair_strip(left, right, cell=30)
    assert strip.size == (62, 30)
    assert (strip.getpixel((15, 15)), strip.getpixel((47, 15))) == tuple(COLOURS[:2])


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="contact sheet: found no images"):
        contact_sheet([])

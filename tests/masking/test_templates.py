"""What is drawn on a mask's sheet, style by style."""

from __future__ import annotations

import numpy as np
import pytest

from openmfr.errors import UserError
from openmfr.masking.styles import STYLES, draw_template, fabric, folds, kn95
from openmfr.masking.styles.patterns import PATTERNS, print_pattern, stamp
from openmfr.masking.template import USUAL_OUTLINE, MaskTemplate, Outline


def draw(style: str, seed: int, size: int = 96) -> MaskTemplate:
    return draw_template(style, np.random.default_rng(seed), size)


def canvas(size: int = 128) -> fabric.Canvas:
    sheet = fabric.blank(USUAL_OUTLINE, size, (0.5, 0.5, 0.5))
    fabric.cut(sheet, corner=0.02)
    return sheet


@pytest.mark.parametrize("style", STYLES)
def test_the_same_state_draws_the_same_mask_and_another_another(style: str) -> None:
    first, again, other = draw(style, 3), draw(style, 3), draw(style, 4)
    assert np.array_equal(first.rgba, again.rgba)
    assert np.array_equal(first.height, again.height)
    assert (first.outline, first.loops, first.gloss) == (again.outline, again.loops, again.gloss)
    assert (first.rgba != other.rgba).mean() > 0.1
    assert first.outline != other.outline


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(12))
def test_a_sheet_is_covered_within_and_bare_at_its_corners(style: str, seed: int) -> None:
    mask = draw(style, seed)
    assert mask.style == style
    assert mask.rgba.shape == (96, 96, 4)
    assert mask.rgba.dtype == np.uint8
    assert mask.height.shape == (96, 96)
    assert mask.height.dtype == np.float32
    alpha = mask.rgba[..., 3]
    assert alpha[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert alpha[30:60, 30:66].min() == 255
    assert (alpha > 128).mean() > 0.6
    assert mask.height.min() >= 0
    assert 0.01 < mask.height.max() < 0.5


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(6))
def test_a_sheet_lies_on_the_face_along_its_edge_but_gapes_at_the_jaw(
    style: str, seed: int
) -> None:
    mask = draw(style, seed, 256)
    alpha = mask.rgba[..., 3]
    edge = (alpha > 0) & (alpha < 255)
    assert edge[:40].any()
    assert edge[-40:, 112:144].any()
    assert mask.height[:40][edge[:40]].max() < 0.03
    assert mask.height[-40:, 112:144][edge[-40:, 112:144]].max() < 0.03
    assert mask.height[edge].max() < 0.22


@pytest.mark.parametrize("seed", range(20))
def test_a_respirator_stands_off_before_nose_and_mouth(seed: int) -> None:
    mask = draw("kn95", seed)
    size = len(mask.height)
    angle = ((np.arange(size) + 0.5) / size * 2 - 1) * mask.outline.half_angle
    level = mask.outline.nose + (np.arange(size) + 0.5) / size * (
        mask.outline.chin - mask.outline.nose
    )
    before = mask.height[np.ix_((level > 0.15) & (level < 0.45), np.abs(angle) < 0.2)]
    assert before.max() >= 0.13
    assert before.min() > 0.06
    assert before.max() > 2 * mask.height[:, np.abs(angle) > 0.9].max()


def test_a_valve_stands_off_a_respirator_and_differs_in_colour() -> None:
    sheet = canvas()
    before = sheet.height.copy()
    kn95._valve(sheet, np.random.default_rng(1), is_light=True)
    lid = sheet.height - before > 0.03
    assert 0.005 < lid.mean() < 0.05
    assert np.abs(sheet.colour[lid] - 0.5).mean() > 0.2
    assert (sheet.colour[~lid] == 0.5).mean() > 0.98


@pytest.mark.parametrize("seed", range(4))
def test_a_worn_sheet_is_darker_below_than_above(seed: int) -> None:
    sheet = canvas()
    folds.lean(sheet, np.random.default_rng(seed))
    rows = sheet.tone.mean(axis=1)
    assert rows[10] >= rows[64] > rows[-1]


def test_loops_are_for_all_but_scarves() -> None:
    assert all(draw("scarf", seed, 32).loops is None for seed in range(10))
    for style in ("surgical", "kn95"):
        assert all(draw(style, seed, 32).loops is not None for seed in range(10))


def test_scarves_reach_further_than_masks() -> None:
    for seed in range(10):
        scarf, mask = draw("scarf", seed, 32).outline, draw("surgical", seed, 32).outline
        assert scarf.chin > mask.chin
        assert scarf.half_angle > mask.half_angle


def test_surgical_masks_are_mostly_light_blue_or_white() -> None:
    inner = [
        draw("surgical", seed, 32).rgba[8:24, 8:24, :3].mean(axis=(0, 1)) for seed in range(150)
    ]
    red, _, blue = np.array(inner).T
    is_blue = (blue > red + 20) & (blue > 180)
    is_white = (red > 205) & (np.abs(blue - red) < 15)
    is_black = blue < 70
    assert 0.4 < is_blue.mean() < 0.75
    assert is_white.mean() > 0.08
    assert 0.03 < is_black.mean() < 0.25


def test_folds_darken_the_colour_moderately_because_the_renderer_lights_them_too() -> None:
    for seed in range(10):
        inner = draw("surgical", seed, 128).rgba[20:-20, 20:-20, :3].astype(np.float64)
        grey = inner.mean(axis=-1)
        assert 0.5 * np.median(grey) < np.quantile(grey, 0.02) < 0.95 * np.median(grey)


def test_a_pleat_steps_down_at_its_edge() -> None:
    above, below = [], []
    for seed in range(8):
        sheet = canvas()
        flat = sheet.height.copy()
        folds.pleat(sheet, np.random.default_rng(seed), at=0.5, depth=0.03, opening=0.0)
        relief = (sheet.height - flat)[:, 64]
        edge = int(np.argmin(np.diff(relief)))
        assert abs(edge - 64) < 12
        assert abs(relief[5]) < 0.003
        above.append(relief[edge - 6])
        below.append(relief[edge + 6])
        assert above[-1] > 0 > below[-1]
    assert np.mean(above) > 0.008


def test_pleats_open_towards_the_middle() -> None:
    def edge(opening: float) -> tuple[int, int]:
        sheet = canvas(256)
        folds.pleat(sheet, np.random.default_rng(1), at=0.3, depth=0.03, opening=opening)
        steps = np.diff(sheet.height, axis=0)
        return int(np.argmin(steps[:, 128])), int(np.argmin(steps[:, 6]))

    (closed, closed_side), (opened, opened_side) = edge(0.0), edge(0.4)
    assert opened < closed - 10
    assert abs(opened_side - closed_side) < 4


def test_every_texel_of_a_canvas_knows_its_place_on_the_head() -> None:
    outline = Outline(nose=-0.2, side=0.05, chin=0.95, jaw=0.5, half_angle=1.1)
    sheet = fabric.blank(outline, 40, (0, 0, 0))
    angle = np.broadcast_to(sheet.u * np.float32(1.1), sheet.level.shape)
    u, v = outline.sheet(angle, sheet.level)
    place = (np.arange(40) + 0.5) / 40
    assert np.abs(u - place[None]).max() < 1e-5
    assert np.abs(v - place[:, None]).max() < 1e-5


def test_a_stamp_is_as_wide_and_high_on_the_head_as_its_picture() -> None:
    sheet = canvas(256)
    mark = stamp(sheet, np.ones((20, 40), np.float32), angle=0.3, level=0.4, width=0.3)
    rows, columns = np.nonzero(mark > 0.5)
    across = sheet.across[0, columns]
    level = sheet.level[rows, columns]
    assert np.ptp(across) == pytest.approx(0.3, abs=0.02)
    assert np.ptp(level) == pytest.approx(0.15, abs=0.03)
    assert across.mean() == pytest.approx(0.3 * fabric.RADIUS, abs=0.02)
    assert level.mean() == pytest.approx(0.4, abs=0.02)


def test_a_tent_cuts_the_edge_beside_the_nose_alone() -> None:
    off = fabric.tent(canvas(256), 1.2)[0]
    assert off[128] < 0.005
    assert off[0] < 0.01
    assert 0.01 < off[160] < 0.1
    assert fabric.tent(canvas(256), 0.0).max() == 0


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_can_be_seen(name: str) -> None:
    changed = []
    for seed in range(4):
        sheet = canvas()
        print_pattern(sheet, np.random.default_rng(seed), name)
        assert np.isfinite(sheet.colour).all()
        drawn = sheet.finish("own", None, 0.0).rgba[..., :3] / 255
        changed.append(np.abs(drawn - 0.5).max(axis=-1) > 0.02)
    assert np.mean(changed) > 0.002


def test_shading_saturates_a_colour_and_leaves_a_grey_one_grey() -> None:
    outline = canvas(32).outline
    for colour, gain in (((0.4, 0.6, 0.8), 1.05), ((0.5, 0.5, 0.5), 1.0)):
        sheet = fabric.blank(outline, 32, colour)
        sheet.shade(np.full((32, 32), 0.3, np.float32))
        red, _, blue = sheet.finish("own", None, 0.0).rgba[16, 16, :3] / 255
        assert blue == pytest.approx(0.7 * colour[2], abs=0.01)
        assert blue / red >= gain * colour[2] / colour[0] - 0.02


def test_creases_are_light_on_one_side_and_dark_on_the_other() -> None:
    sheet = canvas(128)
    folds.crumple(sheet, np.random.default_rng(3), 1, 0.2)
    assert sheet.tone.max() > 1.05
    assert sheet.tone.min() < 0.95
    assert abs(float(sheet.tone.mean()) - 1) < 0.03


def test_a_gaping_sheet_stands_off_the_jaw_and_lies_on_the_face_above() -> None:
    sheet = canvas()
    flat = sheet.height.copy()
    folds.gape(sheet, 0.1)
    raised = sheet.height - flat
    assert raised[-4, 2] == pytest.approx(0.1, abs=0.01)
    assert raised[:12].max() == 0
    assert raised[:, 60:68].max() == 0


def test_a_ridge_is_highest_near_the_middle_below_the_nose() -> None:
    sheet = canvas()
    flat = sheet.height.copy()
    folds.ridge(sheet, np.random.default_rng(2), 0.1)
    row, column = np.unravel_index(np.argmax(sheet.height - flat), flat.shape)
    assert 40 < row < 100
    assert abs(column - 64) < 16


def test_an_unknown_style_or_size_is_refused() -> None:
    with pytest.raises(UserError) as error:
        draw("surgicle", 0)
    assert str(error.value) == (
        "mask style: found surgicle; allowed: surgical, kn95, cloth, scarf; did you mean surgical?"
    )
    with pytest.raises(
        UserError, match="mask template, size: found 16; allowed: 32 to 2048 texels"
    ):
        draw("cloth", 0, 16)

"""Making one's own template: the guide to draw over, and lifting one off a photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from openmfr.errors import UserError
from openmfr.faces.geometry import face_model
from openmfr.masking.bank import MaskBank
from openmfr.masking.guide import guide_marks, guide_picture
from openmfr.masking.lift import lift_template
from openmfr.masking.render import render_mask
from openmfr.masking.template import USUAL_OUTLINE, MaskTemplate

SIDE = 320


def face(yaw: float = 0.0, across: float = 150.0) -> npt.NDArray[np.float32]:
    """The mean face in the middle of a picture of SIDE pixels, turned to the right."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    middle = np.array([SIDE / 2, SIDE / 2 - 20, 0])
    placed: npt.NDArray[np.float32] = face_model().mean @ turn.T * across + middle
    return placed.astype(np.float32)


def printed(size: int = 128) -> MaskTemplate:
    """A mask with a pattern of large blocks, another on each half."""
    cells = np.random.default_rng(4).uniform(60, 190, size=(6, 8, 3))
    colour = np.kron(cells, np.ones((size // 6 + 1, size // 8 + 1, 1)))[:size, :size]
    rgba = np.dstack([colour, np.full((size, size), 255.0)]).astype(np.uint8)
    return MaskTemplate(
        style="own", rgba=rgba, height=np.zeros((size, size), np.float32), outline=USUAL_OUTLINE
    )


def worn(mask: MaskTemplate, vertices: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    skin = np.full((SIDE, SIDE, 3), (205, 165, 145), np.uint8)
    skin[:24] = (60, 90, 200)  # a picture of one hue would count as toned, and tone the mask
    return render_mask(skin, vertices, mask).image


def likeness(
    lifted: npt.NDArray[np.uint8], original: npt.NDArray[np.uint8], columns: slice
) -> float:
    """Correlation over the texels within the rim."""
    rows = slice(10, -10)
    first, second = lifted[rows, columns, :3], original[rows, columns, :3]
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_the_guide_marks_what_lies_under_the_sheet() -> None:
    marks = guide_marks()
    picture = np.asarray(guide_picture(512))
    for name in ("bridge", "tip", "base", "corner", "upper lip", "lower lip", "chin", "jaw"):
        assert any(name in mark for mark in marks)
    inside = [(u, v) for u, v in marks.values() if 0.01 < u < 0.99 and 0.01 < v < 0.99]
    assert len(inside) >= len(marks) - 1
    for u, v in inside:
        assert picture[int(v * 512), int(u * 512)].tolist() == [30, 30, 30, 255]


def test_marks_run_down_the_face_and_mirror_each_other() -> None:
    marks = guide_marks()
    order = ("bridge of the nose", "tip of the nose", "base of the nose", "upper lip", "chin")
    downs = [marks[name][1] for name in order]
    assert downs == sorted(downs)
    left, right = marks["corner of the mouth, left"], marks["corner of the mouth, right"]
    assert left[0] + right[0] == pytest.approx(1, abs=1e-4)
    assert left[1] == pytest.approx(right[1], abs=1e-4)


def test_the_guide_is_see_through_or_on_white() -> None:
    clear = np.asarray(guide_picture(512))
    white = np.asarray(guide_picture(512, is_transparent=False))
    assert (clear[..., 3] == 0).mean() > 0.8
    assert (white[..., 3] == 255).mean() > 0.8
    assert white[200, 20].tolist() == [255, 255, 255, 255]
    with pytest.raises(UserError, match="guide, size: found 10; allowed: 256 to 4096 pixels"):
        guide_picture(10)


def test_what_is_drawn_on_a_mark_is_rendered_on_that_part_of_the_face() -> None:
    vertices = face()
    for name, vertex in (("tip of the nose", 1), ("corner of the mouth, left", 61)):
        u, v = guide_marks()[name]
        rgba = np.full((256, 256, 4), 255, np.uint8)
        column, row = int(u * 256), int(v * 256)
        rgba[row - 5 : row + 6, column - 4 : column + 5, 1:3] = 0
        flat = np.zeros((256, 256), np.float32)
        mask = MaskTemplate(style="own", rgba=rgba, height=flat, outline=USUAL_OUTLINE)
        image = worn(mask, vertices).astype(np.int64)
        y, x = np.nonzero(image[..., 0] - image[..., 2] > 100)
        assert np.hypot(x.mean() - vertices[vertex, 0], y.mean() - vertices[vertex, 1]) < 12


@pytest.mark.parametrize("yaw", [0.0, 0.5, -0.5])
def test_a_mask_that_is_put_on_and_lifted_again_is_what_it_was(yaw: float) -> None:
    mask, vertices = printed(), face(yaw)
    lifted = lift_template(worn(mask, vertices), vertices, size=128)
    assert lifted.shape == (128, 128, 4)
    assert lifted.dtype == np.uint8
    # Turned to the right, the face shows its left half.
    seen = {0.0: slice(14, -14), 0.5: slice(14, 60), -0.5: slice(-60, -14)}[yaw]
    assert likeness(lifted, mask.rgba, seen) > 0.85


def test_the_hidden_side_mirrors_the_other() -> None:
    mask, vertices = printed(), face(0.9)
    lifted = lift_template(worn(mask, vertices), vertices, size=128)
    mirrored = mask.rgba[:, ::-1]
    hidden = slice(-30, -12)
    assert likeness(lifted, mirrored, hidden) > 0.7
    assert likeness(lifted, mask.rgba, hidden) < 0.5
    assert (lifted[40:90, hidden, 3] == 255).all()


def test_light_that_falls_off_to_one_side_is_taken_out() -> None:
    vertices = face()
    fall = np.linspace(0.5, 1.0, SIDE)[None, :, None]
    photo = (np.full((SIDE, SIDE, 3), 200) * fall).astype(np.uint8)
    lifted = lift_template(photo, vertices, size=64)[12:-12, 12:-12, :3].astype(np.float64)
    left, right = lifted[:, :8].mean(), lifted[:, -8:].mean()
    at = photo[200, [int(vertices[50, 0]), int(vertices[280, 0])], 0].astype(np.float64)
    assert at[1] / at[0] > 1.3
    assert 0.95 < right / left < 1.05
    assert 110 < lifted.mean() < 190


def test_a_lifted_mask_can_be_worn(tmp_path: Path) -> None:
    vertices = face()
    lifted = lift_template(worn(printed(), vertices), vertices, size=256)
    assert lifted[0, 0, 3] == 0
    Image.fromarray(lifted).save(tmp_path / "lifted.png")
    bank = MaskBank.read(tmp_path, size=128)
    again = render_mask(np.full((SIDE, SIDE, 3), 150, np.uint8), vertices, bank[0])
    assert again.alpha.max() == 1


def test_a_photo_without_enough_of_the_mask_is_refused() -> None:
    photo = np.full((SIDE, SIDE, 3), 150, np.uint8)
    away = face() + np.array([2 * SIDE, 0, 0], np.float32)
    with pytest.raises(UserError) as error:
        lift_template(photo, away)
    assert str(error.value) == (
        "photo: found 0% of the mask in sight; allowed: at least 20 %; "
        "take a photo from closer to the front, with the whole mask in it"
    )


def test_other_faults_of_lifting_are_named() -> None:
    photo = np.full((SIDE, SIDE, 3), 150, np.uint8)
    with pytest.raises(UserError, match="lifted template, size: found 8; allowed: 32 to 2048"):
        lift_template(photo, face(), size=8)
    with pytest.raises(UserError, match="vertices: found flat, mirrored or not finite"):
        lift_template(photo, np.full((468, 3), np.nan, np.float32))
    with pytest.raises(UserError, match="image: found float64"):
        lift_template(photo / 255, face())  # type: ignore[arg-type]

"""Banks of masks: drawn, and read from a user's pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmfr.errors import CombinedUserError, UserError
from openmfr.masking.bank import STYLE_WEIGHTS, MaskBank
from openmfr.masking.template import USUAL_OUTLINE


def picture(size: int = 128, alpha: int = 255) -> Image.Image:
    """A green disc on nothing."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[..., 1] = 200
    rgba[np.hypot(x, y) < 0.4, 3] = alpha
    return Image.fromarray(rgba)


def test_a_larger_bank_begins_with_the_smaller() -> None:
    small, large = MaskBank.drawn(3, seed=7, size=32), MaskBank.drawn(6, seed=7, size=32)
    assert (len(small), len(large)) == (3, 6)
    for k in range(3):
        assert small[k].style == large[k].style
        assert np.array_equal(small[k].rgba, large[k].rgba)
        assert np.array_equal(small[k].height, large[k].height)


def test_templates_of_a_bank_differ() -> None:
    bank = MaskBank.drawn(8, seed=1, styles={"surgical": 1.0}, size=32)
    assert len({template.rgba.tobytes() for template in bank.templates}) == 8


def test_styles_are_drawn_as_often_as_weighted() -> None:
    bank = MaskBank.drawn(400, seed=3, size=32)
    for style, share in STYLE_WEIGHTS.items():
        found = np.mean([template.style == style for template in bank.templates])
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 400))
    only = MaskBank.drawn(10, seed=3, styles={"kn95": 2.0, "cloth": 0.0}, size=32)
    assert {template.style for template in only.templates} == {"kn95"}


def test_all_templates_are_picked() -> None:
    bank = MaskBank.drawn(4, seed=3, size=32)
    rng = np.random.default_rng(0)
    picked = [bank.templates.index(bank.pick(rng)) for _ in range(200)]
    assert np.bincount(picked, minlength=4).min() > 25


def test_the_fingerprint_follows_all_that_a_template_holds() -> None:
    bank = MaskBank.drawn(2, seed=3, size=32)
    first = bank[0]
    recoloured, raised = first.rgba.copy(), first.height.copy()
    recoloured[16, 16, 0] ^= 1
    raised[16, 16] += 1e-4
    others = [
        replace(first, rgba=recoloured),
        replace(first, height=raised),
        replace(first, outline=replace(first.outline, nose=0.0)),
        replace(first, gloss=0.9),
        replace(first, style="own"),
        replace(first, loops=None if first.loops else first.loops),
    ]
    marks = {MaskBank([other, bank[1]]).fingerprint for other in others}
    assert len(marks) == len(others)
    assert bank.fingerprint not in marks
    assert bank.fingerprint == MaskBank.drawn(2, seed=3, size=32).fingerprint
    assert bank.fingerprint != MaskBank([bank[1], bank[0]]).fingerprint


def test_the_memory_is_that_of_colour_and_height() -> None:
    bank = MaskBank.drawn(3, seed=3, size=32)
    arrays = [array for t in bank.templates for array in (t.rgba, t.height)]
    assert bank.nbytes == sum(array.nbytes for array in arrays)


def test_faults_of_a_drawn_bank_are_named() -> None:
    with pytest.raises(UserError) as error:
        MaskBank.drawn(0, seed=0)
    assert str(error.value) == (
        "mask bank: found no templates; allowed: at least one; "
        "draw some, or name a folder of pictures"
    )
    with pytest.raises(UserError, match="mask bank, styles: found n95; allowed: surgical, kn95"):
        MaskBank.drawn(1, seed=0, styles={"n95": 1.0})
    with pytest.raises(UserError, match=r"mask bank, styles: found kn95 0\.0; allowed: weights"):
        MaskBank.drawn(1, seed=0, styles={"kn95": 0.0})


def test_a_users_pictures_become_templates_in_order_of_their_names(tmp_path: Path) -> None:
    picture().save(tmp_path / "b.png")
    picture(alpha=200).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    bank = MaskBank.read(tmp_path, size=64)
    assert len(bank) == 2
    assert [template.rgba[32, 32, 3] for template in bank.templates] == [200, 255]
    own = bank[1]
    assert own.style == "own"
    assert own.outline == USUAL_OUTLINE
    assert own.loops is not None
    assert own.rgba.shape == (64, 64, 4)
    assert own.rgba[32, 32].tolist() == [0, 200, 0, 255]
    assert own.rgba[2, 2, 3] == 0


def test_a_users_mask_lies_tight_with_a_raised_hem(tmp_path: Path) -> None:
    picture(256).save(tmp_path / "a.png")
    height = MaskBank.read(tmp_path, size=256)[0].height
    assert height[128, 128] < 0.02
    assert height[128, 30:60].max() > height[128, 128] + 0.003
    assert height[5, 5] < 0.002


def test_scaling_down_does_not_mix_in_what_is_transparent(tmp_path: Path) -> None:
    """Editors leave any colour where a picture is transparent."""
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[..., 0] = 255
    rgba[31:97, 31:97] = (0, 0, 255, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    own = MaskBank.read(tmp_path, size=64)[0].rgba
    assert own[own[..., 3] > 0, 0].max() < 10


def test_a_full_sheet_gets_a_soft_rim(tmp_path: Path) -> None:
    Image.new("RGBA", (128, 128), (9, 9, 9, 255)).save(tmp_path / "a.png")
    alpha = MaskBank.read(tmp_path, size=128)[0].rgba[..., 3]
    assert alpha[64, 64] == 255
    assert alpha[0, 64] < 128
    assert alpha[0, 0] == 0


def test_a_picture_with_a_transparent_colour_is_read(tmp_path: Path) -> None:
    """As editors save few colours."""
    picture().quantize(8).save(tmp_path / "a.png")
    alpha = MaskBank.read(tmp_path, size=64)[0].rgba[..., 3]
    assert alpha[32, 32] == 255
    assert alpha[3, 3] == 0


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        MaskBank.read(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: found no PNG picture; allowed: a folder with PNG pictures of masks; "
        "draw one over the guide: openmfr mask guide"
    )
    with pytest.raises(UserError, match="missing: found no such folder"):
        MaskBank.read(tmp_path / "missing")


def test_what_is_wrong_with_a_picture_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"

    def fault() -> str:
        with pytest.raises(UserError) as error:
            MaskBank.read(tmp_path)
        return str(error.value)

    picture().convert("RGB").save(path)
    assert fault() == (
        f"{path}: found a picture without an alpha channel; allowed: RGBA; "
        "make what is not mask transparent, and save as PNG"
    )
    for size in ((40, 40), (128, 100), (5000, 5000)):
        Image.new("RGBA", size).save(path)
        assert fault() == (
            f"{path}: found {size[0]}×{size[1]} pixels; allowed: squares of 64 to 4096 pixels; "
            "draw over the guide, or scale it to the guide's shape"
        )
    picture(alpha=0).save(path)
    assert fault() == (
        f"{path}: found a picture that is transparent all over; "
        "allowed: a mask that covers something; "
        "draw over the guide, and hide the guide before saving"
    )
    picture().save(path)
    path.write_bytes(path.read_bytes()[:200])
    damaged = (
        f"{path}: found a file that is no PNG picture, or damaged; allowed: PNG; "
        "save it again, or delete it"
    )
    assert fault() == damaged
    path.write_bytes(b"GIF89a")
    assert fault() == damaged


def test_all_unusable_pictures_are_named_together(tmp_path: Path) -> None:
    picture().save(tmp_path / "good.png")
    picture(40).save(tmp_path / "small.png")
    picture().convert("RGB").save(tmp_path / "plain.png")
    with pytest.raises(CombinedUserError) as error:
        MaskBank.read(tmp_path)
    assert "small.png: found 40×40" in str(error.value)
    assert "plain.png: found a picture without an alpha" in str(error.value)

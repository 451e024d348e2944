"""What masks are called: by their colour and by what they cover, in the store that wears them."""

from pathlib import Path

import numpy as np
import pytest

from openmfr.data.geometry import Geometry
from openmfr.data.labels import Labels
from openmfr.data.store import MASK_STYLE, Store
from openmfr.masking.augment import Masker
from openmfr.masking.bank import MaskBank
from openmfr.masking.config import MaskConfig
from openmfr.masking.looks import COLOURS, MASK_COLOUR, MASK_COVERAGE, colour_name, mask_colour
from openmfr.masking.render_store import render_store
from openmfr.masking.template import USUAL_OUTLINE, MaskTemplate
from openmfr.masking.wear import COVERAGES


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((40, 42, 60), "black"),
        ((232, 235, 238), "white"),
        ((140, 145, 152), "grey"),
        ((161, 204, 235), "light blue"),
        ((30, 60, 150), "blue"),
        ((173, 214, 199), "green"),
        ((237, 184, 196), "pink"),
        ((180, 20, 30), "red"),
        ((230, 130, 20), "orange"),
        ((110, 75, 40), "brown"),
        ((225, 200, 170), "beige"),
        ((240, 220, 60), "yellow"),
        ((90, 40, 140), "purple"),
    ],
)
def test_colours_are_called_what_people_call_them(rgb: tuple[int, int, int], name: str) -> None:
    assert colour_name((rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)) == name


def test_every_colour_has_a_name() -> None:
    levels = np.linspace(0, 1, 9)
    names = {colour_name((r, g, b)) for r in levels for g in levels for b in levels}
    assert names == set(COLOURS)


def test_what_is_transparent_has_no_say_in_a_masks_colour() -> None:
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)
    rgba[..., :3] = (20, 200, 40)
    rgba[:24, :, :3], rgba[:24, :, 3] = (170, 20, 30), 255
    height = np.zeros((64, 64), dtype=np.float32)
    mask = MaskTemplate(style="own", rgba=rgba, height=height, outline=USUAL_OUTLINE)
    assert mask_colour(mask) == "red"


def test_surgical_masks_have_the_colours_they_are_sold_in() -> None:
    names = [
        mask_colour(t)
        for t in MaskBank.drawn(12, seed=3, styles={"surgical": 1}, size=64).templates
    ]
    assert set(names) <= {"light blue", "blue", "white", "black", "green", "pink", "grey", "purple"}
    assert len(set(names)) >= 3


def test_a_masked_store_says_colour_and_coverage_of_what_was_put_on(
    people: Store, tmp_path: Path
) -> None:
    config = MaskConfig(probability=0.5, templates=6, template_size=96, seed=1_000)
    masker = Masker(config, seed=9, geometry=Geometry.open(people.path / "geometry", people))
    labels = Labels.read(people.path / "labels.parquet")
    store, table, _ = render_store(people, labels, tmp_path / "m", masker=masker, workers=1)
    colours, coverages = store.column(MASK_COLOUR), store.column(MASK_COVERAGE)
    for index, is_masked in enumerate(table.is_masked):
        worn = masker.worn(index)
        assert worn is not None
        told = (worn[0].style, mask_colour(worn[0]), worn[1].coverage)
        said = (store.column(MASK_STYLE)[index], colours[index], coverages[index])
        assert said == (told if is_masked else (None, None, None))
    assert set(coverages) - {None} <= set(COVERAGES)


def test_an_erased_half_has_a_style_and_no_colour(people: Store, tmp_path: Path) -> None:
    masker = Masker(MaskConfig(probability=1.0, kind="erase"), seed=0)
    labels = Labels.read(people.path / "labels.parquet")
    store, _, _ = render_store(people, labels, tmp_path / "m", masker=masker, workers=1)
    assert set(store.column(MASK_STYLE)) == {"erase"}
    assert set(store.column(MASK_COLOUR)) == {None}

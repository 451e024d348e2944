"""Reading light, colour and sharpness off a face."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.faces.geometry import face_model
from openmfr.masking.render import light
from openmfr.masking.render.blend import _change_blur, soften
from openmfr.masking.render.surface import skin

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

FACE = (face_model().mean * 48 + [56, 56, 0]).astype(np.float32)
NORMALS: Float32Array = light.vertex_normals(FACE, skin().closed)


def read(image: UInt8Array) -> Float64Array:
    photo: Float64Array = light.read_photo(image, FACE, NORMALS, light.skin_vertices())
    return photo


def lit(direction: tuple[float, float, float], spots: int = 0) -> UInt8Array:
    """Skin lit from a direction; each vertex colours the pixel that it is read at."""
    image = np.full((112, 112, 3), 90, np.uint8)
    way = np.array(direction) / np.linalg.norm(direction)
    shade = 0.45 + 0.4 * np.clip(NORMALS @ way, 0, 1)
    dark = np.random.default_rng(0).permutation(len(FACE))[:spots]
    shade[dark] = 0.05
    x, y = np.clip(np.floor(FACE[:, :2] + 0.5).astype(int), 0, 111).T
    image[y, x] = (shade[:, None] * [255, 200, 170]).astype(np.uint8)
    return image


@pytest.mark.parametrize("spots", [0, 60], ids=["clean", "with hair"])
@pytest.mark.parametrize(
    "direction", [(-0.8, -0.3, 0.6), (0.8, -0.3, 0.6), (0.1, -0.8, 0.6)], ids=str
)
def test_light_is_found_where_it_is(direction: tuple[float, float, float], spots: int) -> None:
    photo = read(lit(direction, spots))
    way = np.array(direction) / np.linalg.norm(direction)
    found = photo[light.LIGHT : light.LIGHT + 3]
    assert found @ way > 0.85
    towards = light.irradiance(photo, *way)
    away = light.irradiance(photo, -way[0], -way[1], way[2])
    assert towards > away + 0.15


def test_even_light_is_brightest_from_above_as_light_usually_is() -> None:
    photo = read(np.zeros((4, 4, 3), np.uint8))
    assert light.irradiance(photo, 0, -0.7, 0.7) > light.irradiance(photo, 0, 0.7, 0.7)


@pytest.mark.parametrize("deviation", [0.6, 1.0, 1.6])
def test_blur_grows_with_the_blur_of_the_photo(deviation: float) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0.5, 0.25, (112, 112, 1)).repeat(3, axis=2).astype(np.float32)
    pictures = []
    for blur in (deviation, deviation + 0.5):
        picture = noise.copy()
        soften(picture, blur)
        pictures.append(read((np.clip(picture, 0, 1) * 255).astype(np.uint8))[light.BLUR])
    assert pictures[1] > pictures[0] + 0.1


def test_masks_are_lit_with_more_contrast_than_skin_and_as_brightly_on_average() -> None:
    photo = read(lit((-0.8, -0.3, 0.6)))
    lamp = light.light_readings(photo)
    read_at = [light.irradiance(photo, x, 0.0, 0.6) for x in (-0.8, 0.8)]
    lit_at = [light.irradiance(lamp, x, 0.0, 0.6) for x in (-0.8, 0.8)]
    assert lit_at[0] - lit_at[1] == pytest.approx(1.5 * (read_at[0] - read_at[1]), rel=0.02)
    assert lamp[0] - 1 == pytest.approx(1.5 * (photo[0] - 1), abs=1e-5)


def test_blur_below_zero_sharpens_an_edge_and_keeps_its_mean() -> None:
    layer = np.zeros((12, 12, 4), np.float32)
    layer[:, 6:] = 0.6
    sharp = layer.copy()
    _change_blur(sharp, -0.2)
    assert sharp[:, 6].min() > 0.65
    assert sharp[:, 5].max() < -0.05
    assert np.allclose(sharp[:, :4], 0)
    assert sharp.mean() == pytest.approx(layer.mean(), rel=1e-5)


@pytest.mark.parametrize("deviation", [2.0, 5.0])
def test_noise_is_measured_within_a_third(deviation: float) -> None:
    rng = np.random.default_rng(4)
    slope = np.linspace(90, 160, 112)[None, :, None]
    image = np.round(slope + rng.normal(0, deviation, (112, 112, 1))).repeat(3, axis=2)
    measured = read(image.astype(np.uint8))[light.NOISE] * 255
    assert abs(measured / deviation - 1) < 0.34


def test_skin_is_told_from_hair_and_sky_even_in_shade() -> None:
    photo = read(lit((0, -0.3, 1)))
    assert light.skin_likeness(photo, 0.7, 0.55, 0.47) > 0.9
    assert light.skin_likeness(photo, 0.5, 0.4, 0.34) > 0.5
    assert light.skin_likeness(photo, 0.08, 0.07, 0.07) < 0.2
    assert light.skin_likeness(photo, 0.45, 0.6, 0.85) < 0.05


def test_skin_vertices_leave_out_eyes_lips_and_brows() -> None:
    chosen = set(light.skin_vertices().tolist())
    assert not chosen & {13, 14, 0, 17, 61, 291, 33, 263, 159, 145, 105, 334}
    assert {50, 280, 4, 152, 117, 346} <= chosen

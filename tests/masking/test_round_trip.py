"""Faces whose geometry is known exactly: what fitting finds of it, and where masks come to lie."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.faces.geometry import Float32Array, fit_pose
from openmfr.faces.rasteriser import rasterise
from openmfr.masking.bank import MaskBank
from openmfr.masking.render import render_mask
from openmfr.masking.wear import Wear
from openmfr.synthetic import render
from openmfr.synthetic.anatomy import EYE, MOUTH_CORNER
from openmfr.synthetic.geometry import mesh_vertices
from openmfr.synthetic.head import head_model
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import Face, render_face
from openmfr.synthetic.shot import draw_shot

BoolArray = npt.NDArray[np.bool_]

YAWS = [-60, -30, 0, 30, 60]
SEED = 6


@cache
def face_at(yaw: float, person: int = 0) -> Face:
    """A face turned by so many degrees, upright and with its mouth nearly closed."""
    drawn = draw_shot(np.random.default_rng([SEED, person]))
    shot = replace(
        drawn,
        yaw=np.radians(yaw),
        pitch=0.0,
        roll=0.0,
        expression=np.zeros_like(drawn.expression),
        landmark_error=np.zeros((5, 2)),
        glasses=None,
        headwear=None,
        distance=12.0,
        blur=0.4,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "draw_shot", lambda _: shot)
        return render_face(make_identity(SEED, person), rng=np.random.default_rng(person))


def seen_places(face: Face) -> Float32Array:
    """For each pixel the place on the mean head that it shows; NaN on the background."""
    model = head_model()
    raster = rasterise(face.vertices, model.triangles, model.mean, height=112, width=112)
    return np.where(np.isfinite(raster.depth)[..., None], raster.attributes, np.float32(np.nan))


def around(
    places: Float32Array, center: tuple[float, float], radius: tuple[float, float]
) -> BoolArray:
    """Pixels that show the head's front within an ellipse, as seen from the front."""
    offset = (places[..., :2] - np.array(center)) / np.array(radius)
    is_inside: BoolArray = ((offset**2).sum(axis=-1) < 1) & (places[..., 2] > 0)
    return is_inside


@pytest.mark.parametrize("person", range(4))
@pytest.mark.parametrize("yaw", YAWS)
def test_the_pose_of_exact_geometry_is_that_of_the_shot(yaw: float, person: int) -> None:
    """Turning within 3°; the mean face looks down by another angle than our heads, so no pitch."""
    pose = fit_pose(mesh_vertices(face_at(yaw, person)))
    # Perspective turns a face that is off the camera's axis by up to a degree more.
    assert np.degrees(pose.yaw) == pytest.approx(yaw, abs=3)


def test_pitch_differs_from_the_shots_by_a_constant() -> None:
    offsets = []
    for person in range(8):
        pose = fit_pose(mesh_vertices(face_at(0, person)))
        offsets.append(np.degrees(pose.pitch))
    assert np.std(offsets) < 2.5


@pytest.mark.parametrize("style", ["surgical", "kn95", "cloth", "scarf"])
@pytest.mark.parametrize("yaw", YAWS)
def test_a_mask_on_exact_geometry_covers_mouth_and_chin_and_not_the_eyes(
    yaw: float, style: str
) -> None:
    template = MaskBank.drawn(1, seed=3, styles={style: 1.0}, size=128)[0]
    (eye_x, eye_y), (mouth_x, mouth_y) = EYE, MOUTH_CORNER
    for person in range(3):
        face = face_at(yaw, person)
        alpha = render_mask(face.image, mesh_vertices(face), template, Wear()).alpha
        places = seen_places(face)
        mouth = around(places, (0, mouth_y), (mouth_x, 0.1))
        chin = around(places, (0, 0.97), (0.18, 0.08))
        assert mouth.sum() > 20
        assert chin.sum() > 10
        assert alpha[mouth].mean() > 0.97
        assert alpha[chin].mean() > 0.97
        for side in (-1, 1):
            eye = around(places, (side * eye_x, eye_y), (0.13, 0.05))
            # A respirator's beak may graze the far eye's lower lid at 60°.
            assert not eye.any() or alpha[eye].mean() < 0.02


@pytest.mark.parametrize("yaw", YAWS)
def test_what_does_not_show_the_face_s_lower_half_keeps_its_pixels(yaw: float) -> None:
    template = MaskBank.drawn(1, seed=3, styles={"surgical": 1.0}, size=128)[0]
    face = face_at(yaw)
    masked = render_mask(face.image, mesh_vertices(face), template, Wear())
    places = seen_places(face)
    forehead = (places[..., 1] < -0.15) & (places[..., 2] > 0.4)
    assert forehead.sum() > 100
    np.testing.assert_array_equal(masked.image[forehead], face.image[forehead])


def test_face_mesh_finds_the_exact_vertices_within_three_pixels() -> None:
    """In the median of frontal faces; 2.5 of 112 pixels when this was written."""
    pytest.importorskip("mediapipe", reason="Face Mesh needs openmfr[face]")
    from openmfr.faces.mesh_provider import FaceMeshProvider

    provider = FaceMeshProvider()
    errors, turns = [], []
    for person in range(16):
        face = face_at(0, person)
        found = provider.reconstruct(face.image)
        if found is None:
            continue
        exact = mesh_vertices(face)
        errors.append(np.linalg.norm((found - exact)[:, :2], axis=1).mean())
        turns.append(np.degrees(fit_pose(found).yaw))
    assert len(errors) >= 14
    assert np.median(errors) < 3
    assert np.abs(np.median(turns)) < 4

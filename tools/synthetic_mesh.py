"""How `src/openmfr/synthetic/face_mesh.npz` was made: where Face Mesh's vertices lie on our heads.

    python tools/synthetic_mesh.py OUT.npz

Face Mesh is fitted to synthetic images; for each of its vertices, that place on the head's surface
is chosen which is nearest to the fits, by least squares over all images and their mirror images.
One fit is off by two pixels of 112, their mean by much less. Everything follows from the seed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.faces.geometry import VERTICES, face_model
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.synthetic.anatomy import MOUTH_CORNER
from openmfr.synthetic.geometry import WEIGHT_STEPS
from openmfr.synthetic.head import COLUMNS, ROWS, head_model
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import render_face

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PEOPLE, IMAGES, SEED, SIZE = 500, 2, 78, 224
LARGEST_YAW = 0.4  # Face Mesh guesses what it does not see
FRONT = 1.9  # largest angle from the front of a head's vertex that Face Mesh may mean

#: Vertices on the inner edges of the lips, which part where the jaw drops.
UPPER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
BELOW_LOWER_LIP = (96, 89, 179, 86, 15, 316, 403, 319, 325)  # the next ring, that it may not cross
LIP_LINE, LIP_GAP, RING = MOUTH_CORNER[1] + 0.005, 0.006, 0.006


def main(out: Path) -> None:
    """Make the file."""
    heads, fits = fit_synthetic_faces()
    weight = np.ones(len(heads))
    for _ in range(3):
        corners, steps = places(heads, fits, weight)
        placed = np.einsum("nvkx,vk->nvx", heads[:, corners], steps / WEIGHT_STEPS)
        error = np.linalg.norm(placed - fits, axis=-1).mean(axis=1)
        weight = 1 / (1 + (error / np.median(error)) ** 4)  # few fits are wholly wrong
    np.savez_compressed(out, corners=corners.astype(np.int16), steps=steps.astype(np.uint8))
    bias = np.linalg.norm(np.average(placed - fits, axis=0, weights=weight), axis=-1)
    scale = 112 / SIZE
    print(
        f"{out}: {len(heads):,} fits, off by {np.median(error) * scale:.2f} pixels of 112 in the "
        f"median; their mean by {bias.mean() * scale:.2f}, at most {bias.max() * scale:.2f}"
    )


def fit_synthetic_faces() -> tuple[Float32Array, Float32Array]:
    """(x, y) of heads' vertices and of Face Mesh's fits; each image, and mirrored."""
    provider = FaceMeshProvider()
    model = face_model()
    heads, fits = [], []
    for number in range(PEOPLE):
        person = make_identity(SEED, number)
        for image in range(IMAGES):
            face = render_face(person, rng=image_rng(SEED, number, image), size=SIZE)
            fit = provider.reconstruct(face.image)
            if fit is None or abs(face.shot.yaw) > LARGEST_YAW:
                continue
            head = face.vertices[:, :2]
            grid = head.reshape(ROWS, COLUMNS, 2)[:, ::-1].reshape(-1, 2)
            flip = np.array([-1, 1], np.float32)
            heads += [head, grid * flip]
            fits += [fit[:, :2], fit[model.mirrored, :2] * flip]
    return np.array(heads), np.array(fits)


def places(
    heads: Float32Array, fits: Float32Array, weight: FloatArray
) -> tuple[IntArray, IntArray]:
    """For each vertex a triangle of the head and the weights in it, times `WEIGHT_STEPS`."""
    model = head_model()
    is_front = np.abs(np.tile(model.angle, ROWS)) < FRONT
    cost = distances(heads, fits, weight)
    barycentric = all_weights()
    corners = np.zeros((VERTICES, 3), np.int64)
    steps = np.zeros((VERTICES, 3), np.int64)
    for v in range(VERTICES):
        is_allowed = is_front & lip_side(v, model.mean[:, 1])
        nearest = np.where(is_allowed, cost[:, v], np.inf).argmin()
        lowest = np.inf
        for triangle in model.triangles[(model.triangles == nearest).any(axis=1)]:
            if not is_allowed[triangle].all():
                continue
            points = heads[:, triangle].astype(np.float64) - fits[:, v, None]
            gram = np.einsum("n,njx,nkx->jk", weight, points, points)
            costs = np.einsum("wj,jk,wk->w", barycentric, gram, barycentric)
            if costs.min() < lowest:
                lowest = costs.min()
                corners[v], steps[v] = triangle, barycentric[costs.argmin()]
    return corners, steps


def distances(heads: Float32Array, fits: Float32Array, weight: FloatArray) -> FloatArray:
    """Sum of the squared distances of each vertex of the head from each of Face Mesh's."""
    each = np.repeat(weight, 2)
    head = heads.transpose(1, 0, 2).reshape(heads.shape[1], -1)
    fit = fits.transpose(1, 0, 2).reshape(VERTICES, -1)
    return (
        (head.astype(np.float64) ** 2 @ each)[:, None]
        + fit.astype(np.float64) ** 2 @ each
        - 2 * (head * each) @ fit.T.astype(np.float64)
    )


def lip_side(vertex: int, height: Float32Array) -> BoolArray:
    """Which of the head's vertices lie on the side of the lips' line that a vertex must lie on."""
    if vertex in UPPER_LIP:
        return height < LIP_LINE - LIP_GAP
    if vertex in LOWER_LIP:
        return height > LIP_LINE + LIP_GAP
    if vertex in BELOW_LOWER_LIP:
        return height > LIP_LINE + LIP_GAP + RING
    return np.ones(len(height), np.bool_)


def all_weights() -> IntArray:
    """All triples of whole numbers from 0 that add up to `WEIGHT_STEPS`."""
    a, b = np.mgrid[: WEIGHT_STEPS + 1, : WEIGHT_STEPS + 1]
    triples = np.stack([a, b, WEIGHT_STEPS - a - b], axis=-1).reshape(-1, 3)
    return triples[triples[:, 2] >= 0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

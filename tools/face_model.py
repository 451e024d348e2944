"""How `src/openmfr/faces/face_model.npz` was made: Face Mesh's fits to our own synthetic faces.

    python tools/face_model.py OUT.npz

Triangles are the cliques of Face Mesh's tessellation, less those whose three edges are all taken by
two other triangles; the mean is that of the fits, brought to one pose and made symmetric; the modes
are the principal components of what is left. Everything follows from the seed.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openmfr.faces.geometry import MODES, VERTICES
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import render_face

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PEOPLE, SEED = 2_000, 77
LEFT_EYE, RIGHT_EYE = 33, 263  # outer corners


def main(out: Path) -> None:
    """Make the file."""
    fits = fit_synthetic_faces()
    mean, mirrored = mean_face(fits)
    left = (in_head(fits, mean) - mean).reshape(len(fits), -1)
    _, spread, modes = np.linalg.svd(left, full_matrices=False)
    scaled = modes[:MODES] * (spread[:MODES, None] / np.sqrt(len(fits)))
    np.savez_compressed(
        out,
        mean=mean.astype(np.float32),
        modes=scaled.reshape(MODES, VERTICES, 3).astype(np.float32),
        triangles=triangles(mean).astype(np.int16),
        mirrored=mirrored.astype(np.int16),
    )
    print(f"{out}: {len(fits):,} faces of {PEOPLE:,} people")


def fit_synthetic_faces() -> FloatArray:
    """One fit for each person in whose image Face Mesh finds a face."""
    provider = FaceMeshProvider()
    fits = []
    for number in range(PEOPLE):
        person = make_identity(SEED, number)
        image = render_face(person, rng=image_rng(SEED, number, 0)).image
        vertices = provider.reconstruct(image)
        if vertices is not None:
            fits.append(vertices.astype(np.float64))
    return np.array(fits)


def in_head(fits: FloatArray, mean: FloatArray) -> FloatArray:
    """Undo each fit's pose relative to a mean face."""
    moved = []
    for fit in fits:
        center = fit.mean(axis=0)
        left, stretch, right = np.linalg.svd((fit - center).T @ mean)
        signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
        scale = (stretch * signs).sum() / (mean**2).sum()
        moved.append((fit - center) @ ((left * signs) @ right) / scale)
    return np.array(moved)


def mean_face(fits: FloatArray) -> tuple[FloatArray, IntArray]:
    """Mean of the fits, upright, symmetric, of eye span 1; and each vertex's mirror image."""
    mean = _upright(fits[0])
    for _ in range(6):
        mean = _upright(in_head(fits, mean).mean(axis=0))
    flipped = mean * [-1, 1, 1]
    mirrored = np.square(mean[:, None] - flipped[None]).sum(axis=-1).argmin(axis=1)
    if len(set(mirrored.tolist())) != VERTICES:
        raise RuntimeError("a vertex has no mirror image of its own")
    return _upright((mean + flipped[mirrored]) / 2), mirrored


def _upright(face: FloatArray) -> FloatArray:
    face = face - face.mean(axis=0)
    across = face[RIGHT_EYE] - face[LEFT_EYE]
    yaw = np.arctan2(across[2], across[0])
    face = face @ np.array(
        [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    )
    across = face[RIGHT_EYE] - face[LEFT_EYE]
    roll = np.arctan2(across[1], across[0])
    face = face @ np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    )
    return face / np.linalg.norm(face[RIGHT_EYE] - face[LEFT_EYE])


def triangles(mean: FloatArray) -> IntArray:
    """Triangles of the tessellation, clockwise as seen from the front."""
    from mediapipe.python.solutions.face_mesh import FACEMESH_TESSELATION

    edges = {tuple(sorted(edge)) for edge in FACEMESH_TESSELATION}
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    cliques = sorted({tuple(sorted((a, b, c))) for a, b in edges for c in near[a] & near[b]})
    used = Counter(edge for clique in cliques for edge in combinations(clique, 2))
    real = [c for c in cliques if not all(used[edge] > 2 for edge in combinations(c, 2))]
    corners = np.array(real)
    ab, ac = (mean[corners[:, i]] - mean[corners[:, 0]] for i in (1, 2))
    is_turned = ab[:, 0] * ac[:, 1] < ab[:, 1] * ac[:, 0]
    corners[is_turned] = corners[is_turned][:, [0, 2, 1]]
    return corners


if __name__ == "__main__":
    main(Path(sys.argv[1]))

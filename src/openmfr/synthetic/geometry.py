"""The exact geometry of a synthetic face, as the 468 vertices that masks are put on.

A head has 6,764 vertices, which `synthetic.render` knows exactly. Each of Face Mesh's vertices is a
fixed point on a fixed triangle of the head, so that it follows every person and expression; which
one was found by fitting Face Mesh to many heads (`tools/synthetic_mesh.py`). MediaPipe is not
needed here, and its errors on one image are not taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.data.geometry import FOLDER, Geometry, GeometryWriter, Status
from openmfr.data.store import Store
from openmfr.faces.geometry import pack
from openmfr.run import progress
from openmfr.synthetic.head import head_model, weighted_sum
from openmfr.synthetic.identity import Identity, image_rng, make_identity
from openmfr.synthetic.render import Camera, Face
from openmfr.synthetic.shot import draw_shot
from openmfr.workers import do_all

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]

#: Names the source of the geometry; raised with the places of the vertices.
PROVIDER: Final = "openmfr-synthetic-1"

#: Barycentric weights are stored as whole numbers of this part.
WEIGHT_STEPS: Final = 64


def mesh_vertices(face: Face) -> Float32Array:
    """Say where the vertices of `faces.geometry` truly are in a synthetic image.

    Args:
        face: The image; any size.

    Returns:
        (x, y) and depth in pixels, shape (468, 3), float32.

    Example:
        >>> from openmfr.synthetic.identity import make_identity
        >>> from openmfr.synthetic.render import render_face
        >>> face = render_face(make_identity(0, 3), rng=np.random.default_rng(5))
        >>> nose = mesh_vertices(face)[4, :2]
        >>> bool(np.abs(nose - face.landmarks[2]).max() < 1)
        True
    """
    return on_mesh(face.vertices)


def on_mesh(vertices: Float32Array) -> Float32Array:
    """Find the 468 vertices on a head's vertices, moved or projected.

    Args:
        vertices: All of the head's, in any coordinates, shape (6764, C), float32.

    Returns:
        Shape (468, C), float32.
    """
    corners, weights = _places()
    found: Float32Array = np.einsum("vkc,vk->vc", vertices[corners], weights)
    return found


def write_exact_geometry(
    store: Store, *, seed: int, images: int, shards: Sequence[range], workers: int
) -> Geometry:
    """Write the geometry of a synthetic store into its folder, or go on with one that was begun.

    The faces are not drawn again: where they are follows from the seed. Packing them costs up to a
    few pixels at the chin, as the modes of `faces.geometry` come from fits, which vary less.

    Args:
        store: A finished store of `synthesise`.
        seed: Its seed.
        images: Images of each identity.
        shards: Numbers of the identities in each shard, in the store's order.
        workers: Processes, from 1; the result does not depend on it.

    Returns:
        The geometry, in the folder `FOLDER` of the store.

    Raises:
        UserError: If the folder holds a geometry that something else made.
    """
    writer = GeometryWriter(store.path / FOLDER, store, provider=PROVIDER, checks="none")
    if writer.is_finished:
        writer.tidy(parts=len(shards))
        return Geometry(writer.path)
    missing = [number for number in range(len(shards)) if not writer.has_part(number)]
    jobs = [(number, shards[number]) for number in missing]
    done = len(store) - images * sum(len(people) for _, people in jobs)
    write = partial(_write_part, writer, seed, images)
    with progress("geometry", total=len(store), unit="images", done=done) as advance:
        for count in do_all(write, jobs, workers=workers, what="synth"):
            advance(count)
    return writer.commit(parts=len(shards))


def _write_part(writer: GeometryWriter, seed: int, images: int, job: tuple[int, range]) -> int:
    number, people = job
    size = writer.store.image_size
    packed = []
    for person in people:
        identity = make_identity(seed, person)
        for image in range(images):
            head = _head_vertices(identity, image_rng(seed, person, image), size)
            packed.append(pack(on_mesh(head), size=size))
    writer.write_part(number, np.stack(packed), np.full(len(packed), Status.FITTED, np.uint8))
    return len(packed)


def _head_vertices(identity: Identity, rng: np.random.Generator, size: int) -> Float32Array:
    """`Face.vertices` of the image that `render_face` would make."""
    shot = draw_shot(rng)
    model = head_model()
    moved = identity.shape + weighted_sum(shot.expression, model.expression_modes)
    return Camera(shot, model.landmarks(moved), size).project(moved)


@cache
def _places() -> tuple[Int32Array, Float32Array]:
    """Corners of each vertex's triangle on the head, and its barycentric weights, (468, 3) both."""
    source = files("openmfr.synthetic").joinpath("face_mesh.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        corners = arrays["corners"].astype(np.int32)
        weights = arrays["steps"].astype(np.float32) / np.float32(WEIGHT_STEPS)
    return corners, weights

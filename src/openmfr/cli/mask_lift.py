"""`openmfr mask lift`: a photo of a masked face → its mask as a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")],
    png: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PNG")],
    *,
    size: int = 512,
) -> None:
    """Take the mask off a photo of someone who wears it, as a template for others to wear.

    The side that is turned away is mirrored from the other one, and the photo's light is taken out.
    The sheet covers the lower face as a surgical mask does: erase in an image editor what is skin.

    Example: openmfr mask lift masked.jpg templates/mine.png

    Args:
        photo: A photo, from the front if possible; of several faces the largest central one.
        png: Template to write, a PNG with transparency.
        size: Its edge in pixels.
    """
    import numpy as np
    from PIL import Image

    from openmfr.errors import UserError
    from openmfr.faces.detect import choose_face
    from openmfr.faces.face_mesh import FaceMeshDetector
    from openmfr.faces.geometry import reconstruct_in_photo
    from openmfr.faces.mesh_provider import FaceMeshProvider
    from openmfr.faces.photo import read_photo
    from openmfr.files import atomic_path
    from openmfr.masking.lift import lift_template

    pixels = read_photo(photo).pixels
    faces = FaceMeshDetector().detect(pixels)
    vertices = None
    if faces:
        face = choose_face(faces, width=pixels.shape[1], height=pixels.shape[0])
        vertices = reconstruct_in_photo(pixels, face.landmarks, FaceMeshProvider())
    if vertices is None:
        raise UserError(
            where=str(photo),
            found="no face that could be reconstructed",
            allowed="a photo of a masked face",
            next_step="take one in which the eyes are seen, from the front",
        )
    template = lift_template(pixels, vertices, size=size)
    with atomic_path(png) as temporary:
        Image.fromarray(np.ascontiguousarray(template)).save(temporary, format="PNG")
    print(f"{png}: look at it, then: openmfr mask preview PHOTOS PNG --templates {png.parent}")

"""`openmfr mask guide`: a picture of a mask's layout, to draw one's own upon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    png: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PNG")],
    *,
    size: int = 1024,
) -> None:
    """Draw where nose, mouth, chin and ears lie on a mask's sheet.

    Draw your mask over it in any image editor, delete the guide's layer, leave transparent what is
    no mask, and save it as a PNG with transparency. --templates takes a folder of such PNGs.

    Example: openmfr mask guide guide.png

    Args:
        png: Picture to write.
        size: Its edge in pixels.
    """
    from openmfr.files import atomic_path
    from openmfr.masking.guide import guide_picture

    picture = guide_picture(size)
    with atomic_path(png) as temporary:
        picture.save(temporary, format="PNG")
    print(
        f"{png}: draw your mask over it, then: openmfr mask preview PHOTOS PNG --templates FOLDER"
    )

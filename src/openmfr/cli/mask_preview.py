"""`openmfr mask preview`: a store or photos → a contact sheet of their faces under all styles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")],
    png: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PNG")],
    *,
    images: int = 8,
    styles: tuple[str, ...] = ("surgical", "kn95", "cloth", "scarf"),
    templates: Path | None = None,
    flat: bool = False,
    cell: int = 160,
    seed: int = 0,
    geometry: Path | None = None,
) -> None:
    """Draw faces bare and under every style of mask.

    Example: openmfr mask preview faces masks.png

    Args:
        source: A store, or a folder of photos, of which the largest central face is taken.
        png: Picture to write.
        images: Faces, one in each row; evenly spread over the source.
        styles: A column for each.
        templates: Folder of your own mask templates: one more column.
        flat: One more column with a flat overlay, to compare.
        cell: Side of each cell in pixels.
        seed: Another one draws other masks.
        geometry: What openmfr mask fit wrote; SOURCE/geometry by default, and without one faces
            are reconstructed now.
    """
    from openmfr.errors import UserError
    from openmfr.files import atomic_path
    from openmfr.masking.bank import MaskBank
    from openmfr.masking.config import StyleWeights
    from openmfr.masking.preview import preview_sheet, sample_faces

    if images < 1:
        raise UserError(
            where="images", found=str(images), allowed="from 1", next_step="leave it out"
        )
    StyleWeights.only(styles)
    # As many masks as rows: every row wears another one.
    banks = [
        (style, MaskBank.drawn(images, seed=seed, styles={style: 1.0}, size=max(256, cell)))
        for style in styles
    ]
    if templates:
        banks.append(("own", MaskBank.read(templates)))
    faces = sample_faces(source, images, geometry=geometry, size=cell)
    sheet = preview_sheet(faces, banks, seed=seed, cell=cell, with_flat=flat)
    with atomic_path(png) as temporary:
        sheet.save(temporary, format="PNG")
    print(f"{png}: {len(faces)} faces under {len(banks)} styles")

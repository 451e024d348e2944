"""`openmfr gallery export`: a gallery → a Parquet table, not encrypted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro


def main(
    gallery: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GALLERY")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    encryption: bool = True,
) -> None:
    """Write everybody's embeddings and names as a Parquet table, for other programs.

    The table is NOT encrypted. An embedding is biometric data: it finds its person in any gallery
    of the same model, and a picture of the face can be made of it. No photos are in it, as none are
    in the gallery.

    Example: openmfr gallery export people.db people.parquet

    Args:
        gallery: File, or postgresql:// URL of a database.
        out: Parquet file to write: image_id, identity, is_masked, source, added_at, embedding.
        encryption: With --no-encryption a gallery without encryption is opened although there is a
            key.
    """
    from openmfr.deploy.gallery import open_gallery, read_key
    from openmfr.deploy.gallery.export import export_gallery

    opened = open_gallery(gallery, key=read_key(), allow_plain=not encryption)
    written = export_gallery(opened.store, out)
    opened.close()
    print(f"{out}: {written:,} images")
    print(
        "warning: its embeddings are biometric data and not encrypted; keep it as you would keep "
        "the photos, and delete it when it has served",
        file=sys.stderr,
    )

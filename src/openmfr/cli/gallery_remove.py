"""`openmfr gallery remove`: a person or an image → gone for good."""

from __future__ import annotations

from typing import Annotated

import tyro


def main(
    gallery: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GALLERY")],
    *,
    identity: str | None = None,
    image: int | None = None,
    encryption: bool = True,
) -> None:
    """Remove a person with all images, or one image, from a gallery.

    The rows are deleted and overwritten, the file is rewritten without them, and its log emptied.
    Copies and backups of the file that were made before are not reached.

    Example: openmfr gallery remove people.db --identity ann

    Args:
        gallery: File, or postgresql:// URL of a database.
        identity: Who.
        image: Number of an image instead; openmfr gallery list --identity shows them.
        encryption: With --no-encryption a gallery without encryption is opened although there is a
            key.
    """
    from openmfr.deploy.gallery import open_gallery, read_key

    opened = open_gallery(gallery, key=read_key(), allow_plain=not encryption)
    removed = opened.remove(identity=identity, image_id=image)
    left = len(opened.images(removed[0].identity))
    opened.close()
    for gone in removed:
        print(f"removed  {gone.identity}, image {gone.image_id}: {gone.source}")
    if left:
        print(f"{removed[0].identity} has {left} left")

"""`openmfr gallery copy`: the same people under another key, or in PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import tyro


def main(
    gallery: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GALLERY")],
    to: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TO")],
    *,
    encryption: bool = True,
) -> None:
    """Enrol everybody of a gallery in another: to change its key, or to move it to a server.

    The copy is encrypted with OPENMFR_GALLERY_NEW_KEY, or with OPENMFR_GALLERY_KEY if that is not
    set. A copy that was stopped goes on when the command is repeated. The first gallery stays.

    Example: openmfr gallery copy people.db copy.db

    To a server: openmfr gallery copy people.db postgresql://openmfr@localhost/people

    Args:
        gallery: File, or postgresql:// URL of a database.
        to: File to make or to go on with, or postgresql:// URL (not encrypted at rest).
        encryption: With --no-encryption the copy is not encrypted.
    """
    from openmfr.deploy.gallery.cipher import NEW_KEY_VARIABLE, read_key
    from openmfr.deploy.gallery.export import copy_gallery
    from openmfr.deploy.gallery.opening import make_store, open_store
    from openmfr.run import progress

    key = read_key()
    source = open_store(gallery, key=key, allow_plain=True)
    target = make_store(
        to,
        model=source.header.model,
        dim=source.header.dim,
        key=read_key(NEW_KEY_VARIABLE) or key,
        allow_plain=not encryption,
    )
    total = source.state().images
    with progress("copy", total=total, unit="images") as advance:
        added = copy_gallery(source, target, advance=advance)
    how = "encrypted" if target.header.is_encrypted else "NOT encrypted at rest"
    print(f"{target.where}: {added:,} of {total:,} images added, {how}")
    source.close()
    target.close()

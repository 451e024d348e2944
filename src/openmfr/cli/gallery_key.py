"""`openmfr gallery key`: a fresh key for a gallery."""

from __future__ import annotations


def main() -> None:
    """Print a fresh key: 32 random bytes in base64, for the variable OPENMFR_GALLERY_KEY.

    Keep it where only the gallery's owner can read it, and a copy elsewhere: without it nobody can
    open the gallery, and whoever has it can.

    Example: export OPENMFR_GALLERY_KEY="$(openmfr gallery key)"
    """
    from openmfr.deploy.gallery.cipher import new_key

    print(new_key())

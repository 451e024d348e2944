"""Which files the service opens at all: pictures that a browser shows.

`faces.photo` reads more, such as TIFF; strangers need none of it, and each decoder is one more that
may have a weakness.
"""

from __future__ import annotations

from openmfr.faces.photo import JPEG_MAGIC, PhotoError


def check_format(encoded: bytes) -> None:
    """Refuse a file that no browser shows, by its content.

    Args:
        encoded: The file.

    Raises:
        PhotoError: "empty file" or "not a picture".

    Example:
        >>> check_format(b"%PDF-1.7")
        Traceback (most recent call last):
            ...
        openmfr.faces.photo.PhotoError: not a picture: neither JPEG, PNG, WebP, AVIF, GIF nor BMP
    """
    if not encoded:
        raise PhotoError("empty file")
    if not _is_shown_by_browsers(encoded):
        raise PhotoError("not a picture: neither JPEG, PNG, WebP, AVIF, GIF nor BMP")


def _is_shown_by_browsers(encoded: bytes) -> bool:
    return (
        encoded.startswith((JPEG_MAGIC, b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM"))
        or (encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP")
        or encoded[4:8] == b"ftyp"
    )

"""Which files are opened at all: pictures that a browser shows, and none made to take hours.

A photo's header says how many pixels it has, and `max_pixels` bounds what they cost in memory. Time
is another matter: a progressive JPEG is decoded in passes, each over all pixels, and a pass may
take up no more than 34 bytes; 200 KB can keep a processor busy for a minute and a half, and 20 MB
for hours. TIFF's list of pages is as cheap to write and as dear to read. Such files are refused
before any decoder sees them.
"""

from __future__ import annotations

import re
from typing import Final

from openmfr.faces.photo import PhotoError

#: Cameras write 1 pass, the web's pictures about 10.
MAX_PASSES: Final = 100
#: Segments before and between the passes; an ICC profile takes up to 255.
_MAX_SEGMENTS: Final = 2_000

_JPEG: Final = b"\xff\xd8\xff"
_SOS, _EOI = 0xDA, 0xD9
#: Markers without a length: TEM, RST0 to RST7, SOI.
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
#: The end of a pass's data: a marker that is neither a stuffed byte, nor a restart, nor a filler.
_NEXT: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def check_file(encoded: bytes) -> None:
    """Refuse a file that no decoder should see.

    Args:
        encoded: The file.

    Raises:
        PhotoError: "not a picture" or "damaged or incomplete".

    Example:
        >>> check_file(b"%PDF-1.7")
        Traceback (most recent call last):
            ...
        openmfr.faces.photo.PhotoError: not a picture: neither JPEG, PNG, WebP, AVIF, GIF nor BMP
    """
    if not encoded:
        raise PhotoError("empty file")
    if not _is_shown_by_browsers(encoded):
        raise PhotoError("not a picture: neither JPEG, PNG, WebP, AVIF, GIF nor BMP")
    if encoded.startswith(_JPEG):
        _check_jpeg(encoded)


def _is_shown_by_browsers(encoded: bytes) -> bool:
    return (
        encoded.startswith((_JPEG, b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM"))
        or (encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP")
        or encoded[4:8] == b"ftyp"
    )


def _check_jpeg(encoded: bytes) -> None:
    """Walk from marker to marker; what follows the picture's end is not looked at."""
    at, passes = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _NEXT.search(encoded, at)
        if found is None or encoded[found.start() + 1] == _EOI:
            return
        marker, at = encoded[found.start() + 1], found.end()
        if marker in _BARE:
            continue
        passes += marker == _SOS
        if passes > MAX_PASSES:
            break
        at += max(2, int.from_bytes(encoded[at : at + 2], "big"))
    raise PhotoError("damaged or incomplete: more passes or segments than any camera writes")

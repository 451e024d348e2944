"""Read any photograph that people really have into upright RGB, or say why not.

A photo is untrusted: its header is read before its pixels, only formats that photographs come in
are tried, and whatever a decoder raises becomes a `PhotoError` with a reason that a person
understands. A picture that is only partly there is refused, never used silently.

The header bounds what pixels cost in memory. Time is another matter: a progressive JPEG is decoded
in passes, each over all pixels, and a pass may take up no more than 34 bytes; 200 KB can keep a
processor busy for a minute and a half. So passes are counted before a decoder sees the file; and of
pages and frames only the first is read, never how many there are.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

UInt8Array = npt.NDArray[np.uint8]

#: Pictures with more pixels are refused before they are decoded: 100 million take 300 MB.
MAX_PIXELS: Final = 100_000_000

#: Pillow knows sixty formats; some of the others start programs or hold vector graphics.
_FORMATS: Final = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

#: File names that a folder of photos is searched for.
PHOTO_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".bmp"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2"}
)

#: JPEGs of more passes are refused: cameras write 1, the web's pictures about 10.
MAX_PASSES: Final = 100
#: Segments before and between the passes; an ICC profile takes up to 255.
_MAX_SEGMENTS: Final = 2_000

#: How a JPEG begins.
JPEG_MAGIC: Final = b"\xff\xd8\xff"
_SOS, _EOI = 0xDA, 0xD9
#: Markers without a length: TEM, RST0 to RST7, SOI.
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
#: The end of a pass's data: a marker that is neither a stuffed byte, nor a restart, nor a filler.
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_ORIENTATION: Final = 0x0112  # EXIF tag
_16_BIT_MODES: Final = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class PhotoError(Exception):
    """Why a photo gives no face: "kind: detail", so that reasons can be counted by their kind."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A decoded photograph.

    Attributes:
        pixels: RGB, upright, uint8, shape (H, W, 3).
        notes: What was done to the file's own pixels to get there, for a person.
    """

    pixels: UInt8Array
    notes: tuple[str, ...] = ()


def read_photo(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a photo to upright 8-bit RGB.

    EXIF orientation is applied; grey, palette and CMYK become RGB; 16 bits are scaled to 8; alpha
    is dropped; of an animation the first frame is taken.

    Args:
        source: A file, or its bytes. The content decides the format, not the name.
        max_pixels: Refuse larger photos before they are decoded.

    Returns:
        The photo.

    Raises:
        PhotoError: If it is missing, empty, no picture, too large, incomplete, or a JPEG of too
            many passes.
    """
    encoded = source if isinstance(source, bytes) else read_file(source)
    if not encoded:
        raise PhotoError("empty file")
    with warnings.catch_warnings():
        # Pillow warns at its own limit, and of odd but readable metadata.
        warnings.simplefilter("ignore")
        try:
            return _decode(encoded, max_pixels)
        except PhotoError:
            raise
        except Image.DecompressionBombError as error:
            raise PhotoError(f"too large: {error}") from error
        except UnidentifiedImageError as error:
            raise PhotoError("not a picture: no known format") from error
        except Exception as error:  # decoders raise whatever they like on damaged bytes
            raise PhotoError(f"damaged or incomplete: {error}") from error


def read_file(path: Path) -> bytes:
    """Read a photo's bytes.

    Raises:
        PhotoError: If the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror}") from error


def _check_passes(encoded: bytes) -> None:
    """Walk from marker to marker; what follows the picture's end is not looked at."""
    at, passes = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _NEXT_MARKER.search(encoded, at)
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


def _decode(encoded: bytes, max_pixels: int) -> Photo:
    if encoded.startswith(JPEG_MAGIC):
        _check_passes(encoded)
    with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise PhotoError(
                f"too large: {image.width}×{image.height} pixels, at most {max_pixels:,}"
            )
        notes = []
        if getattr(image, "is_animated", False):  # `n_frames` would read every page of a TIFF
            notes.append("first of several frames")
            image.seek(0)
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation in range(2, 9):
            notes.append(f"EXIF orientation {orientation} applied")
        elif image.format == "JPEG" and image.mode == "RGB":
            # Most photos; Pillow would take half as long again.
            with contextlib.suppress(ValueError):  # whatever is wrong, Pillow says it in words
                return Photo(pixels=_decode_jpeg(encoded), notes=tuple(notes))
        image.load()
        rgb, note = _to_rgb(ImageOps.exif_transpose(image))
        return Photo(pixels=np.asarray(rgb), notes=(*notes, *note))


def _decode_jpeg(encoded: bytes) -> UInt8Array:
    """Decode to RGB as Pillow does, to the bit; raise ValueError at anything odd."""
    pixels: UInt8Array = simplejpeg.decode_jpeg(encoded, fastdct=False, fastupsample=False)
    return pixels


def _to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode == "RGB":
        return image, ()
    if image.mode == "F":
        raise PhotoError("not a photo: floating-point pixels")
    if image.mode in _16_BIT_MODES:
        pixels = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        return Image.fromarray((pixels // 257).astype(np.uint8)).convert("RGB"), (
            "scaled from 16 to 8 bits",
        )
    if image.has_transparency_data:
        return image.convert("RGBA").convert("RGB"), ("alpha dropped",)
    return image.convert("RGB"), (f"converted from {image.mode}",)

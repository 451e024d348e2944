"""Pictures that are none, made from synthetic ones: truncated, mutated, mixed, bombs.

`malformed(n)` is the n-th, always the same; the kinds take turns, so a few hundred have them all.
"""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image

#: What a picture is saved as; some of these no service should take.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
_MAGIC = (
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x1cftypavif",
    b"\xff\x4f\xff\x51",
    b"P6\n",
    b"\0\0\1\0",
    b"8BPS",
    b"%!PS-Adobe",
    b"%PDF-1.7\n",
    b"PK\3\4",
    b"\x7fELF",
    b"<svg xmlns='http://www.w3.org/2000/svg'>",
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>",
)
_EMBEDDED = (
    b"<script>alert(1)</script>",
    b"PK\3\4\x14\0\0\0\0\0" + bytes(40),
    b"%PDF-1.7\n1 0 obj<</JS(app.alert(1))>>endobj",
    b"#!/bin/sh\nexit 1\n",
    b"<?php system($_GET['c']); ?>",
)

Maker = Callable[[random.Random], bytes]


@cache
def _good(kind: str, number: int) -> bytes:
    rng = np.random.default_rng(number)
    edge = (16, 33, 64, 120)[number % 4]
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((edge, edge + number % 3), Image.Resampling.BICUBIC)
    choices: dict[str, object] = {}
    if kind == "JPEG" and number % 2:
        choices = {
            "progressive": True,
            "exif": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0",
        }
    if kind in ("GIF", "WEBP", "TIFF") and number % 2:
        choices = {"save_all": True, "append_images": [image.rotate(90)]}
    buffer = io.BytesIO()
    image.save(buffer, kind, **choices)
    return buffer.getvalue()


def _any_good(rng: random.Random) -> bytes:
    return _good(rng.choice(_FORMATS), rng.randrange(8))


def truncated(rng: random.Random) -> bytes:
    whole = _any_good(rng)
    return whole[: rng.randrange(len(whole))]


def with_flipped_bits(rng: random.Random) -> bytes:
    changed = bytearray(_any_good(rng))
    for _ in range(rng.choice((1, 4, 32))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def with_a_mangled_head(rng: random.Random) -> bytes:
    changed = bytearray(_any_good(rng))
    for _ in range(6):
        at = rng.randrange(min(64, len(changed)))
        changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def with_moved_parts(rng: random.Random) -> bytes:
    whole = _any_good(rng)
    cuts = sorted(rng.randrange(len(whole)) for _ in range(3))
    parts = [whole[: cuts[0]], whole[cuts[0] : cuts[1]], whole[cuts[1] : cuts[2]], whole[cuts[2] :]]
    rng.shuffle(parts)
    return b"".join([whole[:8], *parts] if rng.random() < 0.5 else parts)


def of_two_kinds(rng: random.Random) -> bytes:
    first, second = _any_good(rng), _any_good(rng)
    return first[: rng.randrange(1, len(first))] + second


def polyglot(rng: random.Random) -> bytes:
    whole, other = _any_good(rng), rng.choice(_EMBEDDED)
    at = rng.choice((0, 2, len(whole) // 2, len(whole)))
    return whole[:at] + other + whole[at:]


def noise_after_magic(rng: random.Random) -> bytes:
    return rng.choice(_MAGIC) + rng.randbytes(rng.choice((0, 1, 16, 300, 5000)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    length = struct.pack(">I", len(content))
    return length + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_any_size(rng: random.Random) -> bytes:
    """A head that promises pixels, and data that do or do not hold them."""
    size = (1, 2, 999, 30_000, 65_535, 2**31 - 1, 2**32 - 1, 0)
    depth, colour = rng.choice((1, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 7))
    head = struct.pack(">IIBBBBB", rng.choice(size), rng.choice(size), depth, colour, 0, 0, 1)
    data = zlib.compress(bytes(rng.choice((0, 100, 3_000_000))))
    extra = (
        _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))) if rng.random() < 0.2 else b""
    )
    tail = _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + tail


def jpeg_of_any_size(rng: random.Random) -> bytes:
    whole = bytearray(_good("JPEG", rng.randrange(8)))
    found = re.search(rb"\xff[\xc0\xc2]\0", bytes(whole))
    assert found
    at = found.start() + 5
    whole[at : at + 4] = struct.pack(">HH", rng.choice((0, 1, 65_500)), rng.choice((0, 7, 65_500)))
    return bytes(whole)


def gif_of_any_size(rng: random.Random) -> bytes:
    whole = bytearray(_good("GIF", rng.randrange(8)))
    whole[6:10] = struct.pack("<HH", rng.choice((0, 1, 65_535)), rng.choice((0, 3, 65_535)))
    return bytes(whole)


def jpeg_of_many_passes(rng: random.Random) -> bytes:
    """Each pass is a few bytes, and is decoded over all pixels."""
    whole = _good("JPEG", 2 * rng.randrange(4) + 1)
    start = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[start:-2] * rng.choice((90, 300, 20_000)) + whole[-2:]


def jpeg_of_many_segments(rng: random.Random) -> bytes:
    whole = _good("JPEG", rng.randrange(8))
    return whole[:2] + b"\xff\xfe\0\2" * rng.choice((100, 50_000)) + whole[2:]


def tiff_of_many_pages(rng: random.Random) -> bytes:
    pages = rng.choice((3, 2_000))
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (279, 1)]
    out, size = bytearray(b"II*\0" + struct.pack("<I", 12) + bytes(4)), 6 + 12 * len(tags)
    for page in range(pages):
        out += struct.pack("<H", len(tags))
        out += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        out += struct.pack("<I", 12 + size * (page + 1) if page < pages - 1 else 12)
    return bytes(out)


def bytes_of_chance(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 2, 100, 10_000)))


def good_with_a_wrong_name(rng: random.Random) -> bytes:
    return _any_good(rng)


KINDS: Sequence[Maker] = (
    truncated,
    with_flipped_bits,
    with_a_mangled_head,
    with_moved_parts,
    of_two_kinds,
    polyglot,
    noise_after_magic,
    png_of_any_size,
    jpeg_of_any_size,
    gif_of_any_size,
    jpeg_of_many_passes,
    jpeg_of_many_segments,
    tiff_of_many_pages,
    bytes_of_chance,
    good_with_a_wrong_name,
)

_NAMES = ("a.jpg", "a.png", "a.exe", "../../etc/passwd", "a\0b.jpg", "a" * 300, "", "ä.jpg;x=1")


def malformed(number: int) -> tuple[str, bytes]:
    """Make the file of a number: its name and its content."""
    rng = random.Random(number)
    return rng.choice(_NAMES), KINDS[number % len(KINDS)](rng)

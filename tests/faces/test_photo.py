"""Every kind of file that a folder of photos may hold, made here, and what becomes of it."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from openmfr.faces import photo as reading
from openmfr.faces.photo import MAX_PASSES, MAX_PIXELS, PhotoError, read_photo

GRADIENT = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header announces a size and whose pixels are not there."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (chunk, data, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


@pytest.mark.parametrize(
    ("mode", "kind", "note"),
    [
        ("RGB", "PNG", None),
        ("RGB", "BMP", None),
        ("RGB", "WEBP", None),
        ("RGB", "TIFF", None),
        ("L", "PNG", "converted from L"),
        ("1", "PNG", "converted from 1"),
        ("P", "PNG", "converted from P"),
        ("P", "GIF", "converted from P"),
        ("CMYK", "JPEG", "converted from CMYK"),
        ("CMYK", "TIFF", "converted from CMYK"),
        ("YCbCr", "TIFF", "converted from YCbCr"),
        ("RGBA", "PNG", "alpha dropped"),
        ("LA", "PNG", "alpha dropped"),
    ],
)
def test_every_kind_of_pixel_becomes_rgb_and_it_is_said(
    mode: str, kind: str, note: str | None
) -> None:
    image = Image.fromarray(GRADIENT).convert(mode)
    photo = read_photo(encoded(image, kind))
    assert photo.pixels.shape == (48, 64, 3)
    assert photo.pixels.dtype == np.uint8
    assert photo.notes == ((note,) if note else ())
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(photo.pixels - expected).mean() < 4


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_has_the_pixels_that_pillow_reads(subsampling: int, progressive: bool) -> None:
    picture = Image.fromarray(GRADIENT).resize((61, 47))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    photo = read_photo(buffer.getvalue())
    assert photo.notes == ()
    with Image.open(buffer) as image:
        np.testing.assert_array_equal(photo.pixels, np.asarray(image))


def test_16_bits_are_scaled_not_clipped() -> None:
    deep = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    photo = read_photo(encoded(Image.fromarray(deep), "PNG"))
    assert photo.notes == ("scaled from 16 to 8 bits",)
    np.testing.assert_array_equal(photo.pixels[..., 0], deep // 257)


def test_a_transparent_palette_is_read_without_a_warning() -> None:
    image = Image.fromarray(GRADIENT).convert("P")
    photo = read_photo(encoded(image, "PNG", transparency=bytes(range(16))))
    assert photo.notes == ("alpha dropped",)


def test_alpha_is_dropped_and_the_colour_behind_it_kept() -> None:
    image = Image.fromarray(GRADIENT)
    image.putalpha(0)
    np.testing.assert_array_equal(read_photo(encoded(image, "PNG")).pixels, GRADIENT)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(1, 0), (3, 2), (6, 1), (8, 3)],  # quarter turns that a camera held so has to be turned back
)
def test_a_camera_held_sideways_gives_an_upright_photo(orientation: int, undo: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.rot90(GRADIENT, undo))
    photo = read_photo(encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(photo.pixels, GRADIENT)
    assert bool(photo.notes) == (orientation != 1)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    photo = read_photo(moving)
    assert "first of several frames" in photo.notes
    assert photo.pixels[20, 20].tolist() == [255, 0, 0]


def test_of_a_thousand_pages_the_first_is_read_and_no_more_than_the_second_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at = []
    load = ImageFileDirectory_v2.load

    def watched(directory: ImageFileDirectory_v2, file: IO[bytes]) -> None:
        looked_at.append(file.tell())
        load(directory, file)

    monkeypatch.setattr(ImageFileDirectory_v2, "load", watched)
    photo = read_photo(tiff_of_pages(1_000))
    assert photo.pixels.tolist() == [[[8, 8, 8]]]
    assert "first of several frames" in photo.notes
    assert len(set(looked_at)) <= 2


def tiff_of_pages(pages: int) -> bytes:
    """Grey pages of one pixel, whose value is 8; each page is 90 bytes of tags."""
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (279, 1)]
    out, size = bytearray(b"II*\0" + struct.pack("<II", 12, 8)), 6 + 12 * len(tags)
    for page in range(1, pages + 1):
        out += struct.pack("<H", len(tags))
        out += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        out += struct.pack("<I", 12 + size * page if page < pages else 0)
    return bytes(out)


def progressive(**options: Any) -> bytes:
    """A JPEG of ten passes, as the web has them."""
    return encoded(Image.fromarray(GRADIENT), "JPEG", progressive=True, **options)


def with_passes(passes: int) -> bytes:
    """Repeat the last pass of a progressive JPEG, so that it has so many in all."""
    whole = progressive()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (passes - whole.count(b"\xff\xda")) + whole[-2:]


def test_jpegs_as_cameras_and_the_web_write_them_are_read() -> None:
    thumbnail = encoded(Image.fromarray(GRADIENT), "JPEG")
    whole = progressive(icc_profile=bytes(3_000_000))
    segment = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    film = b"\xff\xda\0\2" * 10_000  # behind the picture, as phones append it
    expected = read_photo(progressive()).pixels
    for file in (whole, whole + film, whole[:2] + segment * 90 + whole[2:]):
        np.testing.assert_array_equal(read_photo(file).pixels, expected)


def test_a_jpeg_of_a_hundred_passes_is_read_and_one_of_more_never_reaches_a_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_photo(with_passes(MAX_PASSES)).pixels.shape == GRADIENT.shape
    monkeypatch.setattr(reading, "_decode_jpeg", no_decoder)
    monkeypatch.setattr(Image, "open", no_decoder)
    for passes in (MAX_PASSES + 1, 50_000):
        with pytest.raises(PhotoError, match=r"^damaged or incomplete: more passes"):
            read_photo(with_passes(passes))
    segments = b"\xff\xfe\0\2" * 50_000
    with pytest.raises(PhotoError, match="or segments than any camera writes"):
        read_photo(progressive()[:2] + segments + progressive()[2:])


def no_decoder(*_arguments: object, **_options: object) -> None:
    raise AssertionError("a decoder saw the file")


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"", "empty file"),
        (b"these are words, no picture", "not a picture"),
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:600], "damaged or incomplete"),
        (encoded(Image.fromarray(GRADIENT), "PNG")[:200], "damaged or incomplete"),
        (png_header(MAX_PIXELS // 100, 101), "too large"),
        (png_header(60_000, 60_000), "too large"),
        (png_header(2_000, 2_000), "damaged or incomplete"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "not a picture"),
    ],
)
def test_what_is_no_whole_photo_is_refused_with_its_reason(damaged: bytes, reason: str) -> None:
    with pytest.raises(PhotoError, match=reason):
        read_photo(damaged)


@given(cut=st.integers(0, 2000), position=st.integers(0, 2000), value=st.integers(0, 255))
def test_random_damage_gives_a_photo_or_a_reason_and_nothing_else(
    cut: int, position: int, value: int
) -> None:
    whole = bytearray(encoded(Image.fromarray(GRADIENT), "JPEG"))
    whole[position % len(whole)] = value
    with contextlib.suppress(PhotoError):
        assert read_photo(bytes(whole[: max(1, len(whole) - cut % 50)])).pixels.ndim == 3


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(PhotoError, match="cannot be read"):
            read_photo(path)


def test_the_rest_of_the_program_keeps_pillows_own_limits() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    with pytest.raises(PhotoError):
        read_photo(png_header(60_000, 60_000))
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert after == before

"""A stock of masks to dress faces with: drawn at random, or read from a user's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from openmfr.errors import UserError, raise_together
from openmfr.files import fingerprint
from openmfr.masking.chance import check_weights, pick
from openmfr.masking.styles import check_style, draw_template, fabric
from openmfr.masking.template import USUAL_OUTLINE, EarLoops, MaskTemplate

#: How often each style is drawn by default.
STYLE_WEIGHTS: Final[Mapping[str, float]] = {
    "surgical": 0.45,
    "kn95": 0.15,
    "cloth": 0.30,
    "scarf": 0.10,
}

#: Sides that a user's picture may have, pixels.
PICTURE_SIDES: Final = (64, 4096)

# Streams of random numbers, so that a template's style does not repeat in its drawing.
_STYLE_STREAM, _DRAWING_STREAM = 0, 1


class MaskBank:
    """Templates, in an order that never changes.

    Example:
        >>> bank = MaskBank.drawn(3, seed=5, size=64)
        >>> len(bank), bank.fingerprint == MaskBank.drawn(3, seed=5, size=64).fingerprint
        (3, True)
    """

    def __init__(self, templates: Sequence[MaskTemplate]) -> None:
        if not templates:
            raise UserError(
                where="mask bank",
                found="no templates",
                allowed="at least one",
                next_step="draw some, or name a folder of pictures",
            )
        self.templates = tuple(templates)

    @classmethod
    def drawn(
        cls,
        count: int,
        *,
        seed: int,
        styles: Mapping[str, float] = STYLE_WEIGHTS,
        size: int = 256,
    ) -> MaskBank:
        """Draw a bank; about 20 ms for each template of 256 texels.

        Template k depends on the seed, k, the weights and the size alone: a larger bank begins
        with the smaller one.

        Args:
            count: Number of templates, at least 1.
            seed: At least 0.
            styles: Weight of each of `styles.STYLES`; those left out are never drawn.
            size: Texels along each side of a sheet, S.

        Raises:
            UserError: If the count is below 1, or a style, weight or the size is not allowed.
        """
        for name in styles:
            check_style(name, "mask bank, styles")
        check_weights(styles, "mask bank, styles")
        templates = []
        for k in range(count):
            style = pick(_rng(seed, k, _STYLE_STREAM), styles)
            templates.append(draw_template(style, _rng(seed, k, _DRAWING_STREAM), size))
        return cls(templates)

    @classmethod
    def read(cls, folder: Path, *, size: int = 256) -> MaskBank:
        """Read a user's pictures, drawn over the guide or lifted from photos.

        They are worn with the usual outline; an edge where they are transparent is raised a
        little like a hem, the rest lies tight on the face. Pictures are taken in order of their
        names.

        Args:
            folder: Holds square PNG pictures with an alpha channel, laid out as the guide shows.
            size: Texels along each side to which they are scaled, S.

        Raises:
            UserError: If there is no folder or picture, or pictures cannot be used: all of them
                together.
        """
        paths = sorted(folder.glob("*.png")) if folder.is_dir() else []
        if not paths:
            raise UserError(
                where=str(folder),
                found="no PNG picture" if folder.is_dir() else "no such folder",
                allowed="a folder with PNG pictures of masks",
                next_step="draw one over the guide: openmfr mask guide",
            )
        templates, errors = [], []
        for path in paths:
            try:
                templates.append(read_template(path, size=size))
            except UserError as error:
                errors.append(error)
        raise_together(errors)
        return cls(templates)

    def __len__(self) -> int:
        return len(self.templates)

    def __getitem__(self, k: int) -> MaskTemplate:
        return self.templates[k]

    def pick(self, rng: np.random.Generator) -> MaskTemplate:
        """Draw a template; all are equally probable."""
        return self.templates[int(rng.integers(len(self.templates)))]

    @property
    def nbytes(self) -> int:
        """Bytes of its sheets: 8 per texel, 0.5 MiB for each template of 256 × 256.

        Rendering keeps more beside each template that it has used.
        """
        return sum(t.rgba.nbytes + t.height.nbytes for t in self.templates)

    @cached_property
    def fingerprint(self) -> str:
        """Identify the bank by all that it holds."""
        parts: list[str | bytes] = []
        for template in self.templates:
            loops = astuple(template.loops) if template.loops else None
            shape = template.rgba.shape
            outline = astuple(template.outline)
            parts.append(repr((template.style, outline, loops, template.gloss, shape)))
            parts += [template.rgba.tobytes(), template.height.tobytes()]
        return fingerprint(*parts)


def read_template(path: Path, *, size: int = 256) -> MaskTemplate:
    """Read one picture of a mask, of style "own".

    Args:
        path: A square PNG picture with an alpha channel.
        size: Texels along each side to which it is scaled, S.

    Raises:
        UserError: If it cannot be read, has no alpha channel, is not square, too small or too
            large, or is transparent all over.
    """
    picture = _open(path).resize((size, size), Image.Resampling.BOX)
    rgba = np.asarray(picture)
    if rgba[..., 3].max() < 128:
        raise UserError(
            where=str(path),
            found="a picture that is transparent all over",
            allowed="a mask that covers something",
            next_step="draw over the guide, and hide the guide before saving",
        )
    canvas = fabric.blank(USUAL_OUTLINE, size, (0.0, 0.0, 0.0))
    fabric.cut(canvas, corner=0.01)
    canvas.colour = rgba[..., :3].astype(np.float32) / 255
    canvas.cover = canvas.cover * (rgba[..., 3].astype(np.float32) / 255)
    canvas.height = _hem_of_cover(canvas.cover)
    return canvas.finish("own", EarLoops(colour=(232, 232, 232), width=0.03), 0.0)


def _open(path: Path) -> Image.Image:
    """Open a picture whose header says that it will do."""
    low, high = PICTURE_SIDES
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if "A" not in picture.getbands() and "transparency" not in picture.info:
                raise _unfit(
                    path,
                    "a picture without an alpha channel",
                    "RGBA",
                    "make what is not mask transparent, and save as PNG",
                )
            width, height = picture.size
            if width != height or not low <= width <= high:
                raise _unfit(
                    path,
                    f"{width}×{height} pixels",
                    f"squares of {low} to {high} pixels",
                    "draw over the guide, or scale it to the guide's shape",
                )
            return picture.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise _unfit(
            path, "a file that is no PNG picture, or damaged", "PNG", "save it again, or delete it"
        ) from None


def _unfit(path: Path, found: str, allowed: str, next_step: str) -> UserError:
    return UserError(where=str(path), found=found, allowed=allowed, next_step=next_step)


def _hem_of_cover(cover: fabric.Array) -> fabric.Array:
    """A tight cloth, a little thicker along its edge and thin at the very rim."""
    size = cover.shape[0]
    small = Image.fromarray(cover).resize((size // 8, size // 8), Image.Resampling.BOX)
    near = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    inside = fabric.smooth(near, 0.4, 0.95)
    return fabric.THICKNESS * inside + np.float32(0.008) * fabric.line(near - np.float32(0.8), 0.15)


def _rng(seed: int, k: int, stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k, stream)))

"""What a mask is before anyone wears it: a sheet with colour, cover and relief, and its loops.

A sheet is a picture over (u, v) in 0–1: u from its edge on the left of the picture to that on the
right, v from the upper edge to the lower. Where the edges lie on a head is its `Outline`, in
coordinates of the head's surface: an angle about the head's vertical axis in radians (0 is the
front, positive is right in the picture) and a height in eye spans (positive is down, as y in
`faces.geometry`). On the mean face the nose's bridge lies at −0.26, its tip at 0.13, its base at
0.22, the mouth at 0.40, the chin at 0.81; the jaw's edge at angles of ±1.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

#: z of the vertical axis about which angles are measured, in eye spans of the head.
AXIS_Z = -0.62


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Where the edges of a sheet lie on a head's surface.

    Attributes:
        nose: Height of the upper edge in the middle.
        side: Height of the upper edge at both ends.
        chin: Height of the lower edge in the middle.
        jaw: Height of the lower edge at both ends.
        half_angle: Angle of both ends from the middle, radians.
        tilt: Rotation of the sheet about its middle, radians; positive lowers its right end.
    """

    nose: float
    side: float
    chin: float
    jaw: float
    half_angle: float
    tilt: float = 0.0

    def sheet(self, angle: Float32Array, height: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Say where points of the head's surface lie on the sheet.

        Args:
            angle: Radians, any shape.
            height: Eye spans, the same shape.

        Returns:
            u and v of that shape; outside 0–1 beyond the sheet's edges.

        Example:
            >>> outline = Outline(nose=-0.2, side=0.0, chin=0.9, jaw=0.5, half_angle=1.2)
            >>> u, v = outline.sheet(np.float32([0, 1.2]), np.float32([0.35, 0.5]))
            >>> u.tolist(), v.tolist()
            ([0.5, 1.0], [0.5, 1.0])
        """
        middle = (self.nose + self.chin) / 2
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        # Near the front an eye span of height and a radian of angle are about equally long.
        along = angle * cos + (height - middle) * sin
        down = middle + (height - middle) * cos - angle * sin
        share = np.clip(np.abs(along) / self.half_angle, 0, 1)
        ease = share * share * (3 - 2 * share)
        top = self.nose + (self.side - self.nose) * ease
        bottom = self.chin + (self.jaw - self.chin) * ease
        u = 0.5 + along / (2 * self.half_angle)
        v = (down - top) / (bottom - top)
        return u.astype(np.float32), v.astype(np.float32)


#: The outline of the guide picture, and so of a user's own templates.
USUAL_OUTLINE = Outline(nose=-0.23, side=-0.05, chin=1.0, jaw=0.66, half_angle=1.15)


@dataclass(frozen=True, kw_only=True)
class EarLoops:
    """The elastic bands that hold a mask.

    Attributes:
        colour: RGB, 0–255.
        width: Eye spans; about 0.02.
        upper: v of the upper end on the sheet's side edges.
        lower: v of the lower end.
    """

    colour: tuple[int, int, int]
    width: float = 0.02
    upper: float = 0.06
    lower: float = 0.94


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskTemplate:
    """A mask.

    Attributes:
        style: "surgical", "kn95", "cloth", "scarf", or "own" for a user's.
        rgba: The sheet's colour under even light and its cover, uint8, shape (S, S, 4), not
            premultiplied.
        height: How far it stands off a cloth drawn tight over the face, in eye spans, float32,
            shape (S, S): the beak of a respirator and the relief of pleats and creases in one.
        outline: How it is usually worn.
        loops: Its bands, or None.
        gloss: Strength of its highlight, 0–1.
    """

    style: str
    rgba: UInt8Array
    height: Float32Array
    outline: Outline
    loops: EarLoops | None = None
    gloss: float = 0.0

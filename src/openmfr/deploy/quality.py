"""What can be measured of a face before anyone is recognised by it: for the gate at enrolment.

None of these numbers is a probability that recognition will work. Each says one thing that makes it
fail, in a unit of its own, so that a person can be told what to do: come nearer, hold still, look
into the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.faces.align import TEMPLATE_SIZE

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]

#: Pixels over which a face of 112 is blurred for comparison.
_BLUR: Final = 9


@dataclass(frozen=True, kw_only=True)
class FaceQuality:
    """How well a face can be seen.

    Attributes:
        size: Edge in photo pixels of the square that alignment cuts out. Below the network's own
            input, 112 for most, the face was enlarged.
        sharpness: 0–1, how much a face loses when it is blurred; see `sharpness`.
        yaw: Degrees by which the head is turned aside, positive to the right of the picture; a
            guess from five landmarks, a poorer one under a mask.
        roll: Degrees by which it is turned in the picture, positive clockwise; alignment takes this
            out again.
        score: The detector's confidence, 0–1.
        length: Of the embedding before it is brought to 1: larger where the network is surer; its
            scale is each network's own.
    """

    size: float
    sharpness: float
    yaw: float
    roll: float
    score: float
    length: float


def sharpness(aligned: UInt8Array) -> float:
    """Say how much of the differences between neighbouring pixels a blur takes away.

    A picture that is blurred already loses little. Contrast does not matter; noise counts as
    sharp. On faces of LFW it is 0.45 to 0.6; a blur with a deviation of 2 of 112 pixels halves it.
    Green stands for the colours: it carries most of what is seen of details.

    Args:
        aligned: An aligned face, RGB, uint8, shape (S, S, 3).

    Returns:
        0 (flat or blurred) to 1.

    Source:
        Crété-Roffet et al., "The blur effect: perception and estimation with a new no-reference
        perceptual blur metric", 2007; theirs is 1 minus this.

    Example:
        >>> sharpness(np.full((112, 112, 3), 90, np.uint8))
        0.0
    """
    green = aligned[..., 1].astype(np.int32)
    width = max(3, round(_BLUR * len(green) / TEMPLATE_SIZE) | 1)
    return min(_lost(green, width), _lost(green.T, width))


def _lost(values: Int32Array, width: int) -> float:
    """Share of the differences down the columns that a mean over `width` rows takes away."""
    summed = np.cumsum(values, axis=0, dtype=np.int32)
    blurred = (summed[width:] - summed[:-width]) / np.float32(width)
    start = width // 2 + 1
    kept = np.abs(np.diff(values[start : start + len(blurred)], axis=0))
    remaining = np.abs(np.diff(blurred, axis=0))
    total = float(kept.sum())
    return float(np.maximum(kept - remaining, 0).sum()) / total if total > 0 else 0.0

"""The numbers of the head model: how a head is built, how people differ, and how a face moves.

All in decimetres and in the head's coordinates (see `openmfr.synthetic.head`). They are rounded
textbook proportions and what looked right; none was fitted to pictures of people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]

#: Places on the mean face, seen from the front, that several modules must agree on.
EYE = (0.31, 0.0)
NOSE_TIP = (0.0, 0.38)
MOUTH_CORNER = (0.255, 0.72)

#: Height, half width, depth to the front, depth to the back, roundness of the front (exponent of
#: the superellipse: below 2 is pointed).
SECTIONS = np.array(
    [
        [-1.15, 0.00, 0.00, 0.00, 2.0],
        [-1.08, 0.33, 0.38, 0.46, 2.0],
        [-0.95, 0.54, 0.62, 0.72, 2.1],
        [-0.75, 0.68, 0.79, 0.87, 2.2],
        [-0.50, 0.74, 0.87, 0.95, 2.3],
        [-0.25, 0.755, 0.90, 0.97, 2.3],
        [0.00, 0.74, 0.885, 0.93, 2.25],
        [0.25, 0.72, 0.89, 0.83, 2.15],
        [0.50, 0.69, 0.90, 0.70, 2.05],
        [0.72, 0.63, 0.91, 0.58, 1.95],
        [0.92, 0.55, 0.88, 0.54, 1.85],
        [1.06, 0.47, 0.84, 0.54, 1.75],
        [1.14, 0.43, 0.70, 0.54, 1.75],
        [1.24, 0.42, 0.42, 0.55, 1.90],
        [1.60, 0.44, 0.36, 0.58, 2.0],
    ]
)

#: Nose: height, how far its ridge stands out, half width of the ridge.
RIDGE = np.array(
    [
        [-0.20, 0.00, 0.10],
        [-0.08, 0.025, 0.075],
        [0.04, 0.055, 0.065],
        [0.20, 0.135, 0.075],
        [0.36, 0.225, 0.095],
        [0.42, 0.21, 0.10],
        [0.475, 0.10, 0.10],
        [0.53, 0.01, 0.10],
        [0.60, 0.00, 0.10],
    ]
)

#: Bumps of the mean face: centre (x, y), widths (x, y), push (x, y, z). Mirrored if x > 0.
BUMPS: tuple[tuple[tuple[float, float], tuple[float, float], Vector], ...] = (
    ((0.27, -0.19), (0.20, 0.07), (0.0, 0.0, 0.045)),  # brow ridge
    ((0.30, 0.00), (0.15, 0.10), (0.0, 0.0, -0.085)),  # eye socket
    ((0.31, 0.00), (0.095, 0.07), (0.0, 0.0, 0.06)),  # eyeball under the lids
    ((0.46, 0.24), (0.15, 0.11), (0.04, 0.0, 0.05)),  # cheekbone
    ((0.28, 0.42), (0.12, 0.14), (0.0, 0.0, 0.02)),  # front of the cheek
    ((0.125, 0.43), (0.05, 0.05), (0.0, 0.0, 0.09)),  # wing of the nose
    ((0.0, 0.59), (0.035, 0.05), (0.0, 0.0, -0.012)),  # philtrum
    ((0.0, 0.73), (0.27, 0.17), (0.0, 0.0, 0.035)),  # lips stand on the teeth
    ((0.09, 0.675), (0.11, 0.032), (0.0, 0.0, 0.035)),  # upper lip
    ((0.0, 0.785), (0.15, 0.042), (0.0, 0.0, 0.055)),  # lower lip
    ((0.0, 0.725), (0.15, 0.016), (0.0, 0.0, -0.03)),  # line between them
    ((0.275, 0.73), (0.04, 0.05), (0.0, 0.0, -0.025)),  # corner of the mouth
    ((0.0, 0.885), (0.17, 0.045), (0.0, 0.0, -0.045)),  # fold above the chin
    ((0.0, 1.01), (0.14, 0.09), (0.0, 0.02, 0.06)),  # chin
)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One way in which faces differ, or move: a push that fades as a Gaussian around a place.

    Attributes:
        name: What it is called.
        centre: Place on the mean face, x ≥ 0; mirrored if x > 0.
        width: Standard deviations of the Gaussian along x, y, z.
        push: Displacement at the centre per unit.
        spread: Growth about the centre per unit along x, y, z: moves what lies around the centre
            apart, and the centre not at all.
        turn: Rotation about the z axis through the centre per unit, in radians; positive lifts
            the outer side.
        std: Standard deviation over people; 0 for an expression.
    """

    name: str
    centre: Vector
    width: Vector
    push: Vector
    spread: Vector = (0, 0, 0)
    turn: float = 0
    std: float = 0


def _kernel(
    name: str,
    centre: Vector,
    width: Vector | float,
    push: Vector = (0, 0, 0),
    *,
    spread: Vector = (0, 0, 0),
    turn: float = 0,
    std: float = 0,
) -> Kernel:
    widths = (width, width, width) if isinstance(width, float) else width
    return Kernel(
        name=name, centre=centre, width=widths, push=push, spread=spread, turn=turn, std=std
    )


#: How people differ, in decimetres per standard deviation.
SHAPE_KERNELS: tuple[Kernel, ...] = (
    _kernel("skull width", (0.75, -0.35, 0.0), (0.3, 0.5, 0.7), (1, 0, 0), std=0.05),
    _kernel("forehead slope", (0, -0.6, 0.8), (0.5, 0.25, 0.4), (0, 0, 1), std=0.06),
    _kernel("face width", (0.65, 0.25, 0.2), (0.3, 0.35, 0.5), (1, 0, 0), std=0.05),
    _kernel("jaw width", (0.5, 0.85, 0.3), (0.25, 0.25, 0.4), (1, 0, 0), std=0.07),
    _kernel("cheekbone", (0.46, 0.24, 0.65), 0.14, (0.6, 0, 0.8), std=0.045),
    _kernel("cheek fullness", (0.40, 0.55, 0.65), 0.17, (0.6, 0, 0.8), std=0.055),
    _kernel("chin length", (0, 1.05, 0.85), (0.35, 0.20, 0.4), (0, 1, 0), std=0.06),
    _kernel("chin protrusion", (0, 1.02, 0.9), (0.2, 0.15, 0.4), (0, 0, 1), std=0.06),
    _kernel("chin width", (0.18, 1.02, 0.8), (0.12, 0.12, 0.3), (1, 0, 0), std=0.045),
    _kernel("brow ridge", (0.25, -0.18, 0.9), (0.25, 0.09, 0.3), (0, 0, 1), std=0.035),
    _kernel("brow height", (0.3, -0.2, 0.85), (0.22, 0.09, 0.3), (0, 1, 0), std=0.035),
    _kernel("eye depth", (0.31, 0, 0.8), (0.15, 0.10, 0.3), (0, 0, 1), std=0.035),
    _kernel("eye height", (0.31, 0, 0.8), (0.2, 0.09, 0.3), spread=(0, 1, 0), std=0.24),
    _kernel("eye length", (0.31, 0, 0.8), (0.17, 0.12, 0.3), spread=(1, 0, 0), std=0.12),
    _kernel("eye slant", (0.31, 0, 0.8), (0.17, 0.12, 0.3), turn=1, std=0.14),
    _kernel("eye distance", (0.31, 0, 0.8), (0.17, 0.14, 0.3), (1, 0, 0), std=0.025),
    _kernel("nose length", (0, 0.40, 1.05), (0.16, 0.14, 0.3), (0, 1, 0), std=0.045),
    _kernel("nose protrusion", (0, 0.40, 1.05), (0.11, 0.14, 0.3), (0, 0, 1), std=0.06),
    _kernel("nose tip", (0, 0.40, 1.05), (0.08, 0.07, 0.2), (0, 0.7, 0.7), std=0.035),
    _kernel("nose bridge", (0, 0.10, 0.95), (0.07, 0.13, 0.3), (0, 0, 1), std=0.04),
    _kernel("nose bridge width", (0.09, 0.15, 0.9), (0.07, 0.15, 0.3), (0, 0, 1), std=0.03),
    _kernel("nose width", (0.13, 0.43, 0.95), (0.08, 0.07, 0.2), (1, 0, 0.2), std=0.04),
    _kernel("mouth height", (0, 0.73, 0.9), (0.3, 0.12, 0.4), (0, 1, 0), std=0.035),
    _kernel("mouth width", (0.24, 0.72, 0.85), (0.10, 0.10, 0.3), (1, 0, 0), std=0.04),
    _kernel("mouth protrusion", (0, 0.73, 0.9), (0.2, 0.12, 0.4), (0, 0, 1), std=0.035),
    _kernel("upper lip", (0, 0.66, 0.9), (0.2, 0.05, 0.3), (0, -1, 0.5), std=0.022),
    _kernel("lower lip", (0, 0.80, 0.9), (0.2, 0.06, 0.3), (0, 1, 0.5), std=0.025),
    _kernel("mouth corners", (0.26, 0.72, 0.85), (0.09, 0.06, 0.3), (0, 1, 0), std=0.025),
)

#: Unnamed differences: kernels of this width around places spread over the face.
LOOSE_WIDTH, LOOSE_STD = 0.20, 0.011
PUSHES: tuple[Vector, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
LOOSE_PLACES = ((0.0, 0.16, 0.32, 0.48, 0.64), (-0.5, -0.25, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

#: How a face moves. Jaw and eyelids, which open and close a gap, are made in `_gaps`.
EXPRESSION_KERNELS: tuple[Kernel, ...] = (
    _kernel("smile", (0.27, 0.72, 0.85), (0.10, 0.09, 0.3), (0.5, -0.8, -0.3)),
    _kernel("cheek raise", (0.36, 0.42, 0.75), (0.15, 0.12, 0.3), (0.1, -0.5, 0.6)),
    _kernel("brow raise", (0.27, -0.20, 0.88), (0.22, 0.09, 0.3), (0, -1, 0)),
    _kernel("frown", (0.10, -0.18, 0.9), (0.11, 0.08, 0.3), (-0.4, 1, 0)),
    _kernel("pucker", (0.20, 0.73, 0.88), (0.12, 0.10, 0.3), (-1, 0, 0.6)),
)
EXPRESSIONS: tuple[str, ...] = ("jaw", "blink", *(kernel.name for kernel in EXPRESSION_KERNELS))

"""Heads: losses over identities that train a backbone, and the margins in them."""

from openmfr.heads.build import build_head
from openmfr.heads.config import MARGINS, HeadConfig, Margin
from openmfr.heads.fused import FusedSoftmax
from openmfr.heads.head import Head, NotFiniteError, Step
from openmfr.heads.margins import adaface, arcface, arcface_torch, combined, cosface
from openmfr.heads.sampling import StepSize
from openmfr.heads.softmax import MarginSoftmax

__all__ = [
    "MARGINS",
    "FusedSoftmax",
    "Head",
    "HeadConfig",
    "Margin",
    "MarginSoftmax",
    "NotFiniteError",
    "Step",
    "StepSize",
    "adaface",
    "arcface",
    "arcface_torch",
    "build_head",
    "combined",
    "cosface",
]

"""Heads: losses over identities that train a backbone, and the margins in them."""

from openmfr.heads.head import Head, HeadConfig
from openmfr.heads.margins import arcface, cosface
from openmfr.heads.softmax import MarginSoftmax, build_head

__all__ = ["Head", "HeadConfig", "MarginSoftmax", "arcface", "build_head", "cosface"]

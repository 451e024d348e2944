"""Backbones: networks that map aligned face images to embeddings, and what they cost."""

from openmfr.models.backbone import BACKBONES, BackboneConfig, build_backbone, named_backbone
from openmfr.models.macs import Cost, count
from openmfr.models.preprocess import to_input

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "Cost",
    "build_backbone",
    "count",
    "named_backbone",
    "to_input",
]

"""Large-scale masked face recognition: from photos to a deployed recogniser.

The names in `__all__` are the public API. Each is imported when it is first used, so that
`import openmfr` costs nothing, and reading a store or computing a rate never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from openmfr.version import __version__

if TYPE_CHECKING:
    from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
    from openmfr.cleaning.changes import find_changes
    from openmfr.cleaning.clean import CleanResult, clean
    from openmfr.cleaning.config import CleanConfig
    from openmfr.cleaning.judge import judge
    from openmfr.data.convert import convert_from_store, convert_to_store
    from openmfr.data.crop import IngestConfig
    from openmfr.data.fit import fit_geometry
    from openmfr.data.geometry import Geometry
    from openmfr.data.ingest import IngestSummary, ingest
    from openmfr.data.labels import Labels
    from openmfr.data.noise import NoiseConfig, PlantedNoise, plant_noise
    from openmfr.data.store import Store
    from openmfr.data.store_writer import StoreWriter
    from openmfr.data.texts import Texts
    from openmfr.demo import Demo, run_demo
    from openmfr.deploy.export import ExportConfig, export_checkpoint
    from openmfr.deploy.gallery import Gallery, NewImage, make_gallery, open_gallery
    from openmfr.deploy.input_spec import InputSpec, Pixels
    from openmfr.deploy.latency import Latency, LatencyConfig, measure_latency
    from openmfr.deploy.model import OnnxModel
    from openmfr.deploy.quality import FaceQuality
    from openmfr.deploy.runtime import EmbeddedFace, Recognizer
    from openmfr.device import choose_device
    from openmfr.embed import Embedder, Embeddings, embed_store
    from openmfr.errors import UserError
    from openmfr.evaluation.breakdown import Traits, break_down
    from openmfr.evaluation.calibration import Calibration
    from openmfr.evaluation.comparisons import Comparisons, VerificationProtocol
    from openmfr.evaluation.difference import measure_difference
    from openmfr.evaluation.evaluate import calibrate, evaluate
    from openmfr.evaluation.masked import MaskedPairs
    from openmfr.evaluation.protocols.lists import read_pairs
    from openmfr.evaluation.protocols.pairs import PairList
    from openmfr.evaluation.sampling import sample_pairs
    from openmfr.evaluation.verification import VerificationResult, measure
    from openmfr.evaluation.verification_report import write_verification_report
    from openmfr.faces.align import align_face
    from openmfr.faces.detect import DetectedFace, Detector
    from openmfr.faces.geometry import GeometryProvider
    from openmfr.heads import Head, HeadConfig
    from openmfr.masking.augment import Masker
    from openmfr.masking.bank import MaskBank
    from openmfr.masking.config import MaskConfig, StyleWeights
    from openmfr.masking.photo import find_faces, mask_photo
    from openmfr.masking.render import Masked, render_mask
    from openmfr.masking.render_store import render_store
    from openmfr.masking.template import MaskTemplate
    from openmfr.masking.wear import Wear, draw_wear
    from openmfr.models import BackboneConfig, build_backbone
    from openmfr.models.ridnet import Architecture, fuse, load_definition
    from openmfr.recipes import load_recipe
    from openmfr.synthetic.dataset import synthesise
    from openmfr.train import (
        AugmentConfig,
        OptimizerConfig,
        ScheduleConfig,
        TrainConfig,
        Trainer,
        Training,
    )

__all__ = [
    "Architecture",
    "AugmentConfig",
    "BackboneConfig",
    "Calibration",
    "Checkpoint",
    "CheckpointEmbedder",
    "CleanConfig",
    "CleanResult",
    "Comparisons",
    "Demo",
    "DetectedFace",
    "Detector",
    "EmbeddedFace",
    "Embedder",
    "Embeddings",
    "ExportConfig",
    "FaceQuality",
    "Gallery",
    "Geometry",
    "GeometryProvider",
    "Head",
    "HeadConfig",
    "IngestConfig",
    "IngestSummary",
    "InputSpec",
    "Labels",
    "Latency",
    "LatencyConfig",
    "MaskBank",
    "MaskConfig",
    "MaskTemplate",
    "Masked",
    "MaskedPairs",
    "Masker",
    "NewImage",
    "NoiseConfig",
    "OnnxModel",
    "OptimizerConfig",
    "PairList",
    "Pixels",
    "PlantedNoise",
    "Recognizer",
    "ScheduleConfig",
    "Store",
    "StoreWriter",
    "StyleWeights",
    "Texts",
    "TrainConfig",
    "Trainer",
    "Training",
    "Traits",
    "UserError",
    "VerificationProtocol",
    "VerificationResult",
    "Wear",
    "__version__",
    "align_face",
    "break_down",
    "build_backbone",
    "calibrate",
    "choose_device",
    "clean",
    "convert_from_store",
    "convert_to_store",
    "draw_wear",
    "embed_store",
    "evaluate",
    "export_checkpoint",
    "find_changes",
    "find_faces",
    "fit_geometry",
    "fuse",
    "ingest",
    "judge",
    "load_definition",
    "load_recipe",
    "make_gallery",
    "mask_photo",
    "measure",
    "measure_difference",
    "measure_latency",
    "open_gallery",
    "plant_noise",
    "read_pairs",
    "render_mask",
    "render_store",
    "run_demo",
    "sample_pairs",
    "synthesise",
    "write_verification_report",
]

#: Module → the public names that it defines.
_NAMES_OF = {
    "openmfr.data.noise": ("NoiseConfig", "PlantedNoise", "plant_noise"),
    "openmfr.cleaning.judge": ("judge",),
    "openmfr.cleaning.changes": ("find_changes",),
    "openmfr.cleaning.clean": ("CleanResult", "clean"),
    "openmfr.cleaning.config": ("CleanConfig",),
    "openmfr.evaluation.breakdown": ("Traits", "break_down"),
    "openmfr.evaluation.calibration": ("Calibration",),
    "openmfr.checkpoint": ("Checkpoint", "CheckpointEmbedder"),
    "openmfr.data.crop": ("IngestConfig",),
    "openmfr.data.ingest": ("IngestSummary", "ingest"),
    "openmfr.data.fit": ("fit_geometry",),
    "openmfr.data.geometry": ("Geometry",),
    "openmfr.data.labels": ("Labels",),
    "openmfr.data.store": ("Store",),
    "openmfr.data.store_writer": ("StoreWriter",),
    "openmfr.data.texts": ("Texts",),
    "openmfr.data.convert": ("convert_from_store", "convert_to_store"),
    "openmfr.demo": ("Demo", "run_demo"),
    "openmfr.deploy.export": ("ExportConfig", "export_checkpoint"),
    "openmfr.deploy.gallery": ("Gallery", "NewImage", "make_gallery", "open_gallery"),
    "openmfr.deploy.input_spec": ("InputSpec", "Pixels"),
    "openmfr.deploy.latency": ("Latency", "LatencyConfig", "measure_latency"),
    "openmfr.deploy.model": ("OnnxModel",),
    "openmfr.deploy.quality": ("FaceQuality",),
    "openmfr.deploy.runtime": ("EmbeddedFace", "Recognizer"),
    "openmfr.device": ("choose_device",),
    "openmfr.embed": ("Embedder", "Embeddings", "embed_store"),
    "openmfr.errors": ("UserError",),
    "openmfr.evaluation.comparisons": ("Comparisons", "VerificationProtocol"),
    "openmfr.evaluation.difference": ("measure_difference",),
    "openmfr.evaluation.evaluate": ("calibrate", "evaluate"),
    "openmfr.evaluation.masked": ("MaskedPairs",),
    "openmfr.evaluation.protocols.lists": ("read_pairs",),
    "openmfr.evaluation.protocols.pairs": ("PairList",),
    "openmfr.evaluation.sampling": ("sample_pairs",),
    "openmfr.evaluation.verification": ("VerificationResult", "measure"),
    "openmfr.evaluation.verification_report": ("write_verification_report",),
    "openmfr.faces.align": ("align_face",),
    "openmfr.faces.detect": ("DetectedFace", "Detector"),
    "openmfr.faces.geometry": ("GeometryProvider",),
    "openmfr.heads": ("Head", "HeadConfig"),
    "openmfr.masking.augment": ("Masker",),
    "openmfr.masking.bank": ("MaskBank",),
    "openmfr.masking.config": ("MaskConfig", "StyleWeights"),
    "openmfr.masking.photo": ("find_faces", "mask_photo"),
    "openmfr.masking.render": ("Masked", "render_mask"),
    "openmfr.masking.render_store": ("render_store",),
    "openmfr.masking.template": ("MaskTemplate",),
    "openmfr.masking.wear": ("Wear", "draw_wear"),
    "openmfr.models": ("BackboneConfig", "build_backbone"),
    "openmfr.models.ridnet": ("Architecture", "fuse", "load_definition"),
    "openmfr.recipes": ("load_recipe",),
    "openmfr.synthetic.dataset": ("synthesise",),
    "openmfr.train": (
        "AugmentConfig",
        "OptimizerConfig",
        "ScheduleConfig",
        "TrainConfig",
        "Trainer",
        "Training",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

# Hidden from the type checker, so that it still finds a name that does not exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name's module and return the name from it."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'openmfr' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

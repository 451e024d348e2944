"""What `import openmfr` gives: names that change only on purpose, and no heavy import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import openmfr

#: The public API. A name that leaves this list has warned for one minor release before.
PUBLIC = """
    Architecture AugmentConfig BackboneConfig Calibration Checkpoint CheckpointEmbedder CleanConfig
    CleanResult Comparisons Demo DetectedFace Detector EmbeddedFace Embedder Embeddings ExportConfig
    FaceQuality Gallery Geometry GeometryProvider Head HeadConfig IngestConfig IngestSummary
    InputSpec Labels Latency LatencyConfig MaskBank MaskConfig MaskTemplate Masked MaskedPairs
    Masker NewImage NoiseConfig OnnxModel OptimizerConfig PairList Pixels PlantedNoise Recognizer
    ScheduleConfig Store StoreWriter StyleWeights Texts TrainConfig Trainer Training Traits
    UserError VerificationProtocol VerificationResult Wear __version__ align_face break_down
    build_backbone calibrate choose_device clean convert_from_store convert_to_store draw_wear
    embed_store evaluate export_checkpoint find_changes find_faces fit_geometry fuse ingest judge
    load_definition load_recipe make_gallery mask_photo measure measure_difference measure_latency
    open_gallery plant_noise read_pairs render_mask render_store run_demo sample_pairs synthesise
    write_verification_report
"""


def imported_by(script: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a script."""
    code = f"{script}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_public_names_are_those_that_were_agreed_on() -> None:
    assert openmfr.__all__ == PUBLIC.split()
    assert dir(openmfr) == sorted(openmfr.__all__)


@pytest.mark.parametrize("name", openmfr.__all__)
def test_every_public_name_is_documented_where_it_is_defined(name: str) -> None:
    found = getattr(openmfr, name)
    if name != "__version__":
        assert found.__name__ == name
        assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(openmfr, "Stroe")


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = imported_by("import openmfr")
    assert not loaded & {"torch", "numpy", "pyarrow", "PIL", "tyro"}


def test_reading_a_store_and_labels_loads_no_torch() -> None:
    loaded = imported_by("from openmfr import Labels, Store, UserError, measure, read_pairs")
    assert "pyarrow" in loaded
    assert "torch" not in loaded

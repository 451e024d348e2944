"""A model card says what is known, and calls the rest unknown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_checkpoint import make_checkpoint
from toys import make_store

from openmfr.artefacts import describe
from openmfr.checkpoint import Checkpoint
from openmfr.cli.embed import main as embed
from openmfr.cli.evaluate_identities import main as evaluate_identities
from openmfr.cli.evaluating_lists import ListFlags
from openmfr.cli.export import main as export
from openmfr.data.store import Store
from openmfr.deploy.card import ModelCard, describe_card
from openmfr.deploy.export import ExportConfig, export_checkpoint
from openmfr.deploy.model import OnnxModel
from openmfr.errors import UserError
from openmfr.models import BackboneConfig
from openmfr.train import OptimizerConfig, ScheduleConfig, TrainConfig, Training

TOY = BackboneConfig(name="toy_backbone:Toy", input_size=32, embedding_dim=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "faces", identities=12)


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps that held four people out."""
    config = TrainConfig(
        backbone=TOY,
        optimizer=OptimizerConfig(learning_rate=0.5),
        schedule=ScheduleConfig(epochs=2, warmup_epochs=0.5, shape="cosine"),
        batch_size=16,
        holdout_identities=4,
    )
    out = tmp_path_factory.mktemp("runs") / "first"
    Training(config=config, store=store.path).trainer(out, device=torch.device("cpu")).fit()
    return out


@pytest.fixture(scope="module")
def of_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, Path]:
    out = tmp_path_factory.mktemp("exported") / "first.onnx"
    return export_checkpoint(Checkpoint.open(run), out, config=ExportConfig()), out


def test_card_and_file_cannot_be_parted(of_run: tuple[ModelCard, Path]) -> None:
    card, out = of_run
    inside = OnnxModel(out, threads=1).card
    assert inside == json.loads(card.to_json())
    assert inside["file_bytes"] == out.stat().st_size
    assert inside["fingerprint"] == OnnxModel(out, threads=1).fingerprint
    assert out.with_suffix(".md").read_text() == card.to_markdown()


def test_inspect_says_what_is_in_a_file(of_run: tuple[ModelCard, Path]) -> None:
    card, out = of_run
    told = describe(out)
    assert told["kind"] == "model"
    assert told["fingerprint"] == card.fingerprint
    assert "image" in told["input"]
    assert "embedding" in told["output"]


def test_a_card_tells_data_recipe_and_results_of_the_run(
    of_run: tuple[ModelCard, Path], run: Path, store: Store
) -> None:
    card, _ = of_run
    origin = card.origin
    assert (origin.store, origin.identities, origin.images) == (store.fingerprint, 8, 48)
    assert origin.recipe is not None
    assert origin.recipe["backbone"]["name"] == "toy_backbone:Toy"
    (result,) = card.results
    reported = json.loads((run / "report.json").read_text())["results"]["best checkpoint"]
    assert vars(result.eer) == reported["eer"]
    assert result.identities == 4
    page = card.to_markdown()
    for told in ("48 images of 8 people", store.fingerprint, "4 people", '"batch_size": 16'):
        assert told in page


def test_faces_are_as_large_as_those_of_the_training(of_run: tuple[ModelCard, Path]) -> None:
    assert of_run[0].network.face_size == 32


def test_a_report_about_another_checkpoint_of_the_run_is_left_out(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    own = Checkpoint.open(tmp_path / "run").path
    other = own.rename(own.with_name("step-99999999"))
    card = export_card(other, tmp_path / "other.onnx")
    assert card.results == ()
    assert card.origin.recipe is not None


def test_what_is_not_known_is_called_unknown(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "alone", TOY)
    card = export_checkpoint(checkpoint, tmp_path / "alone.onnx", config=ExportConfig())
    assert card.origin.recipe is None
    assert card.origin.images is None
    assert (card.licence, card.network.face_size) == ("not stated", 112)
    page = card.to_markdown()
    assert "| Licence | not stated |" in page
    assert "| Started from | unknown |" in page
    assert "No report of this checkpoint was given." in page
    assert "the checkpoint does not lie in its run's folder" in page


def test_a_stated_licence_stands_in_the_card(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "alone", TOY)
    export(checkpoint.path, tmp_path / "m.onnx", licence="CC BY-NC 4.0 | research")
    assert OnnxModel(tmp_path / "m.onnx", threads=1).card["licence"] == "CC BY-NC 4.0 | research"
    page = (tmp_path / "m.md").read_text()
    assert "| Licence | CC BY-NC 4.0 \\| research |" in page


def test_reports_about_the_checkpoint_are_taken_and_others_refused(
    run: Path, store: Store, tmp_path: Path
) -> None:
    other = make_checkpoint(tmp_path / "other", TOY)
    reports = {}
    for name, model in (("own", run), ("other", other.path)):
        embed(model, store.path, tmp_path / f"{name}-embeddings", flip=True, device="cpu")
        reports[name] = tmp_path / f"{name}-report"
        evaluate_identities(
            (tmp_path / f"{name}-embeddings",), flags=ListFlags(out=reports[name], replicates=20)
        )
    card = export_card(run, tmp_path / "m.onnx", reports=(reports["own"],))
    assert len(card.results) == 2
    assert card.results[1].how == "embedded in float32, the mirrored image added"
    with pytest.raises(UserError, match="a report about other models"):
        export_card(run, tmp_path / "n.onnx", reports=(reports["other"],))
    assert not (tmp_path / "n.onnx").exists()


def test_a_card_of_any_version_is_described_by_what_it_has(
    of_run: tuple[ModelCard, Path],
) -> None:
    described = describe_card(OnnxModel(of_run[1], threads=1).card)
    assert described["precision"] == "float32"
    assert described["trained on"] == "48 images of 8 people"
    assert "median cosine of int8" not in described
    assert describe_card({}) == {}
    assert describe_card({"network": None, "novel": 1, "licence": "MIT"}) == {"licence": "MIT"}


def export_card(checkpoint: Path, out: Path, **options: Any) -> ModelCard:
    return export_checkpoint(Checkpoint.open(checkpoint), out, config=ExportConfig(), **options)

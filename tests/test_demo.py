"""The demo: small, it goes through the whole line; whole, it keeps the README's promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openmfr.demo import Demo, run_demo
from openmfr.evaluation.difference import measure_difference
from openmfr.models import BackboneConfig
from openmfr.recipes import tiny_synthetic
from openmfr.train import ScheduleConfig


def test_a_small_demo_goes_through_the_whole_line_and_repeats_at_once(tmp_path: Path) -> None:
    config = replace(
        tiny_synthetic(),
        backbone=BackboneConfig(name="tiny", input_size=32, embedding_dim=32),
        schedule=ScheduleConfig(epochs=1.0, warmup_epochs=0.5),
        batch_size=16,
        holdout_identities=6,
    )
    demo = run_demo(tmp_path, identities=12, images=6, config=config)
    page = demo.report.read_text(encoding="utf-8")
    numbers = json.loads((demo.report.parent / "report.json").read_text(encoding="utf-8"))
    assert set(numbers["results"]) == {"network", "fine-tuned on masks", "shortcut"}
    assert set(demo.network.kinds) == {"uu", "mu", "mm"}
    assert "Training" in page
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = run_demo(tmp_path, identities=12, images=6, config=config)
    assert again.network.accuracy == demo.network.accuracy
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == made


@pytest.mark.slow
@pytest.mark.first
def test_the_whole_demo(tmp_path: Path) -> None:
    demo = run_demo(tmp_path)
    it_knows_people_whom_it_never_saw_and_takes_no_shortcut(demo)
    it_shows_the_masked_gap_and_its_cure(demo)


def it_knows_people_whom_it_never_saw_and_takes_no_shortcut(demo: Demo) -> None:
    network, shortcut = (
        result.kinds["uu"].accuracy.mean for result in (demo.network, demo.shortcut)
    )
    assert network.value is not None
    assert network.low is not None
    assert shortcut.high is not None
    assert network.value > 0.90
    assert network.low > shortcut.high, "the intervals overlap: a thumbnail does as well"


def it_shows_the_masked_gap_and_its_cure(demo: Demo) -> None:
    bare, masked = (demo.network.kinds[kind].auc for kind in ("uu", "mu"))
    assert bare.low is not None
    assert masked.high is not None
    assert bare.low > masked.high, "masks cost nothing"
    cure = measure_difference(
        demo.network.kinds["mu"].comparisons, demo.cured.kinds["mu"].comparisons
    )
    assert cure["auc"].low is not None
    assert cure["auc"].low > 0

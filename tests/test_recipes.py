"""Recipes are the paper's where they say so, and a wrong name gets the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from openmfr.config import from_dict, to_dict
from openmfr.errors import UserError
from openmfr.models import build_backbone
from openmfr.recipes import RECIPES, load_recipe
from openmfr.run import Run
from openmfr.train import TrainConfig


def test_the_papers_settings_stand_as_published() -> None:
    """MFR paper, §3.3 and the best rows of Table 9."""
    paper = load_recipe("paper_cosface")
    assert (paper.optimizer.learning_rate, paper.optimizer.momentum) == (0.1, 0.9)
    assert paper.optimizer.weight_decay == 1e-4
    assert (paper.schedule.milestones, paper.schedule.epochs) == ((5, 9, 12, 15), 17)
    assert (paper.head.kind, paper.head.margin, paper.backbone.dropout) == ("cosface", 0.4, 0.4)
    assert (paper.batch_size, paper.backbone.embedding_dim) == (4512, 512)
    assert load_recipe("paper_arcface").head.margin == 0.5


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_survives_its_file_and_builds(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    again = from_dict(TrainConfig, to_dict(recipe), where="test")
    assert again == recipe
    Run(tmp_path / "run", settings={"config": to_dict(recipe)}, about={}).begin()
    assert load_recipe(str(tmp_path / "run")) == recipe
    if not name.startswith("paper"):
        build_backbone(recipe.backbone)


def test_the_probe_differs_from_the_full_recipe_in_length_and_resolution_alone() -> None:
    probe, full = to_dict(load_recipe("probe_real")), to_dict(load_recipe("tiny_real"))
    differing = {
        f"{section}.{name}"
        for section, values in full.items()
        if probe[section] != values
        for name in values
        if probe[section][name] != values[name]
    }
    assert differing == {"backbone.input_size", "schedule.epochs"}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("tiny_reel", "did you mean tiny_real"),
        ("no.such.module:recipe", "No module named"),
        ("os:getcwd", "found str"),
    ],
)
def test_a_wrong_recipe_gets_one_clear_error(name: str, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        load_recipe(name)

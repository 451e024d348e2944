"""Recipes are the paper's where they say so, and a wrong name gets the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from openmfr.config import from_dict, to_dict
from openmfr.errors import UserError
from openmfr.models import build_backbone
from openmfr.plan import describe_plan, known_size
from openmfr.recipes import PAPER_RANKS, PAPER_TABLES, RECIPES, load_recipe
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


def changes(name: str) -> dict[str, object]:
    """Fields of a recipe that differ from `paper_cosface`, by dotted name."""
    paper, recipe = _flat(load_recipe("paper_cosface")), _flat(load_recipe(name))
    return {field: value for field, value in recipe.items() if paper[field] != value}


def _flat(recipe: TrainConfig) -> dict[str, object]:
    flat: dict[str, object] = {}
    for section, values in to_dict(recipe).items():
        fields = values if isinstance(values, dict) else {"": values}
        flat |= {f"{section}.{name}".rstrip("."): value for name, value in fields.items()}
    return flat


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("table4_whole_float32", {"head.path": "dense", "precision": "float32"}),
        ("table4_sharded_float32", {"head.path": "dense", "precision": "float32"}),
        ("table4_sharded", {"head.path": "dense"}),
        ("table4_partial", {"head.sample_rate": 0.1}),
        ("table6_masks_0.1", {"masks.probability": 0.1}),
        ("table6_masks_0.15", {}),
        ("table6_masks_0.2", {"masks.probability": 0.2}),
        ("table9_cosface_0.4", {}),
        ("table9_arcface_0.5", {"head.kind": "arcface", "head.margin": 0.5}),
        ("table9_arcface_0.45", {"head.kind": "arcface", "head.margin": 0.45}),
        ("table9_decay_1e-4", {}),
        ("table9_decay_5e-4", {"optimizer.weight_decay": 5e-4}),
        ("table9_dropout_0.4", {"head.sample_rate": 0.1}),
        ("table9_dropout_0", {"head.sample_rate": 0.1, "backbone.dropout": 0.0}),
        (
            "table10_finetune",
            {
                "head.sample_rate": 0.1,
                "optimizer.learning_rate": 0.01,
                "schedule.epochs": 3.0,
                "schedule.warmup_epochs": 0.0,
                "schedule.shape": "cosine",
                "masks.probability": 0.33,
            },
        ),
    ],
)
def test_a_row_of_the_papers_tables_changes_what_it_names(
    row: str, expected: dict[str, object]
) -> None:
    assert changes(f"paper_{row}") == expected


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_the_papers_own_networks_change_the_network_alone(size: str) -> None:
    assert changes(f"paper_ridnet_{size}") == {"backbone.name": f"ridnet_{size}"}


@pytest.mark.parametrize("name", [*PAPER_TABLES, "paper_ridnet_s"])
def test_the_papers_trainings_pass_a_dry_run(name: str) -> None:
    lines = describe_plan(load_recipe(name), known_size("webface42m"), PAPER_RANKS)
    assert lines["ranks"] == "48, 94 images each"
    assert "images (94, 3, 112, 112), embeddings (94, 512)" in lines["shapes"]
    assert "prototypes (42915, 512)" in lines["shapes"]


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

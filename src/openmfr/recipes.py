"""Named configurations as functions: laptop-sized ones, and the paper's own.

A recipe takes nothing and returns a `TrainConfig`; another one starts from it with
`dataclasses.replace`. The rows of the paper's tables are variations of `paper_cosface` and stand in
one table, `PAPER_TABLES`. `load_recipe` also takes a user's `package.module:function`, and the
`run.json` of a finished run, from which it can be repeated.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from openmfr.config import from_dict
from openmfr.errors import UserError, nearest
from openmfr.heads import HeadConfig
from openmfr.heads.config import Path as HeadPath
from openmfr.heads.memory import PARTIAL_FC_RATE
from openmfr.masking.config import MaskConfig
from openmfr.models import BackboneConfig
from openmfr.run import run_settings
from openmfr.train import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from openmfr.train.config import Precision

#: Ranks of the paper's own training: 48 GPUs of 94 images (§3.3).
PAPER_RANKS = 48

_TINY = BackboneConfig(name="tiny", input_size=112, embedding_dim=256)
_LIGHT = AugmentConfig(
    rotation=5.0,
    scale=0.06,
    shift=0.02,
    brightness=0.1,
    contrast=0.2,
    saturation=0.3,
    grey=0.1,
)


def tiny_synthetic() -> TrainConfig:
    """The demo: a laptop-sized network on a few thousand synthetic faces, in about three minutes.

    At 64 × 64, where a step costs a third; synthetic faces lose little by it.
    """
    return TrainConfig(
        backbone=replace(_TINY, input_size=64),
        head=HeadConfig(kind="cosface", margin=0.2, scale=30.0),
        optimizer=OptimizerConfig(learning_rate=0.2, weight_decay=5e-4),
        schedule=ScheduleConfig(epochs=20.0, warmup_epochs=0.5, shape="cosine"),
        augment=replace(_LIGHT, grey=0.0),
        batch_size=64,
        precision="bfloat16",
        holdout_identities=100,
        evaluate_epochs=5.0,
    )


def tiny_real() -> TrainConfig:
    """A first recogniser of real faces: about 20,000 images in half an hour on two cores."""
    return TrainConfig(
        backbone=_TINY,
        head=HeadConfig(kind="cosface", margin=0.2, scale=30.0),
        optimizer=OptimizerConfig(learning_rate=0.2, weight_decay=5e-4),
        schedule=ScheduleConfig(epochs=22.0, warmup_epochs=0.5, shape="cosine"),
        augment=_LIGHT,
        masks=MaskConfig(probability=0.15, kind="erase"),
        batch_size=64,
        precision="bfloat16",
        holdout_identities=100,
        evaluate_epochs=4.0,
    )


def probe_real() -> TrainConfig:
    """`tiny_real` at half the resolution and length, under eight minutes: for comparing settings.

    It keeps the training set, the network and the shape of the schedule: a probe cut to a few
    epochs would call every augmentation harmful.
    """
    full = tiny_real()
    return replace(
        full,
        backbone=replace(full.backbone, input_size=64),
        schedule=replace(full.schedule, epochs=14.0),
    )


def masked_real() -> TrainConfig:
    """`tiny_real` for masked faces: what helped in our measurements, each alone, together.

    A third of the images wear a rendered mask, where the paper has 15 %, the margin is the paper's,
    twice that of `tiny_real`, and the network is one that the search found. What each part is worth
    says `openmfr reproduce parts`. Rendering needs the faces' geometry, from `openmfr mask fit`.
    """
    full = tiny_real()
    return replace(
        full,
        backbone=replace(full.backbone, name="ridnet_tiny"),
        head=replace(full.head, margin=0.4),
        masks=MaskConfig(probability=0.33),
    )


def paper_cosface() -> TrainConfig:
    """The paper's training on WebFace42M: IResNet-100, CosFace 0.4, batch 4512 on 48 GPUs.

    15 % of the images wear a mask.

    Source:
        MFR paper, §3.3 and Table 9's best rows; scale, warm-up and decay factor are ours, where
        the paper is silent. Batch 4512 is that of all GPUs together.
    """
    return TrainConfig(
        backbone=BackboneConfig(name="iresnet100", input_size=112, embedding_dim=512, dropout=0.4),
        head=HeadConfig(kind="cosface", margin=0.4, scale=64.0),
        optimizer=OptimizerConfig(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=ScheduleConfig(),
        augment=AugmentConfig(flip=0.5),
        masks=MaskConfig(probability=0.15),
        batch_size=4512,
        precision="float16",
    )


def paper_arcface() -> TrainConfig:
    """`paper_cosface` with ArcFace 0.5, a row of the paper's Table 9."""
    return replace(paper_cosface(), head=HeadConfig(kind="arcface", margin=0.5, scale=64.0))


def paper_resnet50() -> TrainConfig:
    """`paper_cosface` with ResNet-50, a baseline of the paper's Table 7."""
    return _paper_baseline("resnet50")


def paper_se_resnet50() -> TrainConfig:
    """`paper_cosface` with SE-ResNet-50, a baseline of the paper's Table 7."""
    return _paper_baseline("se_resnet50")


def paper_resnext50() -> TrainConfig:
    """`paper_cosface` with ResNeXt-50, a baseline of the paper's Table 7."""
    return _paper_baseline("resnext50")


def paper_ridnet_s() -> TrainConfig:
    """`paper_cosface` with RIDNet-S, the network that the paper's search found (Table 7)."""
    return _paper_ridnet("ridnet_s")


def paper_ridnet_m() -> TrainConfig:
    """`paper_cosface` with RIDNet-M, the paper's entry to the challenge (Table 1)."""
    return _paper_ridnet("ridnet_m")


def paper_ridnet_l() -> TrainConfig:
    """`paper_cosface` with RIDNet-L, the paper's entry to the ongoing challenge (Table 8)."""
    return _paper_ridnet("ridnet_l")


def _paper_ridnet(name: str) -> TrainConfig:
    paper = paper_cosface()
    return replace(paper, backbone=replace(paper.backbone, name=name))


def _paper_baseline(name: str) -> TrainConfig:
    paper = paper_cosface()
    return replace(paper, backbone=replace(paper.backbone, name=name, input_size=224))


def paper_row(
    *,
    kind: str = "cosface",
    margin: float = 0.4,
    sample_rate: float = 1.0,
    path: HeadPath = "fused",
    weight_decay: float = 1e-4,
    dropout: float = 0.4,
    masked: float = 0.15,
    precision: Precision = "float16",
) -> TrainConfig:
    """`paper_cosface` with what a row of the paper's Table 4, 6 or 9 changes.

    The paper gives figures of these rows, not all their settings: what a row does not name stays as
    in `paper_cosface`. Ranks are no part of a recipe; the paper's 48 of 94 images give its batch.

    Args:
        kind: Of the margin.
        margin: 0 to 1, or radians for ArcFace.
        sample_rate: Of Partial FC, above 0 to 1.
        path: "dense" is the paper's distributed FC.
        weight_decay: Of weights and prototypes.
        dropout: Before the embedding layer, 0 to below 1.
        masked: Share of the images that wear a mask, 0 to 1.
        precision: Of the backbone.

    Source:
        MFR paper, Tables 4, 6 and 9.
    """
    paper = paper_cosface()
    return replace(
        paper,
        backbone=replace(paper.backbone, dropout=dropout),
        head=replace(paper.head, kind=kind, margin=margin, sample_rate=sample_rate, path=path),
        optimizer=replace(paper.optimizer, weight_decay=weight_decay),
        masks=replace(paper.masks, probability=masked),
        precision=precision,
    )


def paper_table10_finetune() -> TrainConfig:
    """The paper's fine-tuning: 3 epochs from a trained recogniser (`openmfr train --from`).

    Source:
        MFR paper, Table 10.
    """
    return masked_finetune(paper_row(sample_rate=PARTIAL_FC_RATE))


def masked_finetune(config: TrainConfig, *, epochs: float = 3.0) -> TrainConfig:
    """Turn a recipe into the fine-tuning that follows it: few epochs with many masks.

    A third of the images wears a mask, as in the paper. Rate and drops are ours, as the paper is
    silent: the rate at which its training before ended the second stage, a tenth of the first, with
    cosine to 0 and no warm-up.

    Args:
        config: How the recogniser was trained.
        epochs: How long.

    Source:
        MFR paper, Table 10.
    """
    return replace(
        config,
        optimizer=replace(config.optimizer, learning_rate=config.optimizer.learning_rate / 10),
        schedule=ScheduleConfig(epochs=epochs, warmup_epochs=0.0, shape="cosine"),
        masks=replace(config.masks, probability=0.33, kind="rendered"),
    )


#: Rows of the paper's tables by name.
#: Table 4: a whole classifier on each rank and a sharded one are the same training, and ours always
#: shards; what differs is the memory, which `openmfr plan` shows for both. The rate of Partial FC
#: is ours, as the paper gives none.
#: Table 9: its row with dropout has the figures of Table 4's Partial FC, so both rows about dropout
#: sample.
PAPER_TABLES: dict[str, Callable[[], TrainConfig]] = {
    "paper_table4_whole_float32": partial(paper_row, path="dense", precision="float32"),
    "paper_table4_sharded_float32": partial(paper_row, path="dense", precision="float32"),
    "paper_table4_sharded": partial(paper_row, path="dense"),
    "paper_table4_partial": partial(paper_row, sample_rate=PARTIAL_FC_RATE),
    "paper_table6_masks_0.1": partial(paper_row, masked=0.10),
    "paper_table6_masks_0.15": partial(paper_row, masked=0.15),
    "paper_table6_masks_0.2": partial(paper_row, masked=0.20),
    "paper_table9_cosface_0.4": partial(paper_row),
    "paper_table9_arcface_0.5": partial(paper_row, kind="arcface", margin=0.5),
    "paper_table9_arcface_0.45": partial(paper_row, kind="arcface", margin=0.45),
    "paper_table9_decay_1e-4": partial(paper_row, weight_decay=1e-4),
    "paper_table9_decay_5e-4": partial(paper_row, weight_decay=5e-4),
    "paper_table9_dropout_0.4": partial(paper_row, sample_rate=PARTIAL_FC_RATE, dropout=0.4),
    "paper_table9_dropout_0": partial(paper_row, sample_rate=PARTIAL_FC_RATE, dropout=0.0),
    "paper_table10_finetune": paper_table10_finetune,
}

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    recipe.__name__: recipe
    for recipe in (
        tiny_synthetic,
        tiny_real,
        probe_real,
        masked_real,
        paper_cosface,
        paper_arcface,
        paper_resnet50,
        paper_se_resnet50,
        paper_resnext50,
        paper_ridnet_s,
        paper_ridnet_m,
        paper_ridnet_l,
    )
} | PAPER_TABLES


def is_papers(name: str) -> bool:
    """Whether a recipe is one of the paper's own, made for WebFace42M and 48 GPUs.

    Example:
        >>> is_papers("paper_table4_partial"), is_papers("tiny_real")
        (True, False)
    """
    return name in RECIPES and name.startswith("paper_")


def load_recipe(name: str) -> TrainConfig:
    """Find a recipe.

    Args:
        name: A name of `RECIPES`, a user's `package.module:function`, or the path of a finished
            run (its `run.json` holds the resolved configuration).

    Raises:
        UserError: If there is no such recipe; the nearest name is suggested.

    Example:
        >>> load_recipe("tiny_real").holdout_identities
        100
    """
    if name in RECIPES:
        return RECIPES[name]()
    path = Path(name)
    if (path / "run.json").exists() or path.name == "run.json":
        folder = path.parent if path.is_file() else path
        config = run_settings(folder)["config"]
        return from_dict(TrainConfig, config, where=str(folder / "run.json"))
    if ":" in name:
        return _from_module(name)
    raise UserError(
        where="recipe", found=name, allowed=", ".join(RECIPES), next_step=nearest(name, RECIPES)
    )


def _from_module(name: str) -> TrainConfig:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            where="recipe",
            found=f"{name} ({error})",
            allowed="package.module:function that Python can import",
            next_step="check the name, and that the module is installed or in this folder",
        ) from error
    recipe = function()
    if not isinstance(recipe, TrainConfig):
        raise UserError(
            where=f"recipe {name}",
            found=type(recipe).__name__,
            allowed="a function that returns an openmfr.train.TrainConfig",
            next_step="return one; openmfr/recipes.py shows how",
        )
    return recipe

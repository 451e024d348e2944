"""Everything that determines a training's result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from openmfr.data.order import Sampling
from openmfr.errors import check_fields
from openmfr.heads import HeadConfig
from openmfr.masking.config import MaskConfig
from openmfr.models import BackboneConfig, named_backbone
from openmfr.train.augment import AugmentConfig
from openmfr.train.optimizer import OptimizerConfig
from openmfr.train.schedule import ScheduleConfig

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
SAMPLINGS: tuple[str, ...] = get_args(Sampling)

#: What a fine-tuning does with the checkpoint's prototypes. "same": take them; the labels must be
#: those of the checkpoint. "extend": take them for the first identities, and draw the others, which
#: have joined. "new": draw all.
HeadStart = Literal["same", "extend", "new"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines a training's result, given a store and its labels.

    Attributes:
        backbone: The network.
        head: The loss.
        optimizer: How weights move.
        schedule: When the learning rate moves, and how long training is.
        augment: How images are changed.
        masks: How many images wear a mask, and which.
        batch_size: Images in each step, G: those of all ranks together, so that a run on another
            number of ranks is the same training.
        accumulate: Parts that a rank's batch is cut into, one after the other, when it does not fit
            into memory; needs the dense head, as the fused one moves with every part.
        precision: Of the backbone's arithmetic; weights, head and optimizer stay float32. "float16"
            scales the loss.
        channels_last: Memory format of the backbone; faster wherever we measured.
        compile: Whether to compile the backbone (torch.compile).
        sampling: What an epoch holds equally often. "images": each image once. "identities": each
            identity, whether she has five images or five hundred.
        holdout_identities: Identities set aside to measure progress on; 0 for none.
        evaluate_epochs: Epochs between two measurements; the end is always measured.
        checkpoint_steps: Steps between two checkpoints.
        background_checkpoints: Whether training goes on while a checkpoint is written; needs memory
            for a copy of the weights and of the optimizer.
        seed: Of weights, order, augmentation, who wears a mask when, and the choice of held-out
            identities.
    """

    backbone: BackboneConfig
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    batch_size: int = 128
    accumulate: int = 1
    precision: Precision = "float32"
    channels_last: bool = True
    compile: bool = False
    sampling: Sampling = "images"
    holdout_identities: int = 0
    evaluate_epochs: float = 1.0
    checkpoint_steps: int = 500
    background_checkpoints: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "batch_size": (self.batch_size >= 2, "from 2"),
            "accumulate": (
                self.accumulate == 1 or (self.accumulate > 1 and self.head.path == "dense"),
                'from 1 with head.path="dense", only 1 with "fused"',
            ),
            "precision": (self.precision in PRECISIONS, ", ".join(PRECISIONS)),
            "sampling": (self.sampling in SAMPLINGS, ", ".join(SAMPLINGS)),
            "holdout_identities": (self.holdout_identities >= 0, "from 0"),
            "evaluate_epochs": (0 < self.evaluate_epochs < math.inf, "above 0, finite"),
            "checkpoint_steps": (self.checkpoint_steps >= 1, "from 1"),
            "seed": (self.seed >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="correct the value")

    @property
    def peak_rate(self) -> float:
        """Largest learning rate: the optimizer's, scaled linearly with the batch."""
        return self.optimizer.learning_rate * self.batch_size / 256

    def steps(self, images: int) -> int:
        """Optimizer steps over a training set of so many images."""
        return math.ceil(self.schedule.epochs * images / self.batch_size)


def changed(
    config: TrainConfig,
    *,
    epochs: float | None = None,
    learning_rate: float | None = None,
    backbone: str | None = None,
    sample_rate: float | None = None,
    mask_probability: float | None = None,
    **fields: Any,
) -> TrainConfig:
    """Change the few things of a recipe that are changed often; what is None stays.

    Args:
        config: The recipe.
        epochs: Length of training; a warm-up is never longer.
        learning_rate: Peak rate for 256 images.
        backbone: Name of the network, or the JSON file of an architecture.
        sample_rate: Share of the identities that take part in a step.
        mask_probability: Of each image in each epoch.
        fields: Fields of `TrainConfig` itself.

    Raises:
        UserError: If a value is out of range.
    """
    if epochs is not None:
        warmup = max(0.0, min(config.schedule.warmup_epochs, epochs))
        fields["schedule"] = replace(config.schedule, epochs=epochs, warmup_epochs=warmup)
    if learning_rate is not None:
        fields["optimizer"] = replace(config.optimizer, learning_rate=learning_rate)
    if backbone is not None:
        fields["backbone"] = named_backbone(config.backbone, backbone)
    if sample_rate is not None:
        fields["head"] = replace(config.head, sample_rate=sample_rate)
    if mask_probability is not None:
        fields["masks"] = replace(config.masks, probability=mask_probability)
    return replace(config, **{name: value for name, value in fields.items() if value is not None})

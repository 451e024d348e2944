"""Training: a recipe's configuration, a store and its labels become checkpoints."""

from __future__ import annotations

from openmfr.train.augment import AugmentConfig
from openmfr.train.config import TrainConfig
from openmfr.train.optimizer import OptimizerConfig
from openmfr.train.schedule import ScheduleConfig
from openmfr.train.start import Training
from openmfr.train.trainer import Trainer

__all__ = [
    "AugmentConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainConfig",
    "Trainer",
    "Training",
]

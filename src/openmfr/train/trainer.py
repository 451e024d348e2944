"""The trainer: one recipe, one store, one folder; killed and repeated it ends in the same weights.

The loop holds no hidden state. Which images a step sees depends on seed and step; so do all its
random draws; the rest (weights, momentum, the loss scale) is in the checkpoint. A resumed run
therefore repeats the uninterrupted one bit by bit on one machine with one number of threads; on a
GPU, as far as its kernels repeat themselves.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

from openmfr.checkpoint import Checkpoint, CheckpointFolder, CheckpointInfo, load_into
from openmfr.config import to_dict
from openmfr.data.labels import Labels
from openmfr.data.loader import (
    FaceDataset,
    Stream,
    StreamSampler,
    load_batches,
    training_identities,
)
from openmfr.data.store import Store
from openmfr.errors import UserError, raise_together
from openmfr.evaluation.comparisons import Comparisons
from openmfr.heads import HeadConfig, build_head
from openmfr.models import BackboneConfig, build_backbone, to_input
from openmfr.run import Run, progress
from openmfr.train.augment import AugmentConfig, augment
from openmfr.train.holdout import Holdout, summarise
from openmfr.train.optimizer import (
    OptimizerConfig,
    build_optimizer,
    load_optimizer_state,
    load_scaler_state,
    optimizer_state,
    scaler_state,
)
from openmfr.train.schedule import ScheduleConfig

logger = logging.getLogger(__name__)

LOG_EVERY = 20
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
LABELS_FILE, HELD_OUT_FILE = "labels.parquet", "held_out.parquet"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines a training's result, given a store and its labels.

    Attributes:
        backbone: The network.
        head: The loss.
        optimizer: How weights move.
        schedule: When the learning rate moves, and how long training is.
        augment: How images are changed.
        batch_size: Images in each step, B.
        precision: Of the backbone's arithmetic; weights, head and optimizer stay float32. "float16"
            scales the loss.
        channels_last: Memory format of the backbone; faster wherever we measured.
        compile: Whether to compile the backbone (torch.compile).
        holdout_identities: Identities set aside to measure progress on; 0 for none.
        evaluate_epochs: Epochs between two measurements; the end is always measured.
        checkpoint_steps: Steps between two checkpoints.
        seed: Of weights, order, augmentation and the choice of held-out identities.
    """

    backbone: BackboneConfig
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch_size: int = 128
    precision: Precision = "float32"
    channels_last: bool = True
    compile: bool = False
    holdout_identities: int = 0
    evaluate_epochs: float = 1.0
    checkpoint_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "batch_size": (self.batch_size >= 2, "from 2"),
            "precision": (self.precision in PRECISIONS, ", ".join(PRECISIONS)),
            "holdout_identities": (self.holdout_identities >= 0, "from 0"),
            "evaluate_epochs": (0 < self.evaluate_epochs < math.inf, "above 0, finite"),
            "checkpoint_steps": (self.checkpoint_steps >= 1, "from 1"),
            "seed": (self.seed >= 0, "from 0"),
        }
        raise_together(
            [
                UserError(
                    where=name,
                    found=str(getattr(self, name)),
                    allowed=allowed,
                    next_step="correct the value",
                )
                for name, (is_valid, allowed) in limits.items()
                if not is_valid
            ]
        )

    @property
    def peak_rate(self) -> float:
        """Largest learning rate: the optimizer's, scaled linearly with the batch."""
        return self.optimizer.learning_rate * self.batch_size / 256

    def steps(self, images: int) -> int:
        """Optimizer steps over a training set of so many images."""
        return math.ceil(self.schedule.epochs * images / self.batch_size)


class Trainer:
    """Trains one recogniser.

    Args:
        config: What to do.
        store: The images.
        labels: Who is on them. The run keeps the table that it really used (`labels.parquet`), in
            which held-out identities are left out, and one that keeps those alone
            (`held_out.parquet`).
        run: Where checkpoints, metrics and log go.
        device: Where to train.
        workers: Processes that decode; the result does not depend on them.
        start_from: A checkpoint whose backbone to start from; its head too, if it was trained on
            the same labels.

    Raises:
        UserError: If the labels belong to another store, fewer than two identities remain, or
            `start_from` holds another network.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        store: Store,
        labels: Labels,
        run: Run,
        device: torch.device | None = None,
        workers: int = 0,
        start_from: Checkpoint | None = None,
    ) -> None:
        labels.check_store(store)
        self.config = config
        self.store = store
        self.run = run
        self.device = device or torch.device("cpu")
        self.workers = workers
        self.holdout: Holdout | None = None
        if config.holdout_identities:
            self.holdout = Holdout(
                store, labels, identities=config.holdout_identities, seed=config.seed
            )
            labels = self.holdout.training_labels
        self.labels = labels
        self.identity = training_identities(labels)
        self.stream = Stream(labels.kept(), seed=config.seed)
        self.checkpoints = CheckpointFolder(run.path / "checkpoints")
        self._build(start_from)

    def _build(self, start_from: Checkpoint | None) -> None:
        config = self.config
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.backbone = build_backbone(config.backbone)
            self.head = build_head(
                config.head,
                num_identities=int(self.identity.max()) + 1,
                embedding_dim=config.backbone.embedding_dim,
            )
        if start_from is not None:
            self._start_from(start_from)
        self.backbone.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.head.to(self.device)
        self.forward = torch.compile(self.backbone) if config.compile else self.backbone
        self.modules: dict[str, nn.Module] = {"backbone": self.backbone, "head": self.head}
        self.optimizer = build_optimizer(config.optimizer, self.modules)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.images = self.stream.images.shape[0]
        self.steps = config.steps(self.images)

    def _start_from(self, checkpoint: Checkpoint) -> None:
        theirs, ours = checkpoint.info.backbone, self.config.backbone
        if replace(theirs, dropout=ours.dropout) != ours:
            raise UserError(
                where=str(checkpoint.path),
                found=f"backbone {theirs}",
                allowed=f"{ours}, as this recipe asks (dropout may differ)",
                next_step="fine-tune with a recipe of the same backbone",
            )
        load_into(self.backbone, checkpoint.read_backbone(), where=checkpoint.path)
        if checkpoint.info.labels == self.labels.fingerprint:
            state = checkpoint.read_training()
            load_into(self.head, _head_state(state), where=checkpoint.path)

    def fit(self) -> Path:
        """Train to the end, from the last checkpoint if there is one.

        With held-out identities a page about them, with training curves, is written at the end.

        Returns:
            The best checkpoint's folder.

        Raises:
            UserError: If the loss is no longer finite.
        """
        self.run.begin()
        self.labels.write(self.run.path / LABELS_FILE)
        if self.holdout is not None:
            self.labels.only_held_out().write(self.run.path / HELD_OUT_FILE)
        first = self._resume()
        if first < self.steps:
            with self.run.log_to_file(), torch.random.fork_rng():
                self._loop(first)
        if self.holdout is not None and not (self.run.path / "report.html").exists():
            self._report(self.holdout)
        return self.checkpoints.best()

    def _loop(self, first: int) -> None:
        config = self.config
        logger.info(
            "%s images of %s identities, %s steps of %s, from step %s",
            f"{self.images:,}",
            f"{self.head.num_identities:,}",
            f"{self.steps:,}",
            config.batch_size,
            f"{first:,}",
        )
        board = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=first)
        evaluate_steps = max(1, round(config.evaluate_epochs * self.images / config.batch_size))
        since, seconds = first, time.perf_counter()
        with progress(
            "train",
            total=self.steps * config.batch_size,
            unit="images",
            done=first * config.batch_size,
        ) as advance:
            for step, (images, identity) in enumerate(self.batches(first), start=first):
                loss = self.step(step, images, identity)
                done = step + 1
                is_last = done == self.steps
                is_measured = is_last or done % evaluate_steps == 0
                is_saved = is_measured or done % config.checkpoint_steps == 0
                note = ""
                if is_saved or done == 1 or done % LOG_EVERY == 0:
                    value = self._check_finite(done, loss)
                    rate = (done - since) / (time.perf_counter() - seconds)
                    self._record(self._row(done, value, rate), board)
                    note = f"loss {value:.3f}"
                if is_saved:
                    self._check_weights(done)
                    self._checkpoint(done, board, is_measured=is_measured)
                if note:
                    since, seconds = done, time.perf_counter()
                advance(config.batch_size, note)
        board.close()

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Serve decoded batches from a step to the end: uint8 (B, H, W, 3), and classes (B,)."""
        sampler = StreamSampler(
            self.stream,
            batch_size=self.config.batch_size,
            start_step=first,
            stop_step=self.steps,
        )
        return load_batches(
            FaceDataset(self.store, self.identity),
            sampler,
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )

    def step(self, step: int, images: Tensor, identity: Tensor) -> Tensor:
        """Make one optimizer step.

        Args:
            step: Its number, from 0: decides the learning rate and all random draws.
            images: RGB faces, uint8 (B, H, W, 3).
            identity: Classes, int64 (B,).

        Returns:
            The loss, a scalar on the device.
        """
        config = self.config
        dropout_seed, augment_seed = np.random.default_rng([config.seed, step]).integers(
            2**62, size=2
        )
        torch.manual_seed(int(dropout_seed))
        generator = torch.Generator(self.device).manual_seed(int(augment_seed))
        inputs = to_input(images.to(self.device, non_blocking=True), config.backbone.input_size)
        inputs = augment(inputs, config.augment, generator)
        epoch = step * config.batch_size / self.images
        rate = config.peak_rate * config.schedule.factor(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.backbone.train()
        with torch.autocast(
            self.device.type,
            getattr(torch, config.precision),
            enabled=config.precision != "float32",
        ):
            embeddings = self.forward(inputs)
        loss: Tensor = self.head(embeddings, identity.to(self.device, non_blocking=True))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if config.optimizer.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.backbone.parameters(), config.optimizer.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _check_finite(self, step: int, loss: Tensor) -> float:
        value = float(loss)
        if not math.isfinite(value):
            raise self._diverged(step, f"loss {value}")
        return value

    def _check_weights(self, step: int) -> None:
        """The loss of a step is that before its update; what is saved must be finite after it."""
        for prefix, module in self.modules.items():
            for name, weight in module.named_parameters():
                if not torch.isfinite(weight).all():
                    raise self._diverged(step, f"a weight of {prefix}.{name} that is not finite")

    def _diverged(self, step: int, found: str) -> UserError:
        return UserError(
            where=f"{self.run.path}, step {step}",
            found=found,
            allowed="finite numbers",
            next_step="lower the learning rate or lengthen the warm-up, in a new folder",
        )

    def _row(self, step: int, loss: float, steps_per_second: float) -> dict[str, float]:
        return {
            "step": step,
            "epoch": step * self.config.batch_size / self.images,
            "loss": loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": steps_per_second * self.config.batch_size,
        }

    def _record(self, row: dict[str, float], board: SummaryWriter) -> None:
        self.run.add_metrics(row)
        for name, value in row.items():
            if name != "step":
                board.add_scalar(name, value, int(row["step"]))

    def _checkpoint(self, done: int, board: SummaryWriter, *, is_measured: bool) -> None:
        metrics: dict[str, float] = {}
        if is_measured and self.holdout is not None:
            metrics = summarise(self._compare_held_out(self.holdout))
            epoch = done * self.config.batch_size / self.images
            self._record({"step": done, "epoch": epoch, **metrics}, board)
            logger.info(
                "epoch %.1f: %s", epoch, ", ".join(f"{k} {v:.4f}" for k, v in metrics.items())
            )
        info = CheckpointInfo(
            backbone=self.config.backbone,
            step=done,
            images_seen=done * self.config.batch_size,
            identities=self.head.num_identities,
            store=self.store.fingerprint,
            labels=self.labels.fingerprint,
            metrics=metrics,
        )
        self.checkpoints.add(
            info,
            score=metrics.get("holdout_accuracy"),
            backbone=self.backbone.state_dict(),
            training=self._training_state(),
        )

    def _compare_held_out(self, holdout: Holdout) -> Comparisons:
        config = self.config
        return holdout.compare(
            self.backbone, config.backbone.input_size, config.precision, self.device
        )

    def _report(self, holdout: Holdout) -> None:
        best = Checkpoint.open(self.checkpoints.best())
        load_into(self.backbone, best.read_backbone(), where=best.path)
        holdout.report(
            self._compare_held_out(holdout),
            self.run.path,
            run=self.run,
            configuration={**self.run.about, **to_dict(self.config), "checkpoint": best.path.name},
        )

    def _training_state(self) -> dict[str, Tensor]:
        head = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        return head | optimizer_state(self.optimizer, self.modules) | scaler_state(self.scaler)

    def _resume(self) -> int:
        """Load the run's last checkpoint, if there is one; return the next step."""
        last = self.checkpoints.last()
        if last is None:
            self.run.rewind_metrics(0)
            return 0
        checkpoint = Checkpoint.open(last)
        load_into(self.backbone, checkpoint.read_backbone(), where=last)
        state = checkpoint.read_training()
        load_into(self.head, _head_state(state), where=last)
        load_optimizer_state(self.optimizer, self.modules, state)
        load_scaler_state(self.scaler, state)
        self.run.rewind_metrics(checkpoint.info.step)
        return checkpoint.info.step


def _head_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "head."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

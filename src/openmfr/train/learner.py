"""What learns: backbone, head and optimizer, and one step of them.

Mixed precision is the backbone's alone: head and optimizer stay float32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openmfr.checkpoint import Checkpoint, load_into
from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.heads import Step, StepSize, build_head
from openmfr.models import build_backbone, to_input
from openmfr.train.augment import augment
from openmfr.train.config import HeadStart, TrainConfig
from openmfr.train.optimizer import (
    build_optimizer,
    load_optimizer_state,
    load_scaler_state,
    optimizer_state,
    scaler_state,
)
from openmfr.train.parallel import parallel, rehearse

logger = logging.getLogger(__name__)


class Learner:
    """Backbone, this rank's shard of the head, and what moves them.

    Args:
        config: What to do.
        identities: C, of the training labels.
        images: N, of the training labels; says how long an epoch is.
        device: Where to train.
        ranks: Those that train together.

    Attributes:
        skipped_steps: Steps in which the backbone did not move, as its gradient overflowed.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        identities: int,
        images: int,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.config = config
        self.images = images
        self.device = device
        self.ranks = ranks
        self.skipped_steps = 0
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.backbone = build_backbone(config.backbone)
        self.head = build_head(
            config.head,
            num_identities=identities,
            embedding_dim=config.backbone.embedding_dim,
            ranks=ranks,
            seed=config.seed,
        ).to(device)
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.backbone.to(device, memory_format=memory_format)  # type: ignore[call-overload]
        compiled: Any = torch.compile(self.backbone) if config.compile else self.backbone
        self.forward: Any = parallel(compiled, ranks, device)
        self._is_rehearsed = False
        self.modules: dict[str, nn.Module] = {"backbone": self.backbone, "head": self.head}
        self.optimizer = build_optimizer(config.optimizer, self.modules)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    @property
    def learning_rate(self) -> float:
        """That of the last step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def step(self, number: int, images: Tensor, identity: Tensor) -> Tensor:
        """Make one optimizer step; all ranks make it together.

        Args:
            number: Of the step, from 0: decides the learning rate and all random draws.
            images: This rank's RGB faces, uint8 (B, H, W, 3).
            identity: Their classes, int64 (B,).

        Returns:
            The mean loss over all ranks, a scalar on the device.

        Raises:
            NotFiniteError: If the embeddings are not finite; nothing has moved then.
        """
        config = self.config
        step = self._begin(number)
        if self.ranks.size > 1 and not self._is_rehearsed:
            self._rehearse(self._inputs(number, images))
        inputs = self._inputs(number, images)
        identity = identity.to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for part, people, synchronised in self._parts(inputs, identity):
            with synchronised:
                embeddings = self._embed(part)
                part_loss = self.head(embeddings, people, step) / config.accumulate
                self.scaler.scale(part_loss).backward()
                loss += part_loss.detach()
        self._move()
        return loss

    def _embed(self, images: Tensor) -> Tensor:
        precision = self.config.precision
        is_low = precision != "float32"
        with torch.autocast(self.device.type, getattr(torch, precision), enabled=is_low):
            embeddings: Tensor = self.forward(images)
        return embeddings

    def _rehearse(self, inputs: Tensor) -> None:
        part = inputs.chunk(self.config.accumulate)[0]
        rehearse(self.backbone, lambda: torch.autograd.backward(self._embed(part).sum()))
        self._is_rehearsed = True

    def _begin(self, number: int) -> Step:
        config = self.config
        epoch = number * config.batch_size / self.images
        rate = config.peak_rate * config.schedule.factor(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.backbone.train()
        size = StepSize(
            learning_rate=rate,
            momentum=config.optimizer.momentum,
            weight_decay=config.optimizer.weight_decay,
        )
        images = config.batch_size if config.accumulate == 1 else None
        return Step(number=number, size=size, images=images)

    def _inputs(self, number: int, images: Tensor) -> Tensor:
        seeds = np.random.default_rng([self.config.seed, number, self.ranks.rank])
        dropout_seed, augment_seed = seeds.integers(2**62, size=2)
        torch.manual_seed(int(dropout_seed))
        generator = torch.Generator(self.device).manual_seed(int(augment_seed))
        images = images.to(self.device, non_blocking=True)
        inputs = to_input(images, self.config.backbone.input_size)
        return augment(inputs, self.config.augment, generator)

    def _parts(
        self, inputs: Tensor, identity: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, AbstractContextManager[None]]]:
        """Cut a batch; the ranks add up their gradients once, after the last part."""
        parts = list(
            zip(
                inputs.chunk(self.config.accumulate),
                identity.chunk(self.config.accumulate),
                strict=True,
            )
        )
        for number, (part, people) in enumerate(parts, start=1):
            is_last = number == len(parts) or self.ranks.size == 1
            yield part, people, nullcontext() if is_last else self.forward.no_sync()

    def _move(self) -> None:
        clip_norm = self.config.optimizer.clip_norm
        if clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.backbone.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        is_skipped = False
        if self.scaler.is_enabled():
            scale = self.scaler.get_scale()
            self.scaler.update()
            is_skipped = self.scaler.get_scale() < scale
        if is_skipped:
            self.skipped_steps += 1
            logger.info(
                "gradient overflow %s: the backbone's step is skipped%s",
                self.skipped_steps,
                ", the head's too" if self.config.head.update == "deferred" else "",
            )
        self.head.finish_step(is_skipped=is_skipped)

    def what_is_not_finite(self) -> str | None:
        """Name a weight that is not finite on any rank; the loss is that before the last update."""
        found = ""
        for prefix, module in self.modules.items():
            for name, weight in [*module.named_parameters(), *module.named_buffers()]:
                if weight.is_floating_point() and not torch.isfinite(weight).all():
                    found = f"{prefix}.{name}"
        is_bad = torch.tensor(float(bool(found)), device=self.device)
        if not self.ranks.max_(is_bad).item():
            return None
        return f"a weight of {found or 'another rank'} that is not finite"

    def training_state(self) -> dict[str, Tensor]:
        """Everything but weights and shards that training needs to go on, by name."""
        sharded = self.head.sharded_state().keys()
        head = {f"head.{k}": v for k, v in self.head.state_dict().items() if k not in sharded}
        return head | self._momentum(of_head=False) | scaler_state(self.scaler)

    def shards(self) -> dict[str, Tensor]:
        """This rank's rows of the head and of what the optimizer knows about them, by name."""
        momentum = self._momentum(of_head=True)
        return self.head.sharded_state() | {
            name.replace("momentum.head.", "momentum."): rows for name, rows in momentum.items()
        }

    def _momentum(self, *, of_head: bool) -> dict[str, Tensor]:
        state = optimizer_state(self.optimizer, self.modules)
        return {k: v for k, v in state.items() if k.startswith("momentum.head.") == of_head}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same training, whatever number of ranks wrote it."""
        load_into(self.backbone, checkpoint.read_backbone(), where=checkpoint.path)
        state = checkpoint.read_training()
        shards = self.head.sharded_state()
        momentum = {
            f"momentum.{name}": torch.zeros_like(rows)
            for name, rows in shards.items()
            if isinstance(rows, nn.Parameter)
        }
        checkpoint.read_head({**shards, **momentum}, self.ranks)
        self._load_head_buffers(state, where=checkpoint.path)
        named = {k.replace("momentum.", "momentum.head."): v for k, v in momentum.items()}
        load_optimizer_state(self.optimizer, self.modules, state | named)
        load_scaler_state(self.scaler, state)

    def _load_head_buffers(self, state: dict[str, Tensor], *, where: Path) -> None:
        buffers = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
        load_into(self.head, self.head.sharded_state() | buffers, where=where)

    def start_from(self, checkpoint: Checkpoint, *, labels: str, head: HeadStart) -> None:
        """Begin with the weights of another training.

        Args:
            checkpoint: Whose backbone to take, and whose prototypes.
            labels: Fingerprint of the labels of this training.
            head: What to do with the prototypes; see `HeadStart`.

        Raises:
            UserError: If it holds another network, or its labels are others and `head` is "same".
        """
        theirs, ours = checkpoint.info.backbone, self.config.backbone
        if replace(theirs, dropout=ours.dropout) != ours:
            raise UserError(
                where=str(checkpoint.path),
                found=f"backbone {theirs}",
                allowed=f"{ours}, as this recipe asks (dropout may differ)",
                next_step="fine-tune with a recipe of the same backbone",
            )
        load_into(self.backbone, checkpoint.read_backbone(), where=checkpoint.path)
        if head == "new":
            return
        known, wanted = checkpoint.info.identities, self.head.num_identities
        is_same = checkpoint.info.labels in (labels, "") and known == wanted
        if not (is_same or (head == "extend" and 0 < known <= wanted)):
            raise UserError(
                where=str(checkpoint.path),
                found=f"prototypes of {known:,} identities of other labels",
                allowed=f"those of the {wanted:,} identities of this training",
                next_step="start with a new head (--head new), or, if the first identities are "
                "the same and others joined them, keep their prototypes (--head extend)",
            )
        if not checkpoint.info.labels:
            logger.info("the checkpoint names no labels: its row c is taken for identity c")
        self._copy_prototypes(checkpoint.read_prototypes())

    @torch.no_grad()
    def _copy_prototypes(self, prototypes: Tensor) -> None:
        rows = self.head.sharded_state()["prototypes"]
        known = prototypes[self.head.first : self.head.last]
        rows[: known.shape[0]] = known.to(self.device)

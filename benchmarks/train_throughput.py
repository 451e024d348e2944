"""Images per second of the trainer against a bare loop on random tensors of the same network.

The bare loop is what remains when everything else is free: forward, backward and optimizer step of
the same backbone, head and optimizer in the same precision, on one batch that lies ready. The
trainer reads a store, decodes, augments, clips, schedules and logs. Both run in turn, repeatedly,
in one process that keeps its freed pages as `openmfr train` does: else the C library decides.
Runs are short and many, as a shared machine's speed wanders within half a minute.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from reporting import Row, arguments, paired, report

from openmfr.device import keep_freed_pages
from openmfr.heads import build_head
from openmfr.models import build_backbone
from openmfr.recipes import tiny_real
from openmfr.synthetic.dataset import synthesise
from openmfr.train import TrainConfig, Training
from openmfr.train.optimizer import build_optimizer
from openmfr.train.trainer import LOG_EVERY

IDENTITIES, IMAGES = 60, 20
GOAL = 0.90


def trainer_rate(config: TrainConfig, store: Path, run: Path) -> float:
    """Train for a while; return the rate that the trainer itself logged after its first step."""
    trainer = Training(config=config, store=store).trainer(run, device=torch.device("cpu"))
    trainer.fit()
    (rate,) = (
        row["images_per_second"] for row in trainer.run.metrics() if row["step"] == LOG_EVERY
    )
    return rate


def bare_rate(config: TrainConfig) -> float:
    """Repeat forward, backward and step on one random batch; measure as the trainer does."""
    size, batch = config.backbone.input_size, config.batch_size
    backbone = build_backbone(config.backbone).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = build_head(
        replace(config.head, path="dense"),
        num_identities=IDENTITIES,
        embedding_dim=config.backbone.embedding_dim,
    )
    optimizer = build_optimizer(config.optimizer, {"backbone": backbone, "head": head})
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    identity = torch.randint(IDENTITIES, (batch,))
    for done in range(LOG_EVERY):
        if done == 1:
            start = time.perf_counter()
        with torch.autocast("cpu", getattr(torch, config.precision)):
            embeddings = backbone(images)
        loss = head(embeddings, identity)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return (LOG_EVERY - 1) * batch / (time.perf_counter() - start)


def main() -> None:
    options = arguments(__doc__ or "")
    keep_freed_pages()
    repeats = 4 if options.quick else 16
    recipe = tiny_real()
    epochs = LOG_EVERY * recipe.batch_size / (IDENTITIES * IMAGES)
    config = replace(
        recipe,
        schedule=replace(recipe.schedule, epochs=epochs, warmup_epochs=0.0),
        holdout_identities=0,
        checkpoint_steps=10_000,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        synthesise(store, identities=IDENTITIES, images=IMAGES, seed=0)
        bare_rate(config)
        pairs = [
            (trainer_rate(config, store, Path(folder) / f"run{i}"), bare_rate(config))
            for i in range(repeats)
        ]
    name = f"tiny_real's network, batch {config.batch_size}, {config.precision}"
    row: Row = paired(f"trainer against bare loop, {name}", pairs, unit="images/s", goal=GOAL)
    report("train_throughput", [row], json_path=options.json)


if __name__ == "__main__":
    main()

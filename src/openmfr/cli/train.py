"""`openmfr train`: a recipe, a store and labels → a run with checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def main(
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")],
    *,
    store: Path,
    out: Path,
    labels: Path | None = None,
    start_from: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    backbone: str | None = None,
    precision: Literal["float32", "bfloat16", "float16"] | None = None,
    hold_out: int | None = None,
    seed: int | None = None,
    compile: bool | None = None,  # noqa: A002 (the flag's name)
    device: str | None = None,
    workers: int | None = None,
    dry_run: bool = False,
) -> None:
    """Train a recogniser; the same command in the same folder goes on where it stopped.

    Example: openmfr train tiny_real --store faces --out runs/tiny

    Args:
        recipe: tiny_synthetic, tiny_real, probe_real, paper_cosface, paper_arcface,
            paper_resnet50, paper_se_resnet50, paper_resnext50; your own package.module:function;
            or the folder of a run to repeat.
        store: Folder of aligned faces, from openmfr ingest or openmfr synth.
        out: Folder of the run: checkpoints, metrics.jsonl, tensorboard, report.html.
        labels: Label table; STORE/labels.parquet by default.
        start_from: Checkpoint or run to fine-tune.
        epochs: Length of training, instead of the recipe's; a warm-up is never longer.
        batch_size: Images in each step, instead of the recipe's.
        learning_rate: Peak rate for 256 images a step, instead of the recipe's.
        backbone: Network, instead of the recipe's; also your own package.module:Class.
        precision: Of the backbone's arithmetic, instead of the recipe's.
        hold_out: Identities set aside to measure progress on, instead of the recipe's.
        seed: Of weights, order and augmentation, instead of the recipe's.
        compile: Compile the backbone with torch.compile, instead of the recipe's choice.
        device: cpu, cuda or cuda:N; a GPU where there is one by default.
        workers: Processes that decode images; none beside a CPU and four beside a GPU by default.
        dry_run: Say what would be done, and stop.
    """
    from openmfr.device import choose_device
    from openmfr.recipes import load_recipe
    from openmfr.train import Training

    config = load_recipe(recipe)
    changes: dict[str, Any] = {
        "batch_size": batch_size,
        "precision": precision,
        "holdout_identities": hold_out,
        "seed": seed,
        "compile": compile,
    }
    if epochs is not None:
        warmup = max(0.0, min(config.schedule.warmup_epochs, epochs))
        changes["schedule"] = replace(config.schedule, epochs=epochs, warmup_epochs=warmup)
    if learning_rate is not None:
        changes["optimizer"] = replace(config.optimizer, learning_rate=learning_rate)
    if backbone is not None:
        changes["backbone"] = replace(config.backbone, name=backbone)
    config = replace(config, **{k: v for k, v in changes.items() if v is not None})
    training = Training(config=config, store=store, labels=labels, start_from=start_from)
    if dry_run:
        for name, value in training.describe().items():
            print(f"{name:<14} {value}")
        return
    trainer = training.trainer(out, device=choose_device(device), workers=workers)
    print(f"best checkpoint: {trainer.fit()}")

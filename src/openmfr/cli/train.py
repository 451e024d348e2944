"""`openmfr train`: a recipe, a store and labels → a run with checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from openmfr.train import TrainConfig


def main(
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")],
    *,
    store: Path | None = None,
    out: Path | None = None,
    labels: Path | None = None,
    geometry: Path | None = None,
    templates: Path | None = None,
    masks: float | None = None,
    start_from: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    head: Literal["same", "extend", "new"] = "same",
    epochs: float | None = None,
    batch_size: int | None = None,
    sample_rate: float | None = None,
    sampling: Literal["images", "identities"] | None = None,
    learning_rate: float | None = None,
    backbone: str | None = None,
    precision: Literal["float32", "bfloat16", "float16"] | None = None,
    hold_out: int | None = None,
    seed: int | None = None,
    compile: bool | None = None,  # noqa: A002 (the flag's name)
    device: str | None = None,
    workers: int | None = None,
    patience: float = 10.0,
    dry_run: bool = False,
) -> None:
    """Train a recogniser; the same command in the same folder goes on where it stopped.

    Example: openmfr train tiny_real --store faces --out runs/tiny

    On many devices: torchrun --nproc-per-node 8 -m openmfr train RECIPE --store … --out …

    SIGTERM ends it after the step it is in, with a checkpoint and exit code 75; 0 is the end of the
    training, 2 something to mend, and 130 Ctrl-C, which writes no checkpoint.

    Args:
        recipe: tiny_synthetic, tiny_real, probe_real, masked_real, paper_cosface and the other
            settings of the paper (openmfr.recipes lists them); your own package.module:function; or
            the folder of a run to repeat.
        store: Folder of aligned faces, from openmfr ingest or openmfr synth. A dry run of one of
            the paper's recipes needs none: it takes the size of WebFace42M.
        out: Folder of the run: checkpoints, metrics.jsonl, tensorboard, report.html.
        labels: Label table; STORE/labels.parquet by default.
        geometry: What openmfr mask fit wrote, where masks are rendered; STORE/geometry by default.
        templates: Folder of your own mask templates (openmfr mask guide), instead of drawn ones.
        masks: Share of the images that wear a mask, 0 to 1, instead of the recipe's.
        start_from: Checkpoint or run to fine-tune.
        head: What to do with its prototypes: same takes them, and the labels must be those of the
            checkpoint; extend keeps them for the first identities where others joined; new draws
            fresh ones.
        epochs: Length of training, instead of the recipe's; a warm-up is never longer.
        batch_size: Images of all processes in each step, instead of the recipe's.
        sample_rate: Share of the identities that take part in a step (Partial FC), instead of the
            recipe's.
        sampling: What an epoch holds equally often, instead of the recipe's: each image once, or
            each identity, however many images she has.
        learning_rate: Peak rate for 256 images a step, instead of the recipe's.
        backbone: Network, instead of the recipe's; also your own package.module:Class, or the JSON
            file of an architecture, such as openmfr search writes.
        precision: Of the backbone's arithmetic, instead of the recipe's.
        hold_out: Identities set aside to measure progress on, instead of the recipe's.
        seed: Of weights, order and augmentation, instead of the recipe's.
        compile: Compile the backbone with torch.compile, instead of the recipe's choice.
        device: cpu, cuda or cuda:N; a GPU where there is one by default.
        workers: Processes that decode images; none beside a CPU and four beside a GPU by default.
        patience: Minutes that processes wait for each other; training stops, with a checkpoint,
            when no batch came for eight tenths of them.
        dry_run: Say what would be done: shapes, schedule, memory, steps; and stop.
    """
    from datetime import timedelta

    from openmfr.device import choose_device, keep_freed_pages, own_device
    from openmfr.distributed import joined
    from openmfr.errors import UserError
    from openmfr.recipes import is_papers, load_recipe
    from openmfr.train import Training
    from openmfr.train.config import changed
    from openmfr.train.feeder import Patience

    waits = Patience.within(60 * patience)
    config = changed(
        load_recipe(recipe),
        epochs=epochs,
        batch_size=batch_size,
        sample_rate=sample_rate,
        sampling=sampling,
        mask_probability=masks,
        learning_rate=learning_rate,
        backbone=backbone,
        precision=precision,
        holdout_identities=hold_out,
        seed=seed,
        compile=compile,
    )
    if dry_run and store is None and is_papers(recipe):
        _show_paper_plan(config)
        return
    for flag, value in (("--store", store), ("--out", out)):
        if value is None and not (dry_run and flag == "--out"):
            raise UserError(
                where=flag,
                found="nothing",
                allowed="a folder",
                next_step="name the store, and a new folder for the run",
            )
    training = Training(
        config=config,
        store=store or Path(),
        labels=labels,
        geometry=geometry,
        templates=templates,
        start_from=start_from,
        head_start=head,
    )
    if dry_run:
        for name, text in training.describe().items():
            print(f"{name:<14} {text}")
        return
    keep_freed_pages()
    chosen = own_device(choose_device(device))
    with joined(chosen, timeout=timedelta(minutes=patience)) as ranks:
        if not ranks.is_first:
            logging.getLogger("openmfr").setLevel(logging.WARNING)  # the first one speaks for all
        trainer = training.trainer(out or Path(), device=chosen, workers=workers, ranks=ranks)
        best = trainer.fit(patience=waits)
        if ranks.is_first:
            print(f"best checkpoint: {best}")


def _show_paper_plan(config: TrainConfig) -> None:
    from openmfr.plan import describe_plan, known_size
    from openmfr.recipes import PAPER_RANKS

    plan = describe_plan(config, known_size("webface42m"), PAPER_RANKS, device="cuda")
    for name, text in plan.items():
        print(f"{name:<14} {text}")

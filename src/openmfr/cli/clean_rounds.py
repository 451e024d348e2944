"""`openmfr clean rounds`: a recipe, a store and labels → train, embed, clean, while it helps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from openmfr.cleaning.rounds_result import RoundsResult


def main(
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")],
    *,
    store: Path,
    out: Path,
    labels: Path | None = None,
    rounds: int = 3,
    margin: float = 0.002,
    hold_out: int = 100,
    afresh: bool = True,
    vetoes: tuple[Path, ...] = (),
    geometry: Path | None = None,
    templates: Path | None = None,
    masks: float | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    intra_threshold: float | None = None,
    inter_threshold: float | None = None,
    relabel_threshold: float | None = None,
    merge: bool = True,
    relabel: bool = True,
    center: Literal["mean", "leave_one_out", "robust"] = "robust",
    least_images: int = 1,
    search: Literal["exact", "approximate"] = "exact",
    replicates: int = 1_000,
    device: str | None = None,
    workers: int | None = None,
    patience: float = 10.0,
) -> None:
    """Train, embed, measure and clean, and begin again with the cleaned labels while it helps.

    Every round trains a network from its beginning. All are measured on the same people, who are
    set aside first. OUT gets a report with a row for each round, and round-1, round-2 …, each with
    its run, embeddings, report, and the pass that made the labels of the next (clean). The same
    command goes on where it stopped. With more --rounds or another --margin, finished rounds stay,
    and others follow.

    No pass follows the last training: if you want one, openmfr clean pass OUT/labels.parquet
    OUT/round-3/embeddings CLEANED makes it.

    Refuse what a pass did wrong on its page, and put the vetoes.csv beside that page: the passes
    after it obey.

    Example: openmfr clean rounds tiny_real --store faces --out rounds

    As in the paper: openmfr clean rounds RECIPE --store … --out … --no-afresh --center mean
    --intra-threshold 0.35 --inter-threshold 0.7 --no-relabel

    On many devices: torchrun --nproc-per-node 8 -m openmfr clean rounds RECIPE --store … --out …

    Args:
        recipe: What to train; see openmfr train --help. Who is set aside is said by --hold-out
            alone.
        store: Folder of aligned faces, from openmfr ingest or openmfr synth.
        out: Folder for everything.
        labels: Label table to begin with; STORE/labels.parquet by default. If it holds people out
            already, as the labels.parquet of a run does, the rounds are measured on those.
        rounds: Trainings at most.
        margin: Accuracy that a round must gain over the one before for another to follow, as a
            share: 0.002 is 0.2 points. -1 goes on in any case.
        hold_out: Identities set aside to measure all rounds on.
        afresh: Clean the first table in each pass, with a better network each time, so that a
            mistake of an early one is not carried on; without it that of the round before.
        vetoes: Decisions of earlier passes that you refused: all passes obey.
        geometry: What openmfr mask fit wrote, where masks are rendered; STORE/geometry by default.
        templates: Folder of your own mask templates (openmfr mask guide), instead of drawn ones.
        masks: Share of the images that wear a mask in training, instead of the recipe's.
        epochs: Length of each training, instead of the recipe's.
        batch_size: Images of all processes in each step, instead of the recipe's.
        learning_rate: Peak rate for 256 images a step, instead of the recipe's.
        seed: Of weights, order, who is set aside, and the passes' searches; the recipe's by
            default.
        intra_threshold: Images less similar to the centre of their identity are dropped, -1 to 1;
            by default the score below which 99 % of other people's images lie.
        inter_threshold: Identities with centres at least so similar are merged, -1 to 1; by
            default the one with the fewest errors on planted noise.
        relabel_threshold: Images with so much evidence for another identity move there; by default
            the lowest at which no more than 6 % are expected to be wrong.
        merge: Merge identities.
        relabel: Move images; without it they are dropped.
        center: robust weighs images by how well they agree with the others; leave_one_out counts
            all others alike; mean is the paper's, in which each image votes for itself.
        least_images: Drop identities that are left with fewer images.
        search: Compare all pairs of centres, or let faiss list candidates: for millions.
        replicates: Draws of identities for the 95 % intervals.
        device: cpu, cuda or cuda:N; a GPU where there is one by default.
        workers: Processes that decode images; none beside a CPU and four beside a GPU by default.
        patience: Minutes that processes wait for each other; a training stops, with a checkpoint,
            when no batch came for eight tenths of them.
    """
    from datetime import timedelta

    from openmfr.cleaning.config import CleanConfig
    from openmfr.cleaning.rounds import Rounds, RoundsConfig
    from openmfr.device import choose_device, keep_freed_pages, own_device
    from openmfr.distributed import joined
    from openmfr.recipes import load_recipe
    from openmfr.train import Training
    from openmfr.train.config import changed
    from openmfr.train.feeder import Patience

    waits = Patience.within(60 * patience)
    config = changed(
        load_recipe(recipe),
        epochs=epochs,
        batch_size=batch_size,
        mask_probability=masks,
        learning_rate=learning_rate,
        seed=seed,
    )
    passes = CleanConfig(
        intra_threshold=intra_threshold,
        inter_threshold=inter_threshold,
        relabel_threshold=relabel_threshold,
        merge=merge,
        relabel=relabel,
        center=center,
        least_images=least_images,
        search=search,
        seed=config.seed,
    )
    training = Training(
        config=config, store=store, labels=labels, geometry=geometry, templates=templates
    )
    how_often = RoundsConfig(
        rounds=rounds,
        margin=margin,
        holdout_identities=hold_out,
        afresh=afresh,
        replicates=replicates,
    )
    keep_freed_pages()
    chosen = own_device(choose_device(device))
    with joined(chosen, timeout=timedelta(minutes=patience)) as ranks:
        if not ranks.is_first:
            logging.getLogger("openmfr").setLevel(logging.WARNING)  # the first one speaks for all
        result = Rounds(
            training,
            out,
            config=how_often,
            clean=passes,
            vetoes=vetoes,
            device=chosen,
            workers=workers,
            patience=waits,
            ranks=ranks,
        ).run()
        if ranks.is_first:
            _say(result)


def _say(result: RoundsResult) -> None:
    from openmfr.cleaning.rounds_report import rounds_tables

    for table in rounds_tables(result):
        print(table.text())
    print(f"stopped: {result.stopped}")
    for note in result.notes:
        print(f"note: {note}")
    print(f"report: {result.report}")
    print(f"best: round {result.best.number}, {result.run}, trained on {result.labels}")

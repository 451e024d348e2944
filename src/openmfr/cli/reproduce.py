"""`openmfr reproduce`: a table of the paper → trainings, and what they say of its claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    table: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TABLE")],
    *,
    data: Path | None = None,
    out: Path = Path("reproduced"),
    seeds: int = 3,
    budget: float | None = None,
    epochs: float | None = None,
    device: str | None = None,
    workers: int | None = None,
) -> None:
    """Repeat a table of the paper at the scale of one small machine, and compare what it says.

    T1, T2: the final model in the form of the challenge's tracks. T3: larger training sets. T4: all
    prototypes or a sample, precision. T5: cleaning. T6: share of masked training images. T7:
    networks at equal cost. T8: networks of growing size. T9: loss, margin, weight decay, dropout.
    T10: fine-tuning with masks. Not in the paper: found, what a search found; latency, networks
    that take equally long; masks, ways to mask training images; parts, what each part of the final
    recipe is worth; synthetic, synthetic faces before real ones.
    summary: the claims of all tables that OUT has, on one page.

    Every arm is trained with each seed and measured on bare faces, on the same with masks that
    training never wore, and on really masked ones. OUT gets T6.json and T6.md: figures with 95 %
    intervals beside the paper's, and for each claim whether ours agree. Trainings are kept in
    OUT/runs and shared by tables; the same command goes on where it stopped. Once the stores are
    made, several calls with one OUT share the work. OUT/outcomes has what each training reached: a
    copy of it in another OUT, and nothing of that is trained again.

    Example: openmfr reproduce T6 --data faces --budget 30

    Without --data, on synthetic faces: openmfr reproduce T10 --seeds 1

    Args:
        table: T1 to T10, found, latency, masks, parts, synthetic, or summary.
        data: Folder with train-celeba, lfw-112 and, if possible, mfr2-dev (with pairs.csv): photos
            aligned to 112 x 112, a folder for each person. Synthetic faces by default.
        out: Folder for stores, trainings and results.
        seeds: Trainings of each arm.
        budget: Minutes after which to stop and say what is known so far; by default never.
        epochs: Length of the trainings, for a first look; too few call every regularisation
            harmful.
        device: cpu, cuda or cuda:N; a GPU where there is one by default.
        workers: Processes that make the stores; one per core by default.
    """
    from openmfr.device import choose_device, keep_freed_pages, own_device
    from openmfr.reproduce.catalogue import load_experiment
    from openmfr.reproduce.results import run_experiment, tables
    from openmfr.reproduce.runs import Runs
    from openmfr.reproduce.sets import real_sets, synthetic_sets
    from openmfr.reproduce.summary import write_summary

    if table == "summary":
        print(f"summary: {write_summary(out)}")
        return
    experiment = load_experiment(table)
    if epochs is not None:
        experiment = experiment.shortened(epochs)
    keep_freed_pages()
    chosen = own_device(choose_device(device))
    stores = out / "stores"
    if data is None:
        sets = synthetic_sets(stores, workers=workers)
    else:
        sets = real_sets(data, stores, workers=workers)
    outcomes = run_experiment(
        experiment,
        Runs(sets, out, device=chosen),
        out,
        seeds=seeds,
        minutes=budget,
        command=_command(table, data=data, out=out, seeds=seeds, epochs=epochs),
    )
    for shown in tables(experiment, outcomes):
        print(shown.text())
    done, wanted = sum(map(len, outcomes.values())), seeds * len(experiment.arms)
    if done < wanted:
        print(f"{done} of {wanted} trainings are done; the same command goes on")
    if done:
        print(f"results: {out / table}.md, {out / table}.json")


def _command(table: str, *, data: Path | None, out: Path, seeds: int, epochs: float | None) -> str:
    words = ["openmfr reproduce", table]
    words += ["--data DATA"] if data else []
    words += [f"--seeds {seeds}", f"--out {out.name}"]
    words += [f"--epochs {epochs:g}"] if epochs else []
    return " ".join(words)

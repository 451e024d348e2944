"""`openmfr evaluate megaface`: finding a person's photo among strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    probes: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PROBES")],
    *,
    distractors: Path,
    out: Path,
    probe_list: Path | None = None,
    distractor_list: Path | None = None,
    probe_noise: Path | None = None,
    distractor_noise: Path | None = None,
    labels: Path | None = None,
    store: Path | None = None,
    distractor_store: Path | None = None,
    max_rank: int = 10,
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure how often a person's other photo is found first among distractors, as MegaFace does.

    Each photo of a person looks for each of her others, one at a time, among all distractors.

    Example: openmfr evaluate megaface facescrub-embeddings --distractors megaface-embeddings
    --probe-list facescrub_features_list.json --out report

    Args:
        probes: Folder that openmfr embed wrote: photos of people who are looked for.
        distractors: Folder that the same model's openmfr embed wrote: strangers.
        out: Folder for report.html, report.md and report.json.
        probe_list: The development kit's list of probes (JSON); all images of the store, with its
            identity names, by default.
        distractor_list: The kit's list of distractors; all images of their store by default.
        probe_noise: InsightFace's list of probes to leave out.
        distractor_noise: InsightFace's list of distractors to leave out.
        labels: Who is on each probe, where no list is given; the names of the store by default.
        store: Where the probes' store lies now, if it was moved.
        distractor_store: Where the distractors' store lies now, if it was moved.
        max_rank: Last rank of the table.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    import numpy as np

    from openmfr.cli.evaluating import checked, named_arrays, open_labels
    from openmfr.errors import UserError
    from openmfr.evaluation.protocols.megaface import identify, read_photo_list
    from openmfr.evaluation.table_report import Table, write_table_report
    from openmfr.evaluation.wording import describe

    opened, arrays, images = named_arrays([probes], store)
    others, other_arrays, strangers = named_arrays([distractors], distractor_store)
    (probe,), (distractor,) = arrays.values(), other_arrays.values()
    models = {part.model_fingerprint for part in (*opened.values(), *others.values())}
    if len(models) > 1:
        raise UserError(
            where="--distractors",
            found=f"embeddings by model {next(iter(others.values())).model_fingerprint}",
            allowed=f"those by model {next(iter(opened.values())).model_fingerprint}",
            next_step="embed both stores with the same checkpoint",
        )
    for flag, noise, photos in (
        ("probe", probe_noise, probe_list),
        ("distractor", distractor_noise, distractor_list),
    ):
        if noise is not None and photos is None:
            raise UserError(
                where=f"--{flag}-noise",
                found=f"{noise} and no --{flag}-list",
                allowed="noise of a list that is given",
                next_step=f"give --{flag}-list too, or leave the noise out of the labels",
            )
    if probe_list is not None:
        listed = read_photo_list(probe_list, noise=probe_noise, is_named=True)
        rows = listed.rows(images.column("source"), where=str(probe_list))
        identity = listed.identity[listed.keep]
    else:
        people = open_labels(labels, images)
        rows = np.flatnonzero(people.keep & (people.identity >= 0))
        identity = people.identity[rows]
    stranger_rows = np.arange(len(strangers))
    if distractor_list is not None:
        listed = read_photo_list(distractor_list, noise=distractor_noise)
        stranger_rows = listed.rows(strangers.column("source"), where=str(distractor_list))
    described, others_described = (
        checked(part, side.column("source"), np.isin(np.arange(len(side)), used))
        for part, side, used in ((opened, images, rows), (others, strangers, stranger_rows))
    )
    if distractor_list is not None:
        distractor = distractor[stranger_rows]
    result = identify(
        probe[rows], identity, distractor, max_rank=max_rank, replicates=replicates, seed=seed
    )
    counted = (
        f"{result.searches:,} searches by {result.probes:,} photos of {result.identities:,} people "
        f"among {result.distractors:,} distractors"
    )
    name = probes.resolve().name
    notes = []
    if images.fingerprint == strangers.fingerprint and (
        both := np.intersect1d(rows, stranger_rows).size
    ):
        notes = [f"{both:,} probes are distractors too: each finds itself before its mates."]
    write_table_report(
        out,
        title="Identification among strangers",
        subtitle=counted,
        tables=[
            Table(
                caption=f"{name}: share of the searches whose mate is among the first ranks",
                header=("Rank", "Found"),
                rows={f"{rank}": [rate] for rank, rate in enumerate(result.rates, start=1)},
            )
        ],
        results={name: result.to_json()},
        configuration={
            "protocol": "megaface",
            "replicates": replicates,
            "seed": seed,
            "probes": described[name],
            "distractors": next(iter(others_described.values())),
        },
        method=("A distractor that scores as high as the mate counts as found before it.",),
        notes=notes,
    )
    print(f"{name}: {counted}")
    print(f"  rank 1             {describe(result.rank_1)}")
    for note in notes:
        print(f"note: {note}")
    print(f"report: {out / 'report.html'}")

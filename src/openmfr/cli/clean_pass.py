"""`openmfr clean pass`: labels and embeddings → cleaned labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    labels: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LABELS")],
    embeddings: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EMBEDDINGS")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    vetoes: tuple[Path, ...] = (),
    intra_threshold: float | None = None,
    strangers_found: float = 0.99,
    right_dropped: float = 0.05,
    inter_threshold: float | None = None,
    wrong_merges: float = 0.01,
    relabel_threshold: float | None = None,
    wrong_moves: float = 0.06,
    merge: bool = True,
    relabel: bool = True,
    center: Literal["mean", "leave_one_out", "robust"] = "robust",
    by_condition: bool = True,
    duplicate_threshold: float | None = None,
    least_images: int = 1,
    search: Literal["exact", "approximate"] = "exact",
    seed: int = 0,
    store: Path | None = None,
    pictures: int = 60,
) -> None:
    """Clean labels: drop images of strangers, join split identities, move mixed-up images home.

    OUT gets labels.parquet, which openmfr train takes as --labels; changes.csv with every decision,
    its score and reason; report.html, which shows the closest decisions as pictures; and pass.json.
    No image is touched, and LABELS stays as it is: going back to it undoes the pass.

    Thresholds need not be given. That for dropping is read off how other people's images score,
    those for merging and moving are found on noise that is planted for the purpose; the page shows
    the curves.

    Refuse what is wrong: tick it on the page and save, or write "no" into the column veto of
    changes.csv, and give that file to the next pass as --vetoes.

    Example: openmfr clean pass faces/labels.parquet embeddings cleaned

    As in the paper: openmfr clean pass LABELS EMBEDDINGS OUT --center mean --intra-threshold 0.35
    --inter-threshold 0.7 --no-relabel

    On many processes: torchrun --nproc-per-node 8 -m openmfr clean pass LABELS EMBEDDINGS OUT

    Args:
        labels: Label table; only images that it keeps are looked at.
        embeddings: Folder that openmfr embed wrote, of the store that the labels describe.
        out: Folder to make.
        vetoes: Decisions of earlier passes that you refused.
        intra_threshold: Images less similar to the centre of their identity are dropped, -1 to 1;
            by default the score below which --strangers-found of other people's images lie.
        strangers_found: Share of wrong images to find, 0.5 to 1.
        right_dropped: Largest share of the right images that may be dropped for it, 0 to 1: a
            network that knows little finds fewer of the wrong ones.
        inter_threshold: Identities with centres at least so similar are merged, -1 to 1, after
            correction for few images; by default the one with the fewest errors on planted noise.
        wrong_merges: Share of the planted noise's merges that may be wrong, 0 to 1.
        relabel_threshold: Images with so much evidence for another identity move there; by default
            the lowest at which no more than WRONG_MOVES are expected to be wrong.
        wrong_moves: Share of the moves that may be wrong, 0 to 1; where more would be, nothing
            moves.
        merge: Merge identities.
        relabel: Move images; without it they are dropped.
        center: robust weighs images by how well they agree with the others; leave_one_out counts
            all others alike; mean is the paper's, in which each image votes for itself.
        by_condition: Give masked faces a threshold of their own.
        duplicate_threshold: Drop one of two images at least so similar; 0.95 finds copies.
        least_images: Drop identities that are left with fewer images.
        search: Compare all pairs of centres, or let faiss list candidates: for millions.
        seed: Of the search for thresholds.
        store: Where the embedded store lies now, if it was moved.
        pictures: Decisions of each kind that the page shows.
    """
    from openmfr.cleaning.config import CleanConfig
    from openmfr.cleaning.passes import CHANGES, LABELS, REPORT, read_pass, run_pass
    from openmfr.cleaning.wording import pass_summary
    from openmfr.data.labels import Labels
    from openmfr.device import choose_device
    from openmfr.distributed import joined
    from openmfr.embed import Embeddings

    config = CleanConfig(
        intra_threshold=intra_threshold,
        strangers_found=strangers_found,
        right_dropped=right_dropped,
        inter_threshold=inter_threshold,
        wrong_merges=wrong_merges,
        relabel_threshold=relabel_threshold,
        wrong_moves=wrong_moves,
        merge=merge,
        relabel=relabel,
        center=center,
        by_condition=by_condition,
        duplicate_threshold=duplicate_threshold,
        least_images=least_images,
        search=search,
        seed=seed,
    )
    opened = Embeddings(embeddings)
    with joined(choose_device("cpu")) as ranks:
        run_pass(
            Labels.read(labels),
            opened,
            out,
            config,
            store=opened.open_store(store),
            vetoes=vetoes,
            pictures=pictures,
            ranks=ranks,
        )
        if ranks.is_first:
            print(pass_summary(read_pass(out)))
            print(f"labels: {out / LABELS}")
            print(f"every decision: {out / CHANGES}")
            print(f"report: {out / REPORT}")

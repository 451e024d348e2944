"""`openmfr evaluate`: embeddings and a protocol → rates with intervals, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

_NAMED = tyro.conf.arg(metavar="EMBEDDINGS ...")


def main(
    protocol: tyro.conf.Positional[Literal["pairs", "identities"]],
    embeddings: Annotated[tuple[Path, ...], tyro.conf.Positional, _NAMED],
    *,
    out: Path,
    pairs: Path | None = None,
    masked: tuple[Path, ...] = (),
    labels: Path | None = None,
    store: Path | None = None,
    run: Path | None = None,
    fmr: tuple[float, ...] = (1e-1, 1e-2, 1e-3),
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure how well embeddings tell people apart, and write a report.

    Example: openmfr evaluate pairs lfw-embeddings --pairs pairs.csv --out lfw-report

    Example: openmfr evaluate pairs lfw-embeddings --masked lfw-masked-embeddings --pairs pairs.csv
    --out lfw-report

    Example: openmfr evaluate identities embeddings --labels held_out.parquet --out report

    Args:
        protocol: pairs: a list says which images are compared; identities: 3,000 genuine and 3,000
            impostor pairs are sampled from the identities that the labels keep.
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        out: Folder for report.html and report.json.
        pairs: The list: CSV with path_a, path_b, genuine and, if wanted, fold and kind; or LFW's
            own pairs.txt. Paths are those that the store calls source.
        masked: For each of EMBEDDINGS, those of the same images with masks (openmfr mask render):
            every pair is then measured bare (uu), masked with bare (mu), and masked (mm).
        labels: Who is on each image; the identity names that the store was made with by default.
        store: Where the embedded store lies now, if it was moved.
        run: The run that trained the model: its training curves and configuration join the report.
        fmr: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws and the sampled pairs.
    """
    from openmfr.data.labels import Labels
    from openmfr.embed import Embeddings
    from openmfr.errors import UserError
    from openmfr.evaluation.comparisons import VerificationProtocol
    from openmfr.evaluation.evaluate import evaluate
    from openmfr.evaluation.masked import MaskedPairs
    from openmfr.evaluation.pairs import read_pairs
    from openmfr.evaluation.sampling import sample_pairs
    from openmfr.evaluation.wording import summary
    from openmfr.run import run_metrics, run_settings

    if (protocol == "pairs") != (pairs is not None):
        raise UserError(
            where="--pairs",
            found=str(pairs or "nothing"),
            allowed="a list with the protocol pairs, nothing with identities",
            next_step="openmfr evaluate pairs EMBEDDINGS --pairs LIST --out REPORT",
        )
    if masked and pairs is None:
        raise UserError(
            where="--masked",
            found="no list of pairs",
            allowed="the protocol pairs",
            next_step="openmfr evaluate pairs EMBEDDINGS --masked … --pairs LIST --out REPORT",
        )
    opened = [Embeddings(path) for path in embeddings]
    if not opened:
        raise UserError(
            where="EMBEDDINGS",
            found="none",
            allowed="at least one folder",
            next_step="openmfr embed writes one",
        )
    images = opened[0].open_store(store)
    table = Labels.read(labels) if labels else Labels.from_names(images)
    table.check_store(images, where=str(labels or images.path))
    covered = [Embeddings(path) for path in masked]
    listed: VerificationProtocol
    if pairs is not None:
        listed = read_pairs(pairs, images.column("source"))
        if covered:
            listed = MaskedPairs.of(listed, bare=images, masked=covered[0].open_store())
        title = f"Verification on {pairs.resolve().parent.name}/{pairs.name}"
    else:
        listed = sample_pairs(table.identity, table.keep, seed=seed)
        title = f"Verification on {table.kept_identities.size:,} identities"
    results = evaluate(
        listed,
        opened,
        table.identity,
        out,
        title=title,
        masked=covered,
        store_path=store,
        fmrs=fmr,
        replicates=replicates,
        seed=seed,
        configuration={
            "protocol": protocol,
            "pairs": str(pairs or "sampled from the labels"),
            **(run_settings(run) if run else {}),
        },
        metrics=run_metrics(run) if run else (),
    )
    for name, result in results.items():
        print(summary(name, result))
    print(f"report: {out / 'report.html'}")

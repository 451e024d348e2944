"""What `openmfr evaluate pairs` and `identities` share: flags, and how pairs are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from openmfr.data.labels import IntArray, Labels
    from openmfr.data.store import Store
    from openmfr.embed import Embeddings
    from openmfr.evaluation.accuracy import Thresholds
    from openmfr.evaluation.protocols.pairs import PairList


@dataclass(frozen=True, kw_only=True)
class ListFlags:
    """Flags of both.

    Attributes:
        out: Folder for report.html, report.md and report.json.
        masked: For each of EMBEDDINGS, those of the same images with masks (openmfr mask render):
            every pair is then measured bare (uu), masked with bare (mu), and masked (mm).
        labels: Who is on each image; the identity names that the store was made with by default.
        images: CSV with a column path, and those that --by names.
        by: Columns of IMAGES. Each group of people in one is measured at a common threshold, and so
            are the labels' groups. A column mask, or one whose name begins with mask_, says what
            masks look like; a bare face has an empty cell there.
        common_fmr: False match rate that sets the common threshold, on all impostor pairs for
            groups, on bare ones for masks; by default the smallest of FMR that is supported.
        reference: Group whose impostor pairs set it instead.
        store: Where the embedded store lies now, if it was moved.
        run: The run that trained the model: its training curves and configuration join the report.
        fmr: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws, and of pairs that are sampled.
    """

    out: Path
    masked: tuple[Path, ...] = ()
    labels: Path | None = None
    images: Path | None = None
    by: tuple[str, ...] = ()
    common_fmr: float | None = None
    reference: str | None = None
    store: Path | None = None
    run: Path | None = None
    fmr: tuple[float, ...] = (1e-1, 1e-2, 1e-3)
    replicates: int = 1_000
    seed: int = 0


#: The flags as they stand in a signature, without a prefix.
Flags = Annotated[ListFlags, tyro.conf.arg(name="", prefix_name=False)]


def open_faces(
    embeddings: Sequence[Path], flags: ListFlags
) -> tuple[list[Embeddings], Store, Labels]:
    """Check the flags' numbers, and open embeddings, their store, and its labels.

    Raises:
        UserError: If a number is out of range, or something cannot be opened.
    """
    from openmfr.cli.evaluating import check_numbers, open_embeddings, open_labels

    common = () if flags.common_fmr is None else (flags.common_fmr,)
    check_numbers((*flags.fmr, *common), replicates=flags.replicates, seed=flags.seed)
    opened = open_embeddings(embeddings)
    faces = opened[0].open_store(flags.store)
    return opened, faces, open_labels(flags.labels, faces)


def evaluate_list(
    pairs: PairList,
    opened: Sequence[Embeddings],
    faces: Store,
    table: Labels,
    flags: ListFlags,
    *,
    title: str,
    configuration: Mapping[str, str],
    identity: IntArray | None = None,
    thresholds: Thresholds = "exact",
) -> None:
    """Measure pairs, write the report, and print it.

    Args:
        pairs: What is compared.
        opened: Embeddings of the store.
        faces: The store.
        table: Its labels.
        flags: How.
        title: Heading of the report.
        configuration: What the pairs are, for the report.
        identity: Who is on each image, if not as the labels say.
        thresholds: How accuracy searches a fold's threshold.
    """
    from openmfr.cli.evaluating import say
    from openmfr.cli.traits import open_traits
    from openmfr.embed import Embeddings
    from openmfr.evaluation.breakdown_tables import breakdown_summary
    from openmfr.evaluation.comparisons import VerificationProtocol
    from openmfr.evaluation.difference_tables import verification_differences
    from openmfr.evaluation.evaluate import evaluate
    from openmfr.evaluation.masked import MaskedPairs
    from openmfr.evaluation.wording import summary
    from openmfr.run import run_metrics, run_settings

    covered = [Embeddings(path) for path in flags.masked]
    masks = covered[0].open_store() if covered else None
    listed: VerificationProtocol = pairs
    if masks is not None:
        listed = MaskedPairs.of(pairs, bare=faces, masked=masks)
    results = evaluate(
        listed,
        opened,
        table.identity if identity is None else identity,
        flags.out,
        title=title,
        masked=covered,
        store_path=flags.store,
        fmrs=flags.fmr,
        replicates=flags.replicates,
        seed=flags.seed,
        thresholds=thresholds,
        traits=open_traits(faces, table, images=flags.images, by=flags.by, masked=masks),
        common_fmr=flags.common_fmr,
        reference=flags.reference,
        configuration={**configuration, **(run_settings(flags.run) if flags.run else {})},
        metrics=run_metrics(flags.run) if flags.run else (),
    )
    texts = [
        text
        for name, result in results.items()
        for text in (summary(name, result), breakdown_summary(name, result.breakdown))
    ]
    say(texts, verification_differences(results), flags.out)

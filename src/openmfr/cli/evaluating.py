"""What the protocols of `openmfr evaluate` share: opening what was embedded, and saying results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.embed import Embeddings
    from openmfr.evaluation.protocols.tracks import InsightFaceTrack, Options, WebFace260MTrack
    from openmfr.evaluation.verification import VerificationResult

    BoolArray = npt.NDArray[np.bool_]
    FloatArray = npt.NDArray[np.float32]
    StrArray = npt.NDArray[np.str_]

#: The folders that every protocol begins with.
Folders = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="EMBEDDINGS ...")]


def open_embeddings(paths: Sequence[Path]) -> list[Embeddings]:
    """Open folders that `openmfr embed` wrote.

    Raises:
        UserError: If there is none, or one holds no finished embeddings.
    """
    from openmfr.embed import Embeddings
    from openmfr.errors import UserError

    if not paths:
        raise UserError(
            where="EMBEDDINGS",
            found="none",
            allowed="at least one folder",
            next_step="openmfr embed writes one",
        )
    return [Embeddings(path) for path in paths]


def open_labels(path: Path | None, store: Store) -> Labels:
    """Read a table, or take the names that the store was made with.

    Raises:
        UserError: If the table belongs to another store.
    """
    from openmfr.data.labels import Labels

    table = Labels.read(path) if path else Labels.from_names(store)
    table.check_store(store, where=str(path or store.path))
    return table


def say(results: Mapping[str, VerificationResult], out: Path) -> None:
    """Print results and where their report lies."""
    from openmfr.evaluation.wording import summary

    for name, result in results.items():
        print(summary(name, result))
    print(f"report: {out / 'report.html'}")


def named_arrays(
    paths: Sequence[Path], store_path: Path | None
) -> tuple[dict[str, Embeddings], dict[str, FloatArray], Store]:
    """Open embeddings of one store by the names of their folders.

    Raises:
        UserError: If there is none, two have one name, or they embed different stores.
    """
    from openmfr.errors import UserError

    opened = open_embeddings(paths)
    named = {part.path.resolve().name: part for part in opened}
    if len(named) < len(opened):
        raise UserError(
            where="embeddings",
            found="two folders of one name",
            allowed="a different name for each",
            next_step="rename one: the report tells them apart by it",
        )
    stores = [part.open_store(store_path) for part in opened]
    return named, {name: part.array for name, part in named.items()}, stores[0]


def columns_of(path: Path, store: Store, columns: Sequence[str]) -> dict[str, StrArray]:
    """Read columns of a table of a store's images, in the order of the store."""
    from openmfr.evaluation.protocols.image_columns import read_image_columns

    return read_image_columns(path, store.column("source"), columns)


def truths(column: StrArray, *, where: str) -> BoolArray:
    """Read a column of 1 and 0; an empty cell counts as 0.

    Raises:
        UserError: If something else stands in it.
    """
    import numpy as np

    from openmfr.errors import UserError

    odd = sorted(set(column.tolist()) - {"", "0", "1"})
    if odd:
        raise UserError(where=where, found=odd[0], allowed="1 or 0", next_step="mend the column")
    return np.asarray(column == "1")


def measure_track(
    track: WebFace260MTrack | InsightFaceTrack,
    opened: Mapping[str, Embeddings],
    arrays: Mapping[str, FloatArray],
    store: Store,
    out: Path,
    *,
    labels: Path | None,
    options: Options,
    title: str,
    table: str,
) -> None:
    """Measure embeddings on a track, write its report beside the paper's table, and say it.

    Args:
        track: Which.
        opened: The embeddings, by name.
        arrays: Their arrays.
        store: What they embed.
        out: Folder for the report.
        labels: Who is on each image.
        options: How to measure.
        title: Heading of the report.
        table: Number of the paper's table.
    """
    from openmfr.evaluation.all_pairs.report import summary, write_all_pairs_report
    from openmfr.evaluation.published import TABLES

    identity = open_labels(labels, store).identity
    results = {model: track.measure(array, identity, options) for model, array in arrays.items()}
    parts = {model: result.parts for model, result in results.items()}
    scores = {model: result.score for model, result in results.items()}
    ours = {
        model: {name.replace("-", " ", 1) if table == "2" else name: value
                for name, value in result.values.items()}
        for model, result in results.items()
    }  # fmt: skip
    notes = next(iter(results.values())).notes
    write_all_pairs_report(
        out,
        title=title,
        results=parts,
        configuration={
            "protocol": title,
            "store": str(store.path),
            "replicates": options.replicates,
            "seed": options.seed,
            "embeddings": {name: part.settings for name, part in opened.items()},
        },
        headline=scores,
        published=TABLES[table].beside(ours, measured_on=str(store.path.name)),
        notes=notes,
    )
    for model, result in results.items():
        print(summary(model, result.parts, result.score))
    for note in notes:
        print(f"note: {note}")
    print(f"report: {out / 'report.html'}")

"""What the protocols of `openmfr evaluate` share: opening what was embedded, and saying results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.embed import Embeddings
    from openmfr.evaluation.all_pairs.rates import AllPairsResult
    from openmfr.evaluation.protocols.tracks import Options, Track, TrackResult
    from openmfr.evaluation.published import PublishedTable
    from openmfr.evaluation.table_report import Table

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


def check_numbers(fmrs: Sequence[float] = (), *, replicates: int, seed: int) -> None:
    """Check what every protocol is told, before it begins to work.

    Args:
        fmrs: False match rates that are asked for.
        replicates: Draws of identities.
        seed: Of the draws.

    Raises:
        UserError: If one is out of range.
    """
    from openmfr.evaluation.intervals import check_draws
    from openmfr.evaluation.rates import check_fmrs

    check_draws(replicates, seed)
    if fmrs:
        check_fmrs(fmrs)


def say(
    texts: Iterable[str], differences: Iterable[Table], out: Path, *, notes: Iterable[str] = ()
) -> None:
    """Print results and where their report lies.

    Args:
        texts: Each model's results, and what they are taken apart into; empty ones are left out.
        differences: Other models compared with the first.
        out: Folder of the report.
        notes: What a reader must know.
    """
    lines = [*texts, *(table.text() for table in differences), *(f"note: {note}" for note in notes)]
    for line in filter(None, lines):
        print(line)
    print(f"report: {out / 'report.html'}")


def named_arrays(
    paths: Sequence[Path], store_path: Path | None
) -> tuple[dict[str, Embeddings], dict[str, FloatArray], Store]:
    """Open embeddings of one store by the names of their folders.

    Raises:
        UserError: If there is none, two have one name, or they embed different stores.
    """
    from openmfr.evaluation.checks import name_folders

    named = name_folders(open_embeddings(paths))
    stores = [part.open_store(store_path) for part in named.values()]
    return named, {name: part.array for name, part in named.items()}, stores[0]


def checked(
    opened: Mapping[str, Embeddings], sources: Sequence[str], is_used: BoolArray
) -> dict[str, dict[str, object]]:
    """Check the embeddings of all images that are used, and describe them for a report.

    Args:
        opened: The embeddings, by name.
        sources: Where each of the store's N images came from.
        is_used: Images that will be compared, shape (N,).

    Returns:
        Name → settings and lengths.

    Raises:
        UserError: As `check_embeddings` does, listing the images.
    """
    import numpy as np

    from openmfr.evaluation.checks import check_embeddings

    needed = np.flatnonzero(is_used)
    return {
        name: {
            **part.settings,
            "length": vars(check_embeddings(part.array, sources=sources, needed=needed)),
        }
        for name, part in opened.items()
    }


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


def evaluate_track(
    track_of: Callable[[BoolArray, StrArray], Track],
    column: str,
    embeddings: Sequence[Path],
    *,
    images: Path,
    out: Path,
    labels: Path | None,
    store: Path | None,
    options: Options,
    title: str,
    table: str,
) -> None:
    """Measure embeddings on a track, write its report beside the paper's table, and say it.

    Images that labels do not keep, or that show nobody known, take no part.

    Args:
        track_of: Makes the track of who wears a mask and of the other column, each of shape (N,).
        column: Name of that other column.
        embeddings: Folders that `openmfr embed` wrote.
        images: Table with both columns.
        out: Folder for the report.
        labels: Who is on each image.
        store: Where the embedded store lies now, if it was moved.
        options: How to measure.
        title: Heading of the report.
        table: Number of the paper's table.
    """
    import numpy as np

    from openmfr.evaluation.checks import order_suspicion
    from openmfr.evaluation.published import TABLES
    from openmfr.evaluation.rates import check_fmrs

    check_numbers(replicates=options.replicates, seed=options.seed)
    opened, arrays, images_store = named_arrays(embeddings, store)
    columns = columns_of(images, images_store, ["is_masked", column])
    is_masked = truths(columns["is_masked"], where=f"{images}, is_masked")
    track = track_of(is_masked, columns[column])
    check_fmrs([fmr for _, fmr in track.sets().values()])
    table_of_people = open_labels(labels, images_store)
    identity = table_of_people.identity
    keep = table_of_people.keep & (identity >= 0)
    sides = [side for both, _ in track.sets().values() for side in both]
    is_used = keep & np.any(sides, axis=0)
    described = checked(opened, images_store.column("source"), is_used)
    doubts = {name: order_suspicion(array, identity, is_used) for name, array in arrays.items()}
    results = {
        model: track.measure(array, identity, options, keep=keep) for model, array in arrays.items()
    }
    ours = {model: result.values for model, result in results.items()}
    say_all_pairs(
        {model: result.parts for model, result in results.items()},
        images_store,
        out,
        title=title,
        configuration={
            "protocol": title,
            "images": str(images),
            "replicates": options.replicates,
            "seed": options.seed,
            "embeddings": described,
        },
        tracks=results,
        published=TABLES[table].beside(ours, measured_on=str(images_store.path.name)),
        notes=[*next(iter(results.values())).notes, *left_out(keep), *told(doubts)],
    )


def left_out(keep: BoolArray) -> list[str]:
    """Say how many images take no part, if there are any."""
    out = int((~keep).sum())
    return [f"{out:,} images take no part: labels do not keep or name them."] if out else []


def told(doubts: Mapping[str, str]) -> list[str]:
    """Say of which model a doubt is."""
    return [f"{model}: {doubt}" for model, doubt in doubts.items() if doubt]


def say_all_pairs(
    results: Mapping[str, Mapping[str, AllPairsResult]],
    store: Store,
    out: Path,
    *,
    title: str,
    configuration: Mapping[str, object],
    notes: Sequence[str],
    tracks: Mapping[str, TrackResult] | None = None,
    published: PublishedTable | None = None,
) -> None:
    """Write the report of all-pairs results, and print them.

    Args:
        results: Model → comparison → result.
        store: What the models embed.
        out: Folder for the report.
        title: Its heading.
        configuration: What produced the results.
        notes: What a reader must know.
        tracks: Model → its result on a track.
        published: The track's table with our rows.
    """
    from openmfr.evaluation.all_pairs.report import (
        difference_tables,
        summary,
        write_all_pairs_report,
    )

    tracks = tracks or {}
    write_all_pairs_report(
        out,
        title=title,
        results=results,
        configuration={"store": str(store.path), **configuration},
        tracks=tracks,
        published=published,
        notes=notes,
        image=store.decode,
        sources=store.column("source"),
    )
    texts = [
        summary(model, parts, tracks[model].score if model in tracks else None)
        for model, parts in results.items()
    ]
    say(texts, difference_tables(results, tracks), out, notes=notes)

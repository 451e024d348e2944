"""`openmfr clean diff`: what one table of labels changed of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    before: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BEFORE")],
    after: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="AFTER")],
    *,
    store: Path | None = None,
    out: Path | None = None,
) -> None:
    """Say what AFTER changed of BEFORE, two tables of one store.

    Example: openmfr clean diff faces/labels.parquet cleaned/labels.parquet

    Every change with its source: openmfr clean diff A B --store faces --out changes.csv

    Args:
        before: A label table.
        after: Another one; its descendant, or not.
        store: The store that both describe: names the images in OUT.
        out: CSV to write, in the form of a pass's changes.csv.
    """
    from openmfr.cleaning.changes import find_changes
    from openmfr.cleaning.wording import changes_summary
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.errors import UserError

    first, second = Labels.read(before), Labels.read(after)
    changes = find_changes(first, second)
    print(changes_summary(first, second, changes))
    if out is None:
        return
    if store is None:
        raise UserError(
            where="--store",
            found="nothing",
            allowed="the store that both tables describe",
            next_step="add it, or leave --out away",
        )
    faces = Store(store)
    second.check_store(faces, where=str(after))
    changes.write(out, faces.column("source"))
    print(f"every change: {out}")

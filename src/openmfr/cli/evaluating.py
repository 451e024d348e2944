"""What the protocols of `openmfr evaluate` share: opening what was embedded, and saying results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.embed import Embeddings
    from openmfr.evaluation.verification import VerificationResult

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

"""`openmfr inspect`: say what a file or folder is; draw a contact sheet of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")],
    *,
    sheet: Path | None = None,
    identities: int = 12,
    images: int = 10,
    check: bool = False,
) -> None:
    """Say what a store, label table, run, checkpoint, embeddings, calibration or report is.

    Example: openmfr inspect faces --sheet faces.png

    Args:
        path: Any file or folder that openmfr wrote.
        sheet: Draw a contact sheet of a store into this PNG: identity by identity.
        identities: Identities on the sheet.
        images: Images of each identity, and in each row.
        check: Compare every shard of a store with its checksum; exit code 2 if one differs.
    """
    from openmfr.artefacts import describe

    if sheet or check:
        _check_store(path)
    if check:
        _check_shards(path)
    for name, value in describe(path).items():
        print(f"{name:<16} {value}")
    if sheet:
        _draw(path, sheet, identities=identities, images=images)


def _check_store(path: Path) -> None:
    from openmfr.artefacts import kind_of
    from openmfr.errors import UserError

    kind = kind_of(path)
    if kind != "store":
        raise UserError(
            where=str(path),
            found=f"a {kind}",
            allowed="a store, for --sheet and --check",
            next_step="give the store's folder",
        )


def _check_shards(path: Path) -> None:
    from openmfr.data.store import Store
    from openmfr.errors import UserError, raise_together

    raise_together(
        [
            UserError(
                where=fault.partition(": ")[0],
                found=fault.partition(": ")[2],
                allowed="the bytes that the manifest describes",
                next_step="make the store again, or copy it again",
            )
            for fault in Store(path).check()
        ]
    )
    print("check            every shard matches its checksum")


def _draw(path: Path, sheet: Path, *, identities: int, images: int) -> None:
    """Draw a contact sheet of a store."""
    from openmfr.artefacts import choose_for_sheet
    from openmfr.data.store import Store
    from openmfr.errors import UserError
    from openmfr.files import atomic_path
    from openmfr.report.sheet import contact_sheet

    for flag, count in (("identities", identities), ("images", images)):
        if count < 1:
            raise UserError(
                where=flag, found=str(count), allowed="from 1", next_step="leave it out"
            )
    store = Store(path)
    chosen = choose_for_sheet(store, identities=identities, images=images)
    picture = contact_sheet(
        [store.decode(index) for index, _ in chosen],
        columns=images,
        captions=[caption for _, caption in chosen],
    )
    with atomic_path(sheet) as temporary:
        picture.save(temporary, format="PNG")
    print(f"sheet            {sheet}")

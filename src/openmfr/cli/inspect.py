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
    """Say what a store, label table, run, checkpoint, embeddings or report is.

    Example: openmfr inspect faces --sheet faces.png

    Args:
        path: Any file or folder that openmfr wrote.
        sheet: Draw a contact sheet of a store into this PNG: identity by identity.
        identities: Identities on the sheet.
        images: Images of each identity, and in each row.
        check: Compare every shard of a store with its checksum; exit code 2 if one differs.
    """
    from openmfr.artefacts import choose_for_sheet, describe, kind_of
    from openmfr.data.store import Store
    from openmfr.errors import UserError, raise_together
    from openmfr.files import atomic_path

    if (sheet or check) and kind_of(path) != "store":
        raise UserError(
            where=str(path),
            found=f"a {kind_of(path)}",
            allowed="a store, for --sheet and --check",
            next_step="give the store's folder",
        )
    if check:
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
    for name, value in describe(path).items():
        print(f"{name:<16} {value}")
    if sheet:
        for flag, count in (("identities", identities), ("images", images)):
            if count < 1:
                raise UserError(
                    where=flag, found=str(count), allowed="from 1", next_step="leave it out"
                )
        from openmfr.report.sheet import contact_sheet

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

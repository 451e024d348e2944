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
    repair: bool = False,
) -> None:
    """Say what a store, label table, run, checkpoint, embeddings, calibration or report is.

    Example: openmfr inspect faces --sheet faces.png

    Args:
        path: Any file or folder that openmfr wrote.
        sheet: Draw a contact sheet of a store into this PNG: identity by identity.
        identities: Identities on the sheet.
        images: Images of each identity, and in each row.
        check: Compare every shard of a store with its checksum; exit code 2 if one differs.
        repair: Check, and set the damaged images aside: training, embedding and cleaning go on
            without them. Once a shard was copied again, this takes its images back.
    """
    from openmfr.artefacts import describe

    if sheet or check or repair:
        _check_store(path)
    if repair:
        _repair(path)
    elif check:
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
    from openmfr.data.damage import find_damage
    from openmfr.data.store import Store
    from openmfr.errors import UserError, raise_together

    raise_together(
        [
            UserError(
                where=str(path / damage.file),
                found=damage.found,
                allowed="the bytes that the manifest describes",
                next_step=f"copy it again, or set it aside: openmfr inspect {path} --repair",
            )
            for damage in find_damage(Store(path))
        ]
    )
    print("check            every shard matches its checksum")


def _repair(path: Path) -> None:
    from openmfr.data.damage import find_damage, quarantine
    from openmfr.data.store import Store

    store = Store(path)
    damaged = find_damage(store)
    for damage in damaged:
        print(f"damaged          {damage.file}: {damage.found}")
    before = set(store.quarantined.tolist())
    lost = quarantine(store, damaged)
    back = len(before - set(lost.tolist()))
    print(f"set aside        {lost.size:,} of {len(store):,} images")
    if back:
        print(f"taken back       {back:,} images")


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

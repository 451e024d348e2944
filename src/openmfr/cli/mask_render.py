"""`openmfr mask render`: a store or photos → the same with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    ratio: float = 1.0,
    kind: Literal["rendered", "flat", "erase"] = "rendered",
    styles: tuple[str, ...] = ("surgical", "kn95", "cloth", "scarf"),
    templates: Path | None = None,
    bank_size: int = 200,
    seed: int = 1_000,
    labels: Path | None = None,
    geometry: Path | None = None,
    workers: int | None = None,
) -> None:
    """Put masks on a store's faces, or on every face of a folder of photos.

    Training needs no such store: openmfr train --masks 0.15 puts masks on as it goes. Rendered
    ones make test sets. The new store has the old one's order and sources, and labels that say who
    wears what; the store says in which colour and how much of the nose it covers. What wears no
    mask keeps its bytes. Of photos, those with a face that could not be
    reconstructed are listed in unmasked.csv.

    Example: openmfr mask fit lfw, then openmfr mask render lfw lfw-masked

    Example: openmfr mask render photos masked-photos

    Args:
        source: A store, or a folder of photos.
        out: Folder to make.
        ratio: Share of a store's faces to mask, 0 to 1.
        kind: rendered in 3D; or, to compare with, a flat overlay or an erased lower half.
        styles: Styles to draw masks from.
        templates: Folder of your own mask templates (openmfr mask guide), instead of drawn ones.
        bank_size: How many masks to draw.
        seed: Of the masks and of who wears which. Training draws from 0: another one here keeps
            the masks of a test out of training.
        labels: Label table of the store; SOURCE/labels.parquet by default.
        geometry: What openmfr mask fit wrote; SOURCE/geometry by default.
        workers: Worker processes; one per core by default. The result does not depend on it.
    """
    from openmfr.data.geometry import Geometry
    from openmfr.data.labels import Labels
    from openmfr.data.store import MANIFEST, Store
    from openmfr.errors import UserError
    from openmfr.masking.augment import Masker
    from openmfr.masking.bank import MaskBank
    from openmfr.masking.config import MaskConfig, StyleWeights
    from openmfr.masking.photo import UNMASKED, mask_photos
    from openmfr.masking.render_store import LABELS, render_store

    config = MaskConfig(
        probability=ratio,
        kind=kind,
        styles=StyleWeights.only(styles),
        templates=bank_size,
        seed=seed,
    )
    is_store = (source / MANIFEST).exists()
    if not is_store and (ratio, kind, labels, geometry) != (1.0, "rendered", None, None):
        raise UserError(
            where=str(source),
            found="photos with --ratio, --kind, --labels or --geometry",
            allowed="these flags with a store alone",
            next_step="leave them out, or make a store: openmfr ingest",
        )
    bank = MaskBank.read(templates) if templates else config.draw_bank()
    if not is_store:
        photos, left = mask_photos(source, out, bank, seed=seed, workers=workers)
        print(f"{out}: {photos - len(left):,} of {photos:,} photos with every face masked")
        if left:
            print(f"  why the other {len(left):,} are not: {out / UNMASKED}")
        return
    store = Store(source)
    table = Labels.read(labels or source / LABELS)
    masker = Masker(
        config,
        seed=seed,
        geometry=Geometry.open(geometry or source / "geometry", store)
        if config.needs_geometry
        else None,
        bank=bank if config.needs_geometry else None,
        is_masked=table.is_masked,
    )
    rendered, _, summary = render_store(store, table, out, masker=masker, workers=workers)
    print(f"{out}: {summary.images:,} images, {summary.masked:,} with a new mask")
    if summary.unmaskable:
        print(f"  {summary.unmaskable:,} could get none: their faces are not known")
    print(f"  labels: {rendered.path / LABELS}")

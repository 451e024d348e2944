"""A store with masks put on: for test sets, and for training code that cannot put them on itself.

The new store has the images of the old one in the same order with the same sources, so lists of
pairs, labels and other tables by row serve both. What wears no mask keeps its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from openmfr.config import to_dict
from openmfr.data.labels import Labels
from openmfr.data.store import MASK_STYLE, Store, encode_jpeg
from openmfr.data.store_writer import StoreWriter, writing_store
from openmfr.data.texts import Texts
from openmfr.masking.augment import Masker
from openmfr.masking.looks import MASK_COLOUR, MASK_COVERAGE, mask_colour
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all

LABELS: Final = "labels.parquet"

#: Raised whenever the same settings put on other masks, or say other things of them.
RENDERER_VERSION: Final = 2

_QUALITY: Final = 95


@dataclass(frozen=True, kw_only=True)
class RenderSummary:
    """What became of a store's images.

    Attributes:
        images: How many there are.
        masked: How many wear a mask.
        unmaskable: How many should wear one, but their face is not known.
    """

    images: int
    masked: int
    unmaskable: int


def render_store(
    store: Store, labels: Labels, out: Path, *, masker: Masker, workers: int | None = None
) -> tuple[Store, Labels, RenderSummary]:
    """Put masks on a store's images; goes on where it was stopped.

    Args:
        store: The faces.
        labels: Who is on them.
        out: Folder of the new store; its labels are written into it as `labels.parquet`. They say
            who `is_masked`, in which `mask_style`; the store has a column `mask_style` too, and
            `mask_colour` and `mask_coverage`, how much of the nose the mask covers.
        masker: Decides who wears what, and puts it on.
        workers: Processes, from 1; one for each CPU by default. The result does not depend on it.

    Returns:
        The new store, its labels, and what became of the images.

    Raises:
        UserError: If the labels or the geometry belong to another store, or something else stands
            in the folder.
    """
    labels.check_store(store)
    workers = choose_workers(workers)
    settings = {
        "made_by": "openmfr mask render",
        "renderer_version": RENDERER_VERSION,
        "store": store.fingerprint,
        "masks": to_dict(masker.config),
        "seed": masker.seed,
        **masker.settings,
    }
    with writing_store(out, image_size=store.image_size, settings=settings) as writer:
        if isinstance(writer, Store):
            rendered = writer
        else:
            _write_missing(writer, store, masker, workers)
            rendered = writer.commit(shards=len(store.shards))
        style = Texts.of(name or "" for name in rendered.column(MASK_STYLE))
        table = replace(
            labels.child(
                is_masked=labels.is_masked | (style != ""),
                mask_style=labels.mask_style.replaced(style != "", style),
            ),
            store_fingerprint=rendered.fingerprint,
        )
        if not (out / LABELS).exists():
            table.write(out / LABELS)
    wanted = sum(masker.is_due(index) for index in range(len(store)))
    masked = int((style != "").sum())
    summary = RenderSummary(images=len(store), masked=masked, unmaskable=wanted - masked)
    return rendered, table, summary


def _write_missing(writer: StoreWriter, store: Store, masker: Masker, workers: int) -> None:
    missing = [shard for shard in range(len(store.shards)) if not writer.has_shard(shard)]
    to_do = sum(len(store.shards[shard]) for shard in missing)
    total = len(store)
    write = partial(_write_shard, writer, store, masker)
    with progress("mask render", total=total, unit="images", done=total - to_do) as advance:
        for count in do_all(write, missing, workers=workers, what="mask render"):
            advance(count)


def _write_shard(writer: StoreWriter, store: Store, masker: Masker, shard: int) -> int:
    encoded = []
    looks: dict[str, list[str | None]] = {MASK_STYLE: [], MASK_COLOUR: [], MASK_COVERAGE: []}
    for index in store.shards[shard]:
        is_due = masker.is_due(index)
        masked = masker.mask(store.decode(index), index=index) if is_due else None
        encoded.append(
            store.read(index) if masked is None else encode_jpeg(masked[0].image, quality=_QUALITY)
        )
        worn = None if masked is None else masker.worn(index)
        looks[MASK_STYLE].append(None if masked is None else masked[1])
        looks[MASK_COLOUR].append(None if worn is None else mask_colour(worn[0]))
        looks[MASK_COVERAGE].append(None if worn is None else worn[1].coverage)
    columns = {name: pa.array(values, pa.string()) for name, values in looks.items()}
    writer.write_shard(shard, encoded, {**store.columns_of(shard), **columns})
    return len(encoded)

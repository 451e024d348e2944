"""A store → RecordIO, WebDataset tars, or a folder, with the encoded bytes as they are.

First the plan is written: which images, as whom, and where to. Then it is carried out in parts that
are done or not, so a run that is killed goes on when the same command is given again, and ends in
the same files whatever the number of workers. `conversion.json` stands in the folder from the
beginning, and says at the end that all is there.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from openmfr.data.convert.records import check_identities, write_records
from openmfr.data.convert.selection import Selection, plan, select
from openmfr.data.convert.shards import write_folder, write_tars
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import UserError, check_fields, nearest
from openmfr.files import (
    check_format_version,
    check_same_settings,
    fingerprint,
    prepare_folder,
    read_json,
    taken_folder,
    write_json,
)
from openmfr.workers import choose_workers

FORMAT_VERSION: Final = 1
#: Says what a folder is, and whether it is complete.
CONVERSION: Final = "conversion.json"
_WORK: Final = "work"

Format = Literal["recordio", "tar", "folder"]


@dataclass(frozen=True, kw_only=True)
class OutConfig:
    """What to make of a store.

    Attributes:
        to: The format.
        images_per_tar: Images of each tar but the last; a tar of 10,000 crops has some 100 MB.
    """

    to: Format
    images_per_tar: int = 10_000

    def __post_init__(self) -> None:
        formats = get_args(Format)
        check_fields(
            self,
            {
                "to": (self.to in formats, ", ".join(formats)),
                "images_per_tar": (self.images_per_tar >= 1, "from 1"),
            },
            next_step=nearest(self.to, formats) if self.to not in formats else "10000 suits most",
        )


@dataclass(frozen=True, kw_only=True)
class OutSummary:
    """What left the store.

    Attributes:
        images: How many images.
        identities: Of how many people.
        unknown: Images left out because nobody knows whose they are: RecordIO has no place for
            such.
        was_finished: Whether an earlier run had done everything.
    """

    images: int
    identities: int
    unknown: int
    was_finished: bool


def convert_from_store(
    store: Store,
    out: Path | str,
    *,
    config: OutConfig,
    labels: Labels | None = None,
    workers: int | None = None,
) -> OutSummary:
    """Write a store's images in another format.

    Args:
        store: The store. Images that are set aside as damaged are left out.
        out: Folder to make; one that the same call began is gone on with.
        config: Which format.
        labels: Write what these keep, with their identities; by default everything, with the
            store's own.
        workers: Worker processes, one per core by default; 1 works in this process.

    Raises:
        UserError: If the labels are of another store, nothing is left, or something else stands in
            `out`.
    """
    workers, out = choose_workers(workers), Path(out)
    if labels is not None:
        labels.check_store(store)
    settings = asdict(config) | {
        "store": store.fingerprint,
        "labels": labels.fingerprint if labels is not None else "",
        "set_aside": fingerprint(store.quarantined.tobytes()) if store.quarantined.size else "",
    }
    with taken_folder(out, mark=CONVERSION, what="unfinished conversion"):
        prepare_folder(out, mark=CONVERSION, what="unfinished conversion")
        done = _begin(out, settings)
        if done is not None:
            return OutSummary(**done, was_finished=True)
        selection = select(store, labels)
        counts = {"images": len(selection), "identities": len(selection.names), "unknown": 0}
        if config.to == "recordio":
            counts["unknown"] = selection.unknown
            selection = selection.known()
            counts["images"] = len(selection)
            check_identities(selection)
        if not len(selection):
            raise UserError(
                where=f"{store.path}, labels",
                found="no image to write",
                allowed="a store and labels that keep at least one image of someone known",
                next_step="pass other --labels",
            )
        _write(store, selection, out, config, workers=workers)
        _mark(out, settings, counts)
        shutil.rmtree(out / _WORK, ignore_errors=True)
    return OutSummary(**counts, was_finished=False)


def _begin(out: Path, settings: dict[str, Any]) -> dict[str, int] | None:
    """Mark a folder; return the counts of an earlier run that finished there."""
    if (out / CONVERSION).exists():
        names = ("settings", "counts")
        begun = read_json(out / CONVERSION, what="conversion", required=names)
        check_format_version(begun, path=out / CONVERSION, supported=FORMAT_VERSION)
        check_same_settings(out, begun["settings"], settings)
        if begun["counts"] is not None:
            shutil.rmtree(out / _WORK, ignore_errors=True)  # a kill may have come just before
        counts: dict[str, int] | None = begun["counts"]
        return counts
    _mark(out, settings, None)
    return None


def _mark(out: Path, settings: dict[str, Any], counts: dict[str, int] | None) -> None:
    content = {"format_version": FORMAT_VERSION, "kind": "conversion"}
    write_json(out / CONVERSION, content | {"settings": settings, "counts": counts})


def _write(
    store: Store, selection: Selection, out: Path, config: OutConfig, *, workers: int
) -> None:
    work = out / _WORK
    match config.to:
        case "recordio":
            write_records(store, selection, out, work=work)
        case "tar":
            rows = plan(store, selection, work, size=config.images_per_tar, keys=selection.rows)
            write_tars(store, rows, out, workers=workers)
        case "folder":
            places = selection.place_within_identity()
            rows = plan(store, selection, work, size=None, keys=places)
            write_folder(store, rows, out, work=work, most=int(places.max()), workers=workers)

"""An InsightFace `.bin` set → a store, its labels, and the set's pairs as a list.

The file holds the images of every pair, in order, and no names: `lfw.bin/000000` and
`lfw.bin/000001` are the first pair. An image that stands in several pairs is there several times.
So people are told apart by what the set does say: images that are the same byte for byte, or that
a genuine pair links, are of one person.

The folds are those that InsightFace's own evaluation takes: ten, cut in the pairs' order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.data.crop import IngestConfig, crop_aligned
from openmfr.data.formats.bin import BinSet, read_bin
from openmfr.data.ingest import LABELS
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.data.store_writer import StoreWriter, writing_store
from openmfr.errors import UserError, raise_together
from openmfr.evaluation.protocols.lists import identities_from_pairs
from openmfr.faces.photo import PhotoError
from openmfr.files import sha256_of_file, write_text
from openmfr.run import progress

IntArray = npt.NDArray[np.int64]

#: The set's pairs, in the store's folder: for openmfr evaluate pairs.
PAIRS: Final = "pairs.csv"

_FOLDS: Final = 10
_IMAGES_PER_SHARD: Final = 2_000
_MAX_FAULTS: Final = 5


@dataclass(frozen=True, kw_only=True)
class BinSummary:
    """What a set became.

    Attributes:
        images: How many images are in the store.
        pairs: How many pairs are in the list.
        genuine_pairs: How many of them show one person.
        identities: How many people the pairs tell apart, at most.
    """

    images: int
    pairs: int
    genuine_pairs: int
    identities: int


def convert_bin(source: Path | str, out: Path | str, *, size: int = 112) -> BinSummary:
    """Make a store of a `.bin` set, with `labels.parquet` and `pairs.csv` in it.

    Args:
        source: The `.bin` file.
        out: Folder to make; one that the same call began is gone on with.
        size: Edge of the store's images in pixels; JPEGs of this size are kept byte for byte.

    Raises:
        UserError: If the file is no such set or must not be read, an image is unreadable or not
            square (several are reported together), or something else stands in `out`.
    """
    source, out = Path(source), Path(out)
    found = read_bin(source)
    config = IngestConfig(size=size, is_aligned=True, min_face=1)
    settings = {"bin": sha256_of_file(source), "name": source.name, "size": size}
    identity = identities_of_bin(found)
    with writing_store(out, image_size=size, settings=settings) as writer:
        if isinstance(writer, Store):
            store = writer
        else:
            store = _write(writer, source.name, found, identity, config)
        if not (out / LABELS).exists():
            Labels.from_names(store).write(out / LABELS)
        if not (out / PAIRS).exists():
            write_text(out / PAIRS, _list_of_pairs(source.name, found))
    return BinSummary(
        images=len(found),
        pairs=found.is_genuine.size,
        genuine_pairs=int(found.is_genuine.sum()),
        identities=np.unique(identity).size,
    )


def identities_of_bin(found: BinSet) -> IntArray:
    """Tell the people of a set apart by its genuine pairs and its repeated images.

    Where repeated images would make two people of an impostor pair one, as a wrong label in the set
    does, only the pairs are believed.

    Returns:
        Identities from 0, shape (2P,).
    """
    index_a, index_b = np.arange(0, len(found), 2), np.arange(1, len(found), 2)
    first: dict[bytes, int] = {}
    original = np.array(
        [first.setdefault(image, i) for i, image in enumerate(found.images)], dtype=np.int64
    )
    identity = identities_from_pairs(
        original[index_a], original[index_b], found.is_genuine, count=len(found)
    )[original]
    if (identity[index_a] == identity[index_b])[~found.is_genuine].any():
        identity = identities_from_pairs(index_a, index_b, found.is_genuine, count=len(found))
    return np.unique(identity, return_inverse=True)[1].astype(np.int64)


def _source(name: str, number: int) -> str:
    return f"{name}/{number:06d}"


def _write(
    writer: StoreWriter, name: str, found: BinSet, identity: IntArray, config: IngestConfig
) -> Store:
    starts = range(0, len(found), _IMAGES_PER_SHARD)
    with progress("convert", total=len(found), unit="images") as advance:
        for shard, start in enumerate(starts):
            numbers = range(start, min(start + _IMAGES_PER_SHARD, len(found)))
            if not writer.has_shard(shard):
                writer.write_shard(
                    shard,
                    list(_crops(name, found, numbers, config)),
                    {
                        "source": [_source(name, number) for number in numbers],
                        "identity_name": [f"{name}/{identity[number]:06d}" for number in numbers],
                    },
                )
            advance(len(numbers))
    return writer.commit(shards=len(starts))


def _crops(name: str, found: BinSet, numbers: range, config: IngestConfig) -> Iterator[bytes]:
    faults = []
    for number in numbers:
        try:
            yield crop_aligned(found.images[number], config).image
        except PhotoError as error:
            faults.append(
                UserError(
                    where=_source(name, number),
                    found=str(error),
                    allowed="an aligned, square face",
                    next_step="copy the file again",
                )
            )
            if len(faults) == _MAX_FAULTS:
                break
    raise_together(faults)


def _list_of_pairs(name: str, found: BinSet) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path_a", "path_b", "genuine", "fold"))
    pairs = found.is_genuine.size
    folds = np.array_split(np.arange(pairs), min(_FOLDS, pairs))
    for fold, numbers in enumerate(folds):
        for i in numbers.tolist():
            is_genuine = int(found.is_genuine[i])
            rows.writerow((_source(name, 2 * i), _source(name, 2 * i + 1), is_genuine, fold))
    return text.getvalue()

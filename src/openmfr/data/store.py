"""The Store: encoded face images and their source columns, memory-mapped, immutable once committed.

A store is a folder of Arrow IPC shards and a manifest. Each shard is one record batch, so image i
is found by one bisection and read without a copy; the manifest holds the checksum of every shard
and is written last, by rename: a folder without one is an unfinished store.

`data.store_writer` writes them.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from PIL import Image

from openmfr.data.quarantine import read_quarantine
from openmfr.data.remote import REMOTE, cached_store, check_scheme, fetch, is_remote
from openmfr.errors import UserError
from openmfr.files import (
    check_format_version,
    read_json,
)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

#: Columns that every store has: the encoded image, where it came from, and who the source says
#: it is (null where the source does not say).
SCHEMA = pa.schema(
    [
        pa.field("image", pa.binary(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("identity_name", pa.string()),
    ]
)

#: How the files of shards end.
SHARD_SUFFIX = ".arrow"

#: Column of each image's checksum (CRC-32); stores of earlier versions have none.
CHECKSUM = "crc32"

#: Column of a store whose faces were given masks: the style, null without one.
MASK_STYLE = "mask_style"

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]


class Store:
    """Read access to a committed store.

    Opening maps no shard; each is mapped when it is first read. Pickling carries the path alone, so
    every worker process maps the files itself and shares their pages with the others.

    Args:
        path: The store's folder, or `s3://bucket/prefix` (see `data.remote`).

    Attributes:
        path: The store's folder; of a remote one, its folder in the cache.
        image_size: Height and width of every image in pixels.
        fingerprint: Identifies the content: changes when any byte of any shard does.
        settings: What made the store, as its writer said.

    Raises:
        UserError: If the folder holds no finished store.
    """

    def __init__(self, path: Path | str) -> None:
        if is_remote(path):
            path = cached_store(str(path), manifest=MANIFEST, shard_suffix=SHARD_SUFFIX)
        self.path = Path(path)
        check_scheme(self.path)
        manifest = read_json(
            self.path / MANIFEST,
            what="store",
            required=("kind", "image_size", "fingerprint", "settings", "shards"),
        )
        check_format_version(manifest, path=self.path / MANIFEST, supported=FORMAT_VERSION)
        if manifest.get("kind") != "store":
            raise UserError(
                where=str(self.path),
                found=f"a {manifest.get('kind')}",
                allowed="a store",
                next_step="openmfr ingest or openmfr synth makes one",
            )
        self.image_size: int = manifest["image_size"]
        self.fingerprint: str = manifest["fingerprint"]
        self.settings: dict[str, Any] = manifest["settings"]
        self._shards: list[dict[str, Any]] = manifest["shards"]
        _check_manifest(manifest, where=self.path / MANIFEST)
        self._starts: list[int] = list(
            accumulate((shard["images"] for shard in self._shards), initial=0)
        )
        self._views: dict[int, _View] = {}

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views": {}}

    @cached_property
    def quarantined(self) -> IntArray:
        """Images that were found damaged and set aside, ascending; see `data.damage`."""
        return read_quarantine(self.path, images=len(self))

    @cached_property
    def _lost_shards(self) -> frozenset[int]:
        """Shards of which every image is set aside: nothing in them is believed."""
        places = np.searchsorted(self.quarantined, self._starts)
        counts = np.diff(self._starts)
        return frozenset(np.flatnonzero((np.diff(places) == counts) & (counts > 0)).tolist())

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one image.

        Args:
            index: 0 to N − 1.

        Raises:
            IndexError: If the index is out of range.
            UserError: If the shard or the image is damaged, by a single bit even.
        """
        return bytes(self._checked(index))

    def decode(self, index: int, *, out: UInt8Array | None = None) -> UInt8Array:
        """Return one image as RGB, uint8, shape (H, W, 3).

        Args:
            index: 0 to N − 1.
            out: Where to decode to, contiguous and of that shape; a new array by default.

        Raises:
            IndexError: If the index is out of range.
            UserError: If the shard or the image is damaged, by a single bit even.
        """
        encoded = self._checked(index)
        try:
            return decode_image(encoded, out=out)
        except (ValueError, OSError) as error:
            raise self._damaged(f"image {index}", f"an undecodable image ({error})") from error

    def column(self, name: str) -> list[Any]:
        """Return one source column of all images, for example `source` or `identity_name`.

        Raises:
            UserError: If the store has no such column.
        """
        if name not in self.column_names:
            raise UserError(
                where=f"{self.path}, column",
                found=name,
                allowed=", ".join(self.column_names),
                next_step="name one of them",
            )
        columns = (self._column(shard, name) for shard in range(len(self._shards)))
        return [value for column in columns for value in column.to_pylist()]

    def coded_column(self, name: str) -> tuple[IntArray, list[Any]]:
        """Return a source column as numbers: at 42 million images, the values alone take 4 GB.

        Args:
            name: The column.

        Returns:
            For each image the place of its value, shape (N,), −1 where it has none; and the
            distinct values, in the order in which they come.
        """
        place: dict[Any, int] = {}
        codes = np.empty(len(self), dtype=np.int64)
        for number, images in enumerate(self.shards):
            coded = self._column(number, name).combine_chunks().dictionary_encode()
            values = [place.setdefault(value, len(place)) for value in coded.dictionary.to_pylist()]
            found = coded.indices.fill_null(-1).to_numpy()
            codes[images.start : images.stop] = np.array([*values, -1])[found]
        return codes, list(place)

    @property
    def column_names(self) -> list[str]:
        """Names of the source columns, the image's bytes left out."""
        return [name for name in self._schema.names if name not in ("image", CHECKSUM)]

    @cached_property
    def _schema(self) -> pa.Schema:
        """That of the first shard that is not lost as a whole."""
        for shard in range(len(self._shards)):
            if shard not in self._lost_shards:
                return self._table(shard).schema
        return SCHEMA

    @property
    def shards(self) -> list[range]:
        """Store indices of the images of each shard, in order: together 0 to N − 1."""
        ends = self._starts[1:]
        return [range(start, end) for start, end in zip(self._starts, ends, strict=False)]

    def columns_of(self, shard: int) -> dict[str, list[Any]]:
        """Return all source columns of one shard's images, by name."""
        return {name: self._column(shard, name).to_pylist() for name in self.column_names}

    @property
    def manifest(self) -> Sequence[Mapping[str, Any]]:
        """File, number of images and SHA-256 of each shard, in order."""
        return self._shards

    def _checked(self, index: int) -> memoryview:
        """Encoded bytes of one image, compared with their checksum."""
        encoded, checksum = self._view(index)
        if checksum is not None and zlib.crc32(encoded) != checksum:
            raise self._damaged(f"image {index}", "bytes that differ from their checksum")
        return encoded

    def _view(self, index: int) -> tuple[memoryview, int | None]:
        """Encoded bytes of one image, where the file is mapped, and their checksum."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of a store with {len(self)} images")
        shard = bisect_right(self._starts, index) - 1
        view = self._views.get(shard)
        if view is None:
            view = self._views[shard] = _View.of(self._table(shard))
        row = index - self._starts[shard]
        content = view.content[view.offsets[row] : view.offsets[row + 1]]
        return content, None if view.checksums is None else view.checksums[row]

    def shard_path(self, shard: int) -> Path:
        """Return the file of one shard, which a remote store fetches when it is first asked for.

        Raises:
            UserError: If it cannot be fetched.
        """
        entry = self._shards[shard]
        path: Path = self.path / entry["file"]
        if not path.exists() and (self.path / REMOTE).exists():
            fetch(self.path, entry["file"], sha256=entry["sha256"])
        return path

    def _table(self, shard: int) -> pa.Table:
        entry = self._shards[shard]
        try:
            return open_shard(self.shard_path(shard), images=entry["images"])
        except (OSError, pa.ArrowException, ValueError) as error:
            raise self._damaged(entry["file"], f"an unreadable shard ({error})") from error

    def _column(self, shard: int, name: str) -> pa.ChunkedArray:
        if shard in self._lost_shards:
            return self._stand_in(shard, name)
        table = self._table(shard)
        if name not in table.schema.names:
            raise self._damaged(self._shards[shard]["file"], f"no column {name}")
        return table.column(name)

    def _stand_in(self, shard: int, name: str) -> pa.ChunkedArray:
        """What stands in a column for the images of a lost shard: nothing, or where they were."""
        entry, kind = self._shards[shard], self._schema.field(name).type
        if name != "source":
            return pa.chunked_array([pa.nulls(entry["images"], kind)])
        lost = [f"{entry['file']}, image {row}, lost" for row in range(entry["images"])]
        return pa.chunked_array([pa.array(lost, kind)])

    def _damaged(self, what: str, found: str) -> UserError:
        return UserError(
            where=f"{self.path}, {what}",
            found=found,
            allowed="what was written",
            next_step=f"copy it again, or set the damage aside: openmfr inspect {self.path} "
            "--repair, then the same command again",
        )


def _check_manifest(manifest: Mapping[str, Any], *, where: Path) -> None:
    """Refuse a manifest whose values are of other types, or whose files lie elsewhere."""
    kinds = {"image_size": int, "fingerprint": str, "settings": dict, "shards": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(manifest[name], kind)]
    for number, shard in enumerate(manifest["shards"] if not wrong else ()):
        is_whole = (
            isinstance(shard, dict)
            and isinstance(shard.get("images"), int)
            and 0 < shard["images"] < 2**31
            and isinstance(shard.get("sha256"), str)
            and isinstance(shard.get("file"), str)
            and Path(shard["file"]).name == shard["file"]
        )
        if not is_whole:
            wrong.append(f"shards, {number}")
    if wrong:
        raise UserError(
            where=f"{where}, {wrong[0]}",
            found="a value of another kind",
            allowed="what openmfr wrote",
            next_step="copy the manifest again, or make the store again",
        )


class _View(NamedTuple):
    """Where one shard's images lie in memory, without the objects that led there."""

    offsets: memoryview
    content: memoryview
    checksums: memoryview | None

    @classmethod
    def of(cls, table: pa.Table) -> _View:
        _, offsets, content = table.column("image").chunk(0).buffers()
        checksums = None
        if CHECKSUM in table.schema.names:
            checksums = memoryview(table.column(CHECKSUM).chunk(0).buffers()[1]).cast("I")
        return cls(memoryview(offsets).cast("i"), memoryview(content).cast("B"), checksums)


def fingerprint_columns(table: pa.Table) -> str:
    """Identify what a shard says of its images: all columns but the images and their checksums.

    Args:
        table: From `open_shard`.
    """
    names = [name for name in table.schema.names if name not in ("image", CHECKSUM)]
    digest = hashlib.sha256()
    for batch in table.select(names).to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()


def open_shard(path: Path, *, images: int | None = None) -> pa.Table:
    """Map a shard; the table outlives the file's handle, so that 20,000 of them need none.

    Args:
        path: The file.
        images: How many it must have; any number by default.

    Raises:
        OSError: If there is no such file.
        pa.ArrowException: If it is no Arrow file, is damaged, or lacks images or columns.
        ValueError: If a name in it is no text.
    """
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)  # a flipped bit in an offset would read anywhere in memory
    names = table.schema.names
    missing = {*SCHEMA.names} - {*names}
    if missing or len({*names}) < len(names):
        raise pa.ArrowInvalid(f"columns {', '.join(names)}, not one each of {SCHEMA.names}")
    if images not in (None, table.num_rows):
        raise pa.ArrowInvalid(f"{table.num_rows} images, against the manifest")
    return table


def decode_image(encoded: bytes | memoryview, *, out: UInt8Array | None = None) -> UInt8Array:
    """Decode one image of a store to RGB.

    Args:
        encoded: A JPEG or any other format that Pillow reads.
        out: Where to decode to, uint8, contiguous, shape (H, W, 3); a new array by default.

    Returns:
        uint8, shape (H, W, 3).

    Raises:
        ValueError: If the bytes are no whole JPEG, or `out` is too small.
        OSError: If Pillow cannot read them.
    """
    if encoded[:2] == b"\xff\xd8":
        decoded: UInt8Array = simplejpeg.decode_jpeg(encoded, buffer=out)
        return decoded
    with Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if out is None:
        return pixels
    out[:] = pixels
    return out


def encode_jpeg(image: UInt8Array, *, quality: int = 92) -> bytes:
    """Encode an RGB image, uint8, shape (H, W, 3), as a JPEG with 4:2:0 colour."""
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorsubsampling="420"
    )
    return encoded

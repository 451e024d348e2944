"""The Store: encoded face images and their source columns, memory-mapped, immutable once committed.

A store is a folder of Arrow IPC shards and a manifest. Each shard is one record batch, so image i
is found by one bisection and read without a copy; the manifest holds the checksum of every shard
and is written last, by rename: a folder without one is an unfinished store.

Writing goes shard by shard. A shard's number is chosen by the writer, not by the order in which
shards arrive, so parallel workers, and a run that was killed and repeated, end in the same store.
"""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from PIL import Image

from openmfr.errors import UserError
from openmfr.files import (
    atomic_path,
    check_format_version,
    check_same_settings,
    fingerprint,
    prepare_folder,
    read_json,
    sha256_of_file,
    write_json,
)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
#: Stands in an unfinished store, so that a repeated run knows its own.
SETTINGS = "settings.json"

#: Columns that every store has: the encoded image, where it came from, and who the source says
#: it is (null where the source does not say).
SCHEMA = pa.schema(
    [
        pa.field("image", pa.binary(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("identity_name", pa.string()),
    ]
)

#: Column of a store whose faces were given masks: the style, null without one.
MASK_STYLE = "mask_style"

UInt8Array = npt.NDArray[np.uint8]


class Store:
    """Read access to a committed store.

    Opening maps no shard; each is mapped when it is first read. Pickling carries the path alone, so
    every worker process maps the files itself and shares their pages with the others.

    Args:
        path: The store's folder.

    Attributes:
        path: The store's folder.
        image_size: Height and width of every image in pixels.
        fingerprint: Identifies the content: changes when any byte of any shard does.
        settings: What made the store, as its writer said.

    Raises:
        UserError: If the folder holds no finished store.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
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
        self._starts: list[int] = list(
            accumulate((shard["images"] for shard in self._shards), initial=0)
        )
        self._tables: dict[int, pa.Table] = {}
        self._views: dict[int, tuple[list[int], memoryview]] = {}

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": {}, "_views": {}}

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one image.

        Args:
            index: 0 to N − 1.

        Raises:
            IndexError: If the index is out of range.
            UserError: If the shard is missing or damaged.
        """
        return bytes(self._view(index))

    def decode(self, index: int, *, out: UInt8Array | None = None) -> UInt8Array:
        """Return one image as RGB, uint8, shape (H, W, 3).

        Args:
            index: 0 to N − 1.
            out: Where to decode to, contiguous and of that shape; a new array by default.

        Raises:
            IndexError: If the index is out of range.
            UserError: If the shard or the image is damaged.
        """
        try:
            return decode_image(self._view(index), out=out)
        except (ValueError, OSError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                where=f"{self.path}, image {index}",
                found=f"an undecodable image ({error})",
                allowed="a whole JPEG or PNG",
                next_step="openmfr inspect --check lists damaged shards; make the store again",
            ) from error

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
        tables = [self._table(shard) for shard in range(len(self._shards))]
        return [value for table in tables for value in table.column(name).to_pylist()]

    @property
    def column_names(self) -> list[str]:
        """Names of the source columns, the image's bytes left out."""
        if not self._shards:
            return [name for name in SCHEMA.names if name != "image"]
        return [name for name in self._table(0).schema.names if name != "image"]

    @property
    def shards(self) -> list[range]:
        """Store indices of the images of each shard, in order: together 0 to N − 1."""
        ends = self._starts[1:]
        return [range(start, end) for start, end in zip(self._starts, ends, strict=False)]

    def columns_of(self, shard: int) -> dict[str, list[Any]]:
        """Return all source columns of one shard's images, by name."""
        table = self._table(shard)
        return {name: table.column(name).to_pylist() for name in self.column_names}

    def check(self) -> list[str]:
        """Compare every shard with its checksum.

        Returns:
            One line for each shard that is missing or differs; empty if the store is whole.
        """
        faults = []
        for shard in self._shards:
            path = self.path / shard["file"]
            if not path.exists():
                faults.append(f"{path}: missing")
            elif sha256_of_file(path) != shard["sha256"]:
                faults.append(f"{path}: checksum differs from the manifest")
        return faults

    def _view(self, index: int) -> memoryview:
        """Encoded bytes of one image, where the file is mapped."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of a store with {len(self)} images")
        shard = bisect_right(self._starts, index) - 1
        if shard not in self._views:
            column = self._table(shard).column("image").chunk(0)
            _, offsets, content = column.buffers()
            self._views[shard] = (
                np.frombuffer(offsets, np.int32).tolist(),
                memoryview(content).cast("B"),
            )
        offsets, content = self._views[shard]
        row = index - self._starts[shard]
        return content[offsets[row] : offsets[row + 1]]

    def _table(self, shard: int) -> pa.Table:
        if shard not in self._tables:
            path = self.path / self._shards[shard]["file"]
            try:
                self._tables[shard] = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            except (OSError, pa.ArrowInvalid) as error:
                raise UserError(
                    where=str(path),
                    found=f"unreadable shard ({error})",
                    allowed="the file that the manifest names",
                    next_step="openmfr inspect --check lists what is damaged; make the store again",
                ) from error
        return self._tables[shard]


class StoreWriter:
    """Writes a store shard by shard; what is already written is kept when the run is repeated.

    Args:
        path: Folder to create, or one that the same writer began and did not finish.
        image_size: Height and width of every image in pixels.
        settings: What determines the content (inputs and options, as JSON): kept in the manifest
            for a person who asks, and compared when a run is repeated.

    Raises:
        UserError: If a finished store, a store begun with other settings, or foreign files stand
            there.
    """

    def __init__(self, path: Path | str, *, image_size: int, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.image_size = image_size
        self.settings = json.loads(json.dumps(settings))
        if (self.path / MANIFEST).exists():
            raise UserError(
                where=str(self.path),
                found="a finished store",
                allowed="a new folder",
                next_step="choose another folder, or delete this one",
            )
        prepare_folder(self.path, mark=SETTINGS, what="unfinished store")
        begun = self.path / SETTINGS
        if begun.exists():
            check_same_settings(self.path, read_json(begun, what="store"), self.settings)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(begun, self.settings)

    def has_shard(self, number: int) -> bool:
        """Whether a shard was written, by this run or one that was killed."""
        return self._shard_path(number).exists()

    def write_shard(
        self, number: int, images: Sequence[bytes], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Write one shard atomically.

        Args:
            number: Place of the shard in the store, from 0. Numbers may come in any order.
            images: Encoded images, JPEG or PNG, each `image_size` squared; may be empty.
            columns: Source columns, each as long as `images`; `source` and `identity_name` are
                required, others are the caller's.
        """
        arrays: dict[str, pa.Array] = {"image": pa.array(images, pa.binary())}
        for name, values in columns.items():
            field_type = SCHEMA.field(name).type if name in SCHEMA.names else None
            arrays[name] = pa.array(values, field_type)
        batch = pa.record_batch(arrays)
        with (
            atomic_path(self._shard_path(number)) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)

    def commit(self, *, shards: int) -> Store:
        """Write the manifest: from now on the folder is a store.

        Args:
            shards: How many shards there must be, numbered from 0.

        Returns:
            The store, opened.

        Raises:
            UserError: If a shard is missing.
        """
        entries = []
        for number in range(shards):
            path = self._shard_path(number)
            if not path.exists():
                raise UserError(
                    where=str(path),
                    found="no such shard",
                    allowed=f"shards 0 to {shards - 1}",
                    next_step="run the same command again; it writes what is missing",
                )
            with pa.memory_map(str(path)) as source:
                images = pa.ipc.open_file(source).read_all().num_rows
            if images:
                entries.append(
                    {"file": path.name, "images": images, "sha256": sha256_of_file(path)}
                )
        manifest = {
            "format_version": FORMAT_VERSION,
            "kind": "store",
            "image_size": self.image_size,
            "images": sum(entry["images"] for entry in entries),
            "fingerprint": fingerprint(*(entry["sha256"] for entry in entries)),
            "settings": self.settings,
            "shards": entries,
        }
        write_json(self.path / MANIFEST, manifest)
        (self.path / SETTINGS).unlink(missing_ok=True)
        return Store(self.path)

    def _shard_path(self, number: int) -> Path:
        return self.path / f"shard-{number:06d}.arrow"


def finished_store(path: Path | str, *, settings: Mapping[str, Any]) -> Store | None:
    """Open the store that a command with these settings has finished before, if there is one.

    Raises:
        UserError: If a finished store with other settings stands there.
    """
    if not (Path(path) / MANIFEST).exists():
        return None
    store = Store(path)
    check_same_settings(store.path, store.settings, json.loads(json.dumps(settings)))
    (store.path / SETTINGS).unlink(missing_ok=True)  # a kill may have come just before
    return store


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

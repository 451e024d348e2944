"""MXNet's indexed RecordIO, as InsightFace's training sets use it, in pure Python.

A set is a pair `train.rec` and `train.idx`. The index is text: a line `key<TAB>byte offset` for
each record. A record is one or more parts, each

    magic 0xced7230a | 3 bits flag, 29 bits length | data | zeros up to a multiple of 4 bytes

all little-endian. A part's flag is 0 if it is the whole record; where the data itself holds the
magic at a multiple of 4, the record is cut there, the magic left out, and the parts are flagged
1 (first), 2 (middle), 3 (last).

An image record's data is a header and the encoded image. The header is `flag, label, id, id2`
(uint32, float32, uint64, uint64); if flag is above 0, that many float32 labels follow it and
`label` is unused. InsightFace puts a record without an image at key 0: its two labels a and b say
that images have the keys 1 to a − 1, and that keys a to b − 1 list each identity's images. Sets
without that record, as MXNet's im2rec makes them, hold an image under every key.

Source:
    dmlc/dmlc-core `recordio.h`, apache/mxnet `recordio.py`, deepinsight/insightface `dataset.py`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Final, overload

from openmfr.errors import UserError
from openmfr.files import atomic_path

_MAGIC: Final = struct.pack("<I", 0xCED7230A)
_PART: Final = struct.Struct("<4sI")
_HEADER: Final = struct.Struct("<IfQQ")
_LENGTH_BITS: Final = 29
_MAX_LENGTH: Final = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class RecordIO(Sequence[tuple[int, bytes]]):
    """The images of a RecordIO pair, memory-mapped: `records[i]` is `(identity, encoded image)`.

    Pickling carries the path alone.

    Args:
        path: The `.rec` file; the `.idx` file lies beside it.

    Raises:
        UserError: If a file of the pair is missing, or the index or the first record is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._offsets = _read_index(self.path.with_suffix(".idx"))
        self._map = _map(self.path)
        self._keys = self._image_keys()

    def __len__(self) -> int:
        return len(self._keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordIO, (self.path,)

    @overload
    def __getitem__(self, index: int) -> tuple[int, bytes]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, bytes]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, bytes] | list[tuple[int, bytes]]:
        """Read an image.

        Raises:
            UserError: If the record is damaged; it names the record.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        key = self._keys[index]
        labels, image = self._read(key)
        if not labels[0].is_integer():
            raise self._damaged(key, f"the label {labels[0]}")
        return int(labels[0]), image

    def _image_keys(self) -> Sequence[int]:
        """Keys of the records that hold an image, in the order of the keys."""
        if 0 in self._offsets:
            labels, image = self._read(0)
            if not image and len(labels) == 2:
                return range(1, int(labels[0]))
        return sorted(self._offsets)

    def _read(self, key: int) -> tuple[tuple[float, ...], bytes]:
        """Return labels and image of a record."""
        data = self._data(key)
        if len(data) < _HEADER.size:
            raise self._damaged(key, f"{len(data)} bytes of data, too few for a header")
        flag, label, _, _ = _HEADER.unpack_from(data)
        image = _HEADER.size + 4 * flag
        if len(data) < image:
            raise self._damaged(key, f"{flag} labels announced in {len(data)} bytes")
        labels = struct.unpack_from(f"<{flag}f", data, _HEADER.size) if flag else (label,)
        return labels, data[image:]

    def _data(self, key: int) -> bytes:
        if key not in self._offsets:
            raise self._damaged(key, "no such key in the index")
        position, parts = self._offsets[key], list[bytes]()
        while True:
            if not 0 <= position <= len(self._map) - _PART.size:
                raise self._damaged(key, f"the end of the file at byte {len(self._map)}")
            magic, word = _PART.unpack_from(self._map, position)
            flag, length = word >> _LENGTH_BITS, word & _MAX_LENGTH
            if magic != _MAGIC:
                raise self._damaged(key, f"no record at byte {position}")
            if flag not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
                raise self._damaged(key, f"part {len(parts)} with flag {flag}")
            start = position + _PART.size
            if start + length > len(self._map):
                raise self._damaged(key, f"{length} bytes announced, fewer in the file")
            parts.append(self._map[start : start + length])
            if flag in (_WHOLE, _LAST):
                return _MAGIC.join(parts)
            position = start + length + -length % 4

    def _damaged(self, key: int, found: str) -> UserError:
        return UserError(
            where=f"{self.path}, record {key}",
            found=found,
            allowed="a record as its index says",
            next_step="copy the .rec and .idx files again; they belong together",
        )


def write_recordio(path: Path | str, images: Iterable[tuple[int, bytes]]) -> None:
    """Write a RecordIO pair as InsightFace's own tools do, atomically.

    Args:
        path: The `.rec` file to write; the `.idx` file is written beside it.
        images: Identity and encoded image, the images of an identity one after another, identities
            in ascending order: the records of identities name ranges of images.

    Raises:
        UserError: If the images of an identity do not stand together, or an image is too large.
    """
    path = Path(path)
    with (
        atomic_path(path.with_suffix(".idx")) as index_path,
        atomic_path(path) as record_path,
        record_path.open("wb") as records,
        index_path.open("w", encoding="ascii") as index,
    ):
        _write_all(records, index.write, images)


def _write_all(
    records: BinaryIO, index: Callable[[str], Any], images: Iterable[tuple[int, bytes]]
) -> None:
    def put(key: int, labels: tuple[float, ...], image: bytes = b"") -> None:
        index(f"{key}\t{records.tell()}\n")
        # One label of an image stands in the header itself, as InsightFace's readers expect.
        flag, label, more = (0, labels[0], ()) if len(labels) == 1 else (len(labels), 0.0, labels)
        header = _HEADER.pack(flag, label, key, 0) + struct.pack(f"<{flag}f", *more)
        _write_record(records, key, header + image)

    # The first record's labels are known when the last image is written: hold its place.
    put(0, (0.0, 0.0))
    ranges, key = list[tuple[float, float]](), 1
    last = -1
    for identity, group in groupby(images, key=lambda pair: pair[0]):
        if identity <= last:
            raise UserError(
                where=f"identity {identity}",
                found=f"images after those of identity {last}",
                allowed="identities in ascending order, each once",
                next_step="sort the images by identity",
            )
        first, last = key, identity
        for _, image in group:
            put(key, (float(identity),), image)
            key += 1
        ranges.append((float(first), float(key)))
    for number, image_range in enumerate(ranges):
        put(key + number, image_range)
    end = records.tell()
    records.seek(0)
    header = _HEADER.pack(2, 0.0, 0, 0) + struct.pack("<2f", key, key + len(ranges))
    _write_record(records, 0, header)
    records.seek(end)


def _write_record(records: BinaryIO, key: int, data: bytes) -> None:
    if len(data) > _MAX_LENGTH:
        raise UserError(
            where=f"record {key}",
            found=f"{len(data):,} bytes",
            allowed=f"at most {_MAX_LENGTH:,}",
            next_step="store a smaller image",
        )
    parts = list(_split_at_magic(data))
    for number, part in enumerate(parts):
        if len(parts) == 1:
            flag = _WHOLE
        else:
            flag = _FIRST if number == 0 else _LAST if number == len(parts) - 1 else _MIDDLE
        records.write(_PART.pack(_MAGIC, flag << _LENGTH_BITS | len(part)))
        records.write(part + bytes(-len(part) % 4))


def _split_at_magic(data: bytes) -> Iterator[bytes]:
    """Cut data where the magic stands at a multiple of 4, leaving it out."""
    start = position = 0
    while (position := data.find(_MAGIC, position)) >= 0:
        if position % 4:
            position += 1
            continue
        yield data[start:position]
        start = position = position + len(_MAGIC)
    yield data[start:]


def _read_index(path: Path) -> dict[int, int]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable index ({type(error).__name__})",
            allowed="the .idx file beside the .rec file",
            next_step="copy it there; it lists where the records start",
        ) from error
    offsets = {}
    for number, line in enumerate(lines, start=1):
        try:
            key, offset = line.split()
            offsets[int(key)] = int(offset)
        except ValueError as error:
            raise UserError(
                where=f"{path}, line {number}",
                found=repr(line[:40]),
                allowed="a key, a tab, and a byte offset",
                next_step="copy the .idx file again",
            ) from error
    return offsets


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise UserError(
            where=str(path),
            found=f"no readable records ({error})",
            allowed="a RecordIO file",
            next_step="check the path",
        ) from error

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
without that record, as MXNet's im2rec makes them, hold an image under every key; InsightFace reads
both.

Labels are float32, so keys above 2²⁴ are rounded in them. Sets of that size are read by looking for
the first record of an identity around the key that is announced, and are written without a first
record: InsightFace would believe a rounded one.

Source:
    dmlc/dmlc-core `recordio.h`, apache/mxnet `recordio.py`, deepinsight/insightface `dataset.py`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Final, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from openmfr.errors import UserError
from openmfr.files import atomic_path

_MAGIC: Final = struct.pack("<I", 0xCED7230A)
_PART: Final = struct.Struct("<4sI")
_HEADER: Final = struct.Struct("<IfQQ")
_LENGTH_BITS: Final = 29
_MAX_LENGTH: Final = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

IntArray = npt.NDArray[np.int64]

#: float32 holds every whole number up to this one.
MOST_EXACT: Final = 1 << 24


class RecordIO(Sequence[tuple[int, bytes]]):
    """The images of a RecordIO pair, memory-mapped: `records[i]` is `(identity, encoded image)`.

    Pickling carries the path alone.

    Args:
        path: The `.rec` file; the `.idx` file lies beside it.

    Attributes:
        path: The `.rec` file.
        keys: Keys of the records that hold an image, ascending, shape (N,), int64.
        offsets: Where these records start in the file, shape (N,), int64.

    Raises:
        UserError: If a file of the pair is missing, or the index or the first record is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        keys, offsets = _read_index(self.path.with_suffix(".idx"))
        self._file = RecordFile(self.path)
        images = self._images(keys, offsets)
        self.keys: IntArray = keys[images]
        self.offsets: IntArray = offsets[images]

    def __len__(self) -> int:
        return self.keys.size

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
        return self._file.read_image(int(self.keys[index]), int(self.offsets[index]))

    def _images(self, keys: IntArray, offsets: IntArray) -> slice:
        """Which of the records hold an image."""
        if keys.size and keys[0] == 0:
            labels, image = self._file.read(0, int(offsets[0]))
            if not image and len(labels) == 2:
                end = self._end_of_images(labels[0], keys, offsets)
                found = slice(1, int(np.searchsorted(keys, end)))
                # Keys are distinct and ascending: images 1 to end − 1 are there, or one is not.
                gap = np.flatnonzero(keys[found] != np.arange(1, found.stop))
                if gap.size or found.stop != end:
                    key = int(gap[0]) + 1 if gap.size else found.stop
                    raise self._file.damaged(key, "no such key in the index")
                return found
        return slice(0, keys.size)

    def _end_of_images(self, announced: float, keys: IntArray, offsets: IntArray) -> int:
        """Key behind the last image: what the first record says, or where rounding led it from."""
        if not 1 <= announced <= 2 * max(MOST_EXACT, int(keys[-1])):
            raise self._file.damaged(0, f"the announcement of images up to key {announced}")
        end = int(announced)
        if end <= MOST_EXACT:
            return end
        away = max(int(np.spacing(np.float32(announced))), 1)
        first, last = np.searchsorted(keys, (end - away, end + away + 1))
        for i in range(int(first), int(last)):
            labels, image = self._file.read(int(keys[i]), int(offsets[i]))
            if not image and len(labels) == 2:
                return int(keys[i])
        return min(end, int(keys[-1]) + 1)


class RecordFile:
    """A `.rec` file, memory-mapped, whose records are found by their offsets.

    Args:
        path: The file.

    Raises:
        UserError: If it is missing or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = _map(path)

    def read_image(self, key: int, offset: int) -> tuple[int, bytes]:
        """Return identity and encoded image of a record.

        Raises:
            UserError: If the record is damaged; it names the record.
        """
        labels, image = self.read(key, offset)
        if not labels or not labels[0].is_integer():
            raise self.damaged(key, f"the label {labels[0]}" if labels else "no label")
        return int(labels[0]), image

    def read(self, key: int, offset: int) -> tuple[tuple[float, ...], bytes]:
        """Return all labels and the image of a record; records of ranges have an empty one.

        Raises:
            UserError: If the record is damaged; it names the record.
        """
        data = self._data(key, offset)
        if len(data) < _HEADER.size:
            raise self.damaged(key, f"{len(data)} bytes of data, too few for a header")
        flag, label, _, _ = _HEADER.unpack_from(data)
        image = _HEADER.size + 4 * flag
        if len(data) < image:
            raise self.damaged(key, f"{flag} labels announced in {len(data)} bytes")
        labels = struct.unpack_from(f"<{flag}f", data, _HEADER.size) if flag else (label,)
        return labels, data[image:]

    def _data(self, key: int, position: int) -> bytes:
        parts = list[bytes]()
        while True:
            if not 0 <= position <= len(self._map) - _PART.size:
                raise self.damaged(key, f"the end of the file at byte {len(self._map)}")
            magic, word = _PART.unpack_from(self._map, position)
            flag, length = word >> _LENGTH_BITS, word & _MAX_LENGTH
            if magic != _MAGIC:
                raise self.damaged(key, f"no record at byte {position}")
            if flag not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
                raise self.damaged(key, f"part {len(parts)} with flag {flag}")
            start = position + _PART.size
            if start + length > len(self._map):
                raise self.damaged(key, f"{length} bytes announced, fewer in the file")
            parts.append(self._map[start : start + length])
            if flag in (_WHOLE, _LAST):
                return _MAGIC.join(parts)
            position = start + length + -length % 4

    def damaged(self, key: int, found: str) -> UserError:
        """Say what is wrong with a record."""
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
        index_path.open("wb") as index,
    ):
        _write_all(RecordWriter(records, index), images)


class RecordWriter:
    """Appends records to an open pair of files.

    Args:
        records: The `.rec` file, open for binary writing at its end.
        index: The `.idx` file, likewise.
    """

    def __init__(self, records: BinaryIO, index: BinaryIO) -> None:
        self._records = records
        self._index = index

    def put(self, key: int, labels: Sequence[float], image: bytes = b"") -> None:
        """Append one record.

        Raises:
            UserError: If the image is too large.
        """
        self._index.write(b"%d\t%d\n" % (key, self._records.tell()))
        _write_record(self._records, key, _header(key, labels) + image)

    def put_first(self) -> None:
        """Append the record at key 0, whose labels `finish` writes: the last key is not known."""
        self.put(0, (0.0, 0.0))

    def finish(self, end: int, ranges: Sequence[tuple[int, int]]) -> None:
        """Append the records of identities, and complete the first record.

        Args:
            end: The key behind the last image.
            ranges: For each identity the key of its first image and the one behind its last.
        """
        for number, (first, stop) in enumerate(ranges):
            self.put(end + number, (float(first), float(stop)))
        at = self._records.tell()
        self._records.seek(0)
        _write_record(self._records, 0, _header(0, (float(end), float(end + len(ranges)))))
        self._records.seek(at)


def _header(key: int, labels: Sequence[float]) -> bytes:
    # One label of an image stands in the header itself, as InsightFace's readers expect.
    if len(labels) == 1:
        return _HEADER.pack(0, labels[0], key, 0)
    return _HEADER.pack(len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels)


def _write_all(writer: RecordWriter, images: Iterable[tuple[int, bytes]]) -> None:
    writer.put_first()
    ranges, key, last = list[tuple[int, int]](), 1, -1
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
            writer.put(key, (float(identity),), image)
            key += 1
        ranges.append((first, key))
    writer.finish(key, ranges)


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


def _read_index(path: Path) -> tuple[IntArray, IntArray]:
    """Read keys, ascending and distinct, and the byte offsets of their records."""
    numbers = ("key", "offset")
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=numbers),
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(numbers, pa.int64()), null_values=[]
            ),
        )
        keys, offsets = (table.column(name).to_numpy() for name in numbers)
    except (OSError, pa.ArrowException):
        keys, offsets = _read_lines(path)
    if (np.diff(keys) > 0).all():
        return keys, offsets
    # Stable, reversed: of a key that stands there twice, the last line counts.
    distinct, first = np.unique(keys[::-1], return_index=True)
    return distinct, offsets[::-1][first]


def _read_lines(path: Path) -> tuple[IntArray, IntArray]:
    """Read an index that is not quite as it should be: odd blanks pass, what is wrong is named."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable index ({type(error).__name__})",
            allowed="the .idx file beside the .rec file",
            next_step="copy it there; it lists where the records start",
        ) from error
    found = np.empty((len(lines), 2), dtype=np.int64)
    for number, line in enumerate(lines):
        try:
            key, offset = line.split()
            found[number] = int(key), int(offset)
        except (ValueError, OverflowError) as error:
            raise UserError(
                where=f"{path}, line {number + 1}",
                found=repr(line[:40]),
                allowed="a key, a tab, and a byte offset",
                next_step="copy the .idx file again",
            ) from error
    return found[:, 0], found[:, 1]


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

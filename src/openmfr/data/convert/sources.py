"""What a set of faces in another format is: guessed from its files, and cut into parts.

A part is a description of some images that come one after another. It travels to a worker process,
which opens the files itself; no list of a set's images is made, but of a folder without a listing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.data.formats.found import MOST_BYTES, FoundImage
from openmfr.data.formats.listing import ListedRows, Listing, find_listing, path_below
from openmfr.data.formats.photo_list import PhotoList, list_photos
from openmfr.data.formats.recordio import RecordFile, RecordIO
from openmfr.data.formats.tar import TarIndex, index_tar, read_samples
from openmfr.data.store import MANIFEST
from openmfr.errors import UserError
from openmfr.faces.photo import PhotoError, read_file
from openmfr.files import fingerprint, sha256_of_file
from openmfr.run import progress
from openmfr.workers import do_all, size_of_part

IntArray = npt.NDArray[np.int64]

Kind = Literal["store", "bin", "recordio", "tar", "folder"]

#: Images of a part: a shard of the store. Some 20 MB, whatever the size of the set.
MOST_OF_A_PART: Final = 2048


class Part(Protocol):
    """Some images of a set, in order."""

    def __len__(self) -> int: ...

    def read(self) -> Iterator[FoundImage]:
        """Read them, one after another."""
        ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """A set of faces in another format.

    Attributes:
        kind: Its format.
        fingerprint: Identifies it by names and sizes of its files; all of a set is not read twice.
        parts: Its images.
        left_out: Files of a folder that are no photos by their suffix.
    """

    kind: Kind
    fingerprint: str
    parts: Sequence[Part]
    left_out: int = 0

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


def kind_of_set(path: Path) -> Kind:
    """Guess what a file or folder is.

    Args:
        path: A store; a `.rec` file, or a folder of some; a `.bin` file; a `.tar` file, or a folder
            of some; a folder of photos.

    Raises:
        UserError: If it is none of these.

    Example:
        >>> kind_of_set(Path("faces.tgz"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        openmfr.errors.UserError: faces.tgz: found nothing; allowed: a store, RecordIO (.rec), ...
    """
    if path.is_dir():
        return _kind_of_folder(path)
    kinds: dict[str, Kind] = {".rec": "recordio", ".tar": "tar", ".bin": "bin"}
    if path.is_file() and path.suffix in kinds:
        return kinds[path.suffix]
    next_step = "check the path"
    if path.suffix in (".idx", ".gz", ".tgz", ".zip", ".xz", ".bz2", ".zst"):
        next_step = "name the .rec file" if path.suffix == ".idx" else "unpack it first"
    raise UserError(
        where=str(path),
        found=f"a {path.suffix or 'nameless'} file" if path.exists() else "nothing",
        allowed="a store, RecordIO (.rec), a .bin set, WebDataset tars (.tar), or a folder of "
        "photos",
        next_step=next_step,
    )


def _kind_of_folder(path: Path) -> Kind:
    if (path / MANIFEST).exists():
        return "store"
    if _files(path, ".rec"):
        return "recordio"
    if indexes := _files(path, ".idx"):
        raise UserError(
            where=str(indexes[0]),
            found="an index without records",
            allowed=f"{indexes[0].with_suffix('.rec').name} beside it",
            next_step="copy it there; the images are in it",
        )
    return "tar" if _files(path, ".tar") else "folder"


def open_source(path: Path, *, workers: int) -> Source:
    """Open a set.

    Args:
        path: What `kind_of_set` calls RecordIO, tar or folder.
        workers: Processes that count what is in tars.

    Raises:
        UserError: If it is damaged, or has no images.
    """
    match kind_of_set(path):
        case "recordio":
            source = _open_recordio(path)
        case "tar":
            source = _open_tars(path, workers)
        case "folder":
            source = _open_folder(path)
        case kind:
            raise UserError(
                where=str(path),
                found=f"a {kind}",
                allowed="RecordIO, tars, or a folder of photos",
                next_step="a store needs no conversion to one",
            )
    if not len(source):
        raise UserError(
            where=str(path),
            found="no images",
            allowed=f"at least one image in a {source.kind}",
            next_step="check the path",
        )
    return source


def _files(folder: Path, suffix: str) -> list[Path]:
    """Files of a folder in the order of their names, numbers in them by their value."""
    found = [path for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[str, int]]:
    """Sort key by which part 10 comes after part 9.

    Example:
        >>> sorted(["p10.rec", "p9.rec"], key=_natural)
        ['p9.rec', 'p10.rec']
    """
    words = "".join(c if c.isdecimal() else f"\0{c}\0" for c in name).split("\0")
    return [("", int(word)) if word.isdecimal() else (word, 0) for word in words if word]


def _fingerprint(paths: Sequence[Path]) -> str:
    return fingerprint(*(f"{path.name}\t{path.stat().st_size}" for path in paths))


@dataclass(frozen=True, kw_only=True, eq=False)
class _RecordPart:
    """Records of one file, and what a listing says of them."""

    path: Path
    keys: IntArray
    offsets: IntArray
    listed: ListedRows | None = None

    def __len__(self) -> int:
        return self.keys.size

    def read(self) -> Iterator[FoundImage]:
        records = _record_file(self.path)
        rows = self.listed.read() if self.listed else None
        places = zip(self.keys.tolist(), self.offsets.tolist(), strict=True)
        for i, (key, offset) in enumerate(places):
            identity, image = records.read_image(key, offset)
            if rows is None:
                name = str(identity) if identity >= 0 else None
                yield FoundImage(f"{self.path.name}/{key}", name, image)
                continue
            if rows["number"][i] != identity:
                raise records.damaged(
                    key, f"identity {identity}, where the listing says {rows['number'][i]}"
                )
            yield FoundImage(rows["source"][i], rows["identity"][i], image)


@lru_cache(maxsize=1)
def _record_file(path: Path) -> RecordFile:
    return RecordFile(path)


def _open_recordio(path: Path) -> Source:
    """Open a pair; or several, which are one set: their identities are numbered together."""
    if path.is_dir():
        whole = path / "train.rec"
        paths = [whole] if whole.is_file() else _files(path, ".rec")
    else:
        paths = [path]
    listing = None
    if len(paths) == 1 and paths[0].name == "train.rec":
        listing = find_listing(paths[0].parent, place="key")
    sets = [RecordIO(path) for path in paths]
    size = size_of_part(sum(len(records) for records in sets))
    files = [file for path in paths for file in (path, path.with_suffix(".idx"))]
    if listing is not None:
        files.append(listing.path)
        parts = list(_listed_records(sets[0], listing, size))
    else:
        parts = [
            _RecordPart(
                path=records.path,
                keys=records.keys[start : start + size],
                offsets=records.offsets[start : start + size],
            )
            for records in sets
            for start in range(0, len(records), size)
        ]
    return Source(kind="recordio", fingerprint=_fingerprint(files), parts=parts)


def _listed_records(records: RecordIO, listing: Listing, size: int) -> Iterator[_RecordPart]:
    """Take the records in the order of the listing."""
    keys = listing.keys()
    places = np.searchsorted(records.keys, keys)
    if not np.array_equal(np.sort(keys), records.keys):
        raise UserError(
            where=str(listing.path),
            found=f"a listing of {keys.size:,} images",
            allowed=f"one of the {len(records):,} in {records.path.name}",
            next_step="copy both again; or delete the listing, and names and order with it",
        )
    start = 0
    for listed in listing.parts(size):
        part = slice(start, start + len(listed))
        yield _RecordPart(
            path=records.path,
            keys=keys[part],
            offsets=records.offsets[places[part]],
            listed=listed,
        )
        start = part.stop


@dataclass(frozen=True, kw_only=True)
class _TarPart:
    """Some samples of one tar."""

    path: Path
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self) -> Iterator[FoundImage]:
        return read_samples(self.path, start=self.start, count=self.count)


def _open_tars(path: Path, workers: int) -> Source:
    paths = _files(path, ".tar") if path.is_dir() else [path]
    indexes: dict[int, TarIndex] = {}
    with progress("count", total=len(paths), unit="tars") as advance:
        count = partial(_numbered_index, paths)
        for number, index in do_all(count, range(len(paths)), workers=workers, what="convert"):
            indexes[number] = index
            advance(1)
    parts = [
        _TarPart(
            path=path,
            start=start,
            count=min(MOST_OF_A_PART, indexes[number].samples - i * MOST_OF_A_PART),
        )
        for number, path in enumerate(paths)
        for i, start in enumerate(indexes[number].starts)
    ]
    return Source(kind="tar", fingerprint=_fingerprint(paths), parts=parts)


def _numbered_index(paths: Sequence[Path], number: int) -> tuple[int, TarIndex]:
    return number, index_tar(paths[number], every=MOST_OF_A_PART)


@dataclass(frozen=True, kw_only=True)
class _PhotoPart:
    """Photos of a folder, as their folders' names say whose they are."""

    photos: PhotoList

    def __len__(self) -> int:
        return len(self.photos)

    def read(self) -> Iterator[FoundImage]:
        for index, source in enumerate(self.photos.sources):
            name, file = self.photos.open(index)
            assert isinstance(file, Path)
            yield _read_photo(file, source, name)


@dataclass(frozen=True, kw_only=True)
class _ListedPart:
    """Photos of a folder, as a listing names them."""

    folder: Path
    listed: ListedRows

    def __len__(self) -> int:
        return len(self.listed)

    def read(self) -> Iterator[FoundImage]:
        rows = self.listed.read()
        for name, source, identity in zip(
            rows["path"], rows["source"], rows["identity"], strict=True
        ):
            file = path_below(self.folder, name, where=self.listed.path)
            yield _read_photo(file, source, identity)


def _read_photo(file: Path, source: str, identity_name: str | None) -> FoundImage:
    try:
        if file.is_file() and file.stat().st_size > MOST_BYTES:
            raise PhotoError(f"too large: {file.stat().st_size:,} bytes")
        return FoundImage(source, identity_name, read_file(file))
    except PhotoError as error:
        return FoundImage(source, identity_name, b"", fault=str(error))


def _open_folder(path: Path) -> Source:
    listing = find_listing(path, place="path")
    if listing is not None:
        listed = [
            _ListedPart(folder=path, listed=rows)
            for rows in listing.parts(size_of_part(len(listing)))
        ]
        return Source(kind="folder", fingerprint=sha256_of_file(listing.path), parts=listed)
    photos = list_photos(path)
    size = size_of_part(len(photos))
    parts = [
        _PhotoPart(photos=photos.part(start, start + size)) for start in range(0, len(photos), size)
    ]
    return Source(
        kind="folder", fingerprint=photos.fingerprint(), parts=parts, left_out=photos.left_out
    )

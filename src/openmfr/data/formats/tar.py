"""WebDataset's tars: samples of files that share a key and stand next to each other.

A member's key is its path up to the first dot of its name, and the rest names its role. A sample of
ours is `KEY.jpg` or `KEY.png`, `KEY.cls` (the identity's number as text, −1 where nobody knows) and
`KEY.json` (`source` and `identity_name`). Of other makers' samples the picture is needed alone; who
is on it says the JSON's `identity_name`, or else what `cls` says, or else nobody.

Nothing is ever unpacked to the disk, so no name in a tar can lead anywhere. Headers are read by
Python's `tarfile`, one at a time; the end of a file is checked, as `tarfile` takes a file that was
cut short between two members for a whole one.

Source:
    webdataset/webdataset `tariterators.py` (keys), POSIX.1-2001 pax, ustar.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from openmfr.data.formats.found import MOST_BYTES, FoundImage
from openmfr.errors import UserError
from openmfr.files import atomic_path

#: Roles of pictures; what else a folder of photos may hold is no crop that a store keeps.
PICTURES: Final = frozenset({"jpg", "jpeg", "png"})

#: JSON and class of a sample are a few words; what is longer is something else.
_MOST_TEXT: Final = 1 << 16

#: A key: the path up to the first dot of the name. The role: what follows, without that dot.
_KEY: Final = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """Where to begin reading a tar.

    Attributes:
        samples: How many samples it has.
        starts: Byte offset of every so many-th sample.
    """

    samples: int
    starts: tuple[int, ...]


@dataclass(kw_only=True)
class _Sample:
    key: str
    offset: int
    files: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    is_ambiguous: bool = False


def index_tar(path: Path, *, every: int) -> TarIndex:
    """Walk over the headers of a tar.

    Args:
        path: The tar, not compressed.
        every: Note the place of each so many-th sample.

    Raises:
        UserError: If it is no whole tar.
    """
    starts, samples = list[int](), 0
    with _open(path) as file:
        for sample in _samples(path, file):
            if samples % every == 0:
                starts.append(sample.offset)
            samples += 1
    return TarIndex(samples=samples, starts=tuple(starts))


def read_samples(path: Path, *, start: int, count: int) -> Iterator[FoundImage]:
    """Read samples.

    Args:
        path: The tar.
        start: Byte offset of the first of them, from `index_tar`.
        count: How many.

    Yields:
        An image for each, or what is wrong with it. Its source is the one in its JSON, or the
        picture's name in the tar.

    Raises:
        UserError: If the tar is not whole, or has fewer samples.
    """
    with _open(path) as file:
        file.seek(start)
        samples = _samples(path, file)
        for _ in range(count):
            sample = next(samples, None)
            if sample is None:
                raise _damaged(path, "fewer samples than when it was counted")
            yield _read(file, path, sample)


def write_tar(path: Path, samples: Iterable[tuple[str, int, FoundImage]]) -> None:
    """Write a tar atomically; the same samples make the same bytes.

    Args:
        path: The file to write.
        samples: Key, number of the identity (−1 if unknown), and image.
    """
    with (
        atomic_path(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for key, number, found in samples:
            said = {"source": found.source, "identity_name": found.identity_name}
            _add(tar, key + picture_suffix(found.image), found.image)
            _add(tar, f"{key}.cls", str(number).encode())
            _add(tar, f"{key}.json", json.dumps(said, ensure_ascii=False).encode())


def picture_suffix(encoded: bytes) -> str:
    """Return the suffix of an encoded image of a store: `.png` or `.jpg`."""
    return ".png" if encoded.startswith(b"\x89PNG") else ".jpg"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise _damaged(path, f"no readable file ({error.strerror})") from error


def _samples(path: Path, file: BinaryIO) -> Iterator[_Sample]:
    """Group members by their keys, from the file's position on."""
    current: _Sample | None = None
    for member in _members(path, file):
        split = _KEY.fullmatch(member.name)
        if split is None:
            continue
        key, role = split[1], split[2].lower()
        if current is None or key != current.key:
            if current is not None:
                yield current
            current = _Sample(key=key, offset=member.offset)
        current.is_ambiguous |= role in current.files
        current.files[role] = member
    if current is not None:
        yield current


def _members(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the plain files of a tar, and make sure that it ends as a tar does."""
    try:
        tar: Any = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 -- `file` is closed
        while (member := tar.next()) is not None:
            tar.members.clear()  # it would keep the headers of millions of files
            if member.isreg() and not member.issparse():
                yield member
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError, EOFError) as error:
        raise _damaged(path, f"damaged ({error})") from error
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise _damaged(path, f"a tar that breaks off at byte {tar.offset:,}")


def _read(file: BinaryIO, path: Path, sample: _Sample) -> FoundImage:
    pictures = [role for role in sample.files if role in PICTURES]
    try:
        said = _json(_content(file, path, sample.files.get("json"), _MOST_TEXT))
        number = _content(file, path, sample.files.get("cls"), _MOST_TEXT).decode().strip()
    except (ValueError, RecursionError):
        return _refused(sample, "unreadable sample: its json or cls is no text, or too long")
    source, name = said.get("source"), said.get("identity_name")
    if "identity_name" not in said:
        name = number if number not in ("", "-1") else None
    if not isinstance(name, str | None) or not isinstance(source, str | None):
        return _refused(sample, "unreadable sample: source or identity_name is no text")
    if len(pictures) != 1 or sample.is_ambiguous:
        return _refused(sample, f"unclear sample: {len(pictures)} pictures of one key")
    picture = sample.files[pictures[0]]
    source = source or picture.name
    try:
        image = _content(file, path, picture, MOST_BYTES)
    except ValueError as error:
        return _refused(sample, f"too large: {error}")
    return FoundImage(
        source=_text(source), identity_name=None if name is None else _text(name), image=image
    )


def _json(text: bytes) -> dict[str, Any]:
    said = json.loads(text) if text else {}
    if not isinstance(said, dict):
        raise ValueError("no object")
    return said


def _content(file: BinaryIO, path: Path, member: tarfile.TarInfo | None, most: int) -> bytes:
    """Read a member's bytes.

    Raises:
        ValueError: If there are more than `most`.
    """
    if member is None:
        return b""
    if member.size > most:
        raise ValueError(f"{member.size:,} bytes")
    position = file.tell()
    file.seek(member.offset_data)
    content = file.read(member.size)
    file.seek(position)
    if len(content) != member.size:
        raise _damaged(path, f"a tar that breaks off within {member.name}")
    return content


def _refused(sample: _Sample, fault: str) -> FoundImage:
    return FoundImage(source=_text(sample.key), identity_name=None, image=b"", fault=fault)


def _text(name: str) -> str:
    """Escape what a name may hold that is no Unicode text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _damaged(path: Path, found: str) -> UserError:
    return UserError(
        where=str(path),
        found=found,
        allowed="a whole tar that is not compressed",
        next_step="copy it again, or unpack a .tar.gz with gunzip first",
    )

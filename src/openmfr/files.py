"""Files that a killed process never leaves half-written, and the fingerprints that identify them.

Everything that another process may read is written to a temporary name beside its destination,
flushed to the disk, and renamed. A reader sees the old file, or the new one, or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openmfr.errors import UserError, raise_together


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name and rename it when the block succeeds.

    Args:
        path: Destination; an existing file is replaced, an existing folder must be gone before.

    Yields:
        The temporary path to create; it stands in the destination's folder, which is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path, tag=uuid.uuid4().hex[:8])
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path, *, tag: str) -> Path:
    """Where to write what will be `path`; `remove_leftovers` knows such names."""
    return path.parent / f".{path.name}.{tag}.tmp"


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a file or folder to the disk and rename it, both so that a power cut cannot undo them.

    Args:
        temporary: What was written, from `temporary_path`.
        path: Its name; an existing file is replaced, an existing folder must be gone before.
    """
    for written in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
        _sync(written)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete what `atomic_path` left in a folder when its process was killed."""
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def prepare_folder(folder: Path, *, mark: str, what: str) -> None:
    """Check that a folder may be written to: new, empty, or begun by the same kind of work.

    Nothing is made. What a kill left of unfinished writes counts as nothing and is deleted, unless
    another process is at work there (`only_one`): it might be what that one writes.

    Args:
        folder: Where the work will write.
        mark: File that stands in a folder of this kind from its beginning.
        what: What it will be, for the error: "store", "run".

    Raises:
        UserError: If a file, or files of another kind, stand there.
    """
    if folder.is_dir():
        _remove_leftovers_of_nobody(folder)
        if (folder / mark).exists() or not any(folder.iterdir()):
            return
    elif not folder.exists():
        return
    raise UserError(
        where=str(folder),
        found=f"something that is no {what}",
        allowed="a new or empty folder, or one that the same command began",
        next_step="choose another name",
    )


def _remove_leftovers_of_nobody(folder: Path) -> None:
    with if_free(folder) as is_free:
        if is_free:
            remove_leftovers(folder)


@contextmanager
def if_free(folder: Path) -> Iterator[bool]:
    """Keep other processes from the same work while the block runs, unless one is at it already.

    Args:
        folder: Where the work writes; it exists.

    Yields:
        Whether nobody was at work; if not, the block must leave the folder alone.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_one(folder: Path, *, patience: float = 10.0) -> Iterator[None]:
    """Keep other processes from the same work while the block runs.

    The lock is the operating system's, on the folder itself: it ends with the process, even with
    one that is killed, and leaves no file behind.

    Args:
        folder: Where the work writes; it exists.
        patience: Seconds to wait for another process, whose helpers may outlive it by a little.

    Raises:
        UserError: If another process keeps working there.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + patience
    try:
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise UserError(
                    where=str(folder),
                    found="another command that works in this folder",
                    allowed="one at a time",
                    next_step="wait for it, or choose another folder",
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def taken_folder(folder: Path, *, mark: str, what: str) -> Iterator[None]:
    """Make a folder, or take one that is there, and keep other processes from it meanwhile.

    What it holds is for the block to look at (`prepare_folder`), when nobody else works there: at
    the beginning and the end of another's work there are moments without the mark.

    Args:
        folder: Where the work writes.
        mark: As for `prepare_folder`.
        what: What it will be, for the error.

    Raises:
        UserError: If it is a file, or another process keeps working there.
    """
    if folder.exists() and not folder.is_dir():
        prepare_folder(folder, mark=mark, what=what)  # says what is wrong
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder):
        remove_leftovers(folder)
        yield
        # Of helpers that were killed while this process lived, on another machine for instance.
        remove_leftovers(folder)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, indented, so that a person can read it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, *, what: str, required: Sequence[str] = ()) -> dict[str, Any]:
    """Read a JSON object that openmfr wrote.

    Args:
        path: The file.
        what: What the user believes it to be, for the error: "store", "run".
        required: Names that the object must have.

    Returns:
        The object.

    Raises:
        UserError: If the file is missing, is not a JSON object, or lacks a required name.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(
            where=str(path),
            found=f"no readable {what} ({type(error).__name__})",
            allowed=f"a {what} that openmfr wrote",
            next_step="check the path; openmfr inspect PATH says what a file or folder is",
        ) from error
    missing = [name for name in required if not isinstance(content, dict) or name not in content]
    if missing or not isinstance(content, dict):
        raise UserError(
            where=str(path),
            found=f"no {', '.join(missing)}" if missing else f"JSON {type(content).__name__}",
            allowed=f"a {what} that openmfr wrote",
            next_step="make it again",
        )
    return content


def check_format_version(content: dict[str, Any], *, path: Path, supported: int) -> None:
    """Refuse an artefact that a later version of openmfr wrote.

    Raises:
        UserError: If `format_version` is missing, or larger than `supported`.
    """
    found = content.get("format_version")
    if not isinstance(found, int) or not 1 <= found <= supported:
        raise UserError(
            where=f"{path}, format_version",
            found=repr(found),
            allowed=f"1 to {supported}",
            next_step="update openmfr, or make the artefact again",
        )


def check_same_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that was begun with other settings.

    Args:
        path: The folder, for the error.
        found: The settings that it was begun with, as JSON values.
        wanted: The settings of this command, as JSON values.

    Raises:
        UserError: One for each setting that differs, raised together.
    """
    raise_together(
        [
            UserError(
                where=f"{path}, {name}",
                found=f"{found.get(name)!r}",
                allowed=f"{wanted.get(name)!r}, as this command asks",
                next_step="choose another folder, or delete this one",
            )
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name) != wanted.get(name)
        ]
    )


def fingerprint(*parts: str | bytes | memoryview) -> str:
    """Identify content by 16 hexadecimal digits of SHA-256 over its parts.

    Example:
        >>> fingerprint("a", "bc") == fingerprint("ab", "c")
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:16]


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

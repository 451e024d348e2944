"""Stores in S3-compatible storage, read through a folder on the local disk.

Opening `s3://bucket/faces` copies what is small (the manifest, labels, geometry) into a folder of
the cache that is named after the store's fingerprint. Shards come when they are first read, are
compared with the manifest's checksum, and stay. So everything else works on a folder, and a second
run, or another process of the first, finds what is there.

Where the storage is and who asks is said as for other S3 programs: `AWS_ENDPOINT_URL`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, or the files in `~/.aws`.
`data.mapped` says where the cache is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openmfr.data.mapped import cache_folder
from openmfr.errors import UserError
from openmfr.files import atomic_path, read_json, sha256_of_file, write_json

SCHEME = "s3://"
#: Stands in a folder of the cache and says where its shards come from.
REMOTE = "remote.json"

_ATTEMPTS = 5
#: How addresses begin; a `Path` of one has lost a slash.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class OtherBytesError(UserError):
    """A file in the storage that is not what the manifest describes."""


def is_remote(where: Path | str) -> bool:
    """Whether a store is named by an address of S3 storage.

    Example:
        >>> is_remote("s3://bucket/faces"), is_remote("faces")
        (True, False)
    """
    return isinstance(where, str) and where.startswith(SCHEME)


def check_scheme(path: Path) -> None:
    """Refuse an address of another kind of storage.

    Raises:
        UserError: If the path is one.
    """
    if _ADDRESS.match(str(path)):
        raise UserError(
            where=str(path),
            found="an address of another kind of storage",
            allowed="a folder, or s3://bucket/prefix as a text",
            next_step="copy the store to a folder, or give the S3-compatible address of the "
            "storage (AWS_ENDPOINT_URL says where that is)",
        )


def cached_store(address: str, *, manifest: str, shard_suffix: str) -> Path:
    """Copy all of a remote store but its shards into the cache.

    Args:
        address: `s3://bucket/prefix`.
        manifest: Name of the manifest.
        shard_suffix: How shards' names end.

    Returns:
        The folder, which `fetch` fills with shards.

    Raises:
        UserError: If the storage cannot be reached, or no store lies there.
    """
    from pyarrow import fs

    prefix = address.removeprefix(SCHEME).strip("/")
    try:
        storage = _storage()
        with storage.open_input_stream(f"{prefix}/{manifest}") as stream:
            content = json.loads(stream.read())
        folder = cache_folder() / "stores" / str(content["fingerprint"])
        had, has = _copied(folder), dict[str, list[Any]]()
        for entry in storage.get_file_info(fs.FileSelector(prefix, recursive=True)):
            name = entry.path.removeprefix(prefix).strip("/")
            if entry.type != fs.FileType.File or name.endswith(shard_suffix) or name == manifest:
                continue
            has[name] = [entry.size, entry.mtime_ns]  # labels may be made anew for the same images
            if had.get(name) != has[name] or not (folder / name).exists():
                _copy(storage, entry.path, folder / name)
        # The manifest comes last: a folder with one has all the rest.
        write_json(folder / REMOTE, {"kind": "remote store", "address": address, "files": has})
        write_json(folder / manifest, content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreachable(address, error) from error
    return folder


def _copied(folder: Path) -> dict[str, list[Any]]:
    """Sizes and times of the files that were copied before."""
    if not (folder / REMOTE).exists():
        return {}
    files = read_json(folder / REMOTE, what="cached store").get("files")
    return files if isinstance(files, dict) else {}


def fetch(folder: Path, name: str, *, sha256: str) -> None:
    """Copy one shard of a remote store into its folder, unless another process does.

    Args:
        folder: From `cached_store`.
        name: The shard's file.
        sha256: Its checksum in the manifest.

    Raises:
        UserError: If the storage cannot be reached.
        OtherBytesError: If it has other bytes.
    """
    address = read_json(folder / REMOTE, what="cached store", required=("address",))["address"]
    where = f"{address.removeprefix(SCHEME).strip('/')}/{name}"
    lock = folder / f".{name}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if (folder / name).exists():
            return
        try:
            _copy(_storage(), where, folder / name, sha256=sha256)
        except FileNotFoundError:
            return  # whoever reads it finds it missing, as on a disk
        except OSError as error:
            raise _unreachable(f"{SCHEME}{where}", error) from error
        lock.unlink(missing_ok=True)


def _storage() -> Any:
    """Open the storage; in each process anew, as connections do not outlive a fork."""
    from pyarrow import fs

    options: dict[str, Any] = {
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    return fs.S3FileSystem(**options)


def _copy(storage: Any, where: str, path: Path, *, sha256: str | None = None) -> None:
    with atomic_path(path) as temporary:
        with storage.open_input_stream(where) as stream, temporary.open("wb") as file:
            shutil.copyfileobj(stream, file, 2**20)
        found = sha256 and sha256_of_file(temporary)
        if found != sha256:
            raise OtherBytesError(
                where=f"{SCHEME}{where}",
                found=f"SHA-256 {found}",
                allowed=f"{sha256}, as the manifest says",
                next_step="copy the store into the storage again",
            )


def _unreachable(address: str, error: Exception) -> UserError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        where=address,
        found=text,
        allowed="a store in storage that answers",
        next_step="check the address, AWS_ENDPOINT_URL, AWS_REGION and the access keys",
    )

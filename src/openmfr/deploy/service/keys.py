"""API keys: who may use the service. The file that holds them cannot be used to get in.

A key is 32 random bytes, so nobody can try them out, and one round of salted SHA-256 keeps it as
safe as a slow hash would; a slow one would let strangers keep the processor busy. The part before
the secret, the key's number, finds the entry; then one comparison in constant time is made,
whether there is such an entry or not.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from openmfr.config import from_dict
from openmfr.errors import UserError, nearest
from openmfr.files import atomic_path, check_format_version, only_one, read_json

FORMAT_VERSION: Final = 1
KIND: Final = "API keys"

#: What a key begins with, so that people and scanners know one that lies about.
PREFIX: Final = "omfr"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as the file keeps it: enough to know it again, not enough to use it.

    Attributes:
        name: What it is for; its holder's name.
        number: Stands in the key itself; no secret.
        salt: Random, hexadecimal.
        digest: SHA-256 of salt and secret, hexadecimal.
        made_at: UTC, ISO 8601.
    """

    name: str
    number: str
    salt: str
    digest: str
    made_at: str

    def fits(self, secret: str) -> bool:
        """Whether the secret is this key's; takes the same time for every wrong one."""
        return hmac.compare_digest(_digest(self.salt, secret), self.digest)


#: Stands in for an entry that is not there, so that looking for one takes no less time.
_NOBODY: Final = ApiKey(name="", number="", salt="00" * 16, digest="00" * 32, made_at="")


def make_key(path: Path, name: str) -> str:
    """Make a key and add it to a file, which is made if it is not there.

    Args:
        path: The file; readable by its owner alone.
        name: What the key is for.

    Returns:
        The key. It is written nowhere: whoever loses it needs another one.

    Raises:
        UserError: If there is a key of that name, or the file is something else.
    """
    secret = secrets.token_hex(32)
    salt = secrets.token_hex(16)
    key = ApiKey(
        name=name,
        number=secrets.token_hex(4),
        salt=salt,
        digest=_digest(salt, secret),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )

    def added(keys: Sequence[ApiKey]) -> list[ApiKey]:
        if not name.isprintable() or not name.strip() or name in [one.name for one in keys]:
            raise UserError(
                where=f"{path}, name of a key",
                found=repr(name),
                allowed="a name that no other key has",
                next_step="choose another; openmfr key list shows those in use",
            )
        return [*keys, key]

    _change(path, added, is_new_welcome=True)
    return f"{PREFIX}_{key.number}_{secret}"


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file; a running service refuses it from then on.

    Raises:
        UserError: If there is no key of that name.
    """

    def left(keys: Sequence[ApiKey]) -> list[ApiKey]:
        if name not in (names := [key.name for key in keys]):
            raise UserError(
                where=str(path),
                found=f"no key called {name}",
                allowed=", ".join(names) or "nothing: there are no keys in it",
                next_step=nearest(name, names),
            )
        return [key for key in keys if key.name != name]

    _change(path, left)


def read_keys(path: Path) -> list[ApiKey]:
    """Read a file of keys.

    Raises:
        UserError: If it is missing, is something else, or of a later version.
    """
    content = read_json(path, what="file of API keys", required=("keys",))
    check_format_version(content, path=path, supported=FORMAT_VERSION)
    if content.get("kind") != KIND or not isinstance(content["keys"], list):
        raise UserError(
            where=str(path),
            found="something else",
            allowed="a file that openmfr key new made",
            next_step="check the path",
        )
    entries: list[Any] = content["keys"]
    return [
        from_dict(ApiKey, entry if isinstance(entry, dict) else {}, where=f"{path}, key {row}")
        for row, entry in enumerate(entries)
    ]


class KeyRing:
    """The keys of a file, as it is now: one that is added or removed counts at once.

    Args:
        path: The file.

    Raises:
        UserError: If the file cannot be used, or there is no key in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._keys = {key.number: key for key in read_keys(path)}
        if not self._keys:
            raise UserError(
                where=str(path),
                found="no key",
                allowed="at least one",
                next_step=f"openmfr key new {path} --name NAME makes one",
            )

    def find(self, token: str) -> ApiKey | None:
        """Say which key this is; None if it is none of ours."""
        self._follow()
        prefix, _, rest = token.partition("_")
        number, _, secret = rest.partition("_")
        key = self._keys.get(number, _NOBODY)
        is_right = key.fits(secret)
        return key if is_right and prefix == PREFIX and key is not _NOBODY else None

    def _follow(self) -> None:
        """Read the file again if it was changed. One that cannot be read lets nobody in."""
        if (stamp := _stamp(self._path)) == self._stamp:
            return
        try:
            self._keys = {key.number: key for key in read_keys(self._path)}
        except UserError as error:
            _log.error("%s; until then no key is accepted", error)
            self._keys = {}
        self._stamp = stamp


def _change(
    path: Path,
    change: Callable[[Sequence[ApiKey]], list[ApiKey]],
    *,
    is_new_welcome: bool = False,
) -> None:
    """Replace what a file holds, while no other process does."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
    with only_one(path.parent):
        keys = [] if is_new_welcome and not path.exists() else read_keys(path)
        content = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "keys": [asdict(key) for key in change(keys)],
        }
        with atomic_path(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(salt.encode() + secret.encode(errors="replace")).hexdigest()


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size

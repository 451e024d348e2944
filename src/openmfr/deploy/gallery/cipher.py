"""Embeddings at rest: sealed with AES-256-GCM, or plain where the user chose that.

What the key gives: without it a gallery's file says who is enrolled, not what they look like; and
nothing in it can be changed unnoticed, because everything that stands beside an embedding (who,
which number, masked or not, the model) is the seal's associated data. An embedding that is moved to
another person, or to another gallery, does not open there. Rows can be deleted unnoticed, and the
whole file replaced by an older copy of itself.

Each gallery has keys of its own, derived from the user's key and the gallery's random number
(HKDF-SHA256): one seals embeddings, one turns digests of photos into something that only its owner
can compare, one tells a wrong key from a damaged file. Nonces are random, 96 bits; NIST allows 2³²
of them for each key.

Source:
    NIST SP 800-38D (GCM); RFC 5869 (HKDF).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from openmfr.errors import UserError

#: Where the key is taken from: base64 of 32 bytes.
KEY_VARIABLE = "OPENMFR_GALLERY_KEY"
#: Key of the copy that `openmfr gallery copy` makes, if it is to be another one.
NEW_KEY_VARIABLE = "OPENMFR_GALLERY_NEW_KEY"

KEY_BYTES, NONCE_BYTES = 32, 12


class BrokenSealError(Exception):
    """What was opened is not what was sealed, or stands elsewhere."""


class Cipher(Protocol):
    """How a gallery keeps embeddings."""

    def seal(self, content: bytes, context: bytes) -> bytes:
        """Make what is stored of an embedding that stands in a context."""

    def unseal(self, stored: bytes, context: bytes) -> bytes:
        """Take the embedding out again; a broken seal raises `BrokenSealError`."""

    def blind(self, digest: bytes) -> bytes:
        """Turn a photo's digest into what is stored of it."""


class PlainCipher:
    """No encryption: anybody who reads the file has the embeddings."""

    def seal(self, content: bytes, context: bytes) -> bytes:  # noqa: ARG002
        """Return the content."""
        return content

    def unseal(self, stored: bytes, context: bytes) -> bytes:  # noqa: ARG002
        """Return what is stored."""
        return stored

    def blind(self, digest: bytes) -> bytes:
        """Return the digest."""
        return digest


class KeyCipher:
    """AES-256-GCM under keys that are derived for one gallery.

    Args:
        key: The user's key, 32 bytes.
        gallery_id: The gallery's random number.

    Attributes:
        check: 16 bytes that tell whether a key is the right one, and nothing of the key.
    """

    def __init__(self, key: bytes, gallery_id: bytes) -> None:
        self._aes = AESGCM(_derive(key, gallery_id, "embeddings"))
        self._digests = _derive(key, gallery_id, "photos")
        self.check = _derive(key, gallery_id, "check")[:16]

    def seal(self, content: bytes, context: bytes) -> bytes:
        """Encrypt: 12 bytes of nonce, the ciphertext, 16 bytes of tag."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, content, context)

    def unseal(self, stored: bytes, context: bytes) -> bytes:
        """Decrypt.

        Raises:
            BrokenSealError: If anything was changed, or the context is another one.
        """
        try:
            return self._aes.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise BrokenSealError from error

    def blind(self, digest: bytes) -> bytes:
        """Return an HMAC: without the key nobody can ask whether a photo is enrolled."""
        return hmac.digest(self._digests, digest, "sha256")


def new_key() -> str:
    """Make a fresh key, in the form that `OPENMFR_GALLERY_KEY` takes."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def read_key(variable: str = KEY_VARIABLE) -> bytes | None:
    """Take the key from the environment.

    Returns:
        32 bytes; None if the variable is not set.

    Raises:
        UserError: If it is no key. What was found is not shown: it may nearly be one.
    """
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UserError(
            where=variable,
            found="something that is no key",
            allowed=f"base64 of {KEY_BYTES} bytes",
            next_step="openmfr gallery key prints a fresh one",
        )
    return key


def digest_photo(encoded: bytes) -> bytes:
    """SHA-256 of a photo's file: by it the same photo is known again."""
    return hashlib.sha256(encoded).digest()


def context_of(*parts: str | bytes | int) -> bytes:
    """Join parts so that no two different lists give the same bytes.

    Example:
        >>> context_of("a", "bc") == context_of("ab", "c")
        False
    """
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in raw)


def _derive(key: bytes, gallery_id: bytes, purpose: str) -> bytes:
    info = f"openmfr gallery 1, {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=gallery_id, info=info).derive(key)

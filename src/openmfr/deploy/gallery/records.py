"""What a gallery holds: images of people, each with its embedding, and how they are numbered.

Embeddings are kept as unit rows in float32. The score of two of them is their product in float64,
summed from the first number to the last (`kernels.exact_scores`), so that one pair of rows always
has one score, whichever way it was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Bytes of a photo's digest.
DIGEST_BYTES = 32

#: Characters that an identity may have at most.
MAX_IDENTITY = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class NewImage:
    """A face that is to be enrolled.

    Attributes:
        identity: Who it is: any name without control characters.
        embedding: Unit row, float32, shape (D,): `unit_rows` makes it.
        digest: SHA-256 of the photo, 32 bytes: the same photo is enrolled once.
        is_masked: Whether the face wears a mask.
        source: What to call the photo: its file name.
    """

    identity: str
    embedding: Float32Array
    digest: bytes
    is_masked: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        check_identity(self.identity)
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes, not {len(self.digest)}")


@dataclass(frozen=True, kw_only=True)
class Image:
    """An enrolled face, without its embedding.

    Attributes:
        image_id: Its number, from 1, ascending, never given twice.
        identity: Who it is.
        is_masked: Whether the face wears a mask.
        source: What the photo was called.
        added_at: When it was enrolled: UTC, ISO 8601.
    """

    image_id: int
    identity: str
    is_masked: bool
    source: str
    added_at: str


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of a new image.

    Attributes:
        image: As it is enrolled.
        is_new: Whether it was enrolled now; otherwise the same photo was there before.
    """

    image: Image
    is_new: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some enrolled images with their embeddings, by ascending number, n of them.

    Attributes:
        image_id: Shape (n,), int64.
        identity: Who each of them is.
        is_masked: Shape (n,), bool.
        source: What their photos were called.
        added_at: When they were enrolled.
        digest: SHA-256 of their photos.
        embedding: Unit rows, float32, shape (n, D).
    """

    image_id: IntArray
    identity: Sequence[str]
    is_masked: BoolArray
    source: Sequence[str]
    added_at: Sequence[str]
    digest: Sequence[bytes]
    embedding: Float32Array


def check_identity(identity: str) -> None:
    """Refuse names that could not be typed or printed.

    Raises:
        UserError: If it is empty, long, or has control characters or spaces around it.
    """
    is_printable = identity.isprintable() and identity == identity.strip()
    if not (identity and is_printable and len(identity) <= MAX_IDENTITY):
        raise UserError(
            where="identity",
            found=repr(identity[: MAX_IDENTITY + 1]),
            allowed=f"1 to {MAX_IDENTITY} printable characters, no spaces around them",
            next_step="choose another name",
        )


def unit_rows(embedding: npt.ArrayLike, *, dim: int | None = None) -> Float32Array:
    """Bring embeddings to length 1 and to float32, as a gallery keeps them.

    Args:
        embedding: One of them, shape (D,), or several, shape (n, D); any length but zero.
        dim: D, if it is known.

    Returns:
        Float32, of the same shape.

    Raises:
        UserError: If the shape is another one, or a row is zero or not finite.

    Example:
        >>> unit_rows([3.0, 4.0]).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    rows = np.asarray(embedding, dtype=np.float64)
    if rows.ndim not in (1, 2) or rows.shape[-1] < 1 or (dim is not None and rows.shape[-1] != dim):
        raise UserError(
            where="embedding",
            found=f"shape {rows.shape}",
            allowed=f"{dim or 'D'} numbers in each row",
            next_step="embed with the gallery's model",
        )
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise UserError(
            where="embedding",
            found="a row that is zero or not finite",
            allowed="finite numbers, not all zero",
            next_step="check the photo and the model",
        )
    unit: Float32Array = (rows / length).astype(np.float32)
    return unit

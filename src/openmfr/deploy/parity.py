"""Whether an exported network says what the network in PyTorch says: asked at every export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.embed import Embedder
from openmfr.errors import UserError

FloatArray = npt.NDArray[np.floating]
UInt8Array = npt.NDArray[np.uint8]

#: Smallest cosine between the two embeddings of an image that counts as the same.
LEAST_COSINE = 0.99999
#: Sizes of the batches: one image alone, as a service gives it, and odd numbers of several.
_BATCH_SIZES = (1, 3, 8)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How like two networks' embeddings of the same images are.

    Attributes:
        images: Random images that were compared.
        faces: Real faces that were compared.
        batch_sizes: Sizes of the batches in which they were given.
        least_cosine: Smallest cosine between an image's two embeddings.
        greatest_length_error: Largest difference of their lengths, as a share of the first's.
    """

    images: int
    faces: int
    batch_sizes: tuple[int, ...]
    least_cosine: float
    greatest_length_error: float


def check_parity(
    reference: Embedder,
    exported: Embedder,
    *,
    face_size: int,
    faces: UInt8Array | None = None,
    seed: int = 0,
) -> Parity:
    """Embed random images, and faces where there are some, with both networks, and compare.

    Args:
        reference: The network in PyTorch.
        exported: The same as an ONNX file.
        face_size: Height and width of the images.
        faces: Aligned faces, uint8 (B, S, S, 3).
        seed: Of the random images.

    Raises:
        UserError: If a cosine is below `LEAST_COSINE`, or the network in PyTorch is broken itself.
    """
    shape = (sum(_BATCH_SIZES), face_size, face_size, 3)
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    sets = [noise] if faces is None else [noise, faces]
    batches = [batch for images in sets for batch in _batches(images)]
    first = np.concatenate([reference.embed(batch) for batch in batches])
    _check_usable(first)
    second = np.concatenate([exported.embed(batch) for batch in batches])
    cosine, length_error = compare(first, second)
    parity = Parity(
        images=len(noise),
        faces=0 if faces is None else len(faces),
        batch_sizes=tuple(sorted({len(batch) for batch in batches})),
        least_cosine=float(cosine.min()),
        greatest_length_error=float(length_error.max()),
    )
    if not parity.least_cosine >= LEAST_COSINE:  # a cosine that is no number is none either
        raise UserError(
            where="parity with PyTorch",
            found=f"a cosine of {parity.least_cosine:.6f} between two embeddings of one image",
            allowed=f"{LEAST_COSINE} and more",
            next_step="nothing was written; look in the network for what does not depend on the "
            "image alone, such as random numbers or the order of a batch",
        )
    return parity


def compare(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compare two embeddings of each image, in float64.

    Args:
        first: Shape (N, D).
        second: Shape (N, D).

    Returns:
        Cosines, shape (N,), and differences of length as shares of the first's, shape (N,); NaN
        for an embedding that is zero or not finite.

    Example:
        >>> cosine, error = compare(np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]]))
        >>> cosine.tolist(), error.tolist()
        ([1.0], [1.0])
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths_a, lengths_b = (np.linalg.norm(side, axis=1) for side in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.einsum("nd,nd->n", a, b) / (lengths_a * lengths_b)
        return cosine, np.abs(lengths_b - lengths_a) / lengths_a


def _check_usable(embedding: FloatArray) -> None:
    length = np.linalg.norm(embedding, axis=1)
    if not (np.isfinite(length) & (length > 0)).all():
        raise UserError(
            where="checkpoint",
            found="embeddings that are zero or not finite",
            allowed="finite vectors other than zero",
            next_step="train it longer, or with a lower learning rate",
        )


def _batches(images: UInt8Array) -> Iterator[UInt8Array]:
    """Cut images into one batch of each size, and what is left into another one."""
    ends: Sequence[int] = np.cumsum(_BATCH_SIZES).tolist()
    for part in np.split(images, ends):
        if len(part):
            yield part

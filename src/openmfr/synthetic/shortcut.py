"""The shortcut that a data set must not allow: telling people by mean colour and a thumbnail.

If a network only learned who has dark hair, a fair metric on tiny thumbnails would do as well.
This is that metric, at its best: linear discriminant analysis, learned on the same training
identities as the network and compared on the same unseen ones. What the network achieves beyond it
is what it learned of faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

THUMBNAIL_SIZE = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ShortcutEmbedder:
    """Embeds an image by its mean colour and a 16 × 16 thumbnail, in a learned metric.

    Attributes:
        mean: Mean of the training images' values, shape (F,).
        projection: From values to embeddings, shape (F, D).
    """

    mean: Float64Array
    projection: Float64Array

    @classmethod
    def fit(cls, images: UInt8Array, identity: IntArray, *, shrinkage: float = 0.01) -> Self:
        """Learn the metric: differences within identities shrink, those between them stay.

        Args:
            images: Training images, uint8, shape (N, H, W, 3), H and W from 16.
            identity: Who is on them, shape (N,); at least 2 identities and more images than
                identities.
            shrinkage: Weight of a multiple of the identity matrix in the within-identity
                covariance, 0 to 1: without it, few images overfit.

        Returns:
            The embedder, with D = the smaller of C − 1 and the number of values.

        Raises:
            UserError: If there is nothing to learn a metric from.
        """
        names, index = np.unique(identity, return_inverse=True)
        if not 2 <= len(names) < len(images):
            raise UserError(
                where="images of the shortcut baseline",
                found=f"{len(images)} images of {len(names)} identities",
                allowed="at least 2 identities, and more images than identities",
                next_step="use more training images",
            )
        values = _values(images)
        mean = values.mean(axis=0)
        count = np.bincount(index)
        centers = np.zeros((len(names), values.shape[1]))
        np.add.at(centers, index, values)
        centers /= count[:, None]
        within = values - centers[index]
        covariance = within.T @ within / (len(values) - len(names))
        level = np.trace(covariance) / len(covariance) + 1e-12
        covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
        scale, axes = np.linalg.eigh(covariance)
        whiten = axes / np.sqrt(scale)
        _, _, directions = np.linalg.svd((centers - mean) @ whiten, full_matrices=False)
        kept = min(len(names) - 1, len(directions))
        return cls(mean=mean, projection=whiten @ directions[:kept].T)

    def embed(self, images: UInt8Array) -> Float32Array:
        """Embed images.

        Args:
            images: uint8, shape (N, H, W, 3), H and W from 16.

        Returns:
            Unit embeddings, shape (N, D), float32.
        """
        embeddings = (_values(images) - self.mean) @ self.projection
        length = np.linalg.norm(embeddings, axis=1, keepdims=True)
        unit: Float32Array = (embeddings / np.maximum(length, 1e-12)).astype(np.float32)
        return unit


def _values(images: UInt8Array) -> Float64Array:
    """Mean colour and thumbnail of each image, 0–1, shape (N, 3 + 16 · 16 · 3)."""
    thumbnails = np.stack([_thumbnail(image) for image in images])
    return np.concatenate([thumbnails.mean(axis=(1, 2)), thumbnails.reshape(len(images), -1)], 1)


def _thumbnail(image: UInt8Array) -> Float64Array:
    """Average an image over 16 × 16 nearly equal blocks, shape (16, 16, 3)."""
    sums = image.astype(np.float64) / 255
    for axis in (0, 1):
        edges = np.linspace(0, image.shape[axis], THUMBNAIL_SIZE + 1).round().astype(int)
        sizes = np.diff(edges).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        sums = np.add.reduceat(sums, edges[:-1], axis=axis) / sizes
    return sums

"""What a gallery is kept in: the protocol, and what all who follow it refuse in the same words.

A store keeps rows and gives them back; it knows nothing of search, quality or thresholds. What
`add` has returned is on the disk: it survives the process and the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from openmfr.deploy.gallery.cipher import context_of
from openmfr.deploy.gallery.records import Added, Float32Array, Image, IntArray, NewImage, Rows
from openmfr.errors import UserError

FORMAT_VERSION = 1

#: Rows that are read at once.
CHUNK = 4_096

#: Seconds to wait for another process that writes.
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a gallery is, fixed when it is made.

    Attributes:
        gallery_id: Random, 16 bytes.
        model: Fingerprint of the model whose embeddings it holds.
        dim: Their dimension D.
        is_encrypted: Whether embeddings are encrypted at rest.
    """

    gallery_id: bytes
    model: str
    dim: int
    is_encrypted: bool

    @property
    def context(self) -> bytes:
        """What every row of the gallery is bound to."""
        return context_of(FORMAT_VERSION, self.gallery_id, self.model, self.dim)

    def check_model(self, model: str, *, where: str) -> None:
        """Refuse embeddings of another model.

        Raises:
            UserError: If the fingerprint is another one.
        """
        if model != self.model:
            raise UserError(
                where=where,
                found=f"embeddings of model {self.model}",
                allowed=f"those of the model in use, {model}: others cannot be compared with them",
                next_step="use the gallery's model, or enrol the photos in a new gallery",
            )

    def check_rows(self, images: Sequence[NewImage]) -> None:
        """Refuse embeddings of another dimension.

        Raises:
            UserError: If there is one.
        """
        for image in images:
            if image.embedding.shape != (self.dim,) or image.embedding.dtype != np.float32:
                raise UserError(
                    where=f"embedding of {image.identity}",
                    found=f"{image.embedding.dtype} of shape {image.embedding.shape}",
                    allowed=f"float32 of shape ({self.dim},)",
                    next_step="embed with the gallery's model",
                )


@dataclass(frozen=True, kw_only=True)
class State:
    """How far a gallery has come: equal states mean equal content.

    Attributes:
        last_image: Number of the image that was added last; 0 for none.
        removals: How many images were ever removed.
        images: How many there are.
    """

    last_image: int = 0
    removals: int = 0
    images: int = 0


class GalleryStore(Protocol):
    """Keeps a gallery's images. All methods may be called from several threads."""

    @property
    def where(self) -> str:
        """File or server, for people."""

    @property
    def path(self) -> Path | None:
        """The file; None on a server."""

    @property
    def header(self) -> Header:
        """What it is."""

    def state(self) -> State:
        """Say how far it has come; quick enough to be asked before every search."""

    def add(self, images: Sequence[NewImage]) -> list[Added]:
        """Enrol all or none, in their order; when it returns, they are on the disk.

        Raises:
            UserError: If one of the photos is enrolled under another name.
        """

    def find_photo(self, digest: bytes) -> Image | None:
        """Find the image that was enrolled from a photo, given its SHA-256."""

    def images(self, identity: str | None = None) -> list[Image]:
        """List the images of a person, or all, by number."""

    def image_ids(self) -> IntArray:
        """List all numbers, ascending."""

    def embeddings(self, image_ids: Sequence[int]) -> dict[int, Float32Array]:
        """Read some embeddings; what is not enrolled is left out."""

    def rows(self, *, after: int = 0, upto: int | None = None) -> Iterator[Rows]:
        """Read all images with numbers above `after` and not above `upto`, by number, in chunks."""

    def remove(self, image_ids: Sequence[int]) -> int:
        """Remove images; returns how many there were. `erase` must follow."""

    def erase(self) -> None:
        """Overwrite what was removed, as far as the store can."""

    def close(self) -> None:
        """Let go of file or server."""


class OtherNameError(UserError):
    """A photo that is enrolled under another name."""

    def __init__(self, where: str, image: NewImage, enrolled: Image) -> None:
        super().__init__(
            where=f"{where}, {image.source or 'photo'} as {image.identity}",
            found=f"the same photo as image {enrolled.image_id} of {enrolled.identity}",
            allowed="a photo of one person",
            next_step=f"remove image {enrolled.image_id} first, if the name was wrong",
        )


def refuse_unlike_rows(where: str, image_id: int, identity: str, *, why: str) -> UserError:
    """Say that a row is not what was written."""
    return UserError(
        where=f"{where}, image {image_id} ({identity})",
        found=why,
        allowed="what openmfr wrote",
        next_step=f"restore a copy, or openmfr gallery remove … --image {image_id}",
    )

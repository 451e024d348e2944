"""A gallery of people: enrol, search, list, remove, export.

A `Gallery` joins a store, which keeps the rows, a searcher, which finds the nearest, and the
meaning of scores. Embeddings come from any model; its fingerprint is kept, and those of another
model are refused. All methods may be called from several threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import numpy.typing as npt

from openmfr.deploy.gallery.gate import (
    GateConfig,
    RefusedError,
    Resemblance,
    doubts_of_face,
    doubts_of_name,
)
from openmfr.deploy.gallery.index import Hit, Index, Searcher
from openmfr.deploy.gallery.kernels import exact_scores
from openmfr.deploy.gallery.mapped import forget_mapped, open_mapped
from openmfr.deploy.gallery.meaning import Candidate, Limit, Meaning
from openmfr.deploy.gallery.records import Added, Float32Array, Image, NewImage, unit_rows
from openmfr.deploy.gallery.screen import Precision
from openmfr.deploy.gallery.store import GalleryStore
from openmfr.deploy.quality import FaceQuality
from openmfr.errors import UserError
from openmfr.evaluation.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class GalleryConfig:
    """How a gallery is searched and what it takes in.

    Attributes:
        gate: What is asked of a face that is enrolled.
        precision: Of the rows in memory; results are the same in each.
        keep_index: Whether the index is kept in memory-mapped files for the next process
            (`openmfr.deploy.gallery.mapped` says where, and what that means for secrecy).
    """

    gate: GateConfig = field(default_factory=GateConfig)
    precision: Precision = "int8"
    keep_index: bool = False


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who is enrolled.

    Attributes:
        identity: Who it is.
        images: How many images there are of them.
        masked: How many of these wear a mask.
        last_added_at: When the last was enrolled.
    """

    identity: str
    images: int
    masked: int
    last_added_at: str


class Gallery:
    """People who can be recognised.

    Args:
        store: What keeps them; `open_gallery` opens one.
        calibration: What scores of its model mean; without it there are no rates.
        config: How it is searched.

    Attributes:
        store: What keeps them.
        config: How it is searched.

    Raises:
        UserError: If the calibration is another model's.
    """

    def __init__(
        self,
        store: GalleryStore,
        *,
        calibration: Calibration | None = None,
        config: GalleryConfig | None = None,
    ) -> None:
        self.store = store
        self.config = config or GalleryConfig()
        self.meaning = Meaning(calibration, model=store.header.model, where=store.where)
        self._index: Index | None = None
        self._refreshing = Lock()

    def __len__(self) -> int:
        """Number of images."""
        return self.store.state().images

    def check_model(self, model: str) -> None:
        """Refuse a model whose embeddings these are not.

        Args:
            model: Its fingerprint.

        Raises:
            UserError: If it is another one.
        """
        self.store.header.check_model(model, where=self.store.where)

    def enrol(
        self, image: NewImage, *, quality: FaceQuality | None = None, force: bool = False
    ) -> Added:
        """Enrol a face, if the gate has nothing against it.

        The same photo is enrolled once: a second time changes nothing.

        Args:
            image: The face and who it is.
            quality: How well it can be seen; None leaves that out.
            force: Enrol it whatever the gate says.

        Raises:
            RefusedError: If the gate refuses it.
            OtherNameError: If the photo is enrolled under another name.
        """
        is_known = self.store.find_photo(image.digest) is not None
        doubts = [] if force or is_known else self.doubts(image, quality)
        if doubts:
            raise RefusedError(f"{image.source or 'photo'} as {image.identity}", doubts)
        return self.store.add([image])[0]

    def doubts(self, image: NewImage, quality: FaceQuality | None) -> list[str]:
        """Say what speaks against enrolling a face; nothing does if the list is empty."""
        gate = self.config.gate
        doubts = doubts_of_face(quality, gate) if quality else []
        return doubts + doubts_of_name(self._resemblance(image), image.identity, gate)

    def search(
        self,
        probe: npt.ArrayLike,
        *,
        is_masked: bool = False,
        top: int = 10,
        limit: Limit | None = None,
    ) -> list[Candidate]:
        """Find the people whom a face resembles most.

        Args:
            probe: Its embedding, shape (D,), of any length.
            is_masked: Whether the face wears a mask.
            top: How many people to find.
            limit: What a match is, as a rate.

        Returns:
            Up to `top` people, the likeliest first.

        Raises:
            UserError: If the embedding is no such row, or the limit has no threshold.
        """
        return self.search_many([probe], is_masked=[is_masked], top=top, limit=limit)[0]

    def search_many(
        self,
        probes: Sequence[npt.ArrayLike],
        *,
        is_masked: Sequence[bool],
        top: int = 10,
        limit: Limit | None = None,
    ) -> list[list[Candidate]]:
        """Search for several faces at once, which reads the gallery once.

        Args:
            probes: Their embeddings, shape (P, D), of any length.
            is_masked: Whether each wears a mask.
            top: How many people to find for each.
            limit: What a match is, as a rate.

        Returns:
            The people that each probe resembles, as `search` returns them.
        """
        if top < 1:
            raise UserError(where="top", found=str(top), allowed="from 1", next_step="use 10")
        units = unit_rows(np.asarray(probes), dim=self.store.header.dim)
        images = len(self)
        return [
            self.meaning.candidates(
                hits, is_probe_masked=is_worn, images=images, top=top, limit=limit
            )
            for hits, is_worn in zip(self._nearest(units, top), is_masked, strict=True)
        ]

    def people(self) -> list[Person]:
        """List who is enrolled, by name."""
        images = self.store.images()
        count = Counter(image.identity for image in images)
        masked = Counter(image.identity for image in images if image.is_masked)
        last = {image.identity: image.added_at for image in images}
        return [
            Person(identity=name, images=count[name], masked=masked[name], last_added_at=last[name])
            for name in sorted(count)
        ]

    def images(self, identity: str | None = None) -> list[Image]:
        """List the images of a person, or all, by number."""
        return self.store.images(identity)

    def remove(self, *, identity: str | None = None, image_id: int | None = None) -> list[Image]:
        """Remove a person with all images, or one image, for good.

        Args:
            identity: Who.
            image_id: Which image instead.

        Returns:
            What was removed.

        Raises:
            UserError: If there is no such person or image.
        """
        if (identity is None) == (image_id is None):
            raise UserError(
                where="remove",
                found="both or neither of identity and image",
                allowed="one of them",
                next_step="name a person, or the number of an image",
            )
        chosen = self.store.images(identity)
        if image_id is not None:
            chosen = [image for image in chosen if image.image_id == image_id]
        if not chosen:
            raise UserError(
                where=self.store.where,
                found=f"no image {image_id}" if identity is None else f"nobody called {identity}",
                allowed="somebody who is enrolled",
                next_step="openmfr gallery list shows who is",
            )
        self.store.remove([image.image_id for image in chosen])
        forget_mapped(self.store)
        self.store.erase()
        return chosen

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _nearest(self, probes: Float32Array, k: int) -> list[list[Hit]]:
        return self._searcher().nearest(probes, k)

    def _searcher(self) -> Searcher:
        """What finds the nearest: the store itself, or an index that is up to date."""
        if isinstance(self.store, Searcher):
            return self.store
        with self._refreshing:
            if self._index is None:
                self._index = self._open_index()
            self._index = self._index.refreshed()
            return self._index

    def _open_index(self) -> Index:
        if self.config.keep_index:
            return open_mapped(self.store, self.config.precision)
        room = self.store.state().images + 1
        return Index.empty(self.store, self.config.precision, room=room)

    def _resemblance(self, image: NewImage) -> Resemblance:
        """Score a face with its own person's images, and with everybody else's."""
        own = self._own_hit(image)
        hits = self.search(image.embedding, is_masked=image.is_masked, top=2)
        other = next((hit for hit in hits if hit.identity != image.identity), None)
        return Resemblance(
            own_score=own.score if own else None,
            is_masked=image.is_masked or (own is not None and own.is_masked),
            other=other.identity if other else "",
            other_score=other.score if other else -1.0,
            is_other_match=other is not None and self._is_same(other),
        )

    def _own_hit(self, image: NewImage) -> Hit | None:
        """Find the image of the same person that a new one resembles most."""
        enrolled = {known.image_id: known for known in self.store.images(image.identity)}
        embeddings = self.store.embeddings(list(enrolled))
        if not embeddings:
            return None
        scores = exact_scores(np.stack(list(embeddings.values())), image.embedding)
        best = enrolled[list(embeddings)[int(np.argmax(scores))]]
        return Hit(
            identity=best.identity,
            image_id=best.image_id,
            is_masked=best.is_masked,
            score=float(scores.max()),
        )

    def _is_same(self, other: Candidate) -> bool:
        """Whether a stranger's face would be taken for somebody who is enrolled."""
        gate = self.config.gate
        is_near = other.score >= gate.largest_other_score
        if other.fpir is None:
            return is_near
        return other.fpir <= gate.other_fpir or (bool(other.flag) and is_near)

"""What the service does with photos, apart from HTTP: find the face, embed it, compare, remember.

Decoding and detection run in a few threads, the network in one of its own that takes the faces of
several requests at once (`batcher`), the gallery in others. A decoded photo is let go of as soon as
the face is cut out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from openmfr.deploy.gallery import Candidate, Gallery, Limit, NewImage, digest_photo, unit_rows
from openmfr.deploy.gallery.index import Hit
from openmfr.deploy.gallery.meaning import Meaning
from openmfr.deploy.gallery.records import Added, Float32Array
from openmfr.deploy.mask_worn import MaskClassifier, is_worn
from openmfr.deploy.runtime import EmbeddedFace, Recognizer
from openmfr.deploy.service.batcher import Batcher
from openmfr.deploy.service.config import ServiceConfig
from openmfr.deploy.service.metrics import Metrics
from openmfr.deploy.service.problems import Problem, of_photo
from openmfr.deploy.service.screening import check_format
from openmfr.deploy.service.threads import Door, Threads
from openmfr.errors import UserError
from openmfr.evaluation.calibration import Calibration
from openmfr.faces.detect import DetectedFace
from openmfr.faces.photo import PhotoError

UInt8Array = npt.NDArray[np.uint8]
T = TypeVar("T")
U = TypeVar("U")

#: Threads that work on the gallery: a search takes one processor, and most wait for the disk.
_GALLERY_THREADS: Final = 2

_NOTHING: Final = "the network makes nothing of the face"


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFace:
    """The face of a photo that somebody sent.

    Attributes:
        face: The face, embedded.
        width: Of the upright photo, in pixels.
        height: Of the upright photo, in pixels.
        others: How many more faces the photo shows.
    """

    face: EmbeddedFace
    width: int
    height: int
    others: int

    def is_masked(self, said: bool | None) -> bool:
        """Whether it wears a mask: what the caller said, or else what was seen."""
        return is_worn(self.face.mask_worn, said=said)

    @property
    def unit(self) -> Float32Array:
        """The embedding, as galleries keep it."""
        return unit_rows(self.face.embedding)


@dataclass(frozen=True, kw_only=True, eq=False)
class _CutFace:
    """A face cut out of a photo that need not be kept any longer."""

    detected: DetectedFace
    aligned: UInt8Array
    width: int
    height: int
    others: int
    mask_worn: float | None


class Service:
    """Compares faces of photos, and knows people, if it has a gallery.

    Args:
        recognizer: Finds faces, and has the network.
        gallery: Whom it knows; it is closed with the service.
        calibration: What the model's scores mean: the gallery's own, if there is one.
        masks: Sees whether a face wears a mask, where the caller does not say it.
        config: Limits.
        metrics: Are told what happens.

    Attributes:
        recognizer: Finds faces, and has the network.
        gallery: Whom it knows, or None.
        meaning: Reads scores.
        config: Limits.
        door: Lets requests in.

    Raises:
        UserError: If gallery or calibration are another model's.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        gallery: Gallery | None = None,
        calibration: Calibration | None = None,
        masks: MaskClassifier | None = None,
        config: ServiceConfig | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.recognizer, self.gallery, self._masks = recognizer, gallery, masks
        self.config = config or ServiceConfig()
        self.metrics = metrics or Metrics()
        model = recognizer.model.fingerprint
        self.meaning = Meaning(calibration, model=model, where="the service")
        if gallery is not None:
            gallery.check_model(model)
            self.meaning = gallery.meaning
        self._photos = Threads(self.config.worker_count, name="photo")
        self._rows = Threads(_GALLERY_THREADS, name="gallery")
        self._network = Batcher(
            recognizer.model.embed,
            max_batch=self.config.max_batch,
            told=self.metrics.batch.observe,
        )
        self.door = Door(self.config.places, self._orphans)
        self.metrics.watch_places(lambda: self.door.taken, self.config.places)

    def _orphans(self) -> int:
        return self._photos.orphans + self._rows.orphans

    async def check(self) -> None:
        """Make sure that it can work.

        Raises:
            Problem: "not_ready", if it cannot.
        """
        if self._orphans() >= self.config.places:
            raise Problem("not_ready", "jobs that do not end have taken all places")
        if self.gallery is not None:
            await self._rows.run(self.gallery.store.state)

    def warm_up(self) -> None:
        """Do once what takes long the first time: load a detector, compile the search.

        Raises:
            UserError: If the detector, the network or the gallery does not work.
        """
        size = self.recognizer.model.face_size
        grey = np.full((1, size, size, 3), 128, np.uint8)
        self.recognizer.detect(grey[0])
        row = self.recognizer.model.embed(grey)[0]
        if self.gallery is not None and row.any():
            self.gallery.search(row, top=1)

    async def close(self) -> None:
        """Finish what was accepted, and let go of the gallery."""
        await self._network.close()
        await asyncio.to_thread(self._photos.close)
        await asyncio.to_thread(self._rows.close)
        if self.gallery is not None:
            self.gallery.close()

    async def see(self, photo: bytes, *, field: str, allow_several: bool = True) -> SeenFace:
        """Find the face of a photo and embed it; of several the largest central one.

        Args:
            photo: The file.
            field: Of the form that it came in, for the problem.
            allow_several: Whether the photo may show others too.

        Raises:
            Problem: If the photo cannot be used.
        """
        try:
            cut = await self._photos.run(partial(self._cut_out, photo, allow_several))
        except PhotoError as error:
            raise of_photo(error, field) from error
        try:
            embedding = await self._network.embed(cut.aligned)
        except UserError as error:  # numbers that are not finite
            raise Problem("no_face", _NOTHING, field=field) from error
        face = EmbeddedFace.of(
            cut.detected, aligned=cut.aligned, embedding=embedding, mask_worn=cut.mask_worn
        )
        if face.length == 0:
            raise Problem("no_face", _NOTHING, field=field)
        return SeenFace(face=face, width=cut.width, height=cut.height, others=cut.others)

    def _cut_out(self, photo: bytes, allow_several: bool) -> _CutFace:
        check_format(photo)
        pixels = self.recognizer.read(photo)
        chosen, others = self.recognizer.detect_one(pixels, allow_several=allow_several)
        aligned = self.recognizer.align(pixels, [chosen])[0]
        return _CutFace(
            detected=chosen,
            aligned=aligned,
            width=pixels.shape[1],
            height=pixels.shape[0],
            others=others,
            mask_worn=float(self._masks.worn(aligned[None])[0]) if self._masks else None,
        )

    async def verify(
        self,
        first: bytes,
        second: bytes,
        *,
        first_masked: bool | None,
        second_masked: bool | None,
        fmr: float | None,
    ) -> tuple[SeenFace, SeenFace, Candidate]:
        """Compare the faces of two photos.

        Args:
            first: A file.
            second: The other.
            first_masked: Whether the face on the first wears a mask; None: see for yourself.
            second_masked: The same of the second.
            fmr: What a match is, as a false match rate; None leaves that open.

        Returns:
            The faces, and what their score means.

        Raises:
            Problem: If a photo cannot be used, or the rate has no threshold.
        """
        limit = None if fmr is None else Limit(fmr=fmr)
        if limit is not None:  # whether there is a calibration at all, before the work
            self.meaning.thresholds(limit, (), images=1)
        one, other = await _both(self.see(first, field="first"), self.see(second, field="second"))
        score = float(one.unit.astype(np.float64) @ other.unit.astype(np.float64))
        is_masked, is_other_masked = one.is_masked(first_masked), other.is_masked(second_masked)
        hit = Hit(identity="", image_id=0, is_masked=is_other_masked, score=score)
        read = self.meaning.candidates(
            [hit], is_probe_masked=is_masked, images=1, top=1, limit=limit
        )
        return one, other, read[0]

    async def enrol(
        self, photo: bytes, *, identity: str, source: str, is_masked: bool | None, force: bool
    ) -> tuple[SeenFace, Added]:
        """Enrol the face of a photo; when it returns, it is on the disk.

        Args:
            photo: The file.
            identity: Who it is.
            source: What to call the photo.
            is_masked: Whether the face wears a mask; None: see for yourself.
            force: Enrol it whatever the gate says; of several faces the largest central one.

        Raises:
            Problem: If the photo cannot be used.
            UserError: As `Gallery.enrol`.
        """
        seen = await self.see(photo, field="photo", allow_several=force)
        image = NewImage(
            identity=identity,
            embedding=seen.unit,
            digest=digest_photo(photo),
            is_masked=seen.is_masked(is_masked),
            source=source,
        )

        def add(gallery: Gallery) -> Added:
            return gallery.enrol(image, quality=seen.face.quality, force=force)

        return seen, await self.on_gallery(add)

    async def search(
        self, photo: bytes, *, is_masked: bool | None, top: int, limit: Limit | None
    ) -> tuple[SeenFace, list[Candidate]]:
        """Find the people whom the face of a photo resembles most.

        Args:
            photo: The file.
            is_masked: Whether the face wears a mask; None: see for yourself.
            top: How many people to find.
            limit: What a match is; None leaves that open.

        Raises:
            Problem: If the photo cannot be used.
            UserError: As `Gallery.search`.
        """
        if limit is not None:
            self.meaning.thresholds(limit, (), images=1)
        seen = await self.see(photo, field="photo")
        is_probe_masked = seen.is_masked(is_masked)

        def find(gallery: Gallery) -> list[Candidate]:
            return gallery.search(seen.unit, is_masked=is_probe_masked, top=top, limit=limit)

        return seen, await self.on_gallery(find)

    async def on_gallery(self, job: Callable[[Gallery], T]) -> T:
        """Run a job on the gallery in a thread."""
        assert self.gallery is not None, "routes of the gallery exist only where there is one"
        return await self._rows.run(partial(job, self.gallery))


async def _both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Run both at once; the first that fails ends the other."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return one.result(), other.result()

"""Photos → a store of aligned faces, its labels, and a list of what was refused and why.

The list of photos is cut into shards whose number depends on the list alone. Worker processes take
shards, and each writes its shard's account (which photos were refused) and then the shard, by
rename, so a run that is killed at any moment goes on when the same command is given again, and ends
in the same store whatever the number of workers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from openmfr.data.crop import Crop, IngestConfig, crop_aligned, crop_at, crop_detected
from openmfr.data.formats.photo_list import PhotoList, list_photos, read_landmarks
from openmfr.data.labels import Labels
from openmfr.data.rejected import (
    REJECTED,
    forget_accounts,
    gather_rejected,
    kinds_of_rejected,
    note_rejected,
)
from openmfr.data.store import Store
from openmfr.data.store_writer import StoreWriter, writing_store
from openmfr.errors import UserError
from openmfr.faces.detect import Detector
from openmfr.faces.face_mesh import FaceMeshDetector
from openmfr.faces.photo import PhotoError
from openmfr.files import fingerprint
from openmfr.run import progress
from openmfr.workers import choose_workers, do_all, size_of_part

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
DetectorFactory = Callable[[], Detector]

LABELS: Final = "labels.parquet"


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """What became of the photos.

    Attributes:
        photos: How many there were.
        faces: How many are in the store.
        rejected: Kind of reason → how many photos.
        several_faces: Stored photos that showed more than one face.
        identities: How many identities the stored faces have.
        left_out: Files of the folder that are no photos by their suffix.
        was_finished: Whether an earlier run had done everything.
        seconds: Time that this run took.
    """

    photos: int
    faces: int
    rejected: Mapping[str, int]
    several_faces: int
    identities: int
    left_out: int
    was_finished: bool
    seconds: float


def ingest(
    photos: Path,
    out: Path,
    *,
    config: IngestConfig | None = None,
    labels: Path | None = None,
    landmarks: Path | None = None,
    detector: DetectorFactory = FaceMeshDetector,
    workers: int | None = None,
    cluster: str | None = None,
) -> IngestSummary:
    """Make a store of aligned faces from photos, with `labels.parquet` and `rejected.csv` in it.

    Args:
        photos: A folder with one folder per identity, or whatever else `list_photos` takes.
        out: Folder to make; one that the same call began is gone on with.
        config: Size, smallest face, alignment, whether the photos are aligned already.
        labels: CSV or Parquet with `path` and `identity`, instead of the folders' names.
        landmarks: CSV or Parquet for `read_landmarks`: no detector is asked.
        detector: Makes a detector; called once in each worker process, so it must be picklable.
        workers: Worker processes, one per core by default; 1 works in this process. With more, a
            script must call this under `if __name__ == "__main__":`, as multiprocessing asks.
        cluster: Address of a Ray cluster that does the work; see `openmfr.cluster`.

    Returns:
        What became of the photos; the reasons of each are in `rejected.csv`.

    Raises:
        UserError: If there are no photos, no face is found in any, the arguments contradict each
            other, or something else stands in `out`.
    """
    started = time.monotonic()
    config = config or IngestConfig()
    workers = choose_workers(workers)
    listed = list_photos(photos, listing=labels)
    if listed.is_recordio:
        config = replace(config, is_aligned=True)
    if config.is_aligned and landmarks is not None:
        raise UserError(
            where="landmarks",
            found=f"{landmarks} for photos that are aligned already",
            allowed="landmarks or aligned photos",
            next_step="leave out one of them",
        )
    points = read_landmarks(landmarks) if landmarks else None
    settings = asdict(config) | {
        "photos": len(listed),
        "photo_list": listed.fingerprint(),
        "landmarks": _where_from(config, points, detector),
    }
    with writing_store(out, image_size=config.size, settings=settings) as writer:
        was_finished = isinstance(writer, Store)
        if isinstance(writer, Store):
            store = writer
        else:
            jobs = list(_jobs(listed, writer, config, points, detector))
            _run(jobs, workers=workers, cluster=cluster)
            if gather_rejected(out, shards=len(jobs)) == len(listed):
                raise _nothing_found(out, len(listed))
            store = writer.commit(shards=len(jobs))
        return _finish(store, listed, was_finished=was_finished, started=started)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One shard's work, as it travels to a worker process."""

    number: int
    photos: PhotoList
    writer: StoreWriter
    config: IngestConfig
    landmarks: Mapping[str, FloatArray] | None
    detector: DetectorFactory


def _jobs(
    photos: PhotoList,
    writer: StoreWriter,
    config: IngestConfig,
    landmarks: Mapping[str, FloatArray] | None,
    detector: DetectorFactory,
) -> Iterator[_Job]:
    photos_per_shard = size_of_part(len(photos))
    for number, start in enumerate(range(0, len(photos), photos_per_shard)):
        part = photos.part(start, start + photos_per_shard)
        points = None
        if landmarks is not None:
            points = {name: landmarks[name] for name in part.sources if name in landmarks}
        yield _Job(
            number=number,
            photos=part,
            writer=writer,
            config=config,
            landmarks=points,
            detector=detector,
        )


def _run(jobs: list[_Job], *, workers: int, cluster: str | None) -> None:
    """Do the jobs whose shards are missing."""
    left = [job for job in jobs if not job.writer.has_shard(job.number)]
    total = sum(len(job.photos) for job in jobs)
    done = total - sum(len(job.photos) for job in left)
    with progress("ingest", total=total, unit="photos", done=done) as advance:
        for count in do_all(_do, left, workers=workers, what="ingest", cluster=cluster):
            advance(count)


def _do(job: _Job) -> int:
    """Make one shard, and its account before it: a shard that exists is accounted for."""
    rows: list[tuple[str, str | None, Crop]] = []
    rejected: list[tuple[str, str]] = []
    for index, source in enumerate(job.photos.sources):
        try:
            identity_name, file = job.photos.open(index)
            rows.append((source, identity_name, _crop(job, source, file)))
        except PhotoError as error:
            rejected.append((source, str(error)))
    note_rejected(job.writer.path, job.number, rejected)
    crops = [crop for _, _, crop in rows]
    points = [crop.landmarks for crop in crops]
    columns = {
        "source": [source for source, _, _ in rows],
        "identity_name": [identity_name for _, identity_name, _ in rows],
        "landmarks": pa.array(
            [None if five is None else five.ravel() for five in points], pa.list_(pa.float32())
        ),
        "detector_score": pa.array([crop.score for crop in crops], pa.float32()),
        "faces": pa.array([crop.faces for crop in crops], pa.int32()),
        "note": pa.array([crop.note for crop in crops], pa.string()),
    }
    job.writer.write_shard(job.number, [crop.image for crop in crops], columns)
    return len(job.photos)


def _crop(job: _Job, source: str, file: Path | bytes) -> Crop:
    if job.config.is_aligned:
        return crop_aligned(file, job.config)
    if job.landmarks is None:
        return crop_detected(file, _detector(job.detector), job.config)
    if source not in job.landmarks:
        raise PhotoError("no landmarks: none given for this photo")
    return crop_at(file, job.landmarks[source], job.config)


@cache
def _detector(factory: DetectorFactory) -> Detector:
    """Load a detector once per process."""
    return factory()


def _where_from(
    config: IngestConfig, landmarks: Mapping[str, FloatArray] | None, detector: DetectorFactory
) -> str:
    """Name what decides where the landmarks are, for the store's settings."""
    if config.is_aligned:
        return "none: photos are aligned"
    if landmarks is None:
        return f"{detector.__module__}.{getattr(detector, '__qualname__', 'detector')}"
    names = sorted(landmarks)
    return fingerprint("\n".join(names), *(landmarks[name].tobytes() for name in names))


def _nothing_found(out: Path, photos: int) -> UserError:
    return UserError(
        where=str(out / REJECTED),
        found=f"a reason for each of {photos:,} photos",
        allowed="at least one photo with a face",
        next_step="read the reasons there",
    )


def _finish(
    store: Store, photos: PhotoList, *, was_finished: bool, started: float
) -> IngestSummary:
    """Write what is made from the whole store; an earlier run may have been killed before it."""
    if not (store.path / LABELS).exists():
        Labels.from_names(store).write(store.path / LABELS)
    forget_accounts(store.path)
    names = {name for name in store.column("identity_name") if name is not None}
    if len(names) < 2:
        logger.warning(
            "%s: %s; training needs at least two",
            store.path,
            f"a single identity, {names.pop()}" if names else "no identity is known",
        )
    return IngestSummary(
        photos=len(photos),
        faces=len(store),
        rejected=kinds_of_rejected(store.path, count=len(photos) - len(store)),
        several_faces=sum((faces or 0) > 1 for faces in store.column("faces")),
        identities=len(names),
        left_out=photos.left_out,
        was_finished=was_finished,
        seconds=time.monotonic() - started,
    )

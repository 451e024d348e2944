"""A synthetic data set: a store and its labels, the same bytes however many processes make it.

An image depends on the seed, its identity's number and its own number within the identity, and on
nothing else; a shard holds the images of a few consecutive identities. Workers write whole shards,
so a run that is killed and repeated makes only those that are missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from openmfr.data.labels import Labels
from openmfr.data.store import Store, encode_jpeg
from openmfr.data.store_writer import StoreWriter, writing_store
from openmfr.errors import UserError, raise_together
from openmfr.faces.align import TEMPLATE_SIZE
from openmfr.run import progress
from openmfr.synthetic.geometry import write_exact_geometry
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import render_face
from openmfr.workers import choose_workers, do_all

#: Raised whenever the same settings make other images, so that old and new are never mixed.
GENERATOR_VERSION = 1

LABELS = "labels.parquet"

_IMAGES_PER_SHARD = 250


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """What determines a synthetic data set.

    Attributes:
        identities: How many people, from 2.
        images: Images of each, from 1.
        seed: From 0; another seed makes other people.
        size: Height and width of the images in pixels, 32 to 512.

    Raises:
        UserError: If a value is out of range; several are reported together.
    """

    identities: int
    images: int
    seed: int
    size: int = TEMPLATE_SIZE

    def __post_init__(self) -> None:
        limits = {
            "identities": (2, 10_000_000, "one identity cannot be told from another"),
            "images": (1, 100_000, "ask for at least one image of each identity"),
            "seed": (0, 2**63 - 1, "any seed from 0 will do"),
            "size": (32, 512, "112 is what the published networks take"),
        }
        raise_together(
            [
                UserError(
                    where=name,
                    found=str(getattr(self, name)),
                    allowed=f"{low:,} to {high:,}",
                    next_step=why,
                )
                for name, (low, high, why) in limits.items()
                if not low <= getattr(self, name) <= high
            ]
        )

    @property
    def identities_per_shard(self) -> int:
        """How many consecutive identities one shard holds."""
        return max(1, _IMAGES_PER_SHARD // self.images)

    @property
    def shards(self) -> int:
        """How many shards the store has."""
        return -(-self.identities // self.identities_per_shard)

    def identities_of(self, shard: int) -> range:
        """Numbers of the identities in a shard."""
        first = shard * self.identities_per_shard
        return range(first, min(first + self.identities_per_shard, self.identities))


def synthesise(
    out: Path,
    *,
    identities: int,
    images: int,
    seed: int,
    size: int = TEMPLATE_SIZE,
    workers: int | None = None,
    geometry: bool = False,
) -> tuple[Store, Labels]:
    """Make a synthetic data set, or go on with one that was begun, or open one that is finished.

    Besides `source` and `identity_name` the store has the columns `landmarks` (ten numbers: x and y
    of the five landmarks in pixels), `yaw`, `pitch` and `roll` (radians).

    Args:
        out: The store's folder; the labels are written into it as `labels.parquet`.
        identities: How many people, from 2.
        images: Images of each, from 1.
        seed: From 0.
        size: Height and width of the images in pixels, 32 to 512.
        workers: Processes, from 1; one for each CPU by default. The result does not depend on it.
        geometry: Also write the exact geometry, into the store's folder `geometry`, so that the
            faces can be masked without MediaPipe; the store is the same either way.

    Returns:
        The store, and labels that keep every image.

    Raises:
        UserError: If a value is out of range, or something else stands in the folder.
    """
    config = SynthConfig(identities=identities, images=images, seed=seed, size=size)
    workers = choose_workers(workers)
    settings = {
        "made_by": "openmfr synth",
        "generator_version": GENERATOR_VERSION,
        **asdict(config),
    }
    with writing_store(out, image_size=size, settings=settings) as writer:
        if isinstance(writer, Store):
            store = writer
        else:
            _write_missing(writer, config, workers)
            store = writer.commit(shards=config.shards)
        labels = Labels.from_names(store)
        if not (store.path / LABELS).exists():
            labels.write(store.path / LABELS)
    if geometry:
        shards = [config.identities_of(shard) for shard in range(config.shards)]
        write_exact_geometry(store, seed=seed, images=images, shards=shards, workers=workers)
    return store, labels


def _write_missing(writer: StoreWriter, config: SynthConfig, workers: int) -> None:
    missing = [shard for shard in range(config.shards) if not writer.has_shard(shard)]
    total = config.identities * config.images
    to_do = sum(len(config.identities_of(shard)) for shard in missing) * config.images
    write = partial(_write_shard, writer, config)
    with progress("synth", total=total, unit="images", done=total - to_do) as advance:
        for count in do_all(write, missing, workers=workers, what="synth"):
            advance(count)


def _write_shard(writer: StoreWriter, config: SynthConfig, shard: int) -> int:
    encoded: list[bytes] = []
    columns: dict[str, list[Any]] = {
        name: [] for name in ("source", "identity_name", "landmarks", "yaw", "pitch", "roll")
    }
    for number in config.identities_of(shard):
        identity = make_identity(config.seed, number)
        for image in range(config.images):
            rng = image_rng(config.seed, number, image)
            face = render_face(identity, rng=rng, size=config.size)
            encoded.append(encode_jpeg(face.image, quality=face.shot.jpeg_quality))
            columns["source"].append(f"{identity.name}/{image:05d}.jpg")
            columns["identity_name"].append(identity.name)
            columns["landmarks"].append(face.landmarks.ravel().tolist())
            for angle in ("yaw", "pitch", "roll"):
                columns[angle].append(getattr(face.shot, angle))
    writer.write_shard(shard, encoded, columns)
    return len(encoded)

"""Whatever stands in a file, a reader answers with what it read, or with one UserError.

A seed says how a good file is spoilt: bytes flipped, cut out, doubled, numbers blown up. `make
test` tries some hundred seeds, and those that once found a fault; `make fuzz` goes on for ten
minutes for each reader (`OPENMFR_FUZZ_SECONDS`) and says the seed of what it finds.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_checkpoint import make_checkpoint
from toys import make_store

from openmfr.checkpoint import Checkpoint
from openmfr.config import from_dict, to_dict
from openmfr.data.damage import find_damage
from openmfr.data.formats.recordio import RecordIO, write_recordio
from openmfr.data.labels import Labels
from openmfr.data.quarantine import write_quarantine
from openmfr.data.store import Store
from openmfr.data.store_writer import StoreWriter
from openmfr.errors import UserError
from openmfr.files import read_json, write_json
from openmfr.models import BackboneConfig
from openmfr.models.ridnet import read_definition
from openmfr.recipes import tiny_synthetic
from openmfr.run import Run, run_metrics, run_settings
from openmfr.train import TrainConfig

SECONDS = float(os.environ.get("OPENMFR_FUZZ_SECONDS", "0"))
SEEDS = 120
#: Beyond what the process had when a reader began: files are of some kilobytes.
MOST_MEMORY_MIB = 512


def make_recordio(folder: Path) -> None:
    magic = bytes.fromhex("0a23d7ce")  # cuts a record into parts
    images = [(i // 3, magic + bytes([i]) * 40 + magic) for i in range(9)]
    write_recordio(folder / "train.rec", images)


def read_recordio(folder: Path) -> None:
    records = RecordIO(folder / "train.rec")
    for index in range(min(len(records), 100)):
        records[index]


def make_small_store(folder: Path) -> None:
    make_store(folder, identities=4, images=5, size=16)


def read_store(folder: Path) -> None:
    store = Store(folder)
    for name in store.column_names:
        store.column(name)
    store.coded_column("identity_name")
    for index in range(min(len(store), 100)):
        store.decode(index)


def check_store(folder: Path) -> None:
    find_damage(Store(folder), workers=1)


def make_quarantine(folder: Path) -> None:
    store = make_store(folder, identities=4, images=5, size=16)
    write_quarantine(folder, np.array([3, 4, 9]), found={"shard-000000.arrow": "flipped"})
    for shard in store.manifest:
        (folder / shard["file"]).unlink()


def read_quarantined(folder: Path) -> None:
    assert len(Store(folder).quarantined) <= 20


def make_labels(folder: Path) -> None:
    writer = StoreWriter(folder / "store", image_size=8, settings={})
    columns = {"source": list("abcdef"), "identity_name": list("aabbcc")}
    writer.write_shard(0, [b"x"] * 6, columns)
    labels = Labels.from_names(writer.commit(shards=1))
    labels = labels.without(np.arange(6) == 2, reason="blurred")
    shutil.rmtree(folder / "store")
    labels.write(folder / "labels.parquet")


def read_labels(folder: Path) -> None:
    labels = Labels.read(folder / "labels.parquet")
    assert len(labels.fingerprint) == 16
    labels.kept()


def make_small_checkpoint(folder: Path) -> None:
    config = BackboneConfig(name="toy_backbone:Toy", input_size=16, embedding_dim=4)
    shutil.copytree(make_checkpoint(folder / "made", config).path, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "made")


def read_checkpoint(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    checkpoint.load_backbone()
    checkpoint.read_training()


def make_configuration(folder: Path) -> None:
    config = to_dict(tiny_synthetic())
    Run(folder, settings=config, about={"version": "1"}).begin()
    write_json(folder / "architecture.json", read_json(DEFINITION, what="architecture"))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.0}\n')


def read_configuration(folder: Path) -> None:
    from_dict(TrainConfig, run_settings(folder), where="run.json")
    run_metrics(folder)
    read_definition(folder / "architecture.json")


DEFINITION = Path(__file__).parents[2] / "src/openmfr/models/ridnet/definitions/ridnet_xs.json"

Step = Callable[[Path], None]
READERS: dict[str, tuple[Step, Step]] = {
    "recordio": (make_recordio, read_recordio),
    "store": (make_small_store, read_store),
    "check": (make_small_store, check_store),
    "quarantine": (make_quarantine, read_quarantined),
    "labels": (make_labels, read_labels),
    "checkpoint": (make_small_checkpoint, read_checkpoint),
    "configuration": (make_configuration, read_configuration),
}
#: What stands for a number in a spoilt text.
NUMBERS = (b"-1", b"0", b"99999999999999999999", b"1e400", b'"x"', b"[]")
#: Seeds that found a fault once, by reader.
FOUND = {
    "store": (578, 25_382),
    "check": (828,),
    "labels": (175,),
    "checkpoint": (276,),
    "configuration": (7,),
}


def spoil(content: bytes, rng: random.Random) -> bytes:
    """Spoil a file in one to three ways."""
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(spoilt) + 1)
        match rng.randrange(7):
            case 0 if spoilt:
                spoilt[at % len(spoilt)] ^= 1 << rng.randrange(8)
            case 1:
                del spoilt[at:]
            case 2:
                del spoilt[at : at + rng.randrange(1, 64)]
            case 3:
                spoilt[at:at] = spoilt[at : at + rng.randrange(1, 64)]
            case 4:
                spoilt[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7))
            case 5:
                spoilt[at : at + 4] = rng.randbytes(4)
            case _:
                numbers = list(re.finditer(rb"\d+", spoilt))
                if numbers:
                    found = rng.choice(numbers)
                    spoilt[found.start() : found.end()] = rng.choice(NUMBERS)
    return bytes(spoilt)


def spoil_one(good: Path, folder: Path, seed: int) -> None:
    """Copy good files into a folder, one of them spoilt."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(good, folder)
    rng = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = rng.choice(files)
    chosen.write_bytes(spoil(chosen.read_bytes(), rng))


def memory_mib() -> float:
    # ru_maxrss is in KiB on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seeds_for(name: str) -> Iterator[int]:
    """Those that found something, some hundred, and others until the time is over."""
    yield from FOUND.get(name, ())
    yield from range(SEEDS)
    end = time.monotonic() + SECONDS
    for seed in itertools.count(SEEDS):
        if time.monotonic() >= end:
            return
        yield seed


@pytest.mark.parametrize("name", READERS)
def test_a_spoilt_file_is_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    make, read = READERS[name]
    (tmp_path / "good").mkdir()
    make(tmp_path / "good")
    read(tmp_path / "good")
    before, refused = memory_mib(), 0
    for seed in seeds_for(name):
        spoil_one(tmp_path / "good", tmp_path / "spoilt", seed)
        try:
            read(tmp_path / "spoilt")
        except UserError:
            refused += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed} for {name}: {type(error).__name__}") from error
    assert refused > SEEDS / 10
    assert memory_mib() - before < MOST_MEMORY_MIB

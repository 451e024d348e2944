"""A store in S3 storage reads as one on the disk, through a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs
from toys import make_store

from openmfr.cli.main import main
from openmfr.data.damage import find_damage
from openmfr.data.labels import Labels
from openmfr.data.loader import FaceDataset, StreamSampler, load_batches
from openmfr.data.order import Stream
from openmfr.data.store import Store
from openmfr.errors import UserError

ADDRESS = "s3://faces/train/toys"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on the disk, which lies in the bucket too."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OPENMFR_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    made = make_store(tmp_path / "store")
    bucket(endpoint).create_dir("faces")
    fs.copy_files(str(made.path), "faces/train/toys", destination_filesystem=bucket(endpoint))
    return made


def bucket(endpoint: str) -> fs.S3FileSystem:
    return fs.S3FileSystem(
        endpoint_override=endpoint.removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )


def shards_of(store: Store) -> list[str]:
    return sorted(path.name for path in store.path.glob("*.arrow"))


def test_shards_come_when_they_are_read_and_stay(store: Store, endpoint: str) -> None:
    remote = Store(ADDRESS)
    assert (len(remote), remote.fingerprint) == (len(store), store.fingerprint)
    assert shards_of(remote) == []
    assert remote.read(14) == store.read(14)
    assert shards_of(remote) == ["shard-000001.arrow"]
    bucket(endpoint).delete_file("faces/train/toys/shard-000001.arrow")
    again = Store(ADDRESS)
    assert again.path == remote.path
    assert again.read(15) == store.read(15)
    assert Labels.read(again.path / "labels.parquet").store_fingerprint == store.fingerprint


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_those_of_the_disk(store: Store, workers: int) -> None:
    remote, labels = Store(ADDRESS), Labels.read(store.path / "labels.parquet")

    def batches(source: Store) -> list[np.ndarray]:
        sampler = StreamSampler(
            Stream(labels.kept(), seed=0), batch_size=8, start_step=0, stop_step=6
        )
        dataset = FaceDataset(source, labels.identity)
        return [images.numpy() for images, _ in load_batches(dataset, sampler, workers=workers)]

    for ours, theirs in zip(batches(remote), batches(store), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_check_fetches_all_and_other_bytes_are_refused(store: Store, endpoint: str) -> None:
    assert find_damage(Store(ADDRESS), workers=1) == []
    assert len(shards_of(Store(ADDRESS))) == 5
    other = store.path.parent / "other"
    (store.path / "shard-000002.arrow").rename(other)
    other.write_bytes(other.read_bytes()[:-1])
    fs.copy_files(
        str(other), "faces/train/toys/shard-000002.arrow", destination_filesystem=bucket(endpoint)
    )
    remote = Store(ADDRESS)
    (remote.path / "shard-000002.arrow").unlink()
    with pytest.raises(UserError, match=r"shard-000002.arrow: found SHA-256 .* copy the store"):
        remote.read(25)
    assert len(shards_of(remote)) == 4


def test_what_the_storage_lost_is_set_aside_and_a_damaged_copy_is_fetched_again(
    store: Store, endpoint: str
) -> None:
    remote = Store(ADDRESS)
    remote.read(25)
    copy = remote.path / "shard-000002.arrow"
    copy.write_bytes(copy.read_bytes()[:-100])
    bucket(endpoint).delete_file("faces/train/toys/shard-000000.arrow")
    bucket(endpoint).delete_file("faces/train/toys/shard-000003.arrow")
    other = store.path / "labels.parquet"
    fs.copy_files(
        str(other), "faces/train/toys/shard-000003.arrow", destination_filesystem=bucket(endpoint)
    )
    found = {damage.file: damage.found for damage in find_damage(remote, workers=1)}
    assert found == {
        "shard-000000.arrow": "missing",
        "shard-000003.arrow": "other bytes in the storage",
    }
    assert Store(ADDRESS).read(25) == store.read(25)


def test_labels_that_were_made_anew_are_copied_anew(store: Store, endpoint: str) -> None:
    Store(ADDRESS)
    Labels.read(store.path / "labels.parquet").without(
        np.arange(len(store)) == 3, reason="blurred"
    ).write(store.path / "labels.parquet")
    fs.copy_files(
        str(store.path / "labels.parquet"),
        "faces/train/toys/labels.parquet",
        destination_filesystem=bucket(endpoint),
    )
    again = Labels.read(Store(ADDRESS).path / "labels.parquet")
    assert not again.keep[3]


def test_where_no_store_lies_is_one_clear_line(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"s3://faces/nothing.*AWS_ENDPOINT_URL"):
        Store("s3://faces/nothing")
    assert main(["inspect", "s3://faces/nothing"]) == 2
    assert "check the address, AWS_ENDPOINT_URL" in capsys.readouterr().err


def test_commands_take_addresses(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", ADDRESS, "--check"]) == 0
    assert store.fingerprint in capsys.readouterr().out

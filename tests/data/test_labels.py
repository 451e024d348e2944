"""A label table is never edited, survives its file, and knows which store it belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import make_store

from openmfr.data.labels import HELD_OUT, Labels
from openmfr.data.labels_file import TYPES
from openmfr.data.store import Store, encode_jpeg
from openmfr.data.store_writer import StoreWriter
from openmfr.errors import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("labels") / "s", identities=8, images=6)


@pytest.fixture(scope="module")
def labels(store: Store) -> Labels:
    return Labels.from_names(store)


def test_identities_follow_the_names(store: Store, labels: Labels) -> None:
    assert labels.identity.tolist() == [i for i in range(8) for _ in range(6)]
    assert labels.keep.all()


def test_identities_that_are_numbers_keep_the_order_of_the_numbers(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s", image_size=8, settings={})
    names = ["10", "9", "0", "9"]
    jpegs = [encode_jpeg(np.zeros((8, 8, 3), dtype=np.uint8))] * len(names)
    writer.write_shard(0, jpegs, {"source": list("abcd"), "identity_name": names})
    labels = Labels.from_names(writer.commit(shards=1))
    assert labels.identity.tolist() == [2, 1, 0, 1]


def test_a_table_survives_its_file(labels: Labels, tmp_path: Path) -> None:
    changed = labels.without(labels.identity == 3, reason="blurred")
    changed.write(tmp_path / "labels.parquet")
    read = Labels.read(tmp_path / "labels.parquet")
    assert read.fingerprint == changed.fingerprint
    assert set(read.reason[read.identity == 3]) == {"blurred"}
    assert read.parent == labels.fingerprint


def test_a_long_table_is_that_of_its_parts(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of millions of rows are read, counted and identified a million rows at a time."""
    rows = np.arange(len(labels))
    changed = labels.without(rows % 3 == 1, reason="twice").without(rows == 20, reason="blurred")
    changed.write(tmp_path / "labels.parquet")
    whole = changed.fingerprint, *(column.tolist() for column in changed.kept_counts)
    for module in ("labels", "labels_file", "texts"):
        monkeypatch.setattr(f"openmfr.data.{module}._CHUNK", 7)
    read = Labels.read(tmp_path / "labels.parquet")
    assert (read.fingerprint, *(column.tolist() for column in read.kept_counts)) == whole
    assert read.identity.tolist() == changed.identity.tolist()
    assert read.reason.tolist() == changed.reason.tolist()


def test_an_empty_table_survives_its_file(labels: Labels, tmp_path: Path) -> None:
    columns = {name: getattr(labels, name)[:0] for name in TYPES}
    empty = replace(labels, **columns)
    empty.write(tmp_path / "labels.parquet")
    assert Labels.read(tmp_path / "labels.parquet").fingerprint == empty.fingerprint


def test_columns_cannot_be_edited(labels: Labels) -> None:
    with pytest.raises(ValueError, match="read-only"):
        labels.identity[0] = 5


@pytest.mark.parametrize(
    "change",
    [
        {"identity": np.zeros(48, dtype=np.int64)},
        {"keep": np.zeros(48, dtype=np.bool_)},
        {"group": np.full(48, "adult")},
    ],
)
def test_any_change_changes_the_fingerprint(labels: Labels, change: dict[str, np.ndarray]) -> None:
    assert labels.child(**change).fingerprint != labels.child().fingerprint


def test_dropping_twice_keeps_the_first_reason(labels: Labels) -> None:
    first = labels.without(labels.identity == 1, reason="outlier")
    second = first.without(labels.identity <= 1, reason="duplicate")
    assert set(second.reason[labels.identity == 1]) == {"outlier"}
    assert set(second.reason[labels.identity == 0]) == {"duplicate"}


@given(count=st.integers(4, 6), seed=st.integers(0, 99))
def test_held_out_identities_are_whole_and_apart(labels: Labels, count: int, seed: int) -> None:
    split = labels.hold_out(count, seed=seed)
    held_out = set(split.identity[split.is_held_out])
    assert len(held_out) == count
    assert not held_out & set(split.kept_identities)
    assert split.parent == labels.fingerprint


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_holding_out_too_many_says_how_many_are_possible(labels: Labels, count: int) -> None:
    with pytest.raises(UserError, match="allowed: 4 to 6 of these 8 identities"):
        labels.hold_out(count, seed=0)


def test_a_table_of_another_store_is_refused(labels: Labels, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", identities=3)
    with pytest.raises(UserError, match="48 rows for store"):
        labels.check_store(other)


def test_unknown_people_are_not_kept(store: Store) -> None:
    labels = Labels.from_identity([-1] * 10 + [0] * 38, store=store)
    assert labels.kept().tolist() == list(range(10, 48))


def test_a_bad_identity_names_its_row(store: Store) -> None:
    with pytest.raises(UserError, match="labels, row 2, identity: found -3"):
        Labels.from_identity([0, 1, -3, *[0] * 45], store=store)


@pytest.mark.parametrize("content", [b"", b"no parquet at all"])
def test_a_file_that_is_no_table_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.parquet").write_bytes(content)
    with pytest.raises(UserError, match="no readable label table"):
        Labels.read(tmp_path / "labels.parquet")


def test_the_reason_of_holding_out_is_one_word_everywhere(labels: Labels) -> None:
    assert set(labels.hold_out(4, seed=0).reason) == {"", HELD_OUT}


def test_people_held_out_before_are_not_measured_again(labels: Labels) -> None:
    with pytest.raises(UserError, match="held out already"):
        labels.hold_out(4, seed=0).hold_out(4, seed=1)


def test_an_unknown_person_cannot_be_kept(labels: Labels) -> None:
    unknown = np.where(np.arange(len(labels)) == 5, -1, labels.identity)
    with pytest.raises(UserError, match="row 5, keep"):
        labels.child(identity=unknown)


@pytest.mark.parametrize(
    ("name", "column", "found"),
    [
        ("identity", pa.array([1.5] * 48), "identity: found double; allowed: int64"),
        ("keep", pa.array(["yes"] * 48), "keep: found string; allowed: bool"),
        ("is_masked", pa.array([True] * 5 + [None] * 43), "row 5, is_masked: found nothing"),
    ],
)
def test_a_column_that_another_program_changed_is_named(
    labels: Labels, tmp_path: Path, name: str, column: pa.Array, found: str
) -> None:
    path = tmp_path / "labels.parquet"
    labels.write(path)
    table = pq.read_table(path)
    assert table.num_rows == len(column)
    changed = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(changed, path)
    with pytest.raises(UserError, match=found):
        Labels.read(path)

"""What others read of our tars and records, what we read of theirs, and damaged ones."""

from __future__ import annotations

import gc
import gzip
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.test_convert import SIZE, content, picture, store_of

from openmfr.data.convert import OutConfig, convert_from_store, convert_to_store
from openmfr.data.formats.recordio import RecordIO, write_recordio
from openmfr.data.formats.tar import index_tar, read_samples
from openmfr.data.store import Store
from openmfr.errors import UserError

NAMES = ["cem", "ann", "cem", "ben", "ann", "cem"]


def to_store(source: Path, out: Path) -> Store:
    convert_to_store(source, out, size=SIZE, workers=1)
    return Store(out)


def from_store(store: Store, out: Path, to: Any, **settings: Any) -> Path:
    convert_from_store(store, out, config=OutConfig(to=to, **settings), workers=1)
    return out


class InsightFaceDataset:
    """`MXFaceDataset` of arcface_torch, and what it calls of mxnet, after their sources.

    Source: deepinsight/insightface `arcface_torch/dataset.py`; apache/mxnet `recordio.py`.
    """

    def __init__(self, root: Path) -> None:
        self.records = (root / "train.rec").read_bytes()
        lines = (line.strip().split("\t") for line in (root / "train.idx").read_text().splitlines())
        self.idx = {int(key): int(offset) for key, offset in lines}
        flag, label, _ = self.unpack(0)
        self.header0 = (int(label[0]), int(label[1])) if flag > 0 else None
        self.imgidx = list(range(1, int(label[0]))) if flag > 0 else list(self.idx)

    def unpack(self, key: int) -> tuple[int, Any, bytes]:
        magic, word = struct.unpack_from("<II", self.records, self.idx[key])
        assert magic == 0xCED7230A
        assert word >> 29 == 0  # small pictures without the magic within are one part
        start = self.idx[key] + 8
        data = self.records[start : start + (word & (1 << 29) - 1)]
        flag, label, _, _ = struct.unpack("<IfQQ", data[:24])
        if flag:
            return flag, struct.unpack(f"<{flag}f", data[24 : 24 + 4 * flag]), data[24 + 4 * flag :]
        return flag, label, data[24:]

    def __len__(self) -> int:
        return len(self.imgidx)

    def __getitem__(self, index: int) -> tuple[int, bytes]:
        _, label, image = self.unpack(self.imgidx[index])
        return int(label), image


def test_insightface_reads_our_records_identity_by_identity(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", NAMES)
    out = from_store(store, tmp_path / "out", "recordio")
    theirs = InsightFaceDataset(out)
    expected = [(0, 1), (0, 4), (1, 3), (2, 0), (2, 2), (2, 5)]
    assert [theirs[i] for i in range(len(theirs))] == [(k, store.read(i)) for k, i in expected]
    assert theirs.header0 == (7, 10)
    ranges = [theirs.unpack(key)[1] for key in range(7, 10)]
    assert ranges == [(1, 3), (3, 4), (4, 7)]
    assert (out / "property").read_text() == f"3,{SIZE},{SIZE}\n"
    assert list(RecordIO(out / "train.rec")) == [theirs[i] for i in range(len(theirs))]


def test_sets_beyond_what_float32_counts_have_no_first_record_that_would_be_rounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmfr.data.convert.records.MOST_EXACT", 9)  # 1 + 6 images + 3 people
    store = store_of(tmp_path / "store", NAMES)
    out = from_store(store, tmp_path / "out", "recordio")
    theirs = InsightFaceDataset(out)
    assert theirs.header0 is None
    assert [theirs[i][0] for i in range(len(theirs))] == [0, 0, 1, 2, 2, 2]
    assert content(to_store(out, tmp_path / "back")) == content(store)


@pytest.mark.parametrize("announced", [5, 7, 9])
def test_a_first_record_that_was_rounded_loses_no_image_and_adds_none(
    tmp_path: Path, announced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmfr.data.formats.recordio.MOST_EXACT", 4)
    # Numbers of this size are exact; act as if they were as coarse as those from 2^25 on.
    monkeypatch.setattr("numpy.spacing", lambda _: 4)
    images = [(i // 2, picture(i)) for i in range(6)]
    write_recordio(tmp_path / "train.rec", images)
    content = bytearray((tmp_path / "train.rec").read_bytes())
    content[8 + 24 : 8 + 28] = struct.pack("<f", announced)
    (tmp_path / "train.rec").write_bytes(content)
    assert list(RecordIO(tmp_path / "train.rec")) == images


@pytest.mark.parametrize("announced", [float("nan"), float("inf"), -3.0, 0.0, 1e30])
def test_a_first_record_that_announces_nonsense_is_refused(
    tmp_path: Path, announced: float
) -> None:
    write_recordio(tmp_path / "train.rec", [(0, picture(0))])
    content = bytearray((tmp_path / "train.rec").read_bytes())
    content[8 + 24 : 8 + 28] = struct.pack("<f", announced)
    (tmp_path / "train.rec").write_bytes(content)
    with pytest.raises(UserError, match="record 0: found the announcement"):
        RecordIO(tmp_path / "train.rec")


def test_an_index_that_lacks_an_image_is_refused(tmp_path: Path) -> None:
    write_recordio(tmp_path / "train.rec", [(0, picture(i)) for i in range(3)])
    index = tmp_path / "train.idx"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if not line.startswith("2\t")))
    with pytest.raises(UserError, match="record 2: found no such key in the index"):
        RecordIO(tmp_path / "train.rec")


def test_a_set_split_over_several_files_is_one_set(tmp_path: Path) -> None:
    parts = {"part_10": [(1, 3), (4, 4)], "part_2": [(0, 0), (1, 1)], "part_9": [(1, 2)]}
    (tmp_path / "set").mkdir()
    for name, images in parts.items():
        write_recordio(tmp_path / "set" / f"{name}.rec", [(i, picture(j)) for i, j in images])
    store = to_store(tmp_path / "set", tmp_path / "store")
    assert [store.read(i) for i in range(5)] == [picture(j) for j in range(5)]
    assert store.column("identity_name") == ["0", "1", "1", "1", "4"]
    assert store.column("source")[0] == "part_2.rec/1"


def test_test_sets_beside_a_training_set_are_not_part_of_it(tmp_path: Path) -> None:
    write_recordio(tmp_path / "train.rec", [(0, picture(0))])
    write_recordio(tmp_path / "val.rec", [(0, picture(1))])
    (tmp_path / "lfw.bin").write_bytes(b"")
    assert len(to_store(tmp_path, tmp_path / "store")) == 1


def test_an_index_without_records_is_named(tmp_path: Path) -> None:
    write_recordio(tmp_path / "train.rec", [(0, picture(0))])
    (tmp_path / "train.rec").unlink()
    with pytest.raises(UserError, match=r"train.idx: found an index without records.*train.rec"):
        to_store(tmp_path, tmp_path / "store")


def test_records_cut_short_end_in_an_error_and_no_store(tmp_path: Path) -> None:
    write_recordio(tmp_path / "train.rec", [(0, picture(i)) for i in range(4)])
    content = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.rec").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"train.rec, record \d"):
        to_store(tmp_path, tmp_path / "store")
    assert not (tmp_path / "store" / "manifest.json").exists()


def change(listing: Path, name: str, values: Sequence[Any]) -> None:
    table = pq.read_table(listing)
    column = pa.array(values, table.schema.field(name).type)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), listing)


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("key", [1, 2, 3, 4, 5, 5], "a listing of 6 images"),
        ("key", [1, 2, 3, 4, 5, 7], "a listing of 6 images"),
        ("key", [1, 2, 3, 4, 5, None], "a row without a key"),
        ("number", [0, 0, 0, 0, 0, 0], "where the listing says 0"),
        ("source", [None] * 6, "a row without source"),
    ],
)
def test_a_listing_of_other_records_is_refused(
    tmp_path: Path, name: str, values: list[Any], found: str
) -> None:
    out = from_store(store_of(tmp_path / "store", NAMES), tmp_path / "out", "recordio")
    change(out / "listing.parquet", name, values)
    with pytest.raises(UserError, match=found):
        to_store(out, tmp_path / "back")


def test_a_listing_that_is_no_table_is_refused(tmp_path: Path) -> None:
    out = from_store(store_of(tmp_path / "store", NAMES), tmp_path / "out", "recordio")
    (out / "listing.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(UserError, match="no readable table"):
        to_store(out, tmp_path / "back")
    pq.write_table(pa.table({"key": [1]}), out / "listing.parquet")
    with pytest.raises(UserError, match="a table without a column number"):
        to_store(out, tmp_path / "back")


def test_records_without_our_listing_have_numbers_for_names(tmp_path: Path) -> None:
    out = from_store(store_of(tmp_path / "store", NAMES), tmp_path / "out", "recordio")
    (out / "listing.parquet").unlink()
    back = to_store(out, tmp_path / "back")
    assert back.column("identity_name") == ["0", "0", "1", "2", "2", "2"]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_a_tar_holds_picture_class_and_words_of_each_image(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["../ann", None, "ben"])
    out = from_store(store, tmp_path / "out", "tar", images_per_tar=2)
    assert sorted(path.name for path in out.glob("*.tar")) == [
        "shard-000000.tar",
        "shard-000001.tar",
    ]
    first = members(out / "shard-000000.tar")
    assert list(first) == [
        f"00000000{i}.{role}" for i in range(2) for role in ("jpg", "cls", "json")
    ]
    assert first["000000000.jpg"] == store.read(0)
    assert [first[f"00000000{i}.cls"] for i in range(2)] == [b"0", b"-1"]
    assert json.loads(first["000000000.json"]) == {"source": "photo 0", "identity_name": "../ann"}


@pytest.mark.filterwarnings("ignore")  # it leaves files open
def test_webdataset_reads_our_tars(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    store = store_of(tmp_path / "store", NAMES)
    out = from_store(store, tmp_path / "out", "tar", images_per_tar=4)
    urls = [str(path) for path in sorted(out.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode().to_tuple("cls", "json"))
    assert [number for number, _ in samples] == [2, 0, 2, 1, 0, 2]
    assert [said["identity_name"] for _, said in samples] == NAMES
    raw = list(webdataset.WebDataset(urls, shardshuffle=False).to_tuple("jpg;png"))
    assert [image for (image,) in raw] == [store.read(i) for i in range(6)]
    del raw, samples
    gc.collect()


def make_tar(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_tars_of_other_makers_are_read_and_nothing_is_unpacked(tmp_path: Path) -> None:
    files = [
        ("faces/v1.2/0001.jpg", picture(0)),
        ("faces/v1.2/0001.cls", b"17\n"),
        ("../../0002.JPEG", picture(1)),
        ("/etc/0003.png", picture(2, form="PNG")),
        ("/etc/0003.json", b'{"identity_name": "ann", "caption": "smiles"}'),
        ("0004.cls", b"-1"),
        ("0004.jpg", picture(3)),
        (".hidden.jpg", picture(4)),
        ("readme", b"no sample"),
        ("n" * 300 + ".jpg", picture(5)),
        ("\udce4\ud800.jpg".encode("utf-8", "surrogatepass").decode("latin1"), picture(6)),
    ]
    store = to_store(make_tar(tmp_path / "set.tar", files), tmp_path / "store")
    assert [store.read(i) for i in range(4)] == [files[i][1] for i in (0, 2, 3, 6)]
    assert store.column("identity_name") == ["17", None, "ann", None, None, None]
    assert store.column("source")[:3] == [files[i][0] for i in (0, 2, 3)]
    assert {path.name for path in tmp_path.iterdir()} == {"set.tar", "store"}


BAD_SAMPLES: Mapping[str, Sequence[tuple[str, bytes]]] = {
    "0 pictures": [("b.cls", b"1"), ("b.txt", b"no picture")],
    "2 pictures": [("b.jpg", picture(1)), ("b.png", picture(1, form="PNG"))],
    "1 pictures": [("b.jpg", picture(1)), ("b.jpg", picture(2))],
    "its json or cls": [("b.jpg", picture(1)), ("b.json", b"{" * 9)],
    "json or cls": [("b.jpg", picture(1)), ("b.json", b"[" * 60_000)],
    "no text, or": [("b.jpg", picture(1)), ("b.cls", b"\xff\xfe")],
    "or too long": [("b.jpg", picture(1)), ("b.json", b" " * 70_000)],
    "source or identity_name": [("b.jpg", picture(1)), ("b.json", b'{"identity_name": 7}')],
    "unreadable sample": [("b.jpg", picture(1)), ("b.json", b"[]")],
    "too large": [("b.jpg", picture(1) + bytes(1 << 24))],
}


@pytest.mark.parametrize("reason", BAD_SAMPLES)
def test_a_sample_that_is_unclear_is_refused_and_the_others_are_taken(
    tmp_path: Path, reason: str
) -> None:
    files = [("a.jpg", picture(0)), *BAD_SAMPLES[reason], ("c.jpg", picture(9))]
    store = to_store(make_tar(tmp_path / "set.tar", files), tmp_path / "store")
    assert [store.read(i) for i in range(len(store))] == [picture(0), picture(9)]
    rejected = (tmp_path / "store" / "rejected.csv").read_text().splitlines()
    assert len(rejected) == 2
    assert rejected[1].startswith("b")
    assert reason in rejected[1]


def test_odd_text_in_a_tar_is_escaped(tmp_path: Path) -> None:
    files = [
        ("a.jpg", picture(0)),
        ("a.json", b'{"identity_name": "\\ud800", "source": "\\udc00"}'),
    ]
    store = to_store(make_tar(tmp_path / "set.tar", files), tmp_path / "store")
    assert store.column("identity_name") == ["\\ud800"]
    assert store.column("source") == ["\\udc00"]


def test_links_and_folders_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(picture(5))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "a.jpg"), (tarfile.LNKTYPE, "b.jpg")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(tmp_path / "secret.jpg")
            tar.addfile(link)
        folder = tarfile.TarInfo("c.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        member = tarfile.TarInfo("d.jpg")
        member.size = len(picture(0))
        tar.addfile(member, io.BytesIO(picture(0)))
    store = to_store(tmp_path / "set.tar", tmp_path / "store")
    assert store.column("source") == ["d.jpg"]


def test_a_tar_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    files = [(f"{i}.jpg", picture(i)) for i in range(3)]
    whole = make_tar(tmp_path / "whole.tar", files).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        end = max(member.offset_data + 512 * -(-member.size // 512) for member in tar)
    cut = tmp_path / "cut.tar"
    for length in range(0, end + 512, 128):
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut.tar: found (damaged|a tar that breaks off)"):
            index_tar(cut, every=2)
    cut.write_bytes(whole[: end + 512])
    assert index_tar(cut, every=2).samples == 3


def test_a_damaged_header_does_not_end_a_tar_silently(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "set.tar", [(f"{i}.jpg", picture(i)) for i in range(3)])
    with tarfile.open(path) as tar:
        at = tar.getmembers()[1].offset
    content = bytearray(path.read_bytes())
    content[at + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="breaks off at byte"):
        to_store(path, tmp_path / "store")


def test_a_tar_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "set.tar", [(f"{i}.jpg", picture(i)) for i in range(3)])
    with pytest.raises(UserError, match="fewer samples than when it was counted"):
        list(read_samples(path, start=0, count=4))


def test_a_compressed_tar_is_to_be_unpacked(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "set.tar", [("a.jpg", picture(0))])
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match="unpack it first"):
        to_store(tmp_path / "set.tar.gz", tmp_path / "store")
    shutil.move(tmp_path / "set.tar.gz", path)
    with pytest.raises(UserError, match=r"set.tar: found damaged.*gunzip"):
        to_store(path, tmp_path / "store")


def test_parts_of_a_large_tar_are_read_from_their_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmfr.data.convert.sources.MOST_OF_A_PART", 3)
    files = [
        file
        for i in range(8)
        for file in ((f"{'long/' * 30 * (i % 2)}{i}.jpg", picture(i)), (f"{i}.cls", b"1"))
    ]
    store = to_store(make_tar(tmp_path / "set.tar", files[::2]), tmp_path / "store")
    assert [len(shard) for shard in store.shards] == [3, 3, 2]
    assert [store.read(i) for i in range(8)] == [picture(i) for i in range(8)]


@pytest.mark.parametrize("name", ["nothing", "set.zip", "notes.txt"])
def test_what_is_no_set_is_refused(tmp_path: Path, name: str) -> None:
    if name != "nothing":
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match="allowed: a store, RecordIO"):
        to_store(tmp_path / name, tmp_path / "store")


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    make_tar(tmp_path / "set.tar", [])
    with pytest.raises(UserError, match="found no images"):
        to_store(tmp_path / "set.tar", tmp_path / "store")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="nothing in it"):
        to_store(tmp_path / "folder", tmp_path / "store")

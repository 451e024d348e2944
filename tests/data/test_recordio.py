"""InsightFace's RecordIO: bytes laid out by hand, round trips, and damaged files."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.data.formats.recordio import RecordIO, write_recordio
from openmfr.errors import UserError

MAGIC = bytes.fromhex("0a23d7ce")  # 0xced7230a, little-endian


def part(data: bytes, flag: int = 0) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def header(*labels: float, key: int = 0) -> bytes:
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], key, 0)
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0.0, key, 0, *labels)


def write_pair(folder: Path, records: dict[int, bytes]) -> Path:
    rec, idx, position = b"", "", 0
    for key, record in records.items():
        idx += f"{key}\t{position}\n"
        rec += record
        position += len(record)
    (folder / "train.rec").write_bytes(rec)
    (folder / "train.idx").write_text(idx)
    return folder / "train.rec"


def test_a_set_laid_out_by_hand_is_read(tmp_path: Path) -> None:
    magic_within = b"ab" + b"cd" + MAGIC + b"xyz"
    assert (len(header(7.0)) + 4) % 4 == 0  # the magic stands where a writer must cut
    image = header(7.0, key=2) + magic_within
    cut = image.index(MAGIC)
    path = write_pair(
        tmp_path,
        {
            0: part(header(4.0, 6.0)),
            1: part(header(3.0, key=1) + b"first"),
            2: part(image[:cut], flag=1) + part(image[cut + 4 :], flag=3),
            3: part(header(7.0, 99.0, key=3) + b"two labels"),
            4: part(header(1.0, 2.0)),
            5: part(header(2.0, 4.0)),
        },
    )
    assert list(RecordIO(path)) == [(3, b"first"), (7, magic_within), (7, b"two labels")]


def test_a_set_without_a_first_record_of_ranges_holds_an_image_under_every_key(
    tmp_path: Path,
) -> None:
    path = write_pair(tmp_path, {5: part(header(1.0) + b"b"), 0: part(header(0.0) + b"a")})
    assert list(RecordIO(path)) == [(0, b"a"), (1, b"b")]


def test_what_is_written_is_laid_out_as_insightface_does(tmp_path: Path) -> None:
    write_recordio(tmp_path / "train.rec", [(0, b"a"), (0, b"bcd"), (9, b"e")])
    (tmp_path / "by_hand").mkdir()
    expected = write_pair(
        tmp_path / "by_hand",
        {
            0: part(header(4.0, 6.0)),
            1: part(header(0.0, key=1) + b"a"),
            2: part(header(0.0, key=2) + b"bcd"),
            3: part(header(9.0, key=3) + b"e"),
            4: part(header(1.0, 3.0, key=4)),
            5: part(header(3.0, 4.0, key=5)),
        },
    )
    assert (tmp_path / "train.rec").read_bytes() == expected.read_bytes()
    assert (tmp_path / "train.idx").read_text() == expected.with_suffix(".idx").read_text()


@given(
    images=st.lists(
        st.lists(st.sampled_from([MAGIC, MAGIC[:2], b"\xff", b"abcd"]), max_size=6).map(b"".join),
        max_size=8,
    ),
    identities=st.lists(st.integers(0, 2**24 - 1), min_size=8, max_size=8).map(sorted),
)
def test_any_bytes_survive_the_round_trip_even_those_that_mark_records(
    images: list[bytes], identities: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("set") / "train.rec"
    pairs = list(zip(identities, images, strict=False))
    write_recordio(path, pairs)
    assert list(RecordIO(path)) == pairs
    content = path.read_bytes()
    assert len(content) % 4 == 0
    offsets = {int(line.split()[1]) for line in path.with_suffix(".idx").read_text().splitlines()}
    # What makes a file of records splittable: every aligned magic is the start of a part.
    starts, position = set(), 0
    while position < len(content):
        starts.add(position)
        length = struct.unpack_from("<I", content, position + 4)[0] & (1 << 29) - 1
        position += 8 + length + -length % 4
    found = {i for i in range(0, len(content), 4) if content[i : i + 4] == MAGIC}
    assert offsets <= starts == found


def test_workers_open_the_files_themselves(tmp_path: Path) -> None:
    write_recordio(tmp_path / "train.rec", [(0, bytes(100_000))])
    pickled = pickle.dumps(RecordIO(tmp_path / "train.rec"))
    assert len(pickled) < 1_000
    assert pickle.loads(pickled)[0] == (0, bytes(100_000))


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (b"XXXX" + part(header(0.0))[4:], "no record at byte 0"),
        (part(header(0.0) + b"image")[:-8], "announced, fewer in the file"),
        (part(b"short"), "too few for a header"),
        (part(struct.pack("<IfQQ", 10**6, 0.0, 0, 0)), "1000000 labels announced"),
        (part(header(0.0), flag=2), "part 0 with flag 2"),
        (part(header(0.0), flag=1), "the end of the file"),
        (part(header(0.0), flag=1) + part(b"", flag=0), "part 1 with flag 0"),
        (part(header(0.5) + b"image"), "the label 0.5"),
        (part(header(float("nan")) + b"image"), "the label nan"),
        (MAGIC, "the end of the file"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, record: bytes, found: str) -> None:
    path = write_pair(tmp_path, {3: record})
    with pytest.raises(UserError, match=rf"train.rec, record 3: found .*{found}"):
        list(RecordIO(path))


@pytest.mark.parametrize("index", ["1 2 3\n", "one\t0\n", "\0\0"])
def test_a_damaged_index_is_named_with_its_line(tmp_path: Path, index: str) -> None:
    path = write_pair(tmp_path, {0: part(header(0.0) + b"a")})
    path.with_suffix(".idx").write_text("0\t0\n" + index)
    with pytest.raises(UserError, match=r"train.idx, line 2"):
        RecordIO(path)


def test_an_index_that_points_past_the_end_is_refused(tmp_path: Path) -> None:
    path = write_pair(tmp_path, {0: part(header(0.0) + b"a")})
    for offset in (10**9, -4):
        path.with_suffix(".idx").write_text(f"0\t{offset}\n")
        with pytest.raises(UserError, match="record 0: found the end of the file"):
            RecordIO(path)


@pytest.mark.parametrize("missing", ["train.idx", "train.rec"])
def test_half_a_pair_is_refused_and_the_missing_file_named(tmp_path: Path, missing: str) -> None:
    path = write_pair(tmp_path, {0: part(header(0.0) + b"a")})
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=missing):
        RecordIO(path)


def test_identities_out_of_order_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="identity 0: found images after those of identity 1"):
        write_recordio(tmp_path / "train.rec", [(0, b"a"), (1, b"b"), (0, b"c")])
    assert list(tmp_path.iterdir()) == []

"""Sets of aligned faces into a store and back: bytes, names and order survive; the rest is said."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from openmfr.data.convert import OutConfig, convert_from_store, convert_to_store
from openmfr.data.convert import into_store as into
from openmfr.data.convert.out_of_store import Format
from openmfr.data.convert.shards import folder_name
from openmfr.data.crop import IngestConfig
from openmfr.data.ingest import ingest
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.data.store_writer import StoreWriter
from openmfr.errors import UserError

SIZE = 16
FORMATS: tuple[Format, ...] = get_args(Format)

#: Names that a path, a number or a file of ours could be confused with.
NASTY = (
    *("..", ".", "", "../../up", "/etc/passwd", "a/b", "a%2Fb", "a\\b", "\0", "-1", "007", "7"),
    *("listing.parquet", "Work", "conversion.json", "%unknown-000.jpg", "000.jpg", "%", " "),
    *("x" * 300, "x" * 301, "é" * 150, "ann~1", "ann", "line\nbreak", '"quoted", name'),
)


def picture(number: int, *, size: int = SIZE, mode: str = "RGB", form: str = "JPEG") -> bytes:
    """Encode a small picture; other numbers give other bytes."""
    values = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).convert(mode).save(file, form)
    return file.getvalue()


def store_of(path: Path, names: Sequence[str | None], *, per_shard: int = 3) -> Store:
    """Make a store with one image for each name; every fifth is a PNG."""
    images = [picture(i, form="PNG" if i % 5 == 4 else "JPEG") for i in range(len(names))]
    writer = StoreWriter(path, image_size=SIZE, settings={"names": list(names)})
    starts = range(0, len(names), per_shard)
    for shard, start in enumerate(starts):
        part = slice(start, start + per_shard)
        columns = {
            "source": [f"photo {i}" for i in range(start, start + len(names[part]))],
            "identity_name": names[part],
        }
        writer.write_shard(shard, images[part], columns)
    return writer.commit(shards=len(starts))


def content(store: Store) -> list[tuple[bytes, str | None, str]]:
    """Everything that a conversion must keep, in order."""
    columns = (store.column(name) for name in ("identity_name", "source"))
    return list(zip((store.read(i) for i in range(len(store))), *columns, strict=True))


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def there_and_back(
    store: Store, folder: Path, to: Format, *, labels: Labels | None = None, workers: int = 1
) -> Store:
    config = OutConfig(to=to, images_per_tar=4)
    convert_from_store(store, folder / "out", config=config, labels=labels, workers=workers)
    convert_to_store(folder / "out", folder / "back", size=SIZE, workers=workers)
    return Store(folder / "back")


@given(
    names=st.lists(
        st.none()
        | st.sampled_from(NASTY)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        min_size=1,
        max_size=12,
    ),
    to=st.sampled_from(FORMATS),
)
@settings(max_examples=40)
def test_images_names_and_order_survive_the_way_there_and_back(
    names: list[str | None], to: Format, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("set")
    store = store_of(folder / "store", names)
    expected = content(store)
    if to == "recordio":  # which has no place for an image of nobody known
        expected = [image for image in expected if image[1] is not None]
    if not expected:
        with pytest.raises(UserError, match="found no image to write"):
            there_and_back(store, folder, to)
        return
    assert content(there_and_back(store, folder, to)) == expected
    # Whatever the names are, everything is where it was asked to be.
    assert {path.name for path in folder.iterdir()} == {"store", "out", "back"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(NASTY)))
def test_a_folder_for_an_identity_is_one_name_and_its_own(names: list[str]) -> None:
    folders = {name: folder_name(name) for name in names}
    assert len(set(folders.values())) == len(folders)
    for folder in folders.values():
        assert folder not in ("", ".", "..", "work")
        assert not set("/\\\0") & set(folder)
        assert len(folder.encode()) <= 255


@pytest.mark.parametrize("to", ["tar", "folder"])
def test_several_processes_write_what_one_writes(tmp_path: Path, to: Format) -> None:
    store = store_of(tmp_path / "store", [f"p{i // 3}" for i in range(50)], per_shard=20)
    one = there_and_back(store, tmp_path / "one", to)
    two = there_and_back(store, tmp_path / "two", to, workers=2)
    assert files_in(tmp_path / "one" / "out") == files_in(tmp_path / "two" / "out")
    assert one.fingerprint == two.fingerprint


def labels_of(store: Store, identity: Sequence[int]) -> Labels:
    return Labels.from_identity(identity, store=store)


@pytest.mark.parametrize("to", FORMATS)
def test_labels_say_what_leaves_the_store_and_as_whom(tmp_path: Path, to: Format) -> None:
    store = store_of(tmp_path / "store", ["ann", "ann", "ann", "ben", "cem", "cem", "dan"])
    # ben's image is one of cem's; ann is two people; dan is left out, and one of cem's too.
    labels = labels_of(store, [0, 0, 9, 2, 2, 2, 3])
    drop = np.array([False] * 5 + [True] * 2)
    back = there_and_back(store, tmp_path, to, labels=labels.without(drop, reason="blurred"))
    expected = [0, 1, 2, 3, 4]
    assert [back.read(i) for i in range(len(back))] == [store.read(i) for i in expected]
    # "cem" and "ben" have one image each of theirs: the name that comes first in the store.
    assert back.column("identity_name") == ["ann", "ann", "ann~9", "ben", "ben"]


def test_images_set_aside_as_damaged_stay_in_the_store(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["ann"] * 3 + ["ben"] * 3)
    expected = content(store)
    store.quarantined = np.array([1, 5])
    back = there_and_back(store, tmp_path, "tar")
    assert content(back) == [expected[i] for i in (0, 2, 3, 4)]
    store.quarantined = np.array([1])  # a repaired store has other images to give
    with pytest.raises(UserError, match="set_aside"):
        there_and_back(store, tmp_path, "tar")


def test_labels_of_another_store_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["ann", "ben"])
    other = store_of(tmp_path / "other", ["ann", "cem"])
    with pytest.raises(UserError, match="2 rows for store"):
        there_and_back(store, tmp_path, "tar", labels=Labels.from_names(other))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", FORMATS)
def test_a_run_that_was_stopped_goes_on_and_ends_in_the_same_files(
    tmp_path: Path, to: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "store", [f"p{i % 7}" for i in range(40)])
    monkeypatch.setattr("openmfr.data.convert.records.MOST_OF_A_PART", 8)
    config = OutConfig(to=to, images_per_tar=8)
    convert_from_store(store, tmp_path / "whole", config=config, workers=1)

    read, reads = Store.read, list[int]()

    def stop(self: Store, index: int) -> bytes:
        reads.append(index)
        if len(reads) == 30:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(Store, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_from_store(store, tmp_path / "out", config=config, workers=1)
    reads.clear()
    with pytest.raises(UserError, match="choose another folder"):
        convert_from_store(store, tmp_path / "out", config=OutConfig(to=other_than(to)), workers=1)
    done = convert_from_store(store, tmp_path / "out", config=config, workers=1)
    assert (done.images, done.was_finished) == (40, False)
    assert len(reads) < 25  # what was done is not done again
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")
    reads.clear()
    assert convert_from_store(store, tmp_path / "out", config=config, workers=1).was_finished
    assert reads == []


def other_than(to: Format) -> Format:
    return "tar" if to != "tar" else "folder"


def test_a_stopped_conversion_to_a_store_goes_on_and_ends_in_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "store", [f"p{i // 4}" for i in range(40)])
    convert_from_store(store, tmp_path / "set", config=OutConfig(to="recordio"), workers=1)
    convert_to_store(tmp_path / "set", tmp_path / "whole", size=SIZE, workers=1)
    check, checked, stopped = into.fault_of, list[int](), list[bool]()

    def stop(encoded: bytes, size: int) -> str:
        checked.append(size)
        if len(checked) == 20 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return check(encoded, size)

    monkeypatch.setattr(into, "fault_of", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_to_store(tmp_path / "set", tmp_path / "back", size=SIZE, workers=1)
    with pytest.raises(UserError, match="no readable store"):
        Store(tmp_path / "back")
    checked.clear()
    convert_to_store(tmp_path / "set", tmp_path / "back", size=SIZE, workers=1)
    assert 20 < len(checked) < 40
    assert Store(tmp_path / "back").fingerprint == Store(tmp_path / "whole").fingerprint
    assert not (tmp_path / "back" / "accounts").exists()
    checked.clear()
    assert convert_to_store(tmp_path / "set", tmp_path / "back", size=SIZE).was_finished
    assert checked == []


def turned() -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(picture(9))) as image:
        image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def deep() -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(4).integers(0, 1 << 16, (SIZE, SIZE), dtype=np.uint16)
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


REFUSED = {
    "a_small.jpg": (picture(1, size=8), "wrong size: 8×8 pixels, not 16×16"),
    "b_cut.jpg": (picture(2)[:-40], "damaged or incomplete"),
    "c_cut.png": (picture(2, form="PNG")[:-40], "damaged or incomplete"),
    "d_webp.jpg": (picture(3, form="WEBP"), "not a JPEG or PNG"),
    "e_empty.jpg": (b"", "empty file"),
    "f_text.jpg": (b"\xff\xd8\xff no picture", "damaged or incomplete"),
    "g_turned.jpg": (turned(), "read differently by different programs: EXIF orientation 6"),
    "h_16_bits.png": (deep(), "read differently by different programs: scaled from 16"),
}
KEPT = {
    "i_colour.jpg": picture(5),
    "j_grey.jpg": picture(6, mode="L"),
    "k_palette.png": picture(7, mode="P", form="PNG"),
    "l_cmyk.jpg": picture(4, mode="CMYK"),
    "m_colour.png": picture(8, form="PNG"),
}


def test_what_a_store_cannot_keep_as_it_is_is_refused_with_the_reason_and_never_encoded_anew(
    tmp_path: Path,
) -> None:
    (tmp_path / "set" / "ann").mkdir(parents=True)
    for name, image in {**KEPT, **{name: image for name, (image, _) in REFUSED.items()}}.items():
        (tmp_path / "set" / "ann" / name).write_bytes(image)
    (tmp_path / "set" / "readme.txt").write_text("no photo")
    summary = convert_to_store(tmp_path / "set", tmp_path / "store", size=SIZE, workers=1)
    store = Store(tmp_path / "store")
    assert content(store) == [(image, "ann", f"ann/{name}") for name, image in KEPT.items()]
    assert all(store.decode(i).shape == (SIZE, SIZE, 3) for i in range(len(store)))
    with (tmp_path / "store" / "rejected.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert rows.keys() == {f"ann/{name}" for name in REFUSED}
    for name, (_, reason) in REFUSED.items():
        assert rows[f"ann/{name}"].startswith(reason)
    assert (summary.images, summary.identities, summary.left_out) == (5, 1, 1)
    assert sum(summary.refused.values()) == len(REFUSED)
    assert len(Labels.read(tmp_path / "store" / "labels.parquet")) == 5


def test_a_set_of_another_size_ends_in_an_error_that_says_what_takes_it(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["ann", "ben"])
    convert_from_store(store, tmp_path / "set", config=OutConfig(to="tar"), workers=1)
    with pytest.raises(UserError, match=r"a reason for each of 2 images.*--size.*ingest --aligned"):
        convert_to_store(tmp_path / "set", tmp_path / "back", workers=1)
    with (tmp_path / "back" / "rejected.csv").open(encoding="utf-8") as file:
        assert "wrong size: 16×16 pixels, not 112×112" in file.read()


def test_ingest_reads_the_listing_of_a_folder(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["a/b", "a/b", "..", None])
    convert_from_store(store, tmp_path / "set", config=OutConfig(to="folder"), workers=1)
    listing = tmp_path / "set" / "listing.parquet"
    config = IngestConfig(size=SIZE, min_face=1, is_aligned=True)
    ingest(tmp_path / "set", tmp_path / "back", config=config, labels=listing, workers=1)
    assert Store(tmp_path / "back").column("identity_name") == ["a/b", "a/b", "..", None]


def test_a_folder_of_another_maker_is_read_by_its_names(tmp_path: Path) -> None:
    for name in ("ben/2.jpg", "ann/1.jpg", "nobody.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture(len(name)))
    convert_to_store(tmp_path / "set", tmp_path / "store", size=SIZE, workers=1)
    store = Store(tmp_path / "store")
    assert store.column("source") == ["ann/1.jpg", "ben/2.jpg", "nobody.jpg"]
    assert store.column("identity_name") == ["ann", "ben", None]


@pytest.mark.parametrize("name", ["../secret.jpg", "/secret.jpg", "ann/../../secret.jpg", ".", ""])
def test_a_listing_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    store = store_of(tmp_path / "store", ["ann", "ann"])
    convert_from_store(store, tmp_path / "set", config=OutConfig(to="folder"), workers=1)
    (tmp_path / "secret.jpg").write_bytes(picture(1))
    table = pq.read_table(tmp_path / "set" / "listing.parquet")
    paths = pa.array([table["path"][0].as_py(), name])
    changed = table.set_column(table.schema.get_field_index("path"), "path", paths)
    pq.write_table(changed, tmp_path / "set" / "listing.parquet")
    with pytest.raises(UserError, match="allowed: paths below the folder"):
        convert_to_store(tmp_path / "set", tmp_path / "back", size=SIZE, workers=1)


def test_a_photo_that_the_listing_names_and_nobody_copied_is_refused_by_name(
    tmp_path: Path,
) -> None:
    store = store_of(tmp_path / "store", ["ann", "ann", "ben"])
    convert_from_store(store, tmp_path / "set", config=OutConfig(to="folder"), workers=1)
    (tmp_path / "set" / "ann" / "001.jpg").unlink()
    summary = convert_to_store(tmp_path / "set", tmp_path / "back", size=SIZE, workers=1)
    assert summary.refused == {"cannot be read": 1}
    assert Store(tmp_path / "back").column("identity_name") == ["ann", "ben"]


def test_foreign_files_in_the_way_are_left_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["ann"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something that is no unfinished conversion"):
        convert_from_store(store, tmp_path / "out", config=OutConfig(to="tar"), workers=1)
    assert files_in(tmp_path / "out") == {"thesis.txt": b"mine"}


def test_a_configuration_out_of_its_limits_is_refused() -> None:
    with pytest.raises(UserError, match="images_per_tar: found 0; allowed: from 1"):
        OutConfig(to="tar", images_per_tar=0)
    to: Any = "tarr"
    with pytest.raises(UserError, match=r"to: found tarr; .*did you mean tar"):
        OutConfig(to=to)

"""What becomes of photos, with a detector that finds what the test has drawn."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openmfr.cli.main import EXIT_USER_ERROR
from openmfr.cli.main import main as run_openmfr
from openmfr.data.crop import IngestConfig
from openmfr.data.formats.photo_list import list_photos
from openmfr.data.formats.recordio import write_recordio
from openmfr.data.ingest import IngestSummary, ingest
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.data.store_writer import StoreWriter
from openmfr.errors import UserError
from openmfr.faces.align import Alignment, FloatArray, template
from openmfr.faces.detect import DetectedFace
from openmfr.faces.photo import UInt8Array

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def landmarks_of(left: float, top: float, edge: int) -> FloatArray:
    """Landmarks of a face whose crop is a square of the photo."""
    shift: FloatArray = np.array([left, top], np.float64)
    return template(edge) + shift


class SquareDetector:
    """Takes every square of one pure colour on grey for a face; crashes on a white picture."""

    def detect(self, photo: UInt8Array) -> list[DetectedFace]:
        if (photo == 255).all():
            raise ZeroDivisionError("white")
        faces = []
        for colour in (RED, GREEN, BLUE):
            rows, columns = np.nonzero((np.abs(photo.astype(int) - colour) < 60).all(axis=2))
            if rows.size:
                x0, y0, edge = columns.min(), rows.min(), int(np.ptp(columns)) + 1
                faces.append(
                    DetectedFace(
                        box=(x0, y0, x0 + edge, y0 + edge),
                        score=0.75,
                        landmarks=landmarks_of(x0, y0, edge),
                    )
                )
        return faces


def photo(*squares: tuple[int, int, int, tuple[int, int, int]]) -> Image.Image:
    """A grey photo, 300×200, with squares: left, top, edge, colour."""
    pixels = np.full((200, 300, 3), 128, np.uint8)
    for left, top, edge, colour in squares:
        pixels[top : top + edge, left : left + edge] = colour
    return Image.fromarray(pixels)


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)
    return path


def jpeg(size: int, colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two people, one with a photo of several people, and files that give no face."""
    folder = tmp_path / "photos"
    save(photo((100, 50, 100, RED)), folder / "Ann" / "1.jpg")
    save(photo((0, 0, 40, GREEN), (110, 60, 80, RED), (260, 160, 36, BLUE)), folder / "Ann/2.jpg")
    save(photo((100, 50, 64, BLUE)), folder / "Bob" / "1.png")
    save(photo((100, 50, 20, RED)), folder / "Bob" / "far.png")
    save(photo(), folder / "Bob" / "nobody.jpg")
    save(Image.new("RGB", (90, 90), "white"), folder / "Bob" / "strange.png")
    save(Image.new("RGB", (1, 1), RED), folder / "Bob" / "dot.png")
    (folder / "Bob" / "empty.jpg").touch()
    (folder / "Bob" / "notes.txt").write_text("no photo")
    (folder / "Bob" / ".hidden.jpg").write_text("left by a file manager")
    return folder


def run(photos: Path, out: Path, **arguments: object) -> IngestSummary:
    settings: dict[str, object] = {"detector": SquareDetector, "workers": 1} | arguments
    return ingest(photos, out, **settings)  # type: ignore[arg-type]


def reasons(out: Path) -> dict[str, str]:
    with (out / "rejected.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def test_a_folder_of_photos_becomes_faces_labels_and_reasons(photos: Path, tmp_path: Path) -> None:
    summary = run(photos, tmp_path / "out")
    store = Store(tmp_path / "out")
    assert store.column("source") == ["Ann/1.jpg", "Ann/2.jpg", "Bob/1.png"]
    assert Labels.read(tmp_path / "out" / "labels.parquet").identity.tolist() == [0, 0, 1]
    for index, colour in enumerate((RED, RED, BLUE)):
        face = store.decode(index)
        assert face.shape == (112, 112, 3)
        assert np.abs(face[10:-10, 10:-10].astype(int) - colour).max() < 12
    assert reasons(tmp_path / "out") == {
        "Bob/dot.png": "face too small: a picture of 1×1 pixels",
        "Bob/empty.jpg": "empty file",
        "Bob/far.png": "face too small: 20 pixels, at least 32",
        "Bob/nobody.jpg": "no face found",
        "Bob/strange.png": "detector failed: ZeroDivisionError: white",
    }
    assert (summary.photos, summary.faces, summary.identities, summary.left_out) == (8, 3, 2, 1)
    assert summary.rejected["face too small"] == 2


def test_a_photo_whose_name_is_no_text_is_read_and_its_name_escaped(
    photos: Path, tmp_path: Path
) -> None:
    folder = photos / "Bob"
    try:
        (folder / "1.png").rename(folder / os.fsdecode(b"caf\xe9.png"))  # Latin-1
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    run(photos, tmp_path / "out")
    sources = Store(tmp_path / "out").column("source")
    assert sources == ["Ann/1.jpg", "Ann/2.jpg", "Bob/caf\\xe9.png"]


def test_of_several_faces_the_largest_central_one_is_taken_and_it_is_said(
    photos: Path, tmp_path: Path
) -> None:
    summary = run(photos, tmp_path / "out")
    store = Store(tmp_path / "out")
    assert summary.several_faces == 1
    assert store.column("faces") == [1, 3, 1]
    assert store.column("note") == ["", "3 faces, the largest central one taken", ""]
    landmarks = np.array(store.column("landmarks")[1]).reshape(5, 2)
    np.testing.assert_allclose(landmarks, landmarks_of(110, 60, 80), atol=2)
    assert store.column("detector_score")[1] == 0.75


def test_a_folder_that_cannot_be_read_loses_nobody_silently(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = photos / "closed"
    closed.mkdir()
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match="closed: found a folder that cannot be read"):
        list_photos(photos)


def test_every_number_of_workers_makes_the_same_store(photos: Path, tmp_path: Path) -> None:
    for copy in range(20):
        shutil.copytree(photos / "Ann", photos / f"Ann{copy:02d}")
    points = tmp_path / "landmarks.csv"
    rows = ["path," + ",".join(f"x{i},y{i}" for i in range(5))]
    for path in sorted(photos.glob("Ann*/*.jpg")):
        numbers = landmarks_of(100, 50, 100).ravel()
        rows.append(f"{path.relative_to(photos)}," + ",".join(map(str, numbers)))
    points.write_text("\n".join(rows))
    one = ingest(photos, tmp_path / "one", landmarks=points, workers=1)
    two = ingest(photos, tmp_path / "two", landmarks=points, workers=2)
    assert one.faces == two.faces == 42
    assert Store(tmp_path / "one").fingerprint == Store(tmp_path / "two").fingerprint
    assert reasons(tmp_path / "one") == reasons(tmp_path / "two")


def test_a_listing_says_who_is_on_which_photo(photos: Path, tmp_path: Path) -> None:
    rows = {"path": ["Bob/1.png", "Ann/1.jpg", "gone.jpg"], "identity": ["007", "", "7"]}
    pq.write_table(pa.table(rows), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text(
        "camera,path,identity\n1,Bob/1.png,007\n1,Ann/1.jpg,\n2,gone.jpg,7\n"
    )
    for name in ("list.csv", "list.parquet"):
        out = tmp_path / f"out-{name}"
        run(photos, out, labels=tmp_path / name)
        assert Store(out).column("source") == ["Bob/1.png", "Ann/1.jpg"]
        assert Store(out).column("identity_name") == ["007", None]
        assert Labels.read(out / "labels.parquet").keep.tolist() == [True, False]
        assert reasons(out) == {"gone.jpg": "cannot be read: No such file or directory"}


def test_a_users_own_landmarks_need_no_detector(photos: Path, tmp_path: Path) -> None:
    numbers = ",".join(map(str, landmarks_of(100, 50, 64).ravel()))
    header = ",".join(f"x{i},y{i}" for i in range(5))
    (tmp_path / "points.csv").write_text(f"path,{header}\nBob/1.png,{numbers}\n")
    run(photos, tmp_path / "out", landmarks=tmp_path / "points.csv", detector=None)
    store = Store(tmp_path / "out")
    assert store.column("source") == ["Bob/1.png"]
    assert np.abs(store.decode(0)[10:-10, 10:-10].astype(int) - BLUE).max() < 12
    assert reasons(tmp_path / "out")["Ann/1.jpg"] == "no landmarks: none given for this photo"


def test_eyes_and_nose_alone_place_a_face_and_the_store_says_so(
    photos: Path, tmp_path: Path
) -> None:
    """The corners of the mouth are far off, as guesses under a mask can be."""
    points = landmarks_of(100, 50, 64)
    points[3:] += [[0, 30], [20, 30]]
    header = ",".join(f"x{i},y{i}" for i in range(5))
    numbers = ",".join(map(str, points.ravel()))
    (tmp_path / "points.csv").write_text(f"path,{header}\nBob/1.png,{numbers}\n")
    blue = {}
    alignments: tuple[Alignment, ...] = ("five", "eyes-nose")
    for align in alignments:
        out = tmp_path / align
        config = IngestConfig(align=align)
        run(photos, out, config=config, landmarks=tmp_path / "points.csv", detector=None)
        store = Store(out)
        assert store.settings["align"] == align
        np.testing.assert_allclose(store.column("landmarks")[0], points.ravel(), atol=1e-4)
        blue[align] = (np.abs(store.decode(0).astype(int) - BLUE) < 60).all(axis=2).mean()
    assert blue["eyes-nose"] > 0.97 > 0.9 > blue["five"]


def test_a_detected_face_is_placed_by_the_alignment_too(photos: Path, tmp_path: Path) -> None:
    class Guessing(SquareDetector):
        def detect(self, photo: UInt8Array) -> list[DetectedFace]:
            for face in (faces := super().detect(photo)):
                face.landmarks[3:] += 25
            return faces

    run(photos, tmp_path / "five", detector=Guessing)
    run(photos, tmp_path / "three", detector=Guessing, config=IngestConfig(align="eyes-nose"))
    five, three = (Store(tmp_path / name).decode(2).astype(int) for name in ("five", "three"))
    assert np.abs(three[8:-8, 8:-8] - BLUE).max() < 20
    assert np.abs(five[8:-8, 8:-8] - BLUE).max() > 60


def test_an_alignment_is_refused_if_unknown_or_without_anything_to_align() -> None:
    with pytest.raises(UserError, match=r"align: found eyes; .*did you mean eyes-nose"):
        IngestConfig(align="eyes")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="eyes-nose for photos that are aligned already"):
        IngestConfig(align="eyes-nose", is_aligned=True)


def test_a_store_begun_with_one_alignment_is_not_finished_with_another(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    with pytest.raises(UserError, match="align: found 'five'; allowed: 'eyes-nose'"):
        run(photos, tmp_path / "out", config=IngestConfig(align="eyes-nose"))


def test_aligned_jpegs_of_the_right_size_are_kept_byte_for_byte(tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    for name in "ab":
        (crops / name).mkdir(parents=True)
        (crops / name / "exact.jpg").write_bytes(jpeg(112, RED))
    (crops / "a" / "large.jpg").write_bytes(jpeg(160, GREEN))
    save(Image.new("RGB", (112, 112), BLUE), crops / "b" / "exact.png")
    save(Image.new("RGB", (112, 96), BLUE), crops / "b" / "narrow.png")
    run(crops, tmp_path / "out", config=IngestConfig(is_aligned=True), detector=None)
    store = Store(tmp_path / "out")
    exact = [i for i, source in enumerate(store.column("source")) if "exact.jpg" in source]
    assert [store.read(i) for i in exact] == [jpeg(112, RED)] * 2
    assert {store.decode(i).shape for i in range(len(store))} == {(112, 112, 3)}
    assert store.column("note")[store.column("source").index("a/large.jpg")] == (
        "scaled from 160 pixels"
    )
    assert reasons(tmp_path / "out") == {
        "b/narrow.png": "not an aligned crop: 112×96 pixels, not square"
    }


def test_a_recordio_is_taken_as_it_is_and_a_damaged_image_listed(tmp_path: Path) -> None:
    images = [(0, jpeg(112, RED)), (0, jpeg(112, RED)[:300]), (5, jpeg(112, BLUE))]
    write_recordio(tmp_path / "set" / "train.rec", images)
    run(tmp_path / "set", tmp_path / "out", detector=None)
    store = Store(tmp_path / "out")
    assert [store.read(i) for i in range(2)] == [images[0][1], images[2][1]]
    assert store.column("identity_name") == ["0", "5"]
    assert list(reasons(tmp_path / "out")) == ["1"]


def test_a_run_that_was_cut_off_anywhere_ends_in_the_same_store(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copy in range(12):
        shutil.copytree(photos / "Ann", photos / f"Ann{copy:02d}")
    run(photos, tmp_path / "whole")
    whole = Store(tmp_path / "whole").fingerprint
    for place in ("StoreWriter.write_shard", "StoreWriter.commit", "Labels.write"):
        out = tmp_path / place
        with monkeypatch.context() as patch:
            cut_off_at(patch, place)
            with pytest.raises(KeyboardInterrupt):
                run(photos, out)
        run(photos, out)
        assert Store(out).fingerprint == whole
        assert {path.name for path in out.iterdir()} == {
            path.name for path in (tmp_path / "whole").iterdir()
        }


def cut_off_at(patch: pytest.MonkeyPatch, place: str) -> None:
    """Stop at the second shard, or at the first other call."""
    calls = []

    def stop(*arguments: object, **named: object) -> None:
        calls.append(place)
        if "shard" not in place or len(calls) == 2:
            raise KeyboardInterrupt
        original(*arguments, **named)

    owner_name, method = place.split(".")
    owner = {"StoreWriter": StoreWriter, "Labels": Labels}[owner_name]
    original = getattr(owner, method)
    patch.setattr(owner, method, stop)


def test_a_finished_run_repeated_says_so_and_touches_nothing(photos: Path, tmp_path: Path) -> None:
    first = run(photos, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = run(photos, tmp_path / "out")
    assert again.was_finished
    assert not first.was_finished
    assert (again.photos, again.faces, again.rejected) == (8, 3, first.rejected)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_a_listing_with_an_empty_path_names_the_row(photos: Path, tmp_path: Path) -> None:
    rows = {"path": ["Bob/1.png", None], "identity": ["007", "7"]}
    pq.write_table(pa.table(rows), tmp_path / "list.parquet")
    with pytest.raises(UserError, match="row 2, path: found nothing"):
        run(photos, tmp_path / "out", labels=tmp_path / "list.parquet")


def test_a_store_whose_list_of_refused_photos_was_deleted_is_still_finished(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    (tmp_path / "out" / "rejected.csv").unlink()
    again = run(photos, tmp_path / "out")
    assert again.was_finished
    assert again.rejected == {"unknown": 5}


def test_other_photos_or_options_do_not_mix_with_an_earlier_run(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "out")
    with pytest.raises(UserError, match="size: found 112; allowed: 96"):
        run(photos, tmp_path / "out", config=IngestConfig(size=96))
    save(photo((100, 50, 100, RED)), photos / "Ann" / "3.jpg")
    with pytest.raises(UserError, match="photo"):
        run(photos, tmp_path / "out")


def test_a_single_identity_is_warned_of_because_training_refuses_it(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(photos / "Bob")
    with caplog.at_level(logging.WARNING):
        run(photos, tmp_path / "out")
    assert "a single identity, Ann; training needs at least two" in caplog.text


def test_photos_of_nobody_are_an_error_that_points_to_the_reasons(
    photos: Path, tmp_path: Path
) -> None:
    shutil.rmtree(photos / "Ann")
    (photos / "Bob" / "1.png").unlink()
    with pytest.raises(UserError, match=r"rejected.csv: found a reason for each of 5 photos"):
        run(photos, tmp_path / "out")
    assert len(reasons(tmp_path / "out")) == 5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: found nothing; allowed: a folder of photos"),
        (["empty"], "found nothing in it"),
        (["words"], "found no photo among 1 files"),
        (["words/notes.txt"], "notes.txt: found a file"),
        (["photos", "--labels", "nowhere.csv"], "nowhere.csv: found no readable table"),
        (["photos", "--labels", "wrong.csv"], "found no column path, identity among name"),
        (["photos", "--labels", "twice.csv"], "twice.csv, row 2, path: found a.jpg, which row 1"),
        (["photos", "--landmarks", "nan.csv"], "nan.csv, row 1: found"),
        (["photos", "--landmarks", "nan.csv", "--aligned"], "for photos that are aligned already"),
        (["photos", "--size", "3"], "size: found 3; allowed: 16 to 1024 pixels"),
        (["photos", "--min-face", "nan"], "min_face: found nan"),
        (["photos", "--workers", "0"], "workers: found 0"),
    ],
)
def test_each_mistake_gives_one_clear_line_and_exit_code_2(
    arguments: list[str],
    complaint: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("words").mkdir()
    Path("words/notes.txt").write_text("words")
    Path("wrong.csv").write_text("name\nx\n")
    Path("twice.csv").write_text("path,identity\na.jpg,x\na.jpg,y\n")
    header = ",".join(f"x{i},y{i}" for i in range(5))
    if arguments[-1] == "--aligned":
        Path("nan.csv").write_text(f"path,{header}\nAnn/1.jpg,1,2,3,4,5,6,7,8,9,10\n")
    else:
        Path("nan.csv").write_text(f"path,{header}\nAnn/1.jpg,1,2,3,4,nan,6,7,8,9,10\n")
    assert run_openmfr(["ingest", arguments[0], "out", *arguments[1:]]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert complaint in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1
    assert not Path("out").exists()


def test_the_command_says_what_became_of_the_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        save(Image.new("RGB", (112, 112), RED), tmp_path / "crops" / name / "1.jpg")
    (tmp_path / "crops" / "b" / "2.jpg").touch()
    command = ["ingest", str(tmp_path / "crops"), str(tmp_path / "out"), "--aligned"]
    assert run_openmfr(command) == 0
    said = capsys.readouterr().out
    assert "2 faces of 2 identities" in said
    assert "1 refused: empty file" in said
    assert run_openmfr(command) == 0
    assert "was finished already" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["images"] == 2

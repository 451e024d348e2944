"""Real photos and real awkward files, end to end with the real detector."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.data.ingest import ingest
from openmfr.data.store import Store, UInt8Array
from openmfr.errors import UserError
from openmfr.faces.face_mesh import FaceMeshDetector

UNREADABLE = ("damaged or incomplete", "empty file", "not a picture")
Ingested = Callable[[str], tuple[Store, dict[str, str]]]

NO_FACE = ("no face found", "face too small")


@pytest.fixture(scope="module")
def _mediapipe() -> None:
    try:
        FaceMeshDetector()
    except UserError as error:
        if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ingested(
    _mediapipe: None, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ingested:
    """Ingest one of the folders of raw frames: its store, and photo → why it was refused."""
    made: dict[str, tuple[Store, dict[str, str]]] = {}

    def of(name: str) -> tuple[Store, dict[str, str]]:
        if name not in made:
            out = tmp_path_factory.mktemp("ingest") / name
            ingest(real_data / "raw-ingest" / name, out, workers=1)
            with (out / "rejected.csv").open(encoding="utf-8", newline="") as file:
                reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
            made[name] = Store(out), reasons
        return made[name]

    return of


def test_every_awkward_file_is_accounted_for_as_expected(
    ingested: Ingested, real_data: Path
) -> None:
    store, reasons = ingested("awkward")
    rows = {
        source: {"faces": faces, "note": note}
        for source, faces, note in zip(
            store.column("source"), store.column("faces"), store.column("note"), strict=True
        )
    }
    with (real_data / "raw-ingest" / "awkward" / "expected.csv").open(encoding="utf-8") as file:
        expected = {row["file"]: row["expected"] for row in csv.DictReader(file)}
    assert rows.keys() | reasons.keys() == expected.keys()
    assert not rows.keys() & reasons.keys()
    wrong = {
        name: (what, rows.get(name), reasons.get(name))
        for name, what in expected.items()
        if not is_as_expected(what, rows.get(name), reasons.get(name, ""))
    }
    assert not wrong


def is_as_expected(what: str, row: dict[str, Any] | None, reason: str) -> bool:
    """Read a sentence of `expected.csv` and compare."""
    several_are_said = row is None or row["faces"] == 1 or "largest central" in row["note"]
    if what.startswith("decode error"):
        return reason.startswith(UNREADABLE)
    if what.startswith("0 faces"):
        return reason.startswith(NO_FACE)
    if what.startswith("0 or 1 face"):
        return reason.startswith(NO_FACE) or (row is not None and row["faces"] == 1)
    if what.startswith("1 "):
        return row is not None and row["faces"] == 1
    if what.startswith("3 faces"):
        return row is not None and row["faces"] == 3 and several_are_said
    assert "choose or refuse" in what, what
    return several_are_said and (row is not None or reason.startswith(NO_FACE))


def test_one_photo_gives_one_face_in_whatever_file_it_is_saved(ingested: Ingested) -> None:
    store, _ = ingested("awkward")
    index = {source: i for i, source in enumerate(store.column("source"))}

    def grey(name: str) -> UInt8Array:
        return np.asarray(store.decode(index[name]) @ [0.299, 0.587, 0.114])

    for name in (
        *("grey.jpg", "cmyk.jpg", "rgba.png", "palette.png", "palette.gif", "grey16.png"),
        *("photo.webp", "progressive.jpg", "wrong_extension.png.jpg", "exif_rotate6.jpg"),
        *("huge4000.jpg", "naïve name (1) 口罩.jpg"),
    ):
        # Other people's faces differ by 50 and more.
        assert np.abs(grey(name) - grey("photo.bmp")).mean() < 8, name
    notes = dict(zip(store.column("source"), store.column("note"), strict=True))
    assert notes["exif_rotate6.jpg"] == "EXIF orientation 6 applied"
    assert notes["rgba.png"] == "alpha dropped"


@pytest.mark.parametrize(
    ("name", "photos", "least"),
    [
        ("lfw250", 80, 80),
        ("mfr2-160", 30, 29),
        ("celeba-wild", 30, 30),
        ("rmfd-single", 45, 42),
        ("rmfd-multi", 20, 15),
    ],
)
def test_raw_frames_give_the_faces_that_are_large_enough(
    name: str, photos: int, least: int, ingested: Ingested
) -> None:
    store, reasons = ingested(name)
    assert len(store) + len(reasons) == photos
    assert len(store) >= least
    assert all(reason.startswith(NO_FACE) for reason in reasons.values())

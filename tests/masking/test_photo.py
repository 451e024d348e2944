"""Whole photos: every face is masked, nothing else changes, and what is not masked is said."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmfr.cli.main import main as run_openmfr
from openmfr.data.store import Store
from openmfr.masking.bank import MaskBank
from openmfr.masking.photo import find_faces, mask_photo
from openmfr.masking.render import render_mask
from openmfr.synthetic.geometry import mesh_vertices
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import render_face

pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")


def portrait(person: int, size: int = 240) -> np.ndarray:
    return render_face(make_identity(0, person), rng=np.random.default_rng(person), size=size).image


def two_people() -> np.ndarray:
    """A grey photo of 400 × 640 with a face at the left and a smaller one at the right."""
    photo = np.full((400, 640, 3), 128, np.uint8)
    photo[80:320, 40:280] = portrait(1)
    photo[120:300, 420:600] = portrait(2, 180)
    return photo


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    Image.fromarray(two_people()).save(folder / "two.png")
    Image.fromarray(portrait(3)).save(folder / "trip" / "one.jpg", quality=95)
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(folder / "wall.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_every_face_of_a_photo_is_masked_and_the_rest_untouched() -> None:
    from openmfr.faces.face_mesh import FaceMeshDetector
    from openmfr.faces.mesh_provider import FaceMeshProvider

    photo = two_people()
    faces = find_faces(photo, FaceMeshDetector(), FaceMeshProvider())
    assert len(faces) == 2
    bank = MaskBank.drawn(4, seed=0, styles={"cloth": 1.0}, size=96)
    masked = mask_photo(photo, faces, bank, np.random.default_rng(0))
    assert masked.styles == ("cloth", "cloth")
    assert masked.unmasked == 0
    assert masked.alpha[:, :300].max() == 1
    assert masked.alpha[:, 400:].max() == 1
    between = masked.image[:, 300:400]
    assert np.array_equal(between, photo[:, 300:400])
    assert np.array_equal(masked.image[:110], photo[:110])


def test_a_folder_of_photos_is_masked_and_what_is_not_is_listed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "masked"
    words = ["mask", "render", str(photos), str(out), "--bank-size", "4", "--workers", "1"]
    assert run_openmfr(words) == 0
    assert "2 of 4 photos with every face masked" in capsys.readouterr().out
    with (out / "unmasked.csv").open(encoding="utf-8", newline="") as file:
        listed = {row["photo"]: row["reason"] for row in csv.DictReader(file)}
    assert listed["wall.png"] == "no face found"
    assert listed["broken.jpg"].startswith("not a picture")
    assert set(listed) == {"wall.png", "broken.jpg"}
    assert not (out / "wall.png").exists()
    first = opened(out / "two.png")
    assert (first != two_people()).any(axis=2).mean() > 0.03
    before = (out / "trip" / "one.jpg").read_bytes()
    assert run_openmfr(words) == 0
    assert (out / "trip" / "one.jpg").read_bytes() == before


def test_a_folder_without_photos_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no photo")
    assert run_openmfr(["mask", "render", str(tmp_path / "empty"), str(tmp_path / "out")]) == 2
    assert "found no photo among 1 files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", [".", "masked"])
def test_no_photo_is_ever_overwritten(
    photos: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (photos / "two.png").read_bytes()
    assert run_openmfr(["mask", "render", str(photos), str(photos / out)]) == 2
    assert "a folder outside them" in capsys.readouterr().err
    assert (photos / "two.png").read_bytes() == before


def test_flags_that_photos_do_not_heed_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mask", "render", str(photos), str(tmp_path / "out"), "--kind", "flat"]
    assert run_openmfr(words) == 2
    assert "these flags with a store alone" in capsys.readouterr().err


def test_a_mask_is_lifted_off_a_photo_and_worn_by_others(people: Store, tmp_path: Path) -> None:
    face = render_face(make_identity(0, 0), rng=np.random.default_rng(0), size=240)
    bank = MaskBank.drawn(1, seed=1_000, styles={"surgical": 1.0}, size=192)
    photo = np.full((400, 400, 3), 128, np.uint8)
    photo[80:320, 80:320] = render_mask(face.image, mesh_vertices(face), bank[0]).image
    Image.fromarray(photo).save(tmp_path / "masked.png")
    lifted = tmp_path / "mine" / "surgical.png"
    assert run_openmfr(["mask", "lift", str(tmp_path / "masked.png"), str(lifted)]) == 0
    assert opened(lifted).shape == (512, 512, 4)
    sheet = tmp_path / "sheet.png"
    words = ["mask", "preview", str(people.path), str(sheet), "--images", "2", "--styles", "cloth"]
    assert run_openmfr([*words, "--templates", str(lifted.parent), "--flat"]) == 0
    assert opened(sheet).shape[1] == 6 + 4 * (160 + 6)  # bare, cloth, own, flat


def test_a_photo_without_a_face_gives_no_template(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_openmfr(["mask", "lift", str(photos / "wall.png"), str(tmp_path / "t.png")]) == 2
    assert "no face that could be reconstructed" in capsys.readouterr().err
    assert not (tmp_path / "t.png").exists()


def test_photos_are_previewed_as_faces_in_their_surroundings(photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["mask", "preview", str(photos), str(sheet), "--styles", "scarf"]
    assert run_openmfr([*words, "--cell", "96"]) == 0
    assert opened(sheet).shape[1] == 6 + 2 * (96 + 6)

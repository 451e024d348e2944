"""`openmfr gallery WHAT`, with a recogniser that sees people in coloured pictures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from deploy.gallery.people import DIM, KEY, MODEL, OTHER_KEY, embedding
from PIL import Image

from openmfr.cli import gallery as verb
from openmfr.cli.main import main
from openmfr.deploy import model as model_module
from openmfr.deploy import runtime
from openmfr.deploy.gallery.cipher import KEY_VARIABLE, NEW_KEY_VARIABLE
from openmfr.deploy.quality import FaceQuality
from openmfr.faces.photo import PhotoError, read_photo
from openmfr.files import write_json

pytestmark = pytest.mark.usefixtures("recognizer", "key")


class ColourRecognizer:
    """Red says who it is, green which image, blue what is wrong: a stand-in for a network.

    From image 100 on it sees a mask, if it is to look for masks.
    """

    fingerprint = MODEL

    def __init__(self, _model: object, *, masks: object) -> None:
        self._looks = masks is not None
        self.model = SimpleNamespace(fingerprint=self.fingerprint, embedding_dim=DIM)

    def embed(self, photo: bytes | Path, *, allow_several: bool = True) -> SimpleNamespace:
        person, image, wrong = read_photo(photo).pixels[0, 0].tolist()
        if wrong == 1:
            raise PhotoError("no face found: the photo may be too dark, or the face too small")
        if wrong == 2 and not allow_several:
            raise PhotoError("several faces: 2, where one is asked for")
        size = 20 if wrong == 3 else 120
        quality = FaceQuality(size=size, sharpness=0.5, yaw=0, roll=0, score=0.9, length=1)
        worn = (0.9 if image >= 100 else 0.1) if self._looks else None
        return SimpleNamespace(embedding=embedding(person, image), quality=quality, mask_worn=worn)


@pytest.fixture
def recognizer(monkeypatch: pytest.MonkeyPatch) -> type[ColourRecognizer]:
    monkeypatch.setattr(runtime, "Recognizer", ColourRecognizer)
    monkeypatch.setattr(model_module, "OnnxModel", lambda path, **_: path)
    monkeypatch.setattr(ColourRecognizer, "fingerprint", MODEL)
    return ColourRecognizer


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(KEY).decode())
    monkeypatch.delenv(NEW_KEY_VARIABLE, raising=False)


def photo(path: Path, person: int, image: int = 0, *, wrong: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), (person, image, wrong), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Folders of photos: ann is person 1, ben 2, eve 3."""
    for person, name in enumerate(("ann", "ben", "eve"), start=1):
        for image in range(3):
            photo(tmp_path / "people" / name / f"{image}.png", person, image)
    return tmp_path / "people"


@pytest.fixture
def db(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    where = str(tmp_path / "people.db")
    assert run("add", where, str(people), "--model", "m.onnx") == 0
    capsys.readouterr()
    return where


def run(*words: str) -> int:
    """The exit code of `openmfr gallery …`."""
    try:
        return main(["gallery", *words])
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize("part", verb.PARTS)
def test_every_part_has_help_with_an_example(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(part, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Example: " in shown
    assert f"openmfr gallery {part}" in shown


def test_a_folder_of_people_is_enrolled_once(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path / "people.db")
    assert run("add", where, str(people), "--model", "m.onnx") == 0
    shown = capsys.readouterr().out
    assert "added    ann, image 1: " in shown
    assert f"{where}: 9 added, 0 known, 0 refused" in shown
    assert run("add", where, str(people), "--model", "m.onnx") == 0
    assert "0 added, 9 known, 0 refused" in capsys.readouterr().out


def test_one_photo_is_enrolled_under_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, one = str(tmp_path / "people.db"), photo(tmp_path / "x.png", 5)
    words = ["add", where, str(one), "--model", "m.onnx", "--identity", "joe", "--masked"]
    assert run(*words) == 0
    assert "added    joe, image 1" in capsys.readouterr().out
    assert run("list", where, "--identity", "joe") == 0
    assert "masked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("image", "flag", "is_masked"),
    [
        (0, [], False),
        (100, [], True),
        (0, ["--masked"], True),
        (100, ["--bare"], False),
    ],
)
def test_masks_are_seen_unless_the_user_says_what_is_worn(
    image: int,
    flag: list[str],
    is_masked: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where, one = str(tmp_path / "people.db"), str(photo(tmp_path / "x.png", 5, image))
    words = ["--model", "m.onnx", *flag]
    assert run("add", where, one, "--identity", "joe", *words) == 0
    assert ("image 1, masked" in capsys.readouterr().out) == is_masked
    assert run("search", where, one, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_masked"] == is_masked
    assert found["candidates"][0]["condition"] == ("mm" if is_masked else "uu")


def test_a_face_is_not_both_masked_and_bare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, one = str(tmp_path / "people.db"), str(photo(tmp_path / "x.png", 5))
    words = ["add", where, one, "--model", "m.onnx", "--identity", "joe", "--masked", "--bare"]
    assert run(*words) == 2
    assert "one of them" in capsys.readouterr().err


def test_photos_that_are_refused_are_named_with_the_reason_and_the_rest_is_enrolled(
    db: str, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(people / "ann" / "none.png", 1, 9, wrong=1)
    photo(people / "ann" / "several.png", 1, 10, wrong=2)
    photo(people / "ann" / "small.png", 1, 11, wrong=3)
    photo(people / "ann" / "really-ben.png", 2, 12)
    photo(people / "ann" / "good.png", 1, 13)
    (people / "ann" / "broken.jpg").write_bytes(b"no picture")
    assert run("add", db, str(people), "--model", "m.onnx") == 1
    shown = capsys.readouterr()
    assert "1 added, 9 known, 5 refused" in shown.out
    for reason in (
        "none.png: no face found",
        "several.png: several faces: 2",
        "small.png: a face of 20 pixels, below 50",
        "really-ben.png: it resembles ben",
        "broken.jpg: not a picture",
    ):
        assert reason in shown.err
    assert (
        run(
            "add",
            db,
            str(people / "ann" / "small.png"),
            "--model",
            "m.onnx",
            "--identity",
            "ann",
            "--force",
        )
        == 0
    )


def test_a_search_shows_the_nearest_people(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = photo(tmp_path / "door.png", 2, 77)
    assert run("search", db, str(probe), "--model", "m.onnx", "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("searched 9 images")
    assert "ben" in lines[1]
    assert "score 0.8" in lines[1]
    assert len(lines) == 3


def test_a_search_with_a_calibration_says_rates_and_a_verdict(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploy.gallery.test_meaning import calibration

    calibration(uu=0.0, mu=0.1, mm=0.2).save(tmp_path / "calibrated" / "calibration.json")
    probe = photo(tmp_path / "door.png", 2, 77)
    words = ["search", db, str(probe), "--model", "m.onnx", "--json", "--fpir", "0.05"]
    assert run(*words, "--calibration", str(tmp_path / "calibrated")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 9
    assert found["candidates"][0]["identity"] == "ben"
    assert found["candidates"][0]["is_match"]
    assert not found["candidates"][-1]["is_match"]
    assert found["candidates"][0]["fpir"] < 0.05
    assert run(*words[:-3], "--calibration", str(tmp_path / "calibrated"), "--fmr", "1e-5") == 0
    shown = capsys.readouterr().out
    assert "FMR " in shown
    assert "  match" in shown
    assert "  no match" in shown
    assert run(*words) == 2
    assert "openmfr evaluate calibration makes it" in capsys.readouterr().err


def test_another_model_is_refused(
    db: str,
    people: Path,
    tmp_path: Path,
    recognizer: type[ColourRecognizer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(recognizer, "fingerprint", "f" * 16)
    probe = photo(tmp_path / "door.png", 2, 77)
    assert run("search", db, str(probe), "--model", "other.onnx") == 2
    assert f"embeddings of model {MODEL}" in capsys.readouterr().err
    assert run("add", db, str(people), "--model", "other.onnx") == 2
    assert f"embeddings of model {MODEL}" in capsys.readouterr().err


def test_people_and_images_are_listed(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", db) == 0
    shown = capsys.readouterr().out
    assert f"3 people, 9 images; model {MODEL}; encrypted" in shown
    assert "  ann  3 images" in shown
    assert run("list", db, "--json") == 0
    assert json.loads(capsys.readouterr().out)["people"][1]["identity"] == "ben"
    assert run("list", db, "--identity", "anne") == 2
    assert "did you mean ann?" in capsys.readouterr().err


def test_a_person_is_removed_and_not_found_again(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("remove", db, "--image", "4") == 0
    assert "ben has 2 left" in capsys.readouterr().out
    assert run("remove", db, "--identity", "ben") == 0
    probe = photo(tmp_path / "door.png", 2, 77)
    capsys.readouterr()
    assert run("search", db, str(probe), "--model", "m.onnx") == 0
    assert "ben" not in capsys.readouterr().out


def test_an_export_warns(db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "people.parquet"
    assert run("export", db, str(out)) == 0
    shown = capsys.readouterr()
    assert "9 images" in shown.out
    assert "warning: its embeddings are biometric data and not encrypted" in shown.err
    assert out.is_file()


def test_a_copy_has_a_key_of_its_own(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import base64

    copy, other = str(tmp_path / "copy.db"), base64.b64encode(OTHER_KEY).decode()
    monkeypatch.setenv(NEW_KEY_VARIABLE, other)
    assert run("copy", db, copy) == 0
    assert "9 of 9 images added, encrypted" in capsys.readouterr().out
    assert run("list", copy) == 2
    monkeypatch.setenv(KEY_VARIABLE, other)
    assert run("list", copy) == 0


def test_a_key_is_printed_and_without_one_the_error_says_how(
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    where = str(tmp_path / "new.db")
    words = ["add", where, str(people), "--model", "m.onnx"]
    assert run(*words) == 2
    assert "openmfr gallery key" in capsys.readouterr().err
    assert run("key") == 0
    monkeypatch.setenv(KEY_VARIABLE, capsys.readouterr().out.strip())
    assert run(*words) == 0


def test_a_gallery_without_encryption_is_made_only_when_asked_for(
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    where = str(tmp_path / "plain.db")
    assert run("add", where, str(people), "--model", "m.onnx", "--no-encryption") == 0
    assert run("list", where) == 0
    assert "not encrypted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "flags", "message"),
    [
        ("nowhere", [], "found nothing"),
        ("empty", [], "found no photo"),
        ("people/ann", [], "nobody's name"),
        ("people/ann/0.png", [], "nobody's name"),
        ("people", ["--identity", "a\tb"], "printable characters"),
    ],
)
def test_what_cannot_be_enrolled_is_one_clear_error_and_makes_nothing(
    path: str, flags: list[str], message: str, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (people.parent / "empty").mkdir()
    where = people.parent / "new.db"
    words = ["add", str(where), str(people.parent / path), "--model", "m.onnx", *flags]
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert not where.exists()


def test_a_photo_without_a_face_cannot_be_searched_for(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = photo(tmp_path / "wall.png", 2, 77, wrong=1)
    assert run("search", db, str(probe), "--model", "m.onnx") == 2
    assert "no face found" in capsys.readouterr().err


def test_a_file_that_is_no_calibration_is_refused(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "other.json", {})
    probe = photo(tmp_path / "door.png", 2, 77)
    words = ["search", db, str(probe), "--model", "m.onnx"]
    assert run(*words, "--calibration", str(tmp_path / "other.json")) == 2
    assert "calibration" in capsys.readouterr().err


def test_inspect_tells_what_a_gallery_is_without_its_key(
    db: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    assert main(["inspect", db]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "kind gallery" in shown
    assert "people 3" in shown
    assert f"model {MODEL}" in shown
    assert "ann" not in shown

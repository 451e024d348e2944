"""Real photos, a real recogniser: who is enrolled is found, who is somebody else is refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest
from deploy.gallery.people import KEY

from openmfr.cli.main import main
from openmfr.deploy.gallery.cipher import KEY_VARIABLE
from openmfr.errors import UserError

pytestmark = pytest.mark.slow

INPUT = ["--input", "RGB,127.5,128"]


@pytest.fixture
def model(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    try:
        from openmfr.faces.face_mesh import FaceMeshDetector

        FaceMeshDetector()
    except (UserError, ModuleNotFoundError) as error:
        if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(KEY).decode())
    return ["--model", str(real_data / "reference" / "r1.onnx"), *INPUT]


def run(*words: str) -> int:
    try:
        return main(["gallery", *words])
    except SystemExit as left:
        return int(left.code or 0)


def test_people_are_found_by_other_photos_and_wrong_names_are_refused(
    real_data: Path, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, others = tmp_path / "first", {}
    folders = sorted((real_data / "raw-ingest" / "lfw250").iterdir())[:20]
    for folder in folders:
        photos = sorted(folder.iterdir())
        (first / folder.name).mkdir(parents=True)
        shutil.copy(photos[0], first / folder.name)
        if len(photos) > 1:
            others[folder.name] = photos[1]
    where = str(tmp_path / "people.db")
    assert run("add", where, str(first), *model, "--force") == 0
    capsys.readouterr()
    right = wrong = 0
    names = list(others)
    for number, (name, photo) in enumerate(others.items()):
        assert run("search", where, str(photo), *model, "--top", "1", "--json") == 0
        right += json.loads(capsys.readouterr().out)["candidates"][0]["identity"] == name
        other = names[(number + 1) % len(names)]
        wrong += run("add", where, str(photo), *model, "--identity", other) == 0
    assert right >= 0.9 * len(others)
    assert wrong == 0
    assert run("add", where, str(others[names[0]]), *model, "--identity", names[0]) in (0, 1)

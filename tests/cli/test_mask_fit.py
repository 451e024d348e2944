"""`openmfr mask WHAT` finds its parts, and `mask fit` says what became of every image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toys import make_store

from openmfr.cli import mask
from openmfr.cli.main import main
from openmfr.data.geometry import Geometry
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.synthetic.dataset import synthesise


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Store:
    try:
        FaceMeshProvider()
    except UserError as error:
        if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("mask") / "faces"
    return synthesise(folder, identities=3, images=4, seed=0, workers=1)[0]


@pytest.mark.parametrize("words", [["mask"], ["mask", "--help"]])
def test_without_a_part_all_parts_are_shown(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(words)
    assert exit_status.value.code == 0
    shown = capsys.readouterr().out
    assert list(mask.PARTS) == ["fit", "render", "preview", "guide", "lift", "learn"]
    assert all(f"  {part} " in shown and line in shown for part, line in mask.PARTS.items())


@pytest.mark.parametrize("part", mask.PARTS)
def test_every_part_has_help_with_an_example(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["mask", part, "--help"])
    assert exit_status.value.code == 0
    assert f"Example: openmfr mask {part}" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_part_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mask", "rendr", "faces"]) == 2
    assert "found rendr; allowed: fit, render" in (shown := capsys.readouterr().err)
    assert "did you mean render?" in shown


def test_mask_fit_says_what_became_of_the_images_and_repeats_quickly(
    faces: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mask", "fit", str(faces.path), "--workers", "1"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    fitted = int(Geometry.open(faces.path / "geometry", faces).is_fitted.sum())
    assert f"{fitted} of 12 faces fitted" in shown
    assert "was finished already" not in shown
    assert main(words) == 0
    assert "was finished already" in capsys.readouterr().out


def test_pictures_without_faces_are_counted_and_listed(
    faces: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "patterns", identities=2, images=2)
    assert (
        main(["mask", "fit", str(store.path), "--workers", "1", "--out", str(tmp_path / "g")]) == 0
    )
    shown = capsys.readouterr().out
    assert "0 of 4 faces fitted" in shown
    assert "4 stay unmasked: no face found" in shown
    assert str(tmp_path / "g" / "failed.csv") in shown

"""Masks on a store by the command line, and a recogniser measured bare and masked."""

from pathlib import Path

import pytest
from PIL import Image

from openmfr.cli.main import main as run_openmfr
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.synthetic.dataset import synthesise


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people") / "store"
    synthesise(path, identities=8, images=4, seed=2, workers=1, geometry=True)
    return path


def test_a_store_is_masked_with_the_styles_and_share_asked_for(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "masked"
    words = ["mask", "render", str(people), str(out), "--styles", "kn95", "--bank-size", "3"]
    assert run_openmfr([*words, "--ratio", "0.5", "--workers", "1"]) == 0
    table = Labels.read(out / "labels.parquet")
    assert set(table.mask_style[table.is_masked]) == {"kn95"}
    assert 6 <= table.is_masked.sum() <= 26
    assert f"{int(table.is_masked.sum())} with a new mask" in capsys.readouterr().out


def test_a_store_without_geometry_says_how_to_get_it(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mask", "render", str(people), str(tmp_path / "out")]
    assert run_openmfr([*words, "--geometry", str(tmp_path / "none")]) == 2
    assert f"openmfr mask fit {people}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_style_is_refused_by_name(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mask", "render", str(people), str(tmp_path / "out"), "--styles", "kn59"]
    assert run_openmfr(words) == 2
    assert "found kn59" in capsys.readouterr().err


def test_training_with_masks_runs_from_the_command_line_and_repeats(
    people: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["train", "tiny_synthetic", "--store", str(people), "--out", str(run), "--masks", "0.5"]
    words += ["--epochs", "1", "--hold-out", "0", "--batch-size", "8", "--device", "cpu"]
    assert run_openmfr(words) == 0
    again = tmp_path / "again"
    repeated = ["train", str(run), "--store", str(people), "--out", str(again), "--device", "cpu"]
    assert run_openmfr(repeated) == 0
    first, second = (
        (folder / "checkpoints").glob("*/backbone.safetensors") for folder in (run, again)
    )
    assert next(first).read_bytes() == next(second).read_bytes()


def test_a_guide_is_drawn(tmp_path: Path) -> None:
    png = tmp_path / "guide.png"
    assert run_openmfr(["mask", "guide", str(png), "--size", "512"]) == 0
    with Image.open(png) as picture:
        assert picture.size == (512, 512)
        assert picture.mode == "RGBA"


def test_pairs_are_measured_bare_and_masked(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masked, run = tmp_path / "masked", tmp_path / "run"
    assert run_openmfr(["mask", "render", str(people), str(masked), "--bank-size", "3"]) == 0
    words = ["train", "tiny_synthetic", "--store", str(people), "--out", str(run)]
    words += ["--epochs", "1", "--hold-out", "0", "--batch-size", "8", "--device", "cpu"]
    assert run_openmfr(words) == 0
    embedded = [tmp_path / name for name in ("e-bare", "e-masked")]
    for store, out in zip((people, masked), embedded, strict=True):
        assert run_openmfr(["embed", str(run), str(store), str(out), "--device", "cpu"]) == 0
    sources = Store(people).column("source")
    pairs = tmp_path / "pairs.csv"
    rows = [f"{sources[4 * i]},{sources[4 * i + 1]},1" for i in range(8)]
    rows += [f"{sources[4 * i]},{sources[(4 * i + 5) % 32]},0" for i in range(8)]
    pairs.write_text("\n".join(["path_a,path_b,genuine", *rows]))
    words = ["evaluate", "pairs", str(embedded[0]), "--pairs", str(pairs)]
    words += ["--out", str(tmp_path / "report"), "--fmr", "0.5", "--replicates", "20"]
    capsys.readouterr()
    assert run_openmfr([*words, "--masked", str(embedded[1])]) == 0
    shown = capsys.readouterr().out
    for kind in ("uu", "mu", "mm"):
        assert kind in shown
    # The other way round, a bare store has no masks to speak of.
    assert run_openmfr([*words[:3], "--masked", str(embedded[0]), *words[3:]]) == 2
    assert "does not say who wears a mask" in capsys.readouterr().err

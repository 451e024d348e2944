"""A pass as a folder, and the commands around it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from toys import make_store

from openmfr.cleaning.changes import COLUMNS
from openmfr.cleaning.passes import CHANGES, LABELS, PASS, REPORT
from openmfr.cli.main import main as run_openmfr
from openmfr.data.labels import Labels
from openmfr.data.noise import NOISY, TRUTH
from openmfr.data.store import Store, UInt8Array
from openmfr.embed import embed_store

IDENTITIES, IMAGES = 40, 10


class PatternEmbedder:
    """Embeds the coarse pattern by which a toy face says who it is, so that it is found again."""

    embedding_dim = 48
    fingerprint = "pattern"

    def embed(self, images: UInt8Array) -> npt.NDArray[np.float32]:
        cell = images.shape[1] // 4
        cells = images.reshape(len(images), 4, cell, 4, cell, 3).mean(axis=(2, 4))
        pattern = cells.reshape(len(images), 48).astype(np.float32)
        centered: npt.NDArray[np.float32] = pattern - pattern.mean(axis=1, keepdims=True)
        return centered


@dataclass(frozen=True)
class Faces:
    store: Path
    labels: Path
    embeddings: Path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """Forty people with ten images each; the first image is under the name of another one."""
    folder = tmp_path_factory.mktemp("faces")
    store = make_store(folder / "store", identities=IDENTITIES, images=IMAGES)
    embed_store(PatternEmbedder(), store, folder / "embeddings")
    labels = Labels.read(folder / "store" / LABELS)
    wrong = labels.identity.copy()
    wrong[0] = 7
    labels.child(identity=wrong).write(folder / "wrong.parquet")
    return Faces(folder / "store", folder / "wrong.parquet", folder / "embeddings")


def run_pass(faces: Faces, out: Path, *flags: str) -> int:
    return run_openmfr(
        ["clean", "pass", str(faces.labels), str(faces.embeddings), str(out), *flags]
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_flip_moves_home_and_every_part_of_the_folder_says_so(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cleaned"
    assert run_pass(faces, out) == 0
    table, before = Labels.read(out / LABELS), Labels.read(faces.labels)
    assert table.identity[0] == 0
    assert table.keep[0]
    assert table.parent == before.fingerprint
    content = json.loads((out / PASS).read_text())
    assert content["counts"]["moved"] == 1
    assert content["counts"]["images_after"] == int(table.keep.sum())
    rows = rows_of(out / CHANGES)
    moved = [row for row in rows if row["kind"] == "move"]
    assert [(row["image"], row["source"]) for row in moved] == [("0", "000/000.jpg")]
    assert "000.jpg" in (out / REPORT).read_text()
    said = capsys.readouterr().out
    assert "1 moved to another identity" in said
    assert str(out / REPORT) in said


def test_the_same_pass_returns_at_once_and_another_one_is_refused(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cleaned"
    assert run_pass(faces, out) == 0
    written = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run_pass(faces, out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == written
    assert run_pass(faces, out, "--intra-threshold", "0.9") == 2
    assert "config: found" in capsys.readouterr().err


def test_a_veto_from_the_csv_is_obeyed_by_the_next_pass(faces: Faces, tmp_path: Path) -> None:
    out, vetoes = tmp_path / "cleaned", tmp_path / "vetoes.csv"
    assert run_pass(faces, out) == 0
    rows = rows_of(out / CHANGES)
    with vetoes.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "veto": "no" if row["image"] == "0" else ""} for row in rows)
    assert run_pass(faces, tmp_path / "again", "--vetoes", str(vetoes)) == 0
    assert Labels.read(tmp_path / "again" / LABELS).identity[0] == 7


def test_embeddings_of_another_store_are_refused(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_store(tmp_path / "other", identities=4)
    embed_store(PatternEmbedder(), other, tmp_path / "embedded")
    mixed = Faces(faces.store, faces.labels, tmp_path / "embedded")
    assert run_pass(mixed, tmp_path / "out") == 2
    assert other.fingerprint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_kept_images_without_an_embedding_are_named(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, labels = Store(faces.store), Labels.read(faces.labels)
    gone = np.isin(np.arange(len(labels)), (3, 25))
    embed_store(
        PatternEmbedder(), store, tmp_path / "some", labels=labels.without(gone, reason="test")
    )
    partly = Faces(faces.store, faces.labels, tmp_path / "some")
    assert run_pass(partly, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "000/003.jpg" in said
    assert "002/005.jpg" in said
    assert not (tmp_path / "out").exists()


def test_a_pass_that_would_leave_nothing_is_refused_and_writes_nothing(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pass(faces, tmp_path / "out", "--intra-threshold", "1", "--no-relabel") == 2
    assert "intra_threshold" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_thresholds_out_of_range_are_named_together(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--intra-threshold", "2", "--inter-threshold", "-3", "--least-images", "0"]
    assert run_pass(faces, tmp_path / "out", *flags) == 2
    said = capsys.readouterr().err
    for name in ("intra_threshold", "inter_threshold", "least_images"):
        assert name in said


def test_an_only_image_stays(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", identities=IDENTITIES, images=IMAGES)
    embed_store(PatternEmbedder(), store, tmp_path / "embeddings")
    labels = Labels.read(store.path / LABELS)
    drop = (labels.identity == 5) & (np.arange(len(labels)) != 5 * IMAGES)
    path = tmp_path / "single.parquet"
    labels.without(drop, reason="test").write(path)
    single = Faces(store.path, path, tmp_path / "embeddings")
    assert run_pass(single, tmp_path / "out") == 0
    assert Labels.read(tmp_path / "out" / LABELS).keep[5 * IMAGES]


def test_noise_is_planted_cleaned_and_judged_by_commands_alone(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = tmp_path / "planted"
    words = ["clean", "plant", str(faces.store / LABELS), str(planted)]
    assert run_openmfr([*words, "--outlier-identities", "5"]) == 0
    noisy = Faces(faces.store, planted / NOISY, faces.embeddings)
    assert run_pass(noisy, tmp_path / "cleaned") == 0
    capsys.readouterr()
    judged = ["clean", "judge", str(tmp_path / "cleaned" / LABELS), str(planted)]
    assert run_openmfr([*judged, "--out", str(tmp_path / "found.json")]) == 0
    assert "flips moved home" in capsys.readouterr().out
    rates = json.loads((tmp_path / "found.json").read_text())["rates"]
    assert rates["flips found"] >= 0.95
    assert rates["splits rejoined"] >= 0.9
    # The same noise again is the same; other noise does not replace it.
    assert run_openmfr([*words, "--outlier-identities", "5"]) == 0
    assert run_openmfr([*words, "--outlier-identities", "5", "--seed", "1"]) == 2
    (planted / TRUTH).write_bytes((faces.store / LABELS).read_bytes())
    assert run_openmfr(judged) == 2


def test_diff_counts_the_changes_and_writes_them(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pass(faces, tmp_path / "cleaned") == 0
    capsys.readouterr()
    words = ["clean", "diff", str(faces.labels), str(tmp_path / "cleaned" / LABELS)]
    assert run_openmfr(words) == 0
    said = capsys.readouterr().out
    assert "1 moved" in said
    assert "AFTER was made from BEFORE" in said
    out = tmp_path / "changes.csv"
    assert run_openmfr([*words, "--out", str(out)]) == 2
    assert run_openmfr([*words, "--out", str(out), "--store", str(faces.store)]) == 0
    moved = [row for row in rows_of(out) if row["kind"] == "move"]
    assert [row["source"] for row in moved] == ["000/000.jpg"]


def test_a_pass_that_drops_a_quarter_of_the_images_doubts_the_network(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pass(faces, tmp_path / "usual") == 0
    middle = np.nanmedian(Labels.read(tmp_path / "usual" / LABELS).center_score)
    capsys.readouterr()
    out, flags = tmp_path / "cleaned", ["--no-relabel", "--no-merge"]
    assert run_pass(faces, out, "--intra-threshold", f"{middle:.4f}", *flags) == 0
    counts = json.loads((out / PASS).read_text())["counts"]
    assert counts["dropped"] > counts["images_before"] / 4
    assert "knows too little" in capsys.readouterr().out


def test_shares_of_nothing_are_null_in_the_json(faces: Faces, tmp_path: Path) -> None:
    planted, found = tmp_path / "planted", tmp_path / "found.json"
    words = ["clean", "plant", str(faces.store / LABELS), str(planted), "--flips", "0"]
    assert run_openmfr([*words, "--outlier-identities", "5", "--splits", "0"]) == 0
    judged = ["clean", "judge", str(planted / NOISY), str(planted), "--out", str(found)]
    assert run_openmfr(judged) == 0
    rates = json.loads(found.read_text())["rates"]
    assert rates["flips found"] is None
    assert rates["outliers found"] == 0


def test_lookalikes_by_embeddings_of_another_store_are_refused(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_store(tmp_path / "other", identities=4)
    embed_store(PatternEmbedder(), other, tmp_path / "embedded")
    words = ["clean", "plant", str(faces.store / LABELS), str(tmp_path / "planted")]
    flags = ["--lookalike-flips", "0.5", "--outlier-identities", "5"]
    assert run_openmfr([*words, *flags, "--embeddings", str(tmp_path / "embedded")]) == 2
    assert other.fingerprint in capsys.readouterr().err
    assert run_openmfr([*words, *flags, "--embeddings", str(faces.embeddings)]) == 0


def test_a_missing_file_of_vetoes_is_named_before_any_work(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pass(faces, tmp_path / "out", "--vetoes", str(tmp_path / "none.csv")) == 2
    assert "none.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

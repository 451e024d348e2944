"""The command line answers quickly, teaches, and turns a mistake into one line and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from toys import make_store

from openmfr.cli.main import VERBS, main
from openmfr.data.labels import Labels
from openmfr.files import write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores, one of a single identity, an empty folder, and a file that is nothing."""
    folder = tmp_path_factory.mktemp("cli")
    make_store(folder / "store", identities=6, images=4)
    make_store(folder / "other", identities=3, images=4)
    make_store(folder / "single", identities=1, images=4)
    (folder / "empty").mkdir()
    (folder / "nothing.txt").write_text("hello")
    return folder


def test_the_overview_loads_nothing_heavy() -> None:
    """`openmfr --help` must answer at once: what it imports decides how long it takes."""
    script = (
        "import sys; from openmfr.cli.main import main; main(['--help']);"
        "print([m for m in ('torch', 'numpy', 'tyro', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.rstrip().endswith("[]")
    assert all(verb in run.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main([verb, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert exit_status.value.code == 0
    assert f"Example: openmfr {verb}" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "did you mean train?"),
        ("train tiny_reel --store store --out run", "did you mean tiny_real?"),
        (
            "train tiny_real --store missing --out run",
            "missing/manifest.json: found no readable store",
        ),
        ("train tiny_real --store empty --out run", "found no readable store"),
        ("train tiny_real --store single --out run --hold-out 0", "ingest photos of more people"),
        ("train tiny_real --store store --out run", "holdout_identities: found 100"),
        (
            "train tiny_real --store store --labels other/labels.parquet --out run --hold-out 0",
            "pass the labels.parquet that stands beside this store",
        ),
        ("train tiny_real --store store --out run --backbone resnet5", "did you mean resnet50?"),
        ("train tiny_real --store store --out empty/../nothing.txt --hold-out 0", "no run"),
        ("train tiny_real --store store --out run --epochs -1", "schedule.epochs: found -1"),
        ("train tiny_real --store store --out run --epochs 0", "schedule.epochs: found 0"),
        ("train tiny_real --store store --out run --learning-rate 0", "learning_rate: found 0"),
        ("train tiny_real --store store --out run --hold-out 0 --workers -1", "workers: found -1"),
        ("train tiny_real --store store --out nothing.txt/run --hold-out 0", "nothing.txt"),
        ("train tiny_real --store store --out run --device tpu", "device: found tpu"),
        ("train :recipe --store store --out run", "package.module:function"),
        ("embed missing store out", "found no readable checkpoint"),
        ("embed empty store out", "found no readable checkpoint"),
        (
            "evaluate pairs missing --pairs pairs.csv --out report",
            "no readable folder of embeddings",
        ),
        ("inspect nothing.txt", "found nothing that openmfr wrote"),
        ("inspect missing", "found nothing;"),
        ("inspect store/manifest.json", "a file of: store"),
        ("train tiny_synthetic --store gs://bucket/faces --out run", "allowed: a folder, or s3://"),
        ("inspect store/labels.parquet --check", "allowed: a store"),
        ("inspect store --sheet sheet.png --identities -1", "identities: found -1"),
        ("ingest missing out", "missing"),
        ("ingest empty out", "empty"),
        ("synth out --identities 1", "identities: found 1"),
    ],
)
def test_a_mistake_is_one_clear_error_and_exit_code_2(
    words: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path for path in folder.rglob("*"))
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert sorted(path for path in folder.rglob("*")) == before, "something was half-written"


def test_inspect_describes_stores_labels_and_damage(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "store", identities=6, images=4)
    assert main(["inspect", str(store.path), "--sheet", str(tmp_path / "s.png"), "--check"]) == 0
    shown = capsys.readouterr().out
    assert "24 of 32 × 32 pixels" in shown
    assert "6, 4 to 4 images each" in shown
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    labels = Labels.read(store.path / "labels.parquet")
    labels.without(labels.identity == 2, reason="outlier").write(tmp_path / "labels.parquet")
    write_json(tmp_path / "T6.json", {"kind": "reproduction", "seeds": [1, 2, 3] * 9})
    assert main(["inspect", str(tmp_path / "T6.json")]) == 0
    shown = capsys.readouterr().out
    assert "reproduction" in shown
    assert "[1, 2, 3, …, 3], 27 values" in shown
    assert main(["inspect", str(tmp_path / "labels.parquet")]) == 0
    shown = capsys.readouterr().out
    assert "20 of 5 identities" in shown
    assert "left out, outlier 4" in " ".join(shown.split())
    for number in (0, 1):
        shard = store.path / f"shard-00000{number}.arrow"
        shard.write_bytes(shard.read_bytes()[:-100])
    assert main(["inspect", str(store.path), "--check"]) == 2
    assert capsys.readouterr().err.count("found unreadable") == 2


def test_a_closed_pipe_is_no_error() -> None:
    script = "from openmfr.cli.main import main; import sys; sys.exit(main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


def test_too_little_memory_points_to_the_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "greedy_recipe.py").write_text(
        "import torch\n\n\ndef recipe():\n    torch.empty(2**50)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["train", "greedy_recipe:recipe", "--store", "s", "--out", "o"]) == 2
    shown = capsys.readouterr()
    assert "not enough memory" in shown.err
    assert "openmfr plan" in shown.err
    assert "Traceback" not in shown.err

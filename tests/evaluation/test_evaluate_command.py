"""`openmfr evaluate` from the outside: a store and embeddings in, a table and a report out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from openmfr.cli.main import main
from openmfr.embed import Embeddings


def pair_list(embedded: Embeddings) -> Path:
    """All pairs of the first six people."""
    sources = embedded.open_store().column("source")[:24]
    rows = [
        f"{a},{b},{int(a.split('/')[0] == b.split('/')[0])}"
        for i, a in enumerate(sources)
        for b in sources[:i]
    ]
    path = embedded.path.parent / "pairs.csv"
    path.write_text("\n".join(["path_a,path_b,genuine", *rows]), encoding="utf-8")
    return path


def test_a_pair_list_is_measured_and_reported(
    embedded: Embeddings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = embedded.path.parent / "report"
    words = ["evaluate", "pairs", str(embedded.path), "--pairs", str(pair_list(embedded))]
    assert main([*words, "--out", str(out), "--replicates", "20"]) == 0
    printed = capsys.readouterr().out
    assert "36 genuine and 240 impostor pairs of 6 people" in printed
    assert "! rests on 2.4 expected false matches" in printed
    assert "refused: needs at least 1,000 impostor pairs, has 240" in printed
    assert f"report: {out / 'report.html'}" in printed
    written = json.loads((out / "report.json").read_text())
    assert written["results"]["embeddings"]["impostor_pairs"] == 240
    assert written["configuration"]["embeddings"]["embeddings"]["model"] == "colour"
    assert written["worst"]["false_matches"][0]["source_a"].startswith("person_")


def test_identities_are_sampled_from_what_the_labels_keep(
    embedded: Embeddings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = embedded.path.parent / "report"
    words = ["evaluate", "identities", str(embedded.path), "--replicates", "0"]
    assert main([*words, "--out", str(out), "--fmr", "0.1"]) == 0
    assert "of 12 people" in capsys.readouterr().out


def test_models_stand_side_by_side_with_paired_differences(
    embedded: Embeddings, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = embedded.path.parent / "report", embedded.path.parent / "other"
    shutil.copytree(embedded.path, other)
    array = np.load(other / "embeddings.npy")
    rng = np.random.default_rng(0)
    np.save(other / "embeddings.npy", array + rng.normal(0, 40, array.shape).astype(np.float32))
    words = ["evaluate", "identities", str(embedded.path), str(other), "--fmr", "0.1"]
    assert main([*words, "--out", str(out), "--replicates", "20"]) == 0
    printed = capsys.readouterr().out
    assert "other minus embeddings, in percentage points, paired" in printed
    (table,) = json.loads((out / "report.json").read_text())["differences"]
    cell = table["rows"]["all"][0]
    assert f"pairs all: Accuracy {100 * cell['value']:.2f} [" in printed


def test_mistakes_are_one_clear_line(
    embedded: Embeddings, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(embedded.path), str(embedded.path.parent / "report")
    mistakes = {
        ("pear", folder): "openmfr evaluate WHAT: found pear",
        ("identities",): "EMBEDDINGS: found none",
        ("identities", folder, folder): "two folders of one name",
        ("identities", str(embedded.path.parent)): "no readable folder of embeddings",
        ("pairs", folder, "--pairs", "missing.csv"): "missing.csv: found no readable text",
        ("pairs", folder, "--pairs", str(pair_list(embedded).parent)): "give the list itself: ",
    }
    for words, message in mistakes.items():
        assert main(["evaluate", *words, "--out", out]) == 2
        assert message in capsys.readouterr().err

"""`openmfr evaluate` from the outside: a store and embeddings in, a table and a report out."""

from __future__ import annotations

import json
from pathlib import Path

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
    }
    for words, message in mistakes.items():
        assert main(["evaluate", *words, "--out", out]) == 2
        assert message in capsys.readouterr().err

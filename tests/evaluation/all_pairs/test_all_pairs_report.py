"""The report of all-pairs results: models side by side, worst pairs, numbers that agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.evaluation.all_pairs.report import write_all_pairs_report
from openmfr.evaluation.all_pairs.sets import measure_sets
from openmfr.evaluation.protocols.tracks import Options, WebFace260MTrack

IDENTITY = np.repeat(np.arange(30), 4)
EVERY = np.ones(120, dtype=np.bool_)


def embedding(noise: float) -> Any:
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 16))[IDENTITY] + noise * rng.normal(size=(120, 16))


def test_other_models_stand_beside_the_first_with_paired_differences(tmp_path: Path) -> None:
    sets = {"all": (EVERY, EVERY)}
    results = {
        name: measure_sets(embedding(noise), IDENTITY, sets, fmrs=[0.02], replicates=50)
        for name, noise in (("first", 1.4), ("second", 1.1))
    }
    write_all_pairs_report(tmp_path, title="T", results=results, configuration={})
    content = json.loads((tmp_path / "report.json").read_text())
    (table,) = content["differences"]
    (cell,) = table["rows"]["all"]
    values = [content["results"][m]["all"]["rates"][0]["fnmr"]["value"] for m in results]
    assert cell["value"] == values[1] - values[0] < 0
    assert cell["low"] <= cell["value"] <= cell["high"]
    for text in ((tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()):
        assert "second minus first" in text
        assert f"{100 * cell['value']:.2f}" in text


def test_the_score_of_a_track_is_compared_too(tmp_path: Path) -> None:
    is_masked = np.arange(120) % 2 == 0
    track = WebFace260MTrack(is_masked=is_masked, scene=np.full(120, "wild"), fmr=0.02)
    tracks = {
        name: track.measure(embedding(noise), IDENTITY, Options(replicates=50))
        for name, noise in (("first", 1.4), ("second", 1.1))
    }
    write_all_pairs_report(
        tmp_path,
        title="T",
        results={name: result.parts for name, result in tracks.items()},
        configuration={},
        tracks=tracks,
    )
    content = json.loads((tmp_path / "report.json").read_text())
    (cell,) = content["differences"][-1]["rows"]["second"]
    first, second = (content["score"][name] for name in tracks)
    assert cell["value"] == second["value"] - first["value"]
    assert (
        cell["high"] - cell["low"] < second["high"] - second["low"] + first["high"] - first["low"]
    )
    assert "Score minus that of first" in (tmp_path / "report.md").read_text()


def test_the_worst_pairs_of_both_sides_are_shown_and_listed(tmp_path: Path) -> None:
    sets = {"all": (EVERY, EVERY)}
    results = {"m": measure_sets(embedding(1.3), IDENTITY, sets, fmrs=[0.02], replicates=0)}
    sources = [f"p{i}/{i}.jpg" for i in range(120)]
    looked_at: list[int] = []

    def image(row: int) -> Any:
        looked_at.append(row)
        return np.full((8, 8, 3), row, dtype=np.uint8)

    write_all_pairs_report(
        tmp_path, title="T", results=results, configuration={}, image=image, sources=sources
    )
    worst = json.loads((tmp_path / "report.json").read_text())["worst"]["all"]
    pairs = results["m"]["all"].pairs
    assert worst["false_matches"][0]["score"] == pairs.tail.score.max()
    assert worst["false_non_matches"][0]["score"] == pairs.genuine.score.min()
    first = worst["false_matches"][0]
    assert first["source_a"] == sources[first["index_a"]]
    assert first["index_a"] in looked_at
    assert len(looked_at) == 2 * 8 * 2
    page = (tmp_path / "report.html").read_text()
    assert "Do not publish them" in page
    assert f"{first['score']:.3f}" in page


def test_without_a_store_there_are_no_pictures(tmp_path: Path) -> None:
    results = {
        "m": measure_sets(
            embedding(1.3), IDENTITY, {"all": (EVERY, EVERY)}, fmrs=[0.02], replicates=0
        )
    }
    write_all_pairs_report(tmp_path, title="T", results=results, configuration={})
    assert "Do not publish" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("replicates", [0, 30])
def test_the_json_has_no_number_that_json_lacks(tmp_path: Path, replicates: int) -> None:
    results = {
        "m": measure_sets(
            embedding(1.3), IDENTITY, {"all": (EVERY, EVERY)}, fmrs=[0.02], replicates=replicates
        )
    }
    write_all_pairs_report(tmp_path, title="T", results=results, configuration={})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert (content["results"]["m"]["all"]["det"] is None) == (replicates == 0)

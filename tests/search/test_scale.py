"""Scaling meets its target, keeps the blocks, and says what cannot be met."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import pytest

from openmfr.cli.search_scale import main as search_scale
from openmfr.errors import UserError
from openmfr.models.ridnet import (
    Architecture,
    Definition,
    Origin,
    load_definition,
    read_definition,
    shipped_definition,
    write_definition,
)
from openmfr.reproduce.networks import BY_CHANCE, BY_EVOLUTION
from openmfr.search.controller import controller, open_study
from openmfr.search.parts import cost_of
from openmfr.search.results import best_of, candidates_of
from openmfr.search.scale import Target, scale
from openmfr.search.space import load_space

ROOT = Path(__file__).parents[2]
XS = shipped_definition("ridnet_xs").architecture


def milliseconds(architecture: Architecture) -> float:
    """A machine that does 50 multiply-adds in a nanosecond."""
    return cost_of(architecture).macs / 50e6


@pytest.mark.parametrize("macs", [0.2e9, 0.91e9, 4e9, 20e9])
def test_multiply_adds_are_met_within_two_percent(macs: float) -> None:
    found = scale(XS, Target(macs=macs))
    assert cost_of(found).macs == pytest.approx(macs, rel=0.02)
    assert {s.pattern for s in found.stages} == {s.pattern for s in XS.stages}
    assert found.input_size == XS.input_size


def test_a_larger_network_is_deeper_and_wider_in_every_stage() -> None:
    found = scale(XS, Target(macs=10 * cost_of(XS).macs))
    for before, after in zip(XS.stages, found.stages, strict=True):
        assert after.depth > before.depth
        assert after.channels > before.channels
        assert after.width > before.width


@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.5])
def test_parameters_are_met_beside_multiply_adds(ratio: float) -> None:
    macs = 4 * cost_of(XS).macs
    params = ratio * cost_of(scale(XS, Target(macs=macs))).params
    cost = cost_of(scale(XS, Target(macs=macs, params=params)))
    assert cost.macs == pytest.approx(macs, rel=0.02)
    assert cost.params == pytest.approx(params, rel=0.02)


@pytest.mark.parametrize(
    "name", ["ridnet_tiny", "ridnet_s", "ridnet_m", "ridnet_l", BY_EVOLUTION, BY_CHANCE]
)
def test_networks_come_out_of_the_command_that_they_name(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    shipped = load_definition(name)
    words = shipped.origin.command.split()
    assert words[:3] == ["openmfr", "search", "scale"]
    flags = dict(zip(words[5::2], words[6::2], strict=True))
    search_scale(
        words[3],
        tmp_path / words[4],
        macs=float(flags["--macs"]),
        params=float(flags["--params"]) if "--params" in flags else None,
        size=int(flags["--size"]) if "--size" in flags else None,
    )
    assert read_definition(tmp_path / words[4]).architecture == shipped.architecture
    assert str(cost_of(shipped.architecture)) in capsys.readouterr().out


def test_what_the_search_found_is_in_the_log_that_it_names(tmp_path: Path) -> None:
    """The best of evolution and of chance are those that stand first among its finalists."""
    (tmp_path / "search.log").write_bytes(
        gzip.decompress((ROOT / "docs/results/search/search.log.gz").read_bytes())
    )
    space = load_space("pocket")
    sampler = controller("random", space, seed=0)
    study = open_study(str(tmp_path / "search.log"), space, sampler)
    best = best_of(candidates_of(study, space, cost="macs"), 15)
    for kind, file in (("random", "best"), ("evolution", "evolution")):
        first = next(found for found in best if found.controller == kind)
        named = read_definition(ROOT / f"docs/results/search/{file}.json")
        assert named.architecture == first.architecture
        assert f"trial {first.trial}," in named.origin.command


def test_the_resolution_grows_when_asked() -> None:
    found = scale(XS, Target(macs=5e9), is_resolution_scaled=True)
    assert found.input_size > XS.input_size
    assert cost_of(found).macs == pytest.approx(5e9, rel=0.02)


def test_what_was_found_on_small_images_is_scaled_for_large_ones(tmp_path: Path) -> None:
    small = Definition(
        architecture=replace(XS, input_size=48), origin=Origin(command="", seed=3, log="search.log")
    )
    write_definition(tmp_path / "best.json", small)
    search_scale(str(tmp_path / "best.json"), tmp_path / "large.json", macs=2e9, size=160)
    found = read_definition(tmp_path / "large.json")
    assert found.architecture.input_size == 160
    assert cost_of(found.architecture).macs == pytest.approx(2e9, rel=0.02)
    assert (found.origin.seed, found.origin.log) == (3, "search.log")


def test_a_size_that_the_network_cannot_take_is_an_error() -> None:
    with pytest.raises(UserError, match=r"input_size: found 100; .*use 96"):
        search_scale("ridnet_xs", macs=1e9, size=100)


@pytest.mark.parametrize("limit", [5.0, 30.0, 200.0])
def test_a_latency_is_a_limit(limit: float) -> None:
    found = scale(XS, Target(latency_ms=limit), predict_ms=milliseconds)
    assert 0.8 * limit < milliseconds(found) <= limit


def test_networks_far_beyond_a_latency_are_not_tried() -> None:
    """Each one that is tried is measured, in parts."""
    tried: list[float] = []

    def predict(architecture: Architecture) -> float:
        tried.append(milliseconds(architecture))
        return tried[-1]

    scale(XS, Target(latency_ms=100.0), predict_ms=predict)
    assert max(tried) < 250
    assert len(tried) < 80


def test_a_target_that_cannot_be_reached_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"--macs: found 1,000; .* the nearest found has 1\.\d+e\+07"
    ):
        scale(XS, Target(macs=1e3))
    with pytest.raises(UserError, match=r"--limit-ms: found 0.1; .* the nearest found has 0\.\d+"):
        scale(XS, Target(latency_ms=0.1), predict_ms=milliseconds)
    with pytest.raises(UserError, match=r"--params: found 1e\+09"):
        scale(XS, Target(macs=1e9, params=1e9))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ({}, "none"),
        ({"params": 1e6}, "--params"),
        ({"macs": 1e9, "latency_ms": 3.0}, "--macs and --limit-ms"),
        ({"params": 1e9, "latency_ms": 3.0}, "--limit-ms and --params"),
        ({"macs": -1.0}, "-1"),
        ({"macs": math.nan}, "nan"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(target: dict[str, float], found: str) -> None:
    with pytest.raises(UserError, match=f"found {found};"):
        Target(**target)


def test_the_command_writes_where_its_result_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_scale("ridnet_xs", tmp_path / "a.json", macs=0.3e9, seed=7, log="log.jsonl")
    definition = read_definition(tmp_path / "a.json")
    assert (definition.origin.seed, definition.origin.log) == (7, "log.jsonl")
    shown = capsys.readouterr().out
    assert "stage 4" in shown
    assert "3 · 2 | 1x5+5x1 · 2" in shown
    search_scale(str(tmp_path / "a.json"), macs=0.3e9)

"""Models side by side: every protocol says how they differ, with a paired interval."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.difference import compare_verifications, measure_difference
from openmfr.evaluation.difference_tables import verification_differences
from openmfr.evaluation.protocols.ijb_report import write_templates_report
from openmfr.evaluation.protocols.many_pairs import compare_many, measure_many
from openmfr.evaluation.protocols.megaface import compare_identification, identify
from openmfr.evaluation.protocols.megaface_report import write_identification_report
from openmfr.evaluation.verification import measure
from openmfr.evaluation.verification_report import write_verification_report

FMRS = (0.1, 0.01)
IDENTITY = np.repeat(np.arange(30), 4)


@pytest.fixture(scope="module")
def better(comparisons: Comparisons) -> Comparisons:
    """The same pairs, scored by a model that knows the people better."""
    return replace(comparisons, score=comparisons.score + 0.15 * comparisons.is_genuine)


def faces(noise: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    found: np.ndarray = rng.normal(size=(30, 8))[IDENTITY] + noise * rng.normal(size=(120, 8))
    return found


STRANGERS = np.random.default_rng(1).normal(size=(400, 8))


def test_results_that_were_measured_already_differ_as_measuring_both_again_says(
    comparisons: Comparisons, better: Comparisons
) -> None:
    results = [measure(side, fmrs=FMRS, replicates=40) for side in (comparisons, better)]
    expected = measure_difference(comparisons, better, fmrs=FMRS, replicates=40)
    assert compare_verifications(*results) == expected
    change = expected["fnmr@0.1"]
    assert change.high is not None
    assert change.high < 0


def test_a_long_list_differs_as_the_same_list_measured_pair_by_pair(
    comparisons: Comparisons, better: Comparisons
) -> None:
    first, second = (measure_many(side, fmrs=FMRS, replicates=40) for side in (comparisons, better))
    expected = measure_difference(comparisons, better, fmrs=FMRS, replicates=40)
    changes = compare_many(first, second)
    for far, change in changes.items():
        assert change.value == expected[f"fnmr@{far:g}"].negated().value
    # At the larger rate some draws run out of the impostors that such a list keeps.
    tar, fnmr = changes[0.01], expected["fnmr@0.01"]
    assert (tar.low, tar.high) == (fnmr.negated().low, fnmr.negated().high)
    assert tar.flag == fnmr.flag == "rests on 5 expected false matches"


def test_a_model_finds_mates_more_often_by_rank_and_not_more_often_than_itself() -> None:
    first, second = (
        identify(faces(noise), IDENTITY, STRANGERS, max_rank=3, replicates=60)
        for noise in (0.9, 0.6)
    )
    changes = compare_identification(first, second)
    assert [change.value for change in changes] == [
        (b.value or 0) - (a.value or 0) for a, b in zip(first.rates, second.rates, strict=True)
    ]
    assert all(change.low is not None and change.low > 0 for change in changes)
    same = compare_identification(first, first)
    assert [(change.value, change.low, change.high) for change in same] == 3 * [(0, 0, 0)]


def test_what_was_measured_otherwise_is_not_compared(
    comparisons: Comparisons, better: Comparisons
) -> None:
    one = measure_many(comparisons, fmrs=FMRS, replicates=5)
    half = comparisons.only(np.arange(len(comparisons)) % 2 == 0)
    for other, found in (
        (measure_many(half, fmrs=FMRS, replicates=5), "other pairs"),
        (measure_many(better, fmrs=(0.1,), replicates=5), "other false accept rates"),
        (measure_many(better, fmrs=FMRS, replicates=5, seed=1), "5 draws of seed 1"),
    ):
        with pytest.raises(UserError, match=f"comparison of two models: found {found}"):
            compare_many(one, other)
    first = identify(faces(0.5), IDENTITY, STRANGERS, max_rank=3, replicates=5)
    for strangers, ranks, found in (
        (STRANGERS[1:], 3, "other photos"),
        (STRANGERS, 2, "other ran"),
    ):
        other_result = identify(faces(0.5), IDENTITY, strangers, max_rank=ranks, replicates=5)
        with pytest.raises(UserError, match=found):
            compare_identification(first, other_result)
    with pytest.raises(UserError, match="other false match rates"):
        compare_verifications(
            measure(comparisons, fmrs=FMRS, replicates=5),
            measure(better, fmrs=(0.2,), replicates=5),
        )


def test_a_report_on_pairs_compares_the_others_with_the_first_kind_by_kind(
    comparisons: Comparisons, better: Comparisons, tmp_path: Path
) -> None:
    kind = np.where(np.arange(len(comparisons)) % 2 == 0, "mu", "uu")
    results = {
        name: measure(replace(side, kind=kind), fmrs=(*FMRS, 1e-3), replicates=30)
        for name, side in (("ours", comparisons), ("theirs", better))
    }
    write_verification_report(tmp_path, title="t", results=results, configuration={})
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (table,) = content["differences"]
    assert list(table["rows"]) == ["all", "mu", "uu"]
    names = ["Pairs", "Accuracy", "EER", "AUC × 100", "FNMR at FMR 10 %", "FNMR at FMR 1 %"]
    assert table["header"] == names  # what is refused of both has no column
    aucs = [content["results"][name]["kinds"]["mu"]["auc"]["value"] for name in results]
    cell = table["rows"]["mu"][2]
    assert cell["value"] == aucs[1] - aucs[0]
    page, text = ((tmp_path / f"report.{kind}").read_text("utf-8") for kind in ("html", "md"))
    for written in (page, text):
        assert "theirs minus ours" in written
        assert f"{100 * cell['value']:.2f}" in written
    assert "whose interval excludes 0 is more than chance" in page


def test_what_was_measured_on_other_pairs_or_draws_stands_beside_without_a_difference(
    comparisons: Comparisons, better: Comparisons
) -> None:
    half = np.arange(len(comparisons)) % 2 == 0
    results = {
        "ours": measure(comparisons, replicates=5),
        "half": measure(better.only(half), replicates=5),
        "other draws": measure(better, replicates=5, seed=1),
    }
    assert verification_differences(results) == []


def test_templates_and_identification_report_differences_everywhere(
    comparisons: Comparisons, better: Comparisons, tmp_path: Path
) -> None:
    write_templates_report(
        tmp_path / "templates",
        {
            name: measure_many(side, fmrs=FMRS, replicates=20)
            for name, side in (("ours", comparisons), ("theirs", better))
        },
        title="Templates",
        templates=60,
        configuration={},
    )
    write_identification_report(
        tmp_path / "found",
        {
            name: identify(faces(noise), IDENTITY, STRANGERS, max_rank=2, replicates=20)
            for name, noise in (("ours", 0.9), ("theirs", 0.6))
        },
        configuration={},
    )
    for folder, what, row in (
        ("templates", "TAR minus that of ours", "theirs"),
        ("found", "Share found minus that of ours", "2"),
    ):
        content = json.loads((tmp_path / folder / "report.json").read_text("utf-8"))
        (table,) = content["differences"]
        assert table["caption"].startswith(what)
        cell = table["rows"][row][-1]
        assert cell["low"] <= cell["value"] <= cell["high"]
        for name in ("report.html", "report.md"):
            written = (tmp_path / folder / name).read_text("utf-8")
            assert what in written
            assert f"{100 * cell['value']:.2f}" in written

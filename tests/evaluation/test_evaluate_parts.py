"""The protocols of `openmfr evaluate` that are no lists of pairs, from the outside."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.cli.main import main
from openmfr.data.labels import Labels
from openmfr.embed import Embeddings

QUICK = ("--replicates", "20")


def written(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def report(out: Path) -> Any:
    assert (out / "report.html").exists()
    assert (out / "report.md").read_text().startswith("# ")
    return json.loads((out / "report.json").read_text())


@pytest.fixture
def out(embedded: Embeddings) -> Path:
    return embedded.path.parent / "report"


@pytest.fixture
def sources(embedded: Embeddings) -> list[str]:
    return embedded.open_store().column("source")


def test_all_pairs_are_compared_also_group_by_group(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[name, "north" if i < 24 else "south"] for i, name in enumerate(sources)]
    table = written(embedded.path.parent / "images.csv", [["path", "region"], *rows])
    words = ["evaluate", "all", str(embedded.path), "--out", str(out), "--fmr", "0.1", *QUICK]
    assert main([*words, "--images", table, "--by", "region"]) == 0
    images = len(sources)
    results = report(out)["results"]["embeddings"]
    pairs = images * (images - 1) // 2
    assert results["all"]["genuine_pairs"] + results["all"]["impostor_pairs"] == pairs
    assert results["region north"]["genuine_pairs"] == 36
    assert "genuine and" in capsys.readouterr().out


def test_the_webface260m_track_stands_beside_the_paper(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        [name, str(i % 2), "wild" if i % 4 < 2 else "controlled"] for i, name in enumerate(sources)
    ]
    table = written(embedded.path.parent / "i.csv", [["path", "is_masked", "scene"], *rows])
    words = ["evaluate", "webface260m", str(embedded.path), "--images", table, "--fmr", "0.1"]
    assert main([*words, "--out", str(out), *QUICK]) == 0
    found = report(out)
    parts = found["results"]["embeddings"]
    assert next(iter(parts)) == "MFR-All"
    score = 0.25 * parts["MFR-All"]["rates"][0]["fnmr"]["value"]
    score += 0.75 * parts["SFR-All"]["rates"][0]["fnmr"]["value"]
    assert found["score"]["embeddings"]["value"] == pytest.approx(score)
    assert "| SenseTime | 0.0757 |" in (out / "report.md").read_text()
    assert "| embeddings | " in (out / "report.md").read_text()


def test_the_insightface_track_says_which_parts_it_cannot_measure(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ("mask", "african", "caucasian", "east_asian")
    rows = [
        [name, str(int(sets[i % 4] == "mask" and i % 8 < 4)), sets[(i // 4) % 4]]
        for i, name in enumerate(sources)
    ]
    table = written(embedded.path.parent / "i.csv", [["path", "is_masked", "test_set"], *rows])
    words = ["evaluate", "insightface", str(embedded.path), "--images", table]
    assert main([*words, "--out", str(out), *QUICK]) == 0
    assert "Children has no genuine pairs and is not measured" in capsys.readouterr().out
    found = report(out)
    assert found["results"]["embeddings"]["MR-All"]["rates"][0]["fnmr"]["value"] is None
    assert "refused" in found["score"]["embeddings"]["flag"]


def template_lists(folder: Path, sources: list[str]) -> int:
    """Write lists of templates of two images each, all compared with all; their number."""
    meta = folder / "IJBC" / "meta"
    meta.mkdir(parents=True)
    files = [Path(name).name for name in sources]
    lines = [f"{name} {i // 2 + 1} {i}" for i, name in enumerate(files)]
    (meta / "ijbc_face_tid_mid.txt").write_text("\n".join(lines))
    templates = len(files) // 2
    pairs = [f"{a + 1} {b + 1} {int(a // 2 == b // 2)}" for a in range(templates) for b in range(a)]
    (meta / "ijbc_template_pair_label.txt").write_text("\n".join(pairs))
    return templates


def test_templates_are_pooled_and_models_compared(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    near = embedded.path.parent
    templates = template_lists(near, sources)
    words = ["evaluate", "ijb", str(embedded.path), noisy(embedded, "other"), "--out", str(out)]
    words += ["--meta", str(near / "IJBC" / "meta"), "--no-detector-score", "--fmr", "0.1", *QUICK]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert f"embeddings: {templates} templates" in printed
    found = report(out)
    tars = [found["results"][m]["rates"][0]["tar"]["value"] for m in ("embeddings", "other")]
    (table,) = found["differences"]
    (cell,) = table["rows"]["other"]
    assert cell["value"] == pytest.approx(tars[1] - tars[0])
    assert f"system other: FAR 10 % {100 * cell['value']:.2f}" in printed


def test_mates_are_looked_for_among_distractors_by_several_models(
    embedded: Embeddings, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [str(embedded.path), noisy(embedded, "other")]
    words = ["evaluate", "megaface", *both, "--distractors", *both, "--max-rank", "3"]
    assert main([*words, "--out", str(out), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "rank 1  " in printed
    found = report(out)
    rates = [[rate["value"] for rate in found["results"][m]["rates"]] for m in found["results"]]
    assert rates[0] == sorted(rates[0])
    (table,) = found["differences"]
    cells = [row[0] for row in table["rows"].values()]
    assert [cell["value"] for cell in cells] == [b - a for a, b in zip(*rates, strict=True)]
    assert f"rank 3: other {100 * cells[2]['value']:.2f} [" in printed


def test_a_list_puts_probes_in_its_own_order(embedded: Embeddings, out: Path) -> None:
    """All images in another order, with other names: who is who comes from the list alone."""
    sources, near = embedded.open_store().column("source"), embedded.path.parent
    listed = near / "probes.json"
    names = [source.split("/")[0] for source in sources]
    listed.write_text(json.dumps({"path": sources[::-1], "id": names[::-1]}))
    words = ["evaluate", "megaface", str(embedded.path), "--distractors", str(embedded.path)]
    rates = []
    for more in ([], ["--probe-list", str(listed)]):
        assert main([*words, *more, "--out", str(out), "--max-rank", "5", *QUICK]) == 0
        rates.append([rate["value"] for rate in report(out)["results"]["embeddings"]["rates"]])
    assert rates[0] == rates[1]


def test_numbers_out_of_range_are_refused_by_every_protocol_before_it_begins(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, near = str(embedded.path), embedded.path.parent
    template_lists(near, sources)
    rows = [[name, str(i % 2), "wild", "mask"] for i, name in enumerate(sources)]
    table = written(near / "i.csv", [["path", "is_masked", "scene", "test_set"], *rows])
    listed = written(near / "p.csv", [["path_a", "path_b", "genuine"], [*sources[:2], "1"]])
    parts: dict[str, tuple[str, ...]] = {
        "pairs": ("--pairs", listed),
        "identities": (),
        "all": (),
        "calibration": (),
        "ijb": ("--meta", str(near / "IJBC" / "meta")),
        "megaface": ("--distractors", folder),
        "webface260m": ("--images", table),
        "insightface": ("--images", table),
    }
    wrong = {
        ("--replicates", "-1"): "replicates: found -1; allowed: integers from 0",
        ("--seed", "-1"): "seed: found -1; allowed: integers from 0",
        ("--fmr", "0"): "fmr: found 0; allowed: at least one, each above 0 and below 1",
        ("--fmr", "2"): "fmr: found 2; allowed: at least one, each above 0 and below 1",
    }
    for part, words in parts.items():
        for flag, message in wrong.items():
            if flag[0] == "--fmr" and part in ("megaface", "insightface"):
                continue
            assert main(["evaluate", part, folder, *words, *flag, "--out", str(out)]) == 2
            assert message in capsys.readouterr().err, (part, flag)
    assert not out.exists()


def test_all_pairs_tell_masks_of_a_table_apart_and_say_what_they_cannot(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    look = ["", "cloth", "kn95", ""]
    rows = [[name, "rare" if i == 1 else look[i % 4]] for i, name in enumerate(sources)]
    table = written(embedded.path.parent / "masks.csv", [["path", "mask"], *rows])
    words = ["evaluate", "all", str(embedded.path), "--images", table, "--by", "mask"]
    assert main([*words, "--out", str(out), "--fmr", "0.1", *QUICK]) == 0
    results = report(out)["results"]["embeddings"]
    names = ["uu", "mu", "mm", "mask cloth, mu", "mask kn95, mu", "mask rare, mu"]
    assert list(results) == names
    assert results["uu"]["genuine_pairs"] == 12
    assert results["mask kn95, mu"]["genuine_pairs"] == 24
    parts = [results[name]["impostor_pairs"] for name in names[3:]]
    assert sum(parts) == results["mu"]["impostor_pairs"]
    rows = [[name, f"only {i}" if i < 4 else "all"] for i, name in enumerate(sources)]
    table = written(embedded.path.parent / "groups.csv", [["path", "region"], *rows])
    words = ["evaluate", "all", str(embedded.path), "--images", table, "--by", "region"]
    assert main([*words, "--out", str(out), "--fmr", "0.1", *QUICK]) == 0
    assert "note: region only 0 has no genuine pairs and is not meas" in capsys.readouterr().out
    assert list(report(out)["results"]["embeddings"]) == ["all", "region all"]


def noisy(embedded: Embeddings, name: str) -> str:
    """The embeddings of a worse model of the same name, with noise."""
    folder = embedded.path.parent / name
    shutil.copytree(embedded.path, folder)
    array = np.load(folder / "embeddings.npy")
    rng = np.random.default_rng(0)
    np.save(folder / "embeddings.npy", array + rng.normal(0, 30, array.shape).astype(np.float32))
    return str(folder)


def test_mistakes_are_one_clear_line(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, near = str(embedded.path), embedded.path.parent
    header = written(near / "header.csv", [["path", "sceen"]])
    other = written(near / "other.csv", [["path", "is_masked", "scene"], ["x/y.jpg", "1", "wild"]])
    first = sources[0]
    rows = [[name, "yes" if name == first else "1", "wild"] for name in sources]
    short = written(near / "short.csv", [["path", "is_masked", "scene"], [sources[0], "1"]])
    twice = [[name, "1", "wild"] for name in sources] + [[sources[0], "0", "wild"]]
    again = written(near / "again.csv", [["path", "is_masked", "scene"], *twice])
    slip = [[name, "1", "wlid"] for name in sources]
    typo = written(near / "typo.csv", [["path", "is_masked", "scene"], *slip])
    full = written(near / "full.csv", [["path", "mask"], *([name, "cloth"] for name in sources)])
    nobody = near / "nobody.json"
    nobody.write_text(json.dumps({"path": sources}))
    odd = written(near / "odd.csv", [["path", "is_masked", "scene"], *rows])
    mistakes = {
        ("all", folder, "--by", "group"): "--by: found group",
        ("all", folder, "--images", full, "--by", "mask"): "column mask: found a mask on every im",
        ("megaface", folder, "--distractors"): "--distractors: found 0 folders; allowed: 1",
        ("megaface", folder, "--distractors", folder, "--max-rank", "0"): "choose another last",
        ("webface260m", folder, "--images", header): "header.csv, header: found path, sceen",
        ("webface260m", folder, "--images", other): "48 images of the store not listed",
        ("webface260m", folder, "--images", odd): "is_masked: found yes",
        ("webface260m", folder, "--images", "no.csv"): "no.csv: found no readable table",
        ("webface260m", folder, "--images", short): "short.csv, line 2: found 2 cells; allowed: 3",
        ("webface260m", folder, "--images", again): "line 50: found person_00/person_00_0000.jpg",
        ("webface260m", folder, "--images", typo): "scene: found 'wlid'; allowed: '', 'wild', 'con",
        ("ijb", folder, "--meta", str(near)): "face_tid_mid",
        ("megaface", folder, "--distractors", folder, "--probe-list", str(nobody)): "no list `id`",
        ("megaface", folder, "--distractors", folder, "--probe-noise", odd): "and no --probe-list",
        ("all", folder, "--workers", "0"): "workers: found 0",
        ("all", folder, folder): "two folders of one name, embeddings",
        ("all", folder, "--fmr", "2"): "fmr: found 2",
    }
    for words, message in mistakes.items():
        assert main(["evaluate", *words, "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


def broken(embedded: Embeddings, name: str, rows: slice, value: float) -> str:
    """A copy of the embeddings, some of them spoilt."""
    folder = embedded.path.parent / name
    shutil.copytree(embedded.path, folder)
    array = np.load(folder / "embeddings.npy")
    array[rows] = value
    np.save(folder / "embeddings.npy", array)
    return str(folder)


def test_images_without_a_usable_embedding_are_listed_by_every_protocol(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[name, str(i % 2), "wild"] for i, name in enumerate(sources)]
    wild = written(embedded.path.parent / "w.csv", [["path", "is_masked", "scene"], *rows])
    rows = [[name, str(i % 2), "mask"] for i, name in enumerate(sources)]
    sets = written(embedded.path.parent / "s.csv", [["path", "is_masked", "test_set"], *rows])
    good = str(embedded.path)
    for name, value, found in (
        ("nan", float("nan"), "no embedding for person_00/person_00_0002.jpg, person_00"),
        ("inf", float("inf"), "numbers that are not finite for person_00/person_00_0002.jpg"),
        ("zero", 0.0, "zeros for person_00/person_00_0002.jpg"),
    ):
        folder = broken(embedded, name, slice(2, 20), value)
        for words in (
            ("all", folder),
            ("webface260m", folder, "--images", wild),
            ("insightface", folder, "--images", sets),
            ("megaface", folder, "--distractors", good),
            ("megaface", good, "--distractors", folder),
        ):
            assert main(["evaluate", *words, "--out", str(out), *QUICK]) == 2
            said = capsys.readouterr().err
            assert f"embeddings: found {found}" in said
            assert "and 13 more" in said
    assert not out.exists()


def test_what_labels_do_not_keep_takes_no_part_in_a_track(
    embedded: Embeddings, out: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    labels = Labels.from_names(embedded.open_store())
    gone = np.arange(len(sources)) < 8
    child = labels.child(keep=labels.keep & ~gone)
    child.write(embedded.path.parent / "kept.parquet")
    folder = broken(embedded, "some", slice(0, 8), float("nan"))
    rows = [[name, str(i % 2), "wild"] for i, name in enumerate(sources)]
    table = written(embedded.path.parent / "i.csv", [["path", "is_masked", "scene"], *rows])
    words = ["evaluate", "webface260m", folder, "--images", table, "--fmr", "0.1"]
    words += ["--labels", str(embedded.path.parent / "kept.parquet"), "--out", str(out), *QUICK]
    assert main(words) == 0
    assert "note: 8 images take no part" in capsys.readouterr().out
    part = report(out)["results"]["some"]["MFR-All"]
    assert part["identities"] == 10
    assert part["genuine_pairs"] == 10 * 4


def test_rows_in_another_order_are_suspected(
    embedded: Embeddings, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = embedded.path.parent / "mixed"
    shutil.copytree(embedded.path, folder)
    order = np.random.default_rng(0).permutation(len(embedded))
    np.save(folder / "embeddings.npy", np.load(folder / "embeddings.npy")[order])
    words = ["evaluate", "all", str(embedded.path), str(folder), "--fmr", "0.1"]
    assert main([*words, "--out", str(out), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "note: mixed: Pairs of one person score no higher" in printed
    assert "note: embeddings: Pairs of one" not in printed
    (table,) = report(out)["differences"]
    assert table["rows"]["all"][0]["value"] > 0
    assert report(out)["worst"]["all"]["false_matches"][0]["source_a"].startswith("person_")
    assert "<img" in (out / "report.html").read_text()

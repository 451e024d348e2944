"""Groups, masks and calibration from the command line: embeddings in, tables and thresholds out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.cli.main import main
from openmfr.data.labels import Labels
from openmfr.data.store_writer import StoreWriter
from openmfr.embed import Embeddings, embed_store
from openmfr.evaluation.calibration import Calibration

Say = Callable[..., tuple[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Bare and masked embeddings of one store, and a table of its images."""

    bare: str
    masked: str
    images: str
    out: Path


@pytest.fixture
def sets(embedded: Embeddings) -> Sets:
    """The masked store has the bare one's pictures; embeddings are theirs with noise."""
    near, store = embedded.path.parent, embedded.open_store()
    worn = StoreWriter(near / "masked", image_size=store.image_size, settings={})
    count = len(store)
    worn.write_shard(
        0,
        [store.read(i) for i in range(count)],
        {
            **store.columns_of(0),
            "mask_style": [None if i % 8 == 7 else ("kn95", "cloth")[i % 2] for i in range(count)],
            "mask_colour": [None if i % 8 == 7 else "white" for i in range(count)],
            "mask_coverage": [
                None if i % 8 == 7 else ("high", "low")[i // 24] for i in range(count)
            ],
        },
    )
    masked = worn.commit(shards=1)
    embed_store(_Noisy(), masked, near / "masked-embeddings")
    rows = [
        f"{source},{('north', 'south')[i // 4 % 2]}"
        for i, source in enumerate(store.column("source"))
    ]
    (near / "images.csv").write_text("\n".join(["path,region", *rows]), encoding="utf-8")
    return Sets(
        bare=str(embedded.path),
        masked=str(near / "masked-embeddings"),
        images=str(near / "images.csv"),
        out=near / "report",
    )


class _Noisy:
    embedding_dim = 12
    fingerprint = "colour"

    def embed(self, images: np.ndarray) -> np.ndarray:
        colours = images.reshape(len(images), 4, -1, 3).mean(axis=2).reshape(len(images), 12)
        noise = np.random.default_rng(len(images)).normal(0, 30, colours.shape)
        moved: np.ndarray = (colours + noise - colours.mean(axis=1, keepdims=True)).astype(
            np.float32
        )
        return moved


@pytest.fixture
def say(sets: Sets, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run `openmfr evaluate` and return what it printed and its JSON."""

    def run(*words: str) -> tuple[str, Any]:
        assert main(["evaluate", *words, "--out", str(sets.out)]) == 0
        return capsys.readouterr().out, json.loads((sets.out / "report.json").read_text())

    return run


def test_groups_of_a_table_stand_beside_each_other_at_one_threshold(
    sets: Sets, say: Say, numbers_in: Callable[[object], set[float]]
) -> None:
    words = ["identities", sets.bare, "--images", sets.images, "--by", "region"]
    printed, found = say(*words, "--replicates", "30", "--common-fmr", "0.1")
    result = found["results"]["embeddings"]["breakdown"]["groups"]["region"]
    assert [part["name"] for part in result["groups"]] == ["north", "south"]
    assert result["fmr_asked"] == 0.1
    assert "embeddings by region: at one threshold" in printed
    assert "FNMR, largest over smallest" in printed
    page = (sets.out / "report.html").read_text()
    assert "<h2>Groups</h2>" in page
    assert "<h2>Masks</h2>" not in page
    shown = {float(value) for value in re.findall(r'<data value="([^"]+)">', page)}
    assert shown <= numbers_in(found)
    assert "By region: how unequal" in (sets.out / "report.md").read_text()


def test_groups_of_labels_need_no_table(sets: Sets, say: Say, embedded: Embeddings) -> None:
    labels = Labels.from_names(embedded.open_store())
    group = np.where(labels.identity < 6, "old", "young").astype(np.str_)
    path = sets.out.parent / "labels.parquet"
    labels.child(group=group).write(path)
    words = ["identities", sets.bare, "--labels", str(path), "--replicates", "0"]
    _, found = say(*words, "--reference", "young", "--fmr", "0.1")
    result = found["results"]["embeddings"]["breakdown"]["groups"]["group"]
    assert result["reference"] == "impostor pairs of young"


def test_masks_are_taken_apart_by_style_colour_and_coverage(sets: Sets, say: Say) -> None:
    words = ["identities", sets.bare, "--masked", sets.masked, "--images", sets.images]
    printed, found = say(*words, "--by", "region", "--replicates", "10", "--fmr", "0.2")
    parts = found["results"]["embeddings"]["breakdown"]
    assert set(parts["groups"]) == {"region, uu", "region, mu", "region, mm"}
    assert set(parts["masks"]) == {
        f"mask_{what}, {kind}" for what in ("style", "colour", "coverage") for kind in ("mu", "mm")
    }
    styles = parts["masks"]["mask_style, mu"]
    assert [part["name"] for part in styles["groups"]] == ["bare", "cloth", "kn95"]
    masked = sum(part["genuine_pairs"] for part in styles["groups"][1:])
    assert masked == found["results"]["embeddings"]["kinds"]["mu"]["genuine_pairs"]
    assert "by mask_coverage, mu" in printed
    assert "<h2>Masks</h2>" in (sets.out / "report.html").read_text()


def test_a_list_of_pairs_is_taken_apart_too(sets: Sets, say: Say, embedded: Embeddings) -> None:
    sources = embedded.open_store().column("source")
    rows = [
        f"{a},{b},{int(a.split('/')[0] == b.split('/')[0])}"
        for i, a in enumerate(sources)
        for b in sources[:i]
    ]
    path = sets.out.parent / "pairs.csv"
    path.write_text("\n".join(["path_a,path_b,genuine", *rows]), encoding="utf-8")
    words = ["pairs", sets.bare, "--pairs", str(path), "--images", sets.images, "--by", "region"]
    _, found = say(*words, "--replicates", "0", "--fmr", "0.1")
    result = found["results"]["embeddings"]["breakdown"]["groups"]["region"]
    assert [part["genuine_pairs"] for part in result["groups"]] == [36, 36]
    assert result["cross"][0]["impostor_pairs"] == 24 * 24


def test_a_calibration_is_written_shown_and_loaded_again(
    sets: Sets, say: Say, numbers_in: Callable[[object], set[float]]
) -> None:
    words = ["calibration", sets.bare, "--masked", sets.masked, "--replicates", "20"]
    printed, found = say(*words, "--fmr", "0.1", "0.02", "1e-6", "--galleries", "3", "100000")
    calibration = Calibration.load(sets.out / "calibration.json")
    assert set(calibration.conditions) == {"uu", "mu", "mm"}
    assert calibration.model == "colour"
    bare = calibration.conditions["uu"]
    assert (bare.impostors, bare.identities) == (48 * 44 // 2, 12)
    measured, _, refused = found["thresholds"]["uu"]
    assert measured["threshold"] == calibration.threshold(0.1, "uu").score
    assert refused["threshold"] is None
    assert refused["flag"].startswith("refused: FMR 1e-06 is below")
    small, large = found["galleries"]["uu"]
    assert small["threshold"] == calibration.threshold_for_gallery(0.01, 3, "uu").score
    assert large["threshold"] is None
    assert found["ranges"]["uu"]["lowest_measured"] == bare.lowest_measured
    assert f"uu: 1,056 impostor pairs of 12 people; measured to FMR {1000 / 1056:.2g} %" in printed
    page = (sets.out / "report.html").read_text()
    assert "<svg" in page
    shown = {float(value) for value in re.findall(r'<data value="([^"]+)">', page)}
    assert shown <= numbers_in(found)
    assert "| Score | mm | mu | uu |" in (sets.out / "report.md").read_text()


def test_without_masks_there_is_one_condition_and_labels_tell_masks(
    sets: Sets, say: Say, embedded: Embeddings
) -> None:
    _, found = say("calibration", sets.bare, "--replicates", "0", "--pairs", "500")
    assert found["ranges"]["all"]["impostor_pairs"] == 500
    labels = Labels.from_names(embedded.open_store())
    path = sets.out.parent / "labels.parquet"
    labels.child(is_masked=np.arange(48) % 2 == 1).write(path)
    _, found = say("calibration", sets.bare, "--labels", str(path), "--replicates", "0")
    assert {name: part["impostor_pairs"] for name, part in found["ranges"].items()} == {
        "uu": 264,
        "mu": 528,
        "mm": 264,
    }


def test_a_table_tells_the_masks_of_a_calibration(
    sets: Sets, say: Say, embedded: Embeddings
) -> None:
    sources = embedded.open_store().column("source")
    rows = [f"{source},{'cloth' if i % 2 else ''}" for i, source in enumerate(sources)]
    table = sets.out.parent / "masks.csv"
    table.write_text("\n".join(["path,mask_style", *rows]), encoding="utf-8")
    words = ["--images", str(table), "--by", "mask_style", "--replicates", "0"]
    _, found = say("calibration", sets.bare, *words)
    assert {name: part["impostor_pairs"] for name, part in found["ranges"].items()} == {
        "uu": 264,
        "mu": 528,
        "mm": 264,
    }


def test_a_calibration_is_described_by_its_file_and_by_its_folder(
    sets: Sets, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    say("calibration", sets.bare, "--masked", sets.masked, "--replicates", "5")
    moved = sets.out.parent / "gate.json"
    moved.write_bytes((sets.out / "calibration.json").read_bytes())
    shown = []
    for path in (sets.out, sets.out / "calibration.json", moved):
        assert main(["inspect", str(path)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] == shown[2]
    lines = " ".join(shown[0].split())
    assert "kind calibration" in lines
    assert "model colour" in lines
    assert "condition uu 1,056 impostor pairs of 12 people; measured to FMR 0.95 %" in lines
    assert main(["inspect", str(sets.out), "--check"]) == 2
    assert "found a calibration; allowed: a store" in capsys.readouterr().err
    (sets.out / "calibration.json").write_text('{"format_version": 1, "model": 3}')
    assert main(["inspect", str(sets.out)]) == 2
    assert "found no conditions" in capsys.readouterr().err


def test_embeddings_of_two_stores_do_not_stand_side_by_side(
    sets: Sets, capsys: pytest.CaptureFixture[str]
) -> None:
    """The masked store has as many images: their rates would look fine."""
    assert main(["evaluate", "identities", sets.bare, sets.masked, "--out", str(sets.out)]) == 2
    assert "those of the same faces with masks go with --masked" in capsys.readouterr().err


def test_what_is_taken_apart_is_printed_below_its_model(sets: Sets, say: Say) -> None:
    words = ["identities", sets.bare, "--images", sets.images, "--by", "region"]
    printed, _ = say(*words, "--replicates", "0", "--fmr", "0.1")
    starts = ("embeddings: 72 genuine", "embeddings by region: at one", "report: ")
    found = [printed.index(start) for start in starts]
    assert found == sorted(found)


def test_mistakes_are_one_clear_line(sets: Sets, capsys: pytest.CaptureFixture[str]) -> None:
    mistakes = {
        ("identities", sets.bare, "--by", "region"): "--by: found region; allowed: columns of",
        ("identities", sets.bare, "--images", sets.images): "--by: found nothing",
        ("identities", sets.bare, "--images", sets.images, "--by", "regoin"): "header: found path",
        ("identities", sets.bare, "--reference", "x"): "no group of people is known",
        ("calibration", sets.bare, "--pairs", "100"): "condition all: found 100 impostor pairs",
        ("calibration", sets.bare, "--pairs", "0"): "pairs: found 0",
        ("calibration", sets.bare, "--fpir", "2"): "fpir: found 2",
        ("calibration", sets.bare, "--masked", sets.bare): "does not say who wears a mask",
        ("calibration", sets.bare, "--galleries", "0"): "size of a gallery: found 0",
        ("identities", sets.bare, "--common-fmr", "0"): "fmr: found 0",
    }
    for words, message in mistakes.items():
        assert main(["evaluate", *words, "--replicates", "5", "--out", str(sets.out)]) == 2
        assert message in capsys.readouterr().err

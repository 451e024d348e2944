"""Rounds of cleaning go on where they stopped, and measure on people that no round touches."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_backbone
from toys import make_store

from openmfr.checkpoint import CheckpointFolder
from openmfr.cleaning import passes, rounds
from openmfr.cleaning.changes import find_changes
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.rounds import VETOES, Rounds, RoundsConfig
from openmfr.cleaning.rounds_report import rounds_tables
from openmfr.cleaning.rounds_result import RoundsResult, labels_of, round_folder
from openmfr.cli.main import main
from openmfr.data.labels import Labels
from openmfr.data.noise import NoiseConfig, plant_noise
from openmfr.errors import UserError
from openmfr.heads import HeadConfig
from openmfr.models import BackboneConfig
from openmfr.train import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig, Training
from openmfr.train.trainer import Trainer

TOY = TrainConfig(
    backbone=BackboneConfig(name="toy_backbone:Toy", input_size=32, embedding_dim=16),
    head=HeadConfig(kind="cosface", margin=0.2, scale=16.0),
    optimizer=OptimizerConfig(learning_rate=1.0),
    schedule=ScheduleConfig(epochs=3.0, warmup_epochs=0.5, shape="cosine"),
    augment=AugmentConfig(brightness=0.1, shift=0.01),
    batch_size=16,
    evaluate_epochs=3.0,
    holdout_identities=10,  # the rounds set their own people aside
)
CLEAN = CleanConfig(intra_threshold=0.85, inter_threshold=0.98, relabel_threshold=1.5)
#: Goes on in any case.
ALL = RoundsConfig(margin=-1.0, holdout_identities=6, replicates=50)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """24 people, of whose images some are strangers' and some lie under somebody else's name."""
    folder = tmp_path_factory.mktemp("rounds")
    store = make_store(folder / "store", identities=24, images=6)
    noise = NoiseConfig(outliers=0.08, outlier_identities=3, flips=0.12, splits=0.0)
    planted = plant_noise(Labels.read(store.path / "labels.parquet"), noise)
    planted.noisy.write(folder / "noisy.parquet")
    return Training(config=TOY, store=store.path, labels=folder / "noisy.parquet")


def draw_no_pages(patch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time of such small rounds."""
    patch.setattr(rounds, "write_verification_report", lambda *_, **__: None)
    patch.setattr(passes, "write_pass_report", lambda path, *_, **__: path.write_text(""))


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_pages(monkeypatch)


@pytest.fixture(scope="module")
def whole(training: Training, tmp_path_factory: pytest.TempPathFactory) -> RoundsResult:
    """Three rounds without a stop."""
    with pytest.MonkeyPatch.context() as patch:
        draw_no_pages(patch)
        return made(training, tmp_path_factory.mktemp("whole") / "out").run()


def made(training: Training, out: Path, config: RoundsConfig = ALL, **options: Any) -> Rounds:
    return Rounds(training, out, config=config, **{"clean": CLEAN, **options})


def files(out: Path) -> dict[str, bytes]:
    """Everything that says what came out, but pages and logs."""
    names = ("*.parquet", "changes.csv", "pass.json", "round.json", "embeddings.npy", "report.md")
    found = [path for name in names for path in out.rglob(name) if path.parent.name != "report"]
    for run in out.glob("round-*/run"):
        last = CheckpointFolder(run / "checkpoints").last()
        assert last is not None
        found += last.glob("*.safetensors")
    leftovers = list(out.rglob(".*.tmp"))
    assert leftovers == []
    return {str(path.relative_to(out)): path.read_bytes() for path in [*found, out / "report.json"]}


def test_each_round_is_trained_on_the_labels_of_the_pass_before_it(whole: RoundsResult) -> None:
    out = whole.out
    assert [made.number for made in whole.rounds] == [1, 2, 3]
    for made in whole.rounds:
        trained = Labels.read(round_folder(out, made.number) / "run" / "labels.parquet")
        labels = Labels.read(labels_of(out, made.number))
        assert trained.fingerprint == labels.fingerprint == made.labels
        assert (made.images, made.identities) == (labels.keep.sum(), labels.kept_identities.size)
    first, second = (Labels.read(labels_of(out, number)) for number in (1, 2))
    changes = find_changes(first, second)
    counted = [len(changes.of(kind)) for kind in ("drop", "move", "merge")]
    assert counted == [whole.rounds[1].dropped, whole.rounds[1].moved, whole.rounds[1].merged]
    assert sum(counted) > 0


def test_held_out_people_are_in_no_training_and_in_no_decision(whole: RoundsResult) -> None:
    held_out = Labels.read(whole.out / "held_out.parquet")
    people = held_out.kept_identities
    assert people.size == ALL.holdout_identities
    tables = sorted(whole.out.glob("round-*/**/labels.parquet"))
    assert len(tables) == 5  # three trainings, two passes
    for path in tables:
        table = Labels.read(path)
        assert not np.isin(people, table.kept_identities).any()
        assert np.array_equal(table.identity[held_out.keep], held_out.identity[held_out.keep])
        assert np.array_equal(table.is_held_out, held_out.keep)


def test_the_table_has_a_row_for_each_round_and_the_best_is_named(whole: RoundsResult) -> None:
    table, gains = rounds_tables(whole)
    first, second = whole.rounds[:2]
    assert list(table.rows) == ["1", "2", "3"]
    assert table.rows["1"][2:] == ["–", "–", "–", first.accuracy]
    assert gains.rows["2"] == [second.gain, second.total]
    values = [made.accuracy.value or 0.0 for made in (first, second)]
    assert second.gain is not None
    assert second.gain.value == pytest.approx(values[1] - values[0])
    content = json.loads((whole.out / "report.json").read_text())
    best = max(content["rounds"], key=lambda row: row["accuracy"]["value"])
    assert content["best"]["round"] == best["number"] == whole.best.number
    assert (whole.out / content["best"]["labels"]).samefile(whole.labels)
    assert (whole.out / content["best"]["run"]).samefile(whole.run)


def test_pages_are_linked_and_say_how_many_people_were_measured(
    training: Training, tmp_path: Path
) -> None:
    result = made(training, tmp_path / "out", replace(ALL, rounds=2)).run()
    page = result.report.read_text(encoding="utf-8")
    links = [part.split('"')[0] for part in page.split('<a href="')[1:]]
    pages = [link for link in links if link.endswith(".html")]
    assert len(pages) == 3
    assert all((result.out / link).exists() for link in pages)
    measured = json.loads((result.out / "round-2" / "report" / "report.json").read_text())
    assert list(measured["results"]) == ["round 2", "round 1"]
    assert measured["results"]["round 2"]["identities"] == ALL.holdout_identities


def test_finished_rounds_are_said_again_without_work(
    training: Training, whole: RoundsResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("finished work was done again")

    for owner, name in STAGES[:-1]:
        monkeypatch.setattr(owner, name, work)
    before = files(whole.out)
    assert made(training, whole.out).run() == whole
    assert files(whole.out) == before


#: What does the work of each stage; the last one writes the page about all rounds.
STAGES: tuple[tuple[Any, str], ...] = (
    (Trainer, "fit"),
    (rounds, "embed_store"),
    (rounds, "write_verification_report"),
    (rounds, "run_pass"),
    (rounds, "write_rounds_report"),
)


def die_around(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, deaths: list[str]) -> None:
    """Let a stage end the process as it begins, and again when it is done, once in each round."""
    original: Callable[..., Any] = getattr(owner, name)

    def stage(*words: Any, **options: Any) -> Any:
        begun, done = (f"{name} {when} {place(words)}" for when in ("begun", "done"))
        if begun not in deaths:
            deaths.append(begun)
            raise KeyboardInterrupt
        result = original(*words, **options)
        if done not in deaths:
            deaths.append(done)
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, stage)


def place(words: tuple[Any, ...]) -> Path:
    """Where a stage writes."""
    if isinstance(words[0], Trainer):
        return words[0].run.path
    if isinstance(words[0], RoundsResult):
        return words[0].out
    return next(word for word in words if isinstance(word, Path))


@pytest.mark.usefixtures("no_pages")
def test_rounds_stopped_before_and_after_each_stage_end_in_the_same_files(
    training: Training, whole: RoundsResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths: list[str] = []
    for owner, name in STAGES:
        die_around(monkeypatch, owner, name, deaths)
    result = None
    while result is None:
        try:
            result = made(training, tmp_path / "out").run()
        except KeyboardInterrupt:
            assert len(deaths) <= 24
    assert len(deaths) == 2 * (3 + 3 + 3 + 2 + 1)
    assert result == replace(whole, out=tmp_path / "out")
    assert files(tmp_path / "out") == files(whole.out)


@pytest.mark.usefixtures("no_pages")
def test_more_rounds_go_on_where_fewer_ended(
    training: Training, whole: RoundsResult, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    one = made(training, out, replace(ALL, rounds=1)).run()
    assert one.rounds == whole.rounds[:1]
    assert one.labels == out / "labels.parquet"
    assert not (out / "round-1" / "clean").exists(), "no pass follows the last training"
    stopped = made(training, out, replace(ALL, margin=0.9)).run()
    assert stopped.rounds == whole.rounds[:2]
    assert "less than the margin of 90" in stopped.stopped
    assert made(training, out).run().rounds == whole.rounds
    assert files(out) == files(whole.out)


@pytest.mark.usefixtures("no_pages")
def test_passes_clean_the_first_table_afresh_or_that_of_the_round_before(
    training: Training, whole: RoundsResult, tmp_path: Path
) -> None:
    first = Labels.read(labels_of(whole.out, 1)).fingerprint
    assert [Labels.read(labels_of(whole.out, n)).parent for n in (2, 3)] == [first, first]
    out = tmp_path / "out"
    made(training, out, replace(ALL, afresh=False)).run()
    second = Labels.read(labels_of(out, 2))
    assert second.parent == first
    assert Labels.read(labels_of(out, 3)).parent == second.fingerprint
    embedded = np.load(out / "round-2" / "embeddings" / "embeddings.npy")
    held_out = Labels.read(out / "held_out.parquet")
    assert np.array_equal(np.isfinite(embedded[:, 0]), second.keep | held_out.keep)


@pytest.mark.usefixtures("no_pages")
def test_a_pass_that_changes_nothing_is_the_end(training: Training, tmp_path: Path) -> None:
    nothing = CleanConfig(intra_threshold=-1.0, merge=False, relabel=False)
    result = made(training, tmp_path / "out", clean=nothing).run()
    assert len(result.rounds) == 1
    assert result.stopped == "the pass after round 1 changed nothing"


@pytest.mark.usefixtures("no_pages")
def test_refusals_beside_a_pass_are_obeyed_by_the_next_one(
    training: Training, whole: RoundsResult, tmp_path: Path
) -> None:
    out, before = tmp_path / "out", Labels.read(labels_of(whole.out, 1))
    refused = np.flatnonzero(before.keep & ~Labels.read(labels_of(whole.out, 3)).keep)[0]
    header = (whole.out / "round-1" / "clean" / "changes.csv").read_text().splitlines()[0]
    vetoes = f"{header}\ndrop,{refused},,0,,,,,no\n"
    shutil.copytree(whole.out, out)
    for later in ("round-2/clean", "round-3"):
        shutil.rmtree(out / later)
    (out / "round-1" / "clean" / VETOES).write_text(vetoes)
    assert made(training, out).run().notes == ()
    assert Labels.read(labels_of(out, 3)).keep[refused]

    (out / "round-2" / "clean" / VETOES).write_text(vetoes.replace(str(refused), "0"))
    late = made(training, out).run()
    assert [note.split(" yet")[0] for note in late.notes] == [
        "No pass has obeyed round-2/clean/vetoes.csv"
    ]


@pytest.mark.usefixtures("no_pages")
def test_a_round_of_labels_that_were_made_anew_is_refused(
    training: Training, whole: RoundsResult, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole.out, out)
    vetoes = tmp_path / "vetoes.csv"
    header, first, *_ = (out / "round-1" / "clean" / "changes.csv").read_text().splitlines()
    vetoes.write_text(f"{header}\n{first}no\n")
    shutil.rmtree(out / "round-1" / "clean")
    with pytest.raises(UserError, match=r"round-2: found a round trained on.*delete this folder"):
        made(training, out, vetoes=[vetoes]).run()


def test_other_settings_in_the_folder_are_named(training: Training, whole: RoundsResult) -> None:
    other = replace(training, config=replace(TOY, batch_size=32))
    with pytest.raises(UserError) as error:
        made(other, whole.out, replace(ALL, afresh=False), clean=replace(CLEAN, center="mean"))
    for text in (
        "config.batch_size: found 16; allowed: 32",
        "rounds.afresh: found True; allowed: False",
        "clean.center: found 'robust'; allowed: 'mean'",
    ):
        assert text in str(error.value)


def test_people_whom_the_labels_hold_out_already_are_measured(
    training: Training, tmp_path: Path
) -> None:
    apart = training.read_labels().hold_out(5, seed=9)
    apart.write(tmp_path / "apart.parquet")
    first = made(replace(training, labels=tmp_path / "apart.parquet"), tmp_path / "out").first
    assert np.array_equal(first.is_held_out, apart.is_held_out)


@pytest.mark.usefixtures("no_pages")
def test_thresholds_that_leave_nothing_leave_no_pass_behind(
    training: Training, tmp_path: Path
) -> None:
    strict = CleanConfig(intra_threshold=1.0, merge=False, relabel=False)
    with pytest.raises(UserError, match="below which every image scores"):
        made(training, tmp_path / "out", clean=strict).run()
    assert not (tmp_path / "out" / "round-1" / "clean").exists()
    assert list((tmp_path / "out").rglob(".*.tmp")) == []


def test_what_cannot_work_is_refused_before_anything_is_written(
    training: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"(?s)rounds: found 0.*margin: found 2.*replicates"):
        RoundsConfig(rounds=0, margin=2.0, replicates=-1)
    with pytest.raises(UserError, match="holdout_identities: found 23; allowed: 4 to"):
        made(training, tmp_path / "out", replace(ALL, holdout_identities=23))
    with pytest.raises(UserError, match=r"refused\.csv: found no readable CSV"):
        made(training, tmp_path / "out", vetoes=[tmp_path / "refused.csv"])
    words = ["tiny_real", "--store", str(training.store), "--out", str(tmp_path / "out")]
    assert main(["clean", "rounds", *words, "--hold-out", "3"]) == 2
    assert "holdout_identities: found 3; allowed: from 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def kill_when(folder: Path, words: list[str], file: Path) -> bool:
    """Start a command and kill it once a file stands."""
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if file.exists():
            process.kill()
            process.wait()
            return True
        time.sleep(0.005)
    return False


@pytest.mark.slow
def test_a_killed_command_ends_in_the_files_of_the_same_rounds_in_python(
    training: Training, whole: RoundsResult, tmp_path: Path
) -> None:
    assert toy_backbone.__file__ is not None
    (tmp_path / "toy_backbone.py").symlink_to(toy_backbone.__file__)
    words = [sys.executable, "-m", "openmfr", "clean", "rounds", str(whole.out), "--out", "out"]
    words += ["--store", str(training.store), "--labels", str(training.labels), "--device", "cpu"]
    words += ["--margin", "-1", "--hold-out", "6", "--replicates", "50"]
    words += ["--intra-threshold", "0.85", "--inter-threshold", "0.98"]
    words += ["--relabel-threshold", "1.5"]
    first, second = (tmp_path / "out" / f"round-{number}" for number in (1, 2))
    kills = [
        kill_when(tmp_path, words, file)
        for file in (
            first / "run" / "checkpoints" / "index.json",
            first / "embeddings" / "embeddings.npy",
            first / "report" / "report.json",
            first / "clean" / "pass.json",
            second / "run" / "run.json",
            second / "round.json",
        )
    ]
    assert kills[0], "the rounds ended before they began"
    ended = subprocess.run(
        words, cwd=tmp_path, check=True, timeout=600, capture_output=True, text=True
    )
    best = whole.best.number
    trained_on = labels_of(Path("out"), best)
    assert ended.stdout.splitlines()[-1] == (
        f"best: round {best}, out/round-{best}/run, trained on {trained_on}"
    )
    assert files(tmp_path / "out") == files(whole.out)

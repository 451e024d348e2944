"""Experiments on a few synthetic people: shared, stopped, gone on with, written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openmfr.checkpoint import Checkpoint
from openmfr.cli.main import main
from openmfr.data.labels import Labels
from openmfr.data.noise import NoiseConfig
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.files import if_free, write_json
from openmfr.masking.config import MaskConfig
from openmfr.models import build_backbone, count
from openmfr.recipes import masked_finetune, tiny_synthetic
from openmfr.reproduce.catalogue import load_experiment
from openmfr.reproduce.experiment import Arm, Claim, Experiment, Figure, TrackTable
from openmfr.reproduce.networks import MACS
from openmfr.reproduce.ours import SAME_TIME
from openmfr.reproduce.outcome import Outcome
from openmfr.reproduce.results import run_experiment
from openmfr.reproduce.runs import Runs
from openmfr.reproduce.sets import Sets, real_sets, synthetic_sets
from openmfr.reproduce.verdicts import verdicts
from openmfr.train import ScheduleConfig, TrainConfig


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    return synthetic_sets(tmp_path_factory.mktemp("stores"), people=(24, 12, 6), masks=6, workers=1)


def recipe() -> TrainConfig:
    plain = tiny_synthetic()
    return replace(
        plain,
        backbone=replace(plain.backbone, name="toy_backbone:Toy", input_size=32, embedding_dim=16),
        schedule=ScheduleConfig(epochs=4, warmup_epochs=0.5, shape="cosine"),
        masks=MaskConfig(probability=0.15, templates=4),
        batch_size=16,
        holdout_identities=6,
        evaluate_epochs=2.0,
        checkpoint_steps=5,
    )


def experiment() -> Experiment:
    start = recipe()
    return Experiment(
        table="T0",
        title="toy",
        arms=(
            Arm(name="before", config=start, paper={"masked": 0.2, "bare": 0.1}),
            Arm(name="tuned", config=masked_finetune(start, epochs=1), start_from="before"),
            Arm(name="half", config=start, identities=0.5),
        ),
        claims=(Claim(says="it helps", better="tuned", than="before", figure="masked"),),
        notes=("a note",),
    )


def rates(outcome: Outcome) -> dict[Figure, float]:
    """What does not depend on how quick the machine was."""
    return {name: value for name, value in outcome.value.items() if name != "time"}


def test_an_experiment_is_done_once_and_written_down(
    sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(sets, tmp_path, replicates=50)
    first = run_experiment(experiment(), runs, tmp_path, seeds=2, command="openmfr reproduce T0")
    assert list(first) == ["before", "tuned", "half"]
    assert all(sorted(seeds) == [0, 1] for seeds in first.values())
    content = json.loads((tmp_path / "T0.json").read_text())
    assert content["claims"][0]["word"] in ("agreed", "not seen at this scale", "contradicted")
    assert content["cpu_hours"] > 0
    page = (tmp_path / "T0.md").read_text()
    for words in ("it helps", "20.00 %", "12.50 %", "a note", "reproduce T0"):
        assert words in page
    (tmp_path / "T0.json").rename(tmp_path / "T6.json")  # the summary looks for tables it knows
    assert main(["reproduce", "summary", "--out", str(tmp_path)]) == 0
    summary = (tmp_path / "summary.md").read_text()
    assert f"Of the paper's tables, 1 claims: 1 {content['claims'][0]['word']}." in summary
    assert "| T6: it helps | tuned < before, masked |" in summary
    assert "| T6 | toy | 6 |" in summary
    monkeypatch.setattr("openmfr.reproduce.runs.Training", None)  # nothing is trained again
    again = run_experiment(experiment(), runs, tmp_path, seeds=2)
    assert again["tuned"][1].value == first["tuned"][1].value
    drawn = again["half"][0].drawn["both"], first["half"][0].drawn["both"]
    assert np.array_equal(*drawn, equal_nan=True)


def test_a_run_out_of_budget_stops_and_the_next_call_ends_as_an_undisturbed_one(
    sets: Sets, tmp_path: Path
) -> None:
    toy = experiment()
    whole = run_experiment(toy, Runs(sets, tmp_path / "a", replicates=5), tmp_path, seeds=1)
    runs = Runs(sets, tmp_path / "b", replicates=5)
    assert run_experiment(toy, runs, tmp_path, seeds=1, minutes=1e-9) == {}
    for seconds in np.geomspace(0.3, 300, 30):  # on a slow machine the first ones get nowhere
        found = run_experiment(toy, runs, tmp_path, seeds=1, minutes=seconds / 60)
        if len(found) == len(toy.arms):
            break
    assert {name: rates(seeds[0]) for name, seeds in found.items()} == {
        name: rates(seeds[0]) for name, seeds in whole.items()
    }


def test_what_another_process_trains_is_left_to_it(sets: Sets, tmp_path: Path) -> None:
    toy, runs = experiment(), Runs(sets, tmp_path, replicates=5)
    before = runs.folder(toy, toy.arm("before"), 0)
    before.mkdir(parents=True)
    going = runs.go(toy, seeds=1)
    with if_free(before):  # as the other process would
        arm, _, _ = next(going)
        assert arm.name == "half"  # not the fine-tuning either, whose network is not there yet
    assert [arm.name for arm, _, _ in going] == ["before", "tuned"]


def test_outcomes_alone_go_on_elsewhere_and_networks_come_again_where_they_are_needed(
    sets: Sets, tmp_path: Path
) -> None:
    toy = experiment()
    here = Runs(sets, tmp_path / "here", replicates=5)
    made = run_experiment(toy, here, tmp_path, seeds=1)
    there = Runs(sets, tmp_path / "there", replicates=5)
    shutil.copytree(here.outcomes, there.outcomes)
    there._outcome_path(there.folder(toy, toy.arm("tuned"), 0)).unlink()
    again = run_experiment(toy, there, tmp_path, seeds=1)
    assert again["half"][0].seconds == made["half"][0].seconds
    assert not there.folder(toy, toy.arm("half"), 0).exists()
    assert rates(again["tuned"][0]) == rates(made["tuned"][0])


def test_what_is_measured_on_has_one_name_wherever_masks_lie_to_the_last_digit(
    sets: Sets, tmp_path: Path
) -> None:
    shutil.copytree(sets.worn.path, tmp_path / "worn")
    path = tmp_path / "worn" / "manifest.json"
    content = json.loads(path.read_text())
    for changed, is_same in (
        ({"geometry": "fitted elsewhere"}, True),
        ({"seed": 7}, False),
    ):
        settings = {**content["settings"], **changed}
        path.write_text(json.dumps({**content, "settings": settings, "fingerprint": "0" * 16}))
        other = replace(sets, worn=Store(tmp_path / "worn"))
        assert (other.fingerprint == sets.fingerprint) == is_same


def test_a_folder_is_named_by_what_decides_a_training(sets: Sets, tmp_path: Path) -> None:
    toy, runs = experiment(), Runs(sets, tmp_path)
    before, tuned, half = toy.arms
    folders = {runs.folder(toy, arm, seed) for arm in toy.arms for seed in (0, 1)}
    assert len(folders) == 6
    other = replace(before, config=replace(before.config, batch_size=8))
    elsewhere = replace(toy, arms=(other, tuned, half))
    assert runs.folder(elsewhere, tuned, 0) != runs.folder(toy, tuned, 0)
    renamed = replace(half, name="a half")
    assert runs.folder(toy, renamed, 0) == runs.folder(toy, half, 0)


def test_noisy_labels_are_cleaned_by_the_network_that_they_trained(
    sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmfr.reproduce.runs.NOISE", NoiseConfig(outlier_identities=3))
    start = replace(recipe(), holdout_identities=0)
    toy = Experiment(
        table="T0",
        title="toy",
        arms=(
            Arm(name="true", config=start),
            Arm(name="noisy", config=start, is_noisy=True),
            Arm(name="cleaned", config=start, is_noisy=True, cleaned_by="noisy"),
        ),
        claims=(),
    )
    runs = Runs(sets, tmp_path, replicates=5)
    assert run_experiment(toy, runs, tmp_path, seeds=1).keys() == {"true", "noisy", "cleaned"}
    true, noisy, cleaned = (
        Labels.read(runs.folder(toy, arm, 0) / "run" / "labels.parquet") for arm in toy.arms
    )
    assert (true.identity != noisy.identity).sum() > 0.1 * len(true)
    # The cleaning's own figures are tested with it; here, that it was given what was noisy.
    assert cleaned.parent == noisy.fingerprint


def test_synthetic_faces_come_first_and_real_ones_get_prototypes_of_their_own(
    sets: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmfr.reproduce.sets.PRETRAINING", (14, 6))
    start = recipe()
    toy = Experiment(
        table="T0",
        title="toy",
        arms=(
            Arm(name="synthetic", config=start, is_synthetic=True),
            Arm(name="then real", config=start, start_from="synthetic"),
        ),
        claims=(),
    )
    runs = Runs(sets, tmp_path, replicates=5)
    run_experiment(toy, runs, tmp_path, seeds=1)
    first, second = (Checkpoint.open(runs.folder(toy, arm, 0) / "run") for arm in toy.arms)
    # Six of each are held out; the sets differ by ten people.
    assert (first.info.identities, second.info.identities) == (14 - 6, 24 - 6)


def test_how_long_a_training_took_needs_several_to_be_compared(sets: Sets, tmp_path: Path) -> None:
    start, longer = (
        replace(recipe(), schedule=replace(recipe().schedule, epochs=epochs)) for epochs in (1, 2)
    )
    toy = Experiment(
        table="T0",
        title="toy",
        arms=(Arm(name="short", config=start), Arm(name="long", config=longer)),
        claims=(Claim(says="short is quick", better="short", than="long", figure="time"),),
    )
    runs = Runs(sets, tmp_path, replicates=5)
    (one,) = verdicts(toy, run_experiment(toy, runs, tmp_path, seeds=1))
    assert (one.word, one.ours.low) == ("not measured", None)
    assert one.ours.value is not None
    (two,) = verdicts(toy, run_experiment(toy, runs, tmp_path, seeds=2))
    assert two.ours.low is not None
    assert "CPU s" in (tmp_path / "T0.md").read_text()


def test_a_training_that_was_killed_has_no_time(sets: Sets, tmp_path: Path) -> None:
    """What it had spent until then died with it; the rest alone would make it look quick."""
    toy, runs = experiment(), Runs(sets, tmp_path, replicates=5)
    killed = runs.folder(toy, toy.arm("half"), 0)
    killed.mkdir(parents=True)
    write_json(killed / "spent.json", {"open": ["seconds", "training"]})
    made = {arm.name: outcome for arm, _, outcome in runs.go(toy, seeds=1)}
    assert made["before"].value["time"] > 0
    assert "time" not in made["half"].value
    read = runs.outcome(toy, toy.arm("half"), 0)
    assert read is not None
    assert read.value == made["half"].value


@pytest.mark.parametrize(("track", "column"), [("1", "Mask"), ("2", "MFR-All")])
def test_a_table_of_the_challenge_has_our_row_below_the_published_ones(
    sets: Sets, tmp_path: Path, track: TrackTable, column: str
) -> None:
    toy = Experiment(
        table=f"T{track}",
        title="toy",
        arms=(Arm(name="final", config=recipe()),),
        claims=(),
        track=track,
    )
    run_experiment(toy, Runs(sets, tmp_path, replicates=5), tmp_path, seeds=1)
    page = (tmp_path / f"T{track}.md").read_text()
    assert page.index("SenseTime") < page.index("| final, seed 0")
    assert "trained on 144" in page
    found = json.loads((tmp_path / f"T{track}.json").read_text())["track"]["final, seed 0"]
    part = found["parts"][column]
    # Three of each person's six images wear masks, and no photo meets itself.
    assert part["genuine_pairs"] == 12 * 3 * 3


@pytest.mark.parametrize(
    ("table", "factors"),
    [("T7", {}), ("T8", {"half": 0.5, "double": 2.0}), ("latency", {"RIDNet": SAME_TIME})],
)
def test_networks_cost_what_their_table_says(table: str, factors: dict[str, float]) -> None:
    for arm in load_experiment(table).arms:
        with torch.device("meta"):
            network = build_backbone(arm.config.backbone)
        cost = count(network, arm.config.backbone.input_size).macs
        assert cost == pytest.approx(factors.get(arm.name, 1.0) * MACS, rel=0.03), arm.name


def test_tables_share_trainings(sets: Sets, tmp_path: Path) -> None:
    runs = Runs(sets, tmp_path)
    table = {name: load_experiment(name) for name in ("T6", "T9", "T10")}
    folders = {
        runs.folder(table[name], table[name].arm(arm), 0)
        for name, arm in (("T6", "15%"), ("T9", "CosFace 0.2, our default"), ("T10", "before"))
    }
    assert len(folders) == 1


def test_a_smaller_share_of_the_people_is_part_of_a_larger_one(sets: Sets, tmp_path: Path) -> None:
    runs = Runs(sets, tmp_path)
    arm = experiment().arm("half")
    people = {
        share: set(
            Labels.read(
                runs._labels(experiment(), replace(arm, identities=share), 0)
            ).kept_identities.tolist()
        )
        for share in (0.25, 0.5)
    }
    assert people[0.25] < people[0.5]
    assert len(people[0.5]) == 12


def test_shortened_trainings_keep_their_proportions() -> None:
    short = load_experiment("T10").shortened(2.0)
    before, tuned = (arm.config.schedule.epochs for arm in short.arms)
    assert before == 2.0
    assert tuned == pytest.approx(2.0 * 3 / 14)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda toy: replace(toy, arms=toy.arms[1:]), "arm before"),
        (lambda toy: replace(toy, arms=(toy.arms[0], toy.arms[0])), "arm before"),
        (lambda toy: replace(toy, arms=toy.arms[:1]), "arm tuned"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    change: Callable[[Experiment], Experiment], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        change(experiment())


def test_mistakes_are_one_clear_line(
    sets: Sets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "T66"]) == 2
    assert "T6" in capsys.readouterr().err
    assert main(["reproduce", "summary", "--out", str(tmp_path)]) == 2
    assert "no results" in capsys.readouterr().err
    with pytest.raises(UserError, match="no folder train-celeba, lfw-112"):
        real_sets(tmp_path, tmp_path / "stores")
    with pytest.raises(UserError, match="seeds: found 0"):
        run_experiment(experiment(), Runs(sets, tmp_path), tmp_path, seeds=0)
    with pytest.raises(UserError, match="minutes: found -1"):
        run_experiment(experiment(), Runs(sets, tmp_path), tmp_path, seeds=1, minutes=-1)

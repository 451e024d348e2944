"""Batches that do not come, ranks that lag and losses that are not finite are said in one line."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path

import pytest
import torch
from toys import make_store

from openmfr.checkpoint import Checkpoint, CheckpointFolder
from openmfr.data.store import Store
from openmfr.distributed import lost_rank_said
from openmfr.errors import UserError, full_disk_said
from openmfr.models import BackboneConfig
from openmfr.run import Run, event
from openmfr.train import OptimizerConfig, ScheduleConfig, TrainConfig, Training
from openmfr.train.feeder import Batch, Feeder, Patience, feeding
from openmfr.train.trainer import Trainer
from openmfr.train.watchdog import Losses, Pace, SlowRanks, Stopwatch

BATCH: Batch = (torch.zeros(2), torch.ones(2))

TOY = TrainConfig(
    backbone=BackboneConfig(name="toy_backbone:Toy", input_size=32, embedding_dim=16),
    schedule=ScheduleConfig(epochs=4, warmup_epochs=0.5, shape="cosine"),
    batch_size=16,
    evaluate_epochs=4.0,
    checkpoint_steps=5,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("watchdog") / "s", identities=12, images=8)


def trainer(store: Store, out: Path, config: TrainConfig = TOY) -> Trainer:
    training = Training(config=config, store=store.path)
    return training.trainer(out, device=torch.device("cpu"), workers=0)


@pytest.fixture
def hanging() -> Iterator[Iterator[Batch]]:
    """One batch, and then none until the test is over."""
    release = threading.Event()

    def batches() -> Iterator[Batch]:
        yield BATCH
        release.wait()

    yield batches()
    release.set()


def minutes() -> Iterator[float]:
    """A clock on which a minute passes between two looks."""
    return iter(range(0, 10**6, 60))


def test_batches_come_in_their_order_and_none_is_read_ahead() -> None:
    asked: list[int] = []

    def batches() -> Iterator[Batch]:
        for number in count():
            asked.append(number)
            yield torch.tensor(number), BATCH[1]

    with feeding(batches(), Patience()) as feeder:
        assert asked == []
        served = [feeder.next("step") for _ in range(3)]
    assert [int(batch[0]) for batch in served if batch] == asked == [0, 1, 2]


def test_what_goes_wrong_with_a_batch_is_raised_where_it_was_wanted() -> None:
    def batches() -> Iterator[Batch]:
        yield BATCH
        raise UserError(where="shard 3", found="damage", allowed="none", next_step="mend it")

    with feeding(batches(), Patience()) as feeder:
        assert feeder.next("step 1") is BATCH
        with pytest.raises(UserError, match="shard 3"):
            feeder.next("step 2")


def test_a_wait_is_warned_of_once_and_then_ends(
    hanging: Iterator[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    clock: Iterator[float] = repeat(0.0)  # stands still until the first batch is here
    patience = Patience(warn=120, stop=600)
    feeder = Feeder(hanging, patience=patience, look_every=0.001, clock=lambda: next(clock))
    assert feeder.next("run, step 1") is BATCH
    clock = minutes()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(UserError, match="run, step 2: found no batch for 600 s"),
    ):
        feeder.next("run, step 2")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "run, step 2: no batch for 120 s; this process itself reads the store and decodes"
    ]
    feeder.close()


def test_an_error_of_another_kind_passes_as_it_is_and_is_logged(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", settings={}, about={})
    run.begin()
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        run.log_to_file(is_first=True),
        full_disk_said(tmp_path),
        lost_rank_said("run, rank 0"),
    ):
        raise RuntimeError("out of memory")
    assert "out of memory" in (run.path / "log.txt").read_text()


def test_a_wait_ends_when_the_process_is_asked_to_stop(hanging: Iterator[Batch]) -> None:
    feeder = Feeder(hanging, patience=Patience(), look_every=0.001)
    feeder.next("step 1")
    assert feeder.next("step 2", is_stopping=lambda: True) is None
    feeder.close()


def test_a_loader_that_stalls_leaves_a_checkpoint_of_the_step(store: Store, tmp_path: Path) -> None:
    made = trainer(store, tmp_path / "run")
    original, release = made.batches, threading.Event()

    def stalling(first: int) -> Iterator[Batch]:
        for number, batch in enumerate(original(first)):
            if number == 7:
                release.wait()
            yield batch

    made.batches = stalling  # type: ignore[method-assign]
    with pytest.raises(UserError, match="step 8: found no batch"):
        made.fit(patience=Patience(warn=0.01, stop=0.02))
    release.set()
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").last() == (
        tmp_path / "run" / "checkpoints" / "step-00000007"
    )
    kinds = [json.loads(line)["event"] for line in log_lines(tmp_path / "run")]
    assert kinds == ["begin", "checkpoint", "stall", "checkpoint", "error"]
    trainer(store, tmp_path / "run").fit()


def log_lines(run: Path) -> list[str]:
    return (run / "log.jsonl").read_text().splitlines()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_patience_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(UserError, match=r"patience\.stop: found"):
        Patience.within(seconds)


EVEN = Pace(step=1.0, data=0.0, forward=0.2)


@pytest.mark.parametrize(
    ("lagging", "cause"),
    [
        (replace(EVEN, data=0.5), "it waits for its images"),
        (replace(EVEN, forward=0.6), "it computes"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_rank_that_lags_twice_in_a_row_is_named_once_with_the_cause(
    lagging: Pace, cause: str, rank: int
) -> None:
    slow = SlowRanks()
    paces = [lagging if each == rank else EVEN for each in range(4)]
    said = [slow.look(paces) for _ in range(4)]
    assert [len(each) for each in said] == [0, 1, 0, 0]
    assert said[1][0].startswith(f"rank {rank} holds the others up")
    assert cause in said[1][0]
    slow.look([EVEN] * 4)
    assert [len(slow.look(paces)) for _ in range(2)] == [0, 1], "it lags anew"


@pytest.mark.parametrize(
    "paces",
    [
        [EVEN, EVEN],
        [EVEN, replace(EVEN, forward=0.35)],  # less than twice
        [Pace(1.0, 0.0, 0.01), Pace(1.0, 0.0, 0.09)],  # of no weight in the step
        [replace(EVEN, data=0.5)] * 3,  # all alike: the store is slow, no rank is
    ],
)
def test_ranks_that_keep_up_are_not_named(paces: list[Pace]) -> None:
    slow = SlowRanks()
    assert [slow.look(paces) for _ in range(3)] == [[], [], []]


def test_the_stopwatch_tells_waiting_from_computing() -> None:
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])
    for _ in range(2):
        with watch.waiting():
            now[0] += 3.0
        now[0] += 1.0  # the other ranks' batches
        watch.begin_step()
        now[0] += 2.0
        watch.reach_others()
        now[0] += 4.0
        watch.reach_others()  # the second part of the batch
    assert watch.pace == Pace(step=10.0, data=3.0, forward=2.0)
    watch.restart()
    watch.begin_step()
    assert watch.pace == Pace(step=0.0, data=0.0, forward=0.0)


def test_metrics_say_what_a_step_was_spent_on(store: Store, tmp_path: Path) -> None:
    made = trainer(store, tmp_path / "run")
    made.fit()
    rows = [row for row in made.run.metrics() if "loss" in row]
    for row in rows:
        assert 0 < row["data_seconds"] < row["step_seconds"]
        assert row["images_per_second"] == pytest.approx(16 / row["step_seconds"])


def test_the_first_loss_that_is_not_finite_is_found_among_later_ones() -> None:
    losses = Losses()
    losses.begin(40)
    for value in (2.0, 1.5):
        losses.add(torch.tensor(value))
    assert losses.look() == (42, 1.5)
    assert losses.look() == (42, 1.5)
    for value in (1.0, float("inf"), float("nan")):
        losses.add(torch.tensor(value))
    assert losses.look() == (44, float("inf"))


@pytest.mark.parametrize("path", ["dense", "fused"])
def test_a_diverged_run_keeps_its_last_good_checkpoint_and_names_the_images(
    store: Store, tmp_path: Path, path: str
) -> None:
    config = replace(TOY, head=replace(TOY.head, path=path))  # type: ignore[arg-type]
    made = trainer(store, tmp_path / "run", config)
    original = made.step

    def broken(step: int, images: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        if step == 7:
            with torch.no_grad():
                next(made.learner.backbone.parameters()).fill_(torch.nan)
        return original(step, images, identity)

    made.step = broken  # type: ignore[method-assign]
    with pytest.raises(UserError) as error:
        made.fit()
    good = tmp_path / "run" / "checkpoints" / "step-00000005"
    assert f"{tmp_path / 'run'}, step 8: found" in str(error.value)
    assert f"--from {good}" in str(error.value)
    assert CheckpointFolder(good.parent).last() == good
    assert all(w.isfinite().all() for w in Checkpoint.open(good).read_backbone().values())
    diverged = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert diverged["step"] == 8
    seen = made.order.draw(6 * 16, 32).images.tolist()
    assert diverged["images_of_steps"] == {"7": seen[:16], "8": seen[16:]}


def test_weights_that_are_not_finite_are_never_saved_when_a_run_is_stopped(
    store: Store, tmp_path: Path
) -> None:
    config = replace(TOY, optimizer=OptimizerConfig(learning_rate=1e30, clip_norm=0))
    with pytest.raises(UserError, match="lower the learning rate"):
        trainer(store, tmp_path / "run", config).fit()
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").last() is None


@pytest.mark.parametrize(
    ("librarys", "ours"),
    [
        ("[tcp/unbound_buffer.cc:84] Timed out waiting 600000ms for recv", "does not answer"),
        ("[tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:41", "a rank that is gone"),
    ],
)
def test_a_lost_rank_is_said_in_one_line(librarys: str, ours: str) -> None:
    with pytest.raises(UserError, match=ours), lost_rank_said("run, rank 0"):
        raise RuntimeError(librarys)


def test_a_bug_keeps_its_own_words() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), lost_rank_said("run, rank 0"):
        raise RuntimeError("shapes differ")


def test_the_log_is_one_object_a_line_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", settings={}, about={})
    run.begin()
    logger = logging.getLogger("openmfr.test")
    with run.log_to_file():
        logger.info("two\nlines", extra=event("begin", step=3))
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"time": "20')  # a kill came between
    with pytest.raises(UserError), run.log_to_file():
        raise UserError(where="a", found="b", allowed="c", next_step="d")
    first, second = (json.loads(line) for line in log_lines(run.path))
    assert (
        first.items()
        >= {
            "level": "INFO",
            "logger": "openmfr.test",
            "rank": 0,
            "event": "begin",
            "step": 3,
            "message": "two\nlines",
        }.items()
    )
    assert second["event"] == "error"
    assert second["message"] == "a: found b; allowed: c; d"
    assert len((run.path / "log.txt").read_text().splitlines()) == 2


def test_other_ranks_keep_their_warnings_in_a_file_of_their_own(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", settings={}, about={})
    run.begin()
    with run.log_to_file(is_first=False, rank=3):
        logging.getLogger("openmfr.test").info("not kept")
    assert [path.name for path in run.path.iterdir()] == ["run.json"]
    with run.log_to_file(is_first=False, rank=3):
        logging.getLogger("openmfr.test").warning("kept")
    row = json.loads((run.path / "log-rank-3.jsonl").read_text())
    assert (row["rank"], row["message"]) == (3, "kept")

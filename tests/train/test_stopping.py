"""SIGTERM is noted, not died of; all ranks stop at one step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.harness import Result, run_on_ranks
from toys import make_store

from openmfr.checkpoint import Checkpoint, CheckpointFolder
from openmfr.cli.main import main
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.errors import Preempted, UserError
from openmfr.models import BackboneConfig
from openmfr.train import ScheduleConfig, TrainConfig, Training
from openmfr.train.feeder import Batch, Feeder, Patience
from openmfr.train.stopping import StopRequest, agree, stop_on_sigterm, take_batch
from openmfr.train.trainer import Trainer

#: 96 images: 12 steps.
TOY = TrainConfig(
    backbone=BackboneConfig(name="toy_backbone:Toy", input_size=32, embedding_dim=16),
    schedule=ScheduleConfig(epochs=2, warmup_epochs=0.5, shape="cosine"),
    batch_size=16,
    checkpoint_steps=5,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stopping") / "s", identities=12, images=8)


def trainer(store: Store, out: Path) -> Trainer:
    training = Training(config=TOY, store=store.path)
    return training.trainer(out, device=torch.device("cpu"), workers=0)


def sigterm_in(trainer: Trainer, step: int) -> None:
    """Let SIGTERM come while a trainer makes a step."""
    original = trainer.step

    def disturbed(number: int, *batch: Any) -> torch.Tensor:
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(number, *batch)

    trainer.step = disturbed  # type: ignore[method-assign,assignment]


def last(run: Path) -> Checkpoint:
    folder = CheckpointFolder(run / "checkpoints").last()
    assert folder is not None
    return Checkpoint.open(folder)


@pytest.mark.parametrize("step", [0, 4, 6])
def test_sigterm_ends_a_training_after_the_step_it_met_and_it_goes_on(
    store: Store, tmp_path: Path, step: int
) -> None:
    trainer(store, tmp_path / "whole").fit()
    stopped = trainer(store, tmp_path / "stopped")
    sigterm_in(stopped, step)
    with pytest.raises(Preempted, match=f"step {step + 2}: asked to stop"):
        stopped.fit()
    assert last(tmp_path / "stopped").info.step == step + 1
    trainer(store, tmp_path / "stopped").fit()
    whole, gone_on = last(tmp_path / "whole"), last(tmp_path / "stopped")
    assert whole.info.step == gone_on.info.step == 12
    for one, other in (
        (whole.read_backbone(), gone_on.read_backbone()),
        (whole.read_training(), gone_on.read_training()),
        ({"": whole.read_prototypes()}, {"": gone_on.read_prototypes()}),
    ):
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_sigterm_in_the_last_step_is_not_forgotten(store: Store, tmp_path: Path) -> None:
    made = trainer(store, tmp_path / "run")
    sigterm_in(made, 11)
    with pytest.raises(Preempted, match="after the last step"):
        made.fit()
    assert last(tmp_path / "run").info.step == 12
    assert trainer(store, tmp_path / "run").fit() == last(tmp_path / "run").path


def test_a_training_that_was_stopped_before_its_first_step_leaves_no_checkpoint(
    store: Store, tmp_path: Path
) -> None:
    made = trainer(store, tmp_path / "run")
    batches = made.batches

    def disturbed(first: int) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return batches(first)

    made.batches = disturbed  # type: ignore[method-assign]
    with pytest.raises(Preempted):
        made.fit()
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").last() is None


def test_the_handler_that_was_there_is_put_back(store: Store, tmp_path: Path) -> None:
    def own(*_: Any) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        made = trainer(store, tmp_path / "run")
        sigterm_in(made, 3)
        with pytest.raises(Preempted):
            made.fit()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_trains_without_touching_signals(store: Store, tmp_path: Path) -> None:
    before, made = signal.getsignal(signal.SIGTERM), trainer(store, tmp_path / "run")
    thread = threading.Thread(target=made.fit)
    thread.start()
    thread.join()
    assert last(tmp_path / "run").info.step == 12
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_script_that_catches_nothing_exits_with_75() -> None:
    script = "from openmfr.errors import Preempted; raise Preempted('stopped')"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (75, "")


def test_every_verb_but_a_service_ends_with_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "told.py").write_text(
        "import os, signal\n\n\ndef recipe():\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["train", "told:recipe", "--store", "s", "--out", "o"]) == 75
    assert capsys.readouterr().err == (
        "openmfr train: asked to stop (SIGTERM); give the same command again\n"
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_exit_codes_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "75 asked to stop" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "exit code 75" in " ".join(capsys.readouterr().out.split())


def ask_one(ranks: Ranks) -> Result:
    """Only the last rank is asked, or has no batch."""
    is_last = ranks.rank == ranks.size - 1
    return {
        "asked": list(agree(ranks, is_asked=is_last, is_faulty=False)),
        "faulty": list(agree(ranks, is_asked=False, is_faulty=is_last)),
        "neither": agree(ranks, is_asked=False, is_faulty=False).may_go_on,
    }


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_one_rank_knows_all_ranks_know_before_the_step(tmp_path: Path, size: int) -> None:
    for result in run_on_ranks(ask_one, size, tmp_path):
        assert result["asked"] == [True, None]
        assert result["faulty"] == [False, size - 1]
        assert result["neither"]


def take_on_two(ranks: Ranks) -> Result:
    """The last rank's loader fails; what each rank does then."""
    batch = (torch.zeros(1), torch.zeros(1))

    def batches() -> Any:
        yield batch
        if ranks.rank == 1:
            raise OSError(5, "the disk is gone")
        yield batch

    saved: list[int] = []
    feeder = Feeder(batches(), patience=Patience())

    def take() -> Batch:
        return take_batch(
            feeder,
            ranks,
            StopRequest(),
            where="run, step 1",
            waiting=nullcontext(),
            save=lambda: saved.append(1),
        )

    take()
    try:
        take()
    except (OSError, UserError) as error:
        return {"error": f"{type(error).__name__} {error}", "saved": len(saved)}
    return {"error": "", "saved": len(saved)}


def test_a_loader_that_fails_on_one_rank_lets_all_of_them_save_and_stop(tmp_path: Path) -> None:
    first, second = run_on_ranks(take_on_two, 2, tmp_path)
    assert (first["saved"], second["saved"]) == (1, 1)
    assert "found no batch on rank 1" in first["error"]
    assert second["error"] == "OSError [Errno 5] the disk is gone"


def test_sigterm_is_a_note_inside_the_block_alone() -> None:
    before, made = signal.getsignal(signal.SIGTERM), []
    with stop_on_sigterm() as stop:
        made.append(stop.is_made)
        os.kill(os.getpid(), signal.SIGTERM)
        made.append(stop.is_made)
    assert made == [False, True]
    assert signal.getsignal(signal.SIGTERM) is before

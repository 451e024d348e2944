"""Training learns, resumes bit by bit, and refuses what cannot work."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import make_store

from openmfr.checkpoint import Checkpoint, CheckpointFolder
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.heads import HeadConfig
from openmfr.models import BackboneConfig
from openmfr.train import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig, Training
from openmfr.train.trainer import Trainer

CPU = torch.device("cpu")

TOY = TrainConfig(
    backbone=BackboneConfig(name="toy_backbone:Toy", input_size=32, embedding_dim=16),
    head=HeadConfig(kind="cosface", margin=0.2, scale=16.0),
    optimizer=OptimizerConfig(learning_rate=1.0),
    schedule=ScheduleConfig(epochs=8, warmup_epochs=0.5, shape="cosine"),
    augment=AugmentConfig(brightness=0.1, shift=0.01),
    batch_size=16,
    holdout_identities=4,
    evaluate_epochs=4.0,
    checkpoint_steps=5,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("trainer") / "s", identities=12, images=8)


def trainer(store: Store, out: Path, config: TrainConfig = TOY, **options: Any) -> Trainer:
    return Training(config=config, store=store.path, **options).trainer(out, device=CPU, workers=0)


def weights(run: Path) -> dict[str, torch.Tensor]:
    last = CheckpointFolder(run / "checkpoints").last()
    assert last is not None
    opened = Checkpoint.open(last)
    prototypes = {"prototypes": opened.read_prototypes()}
    return opened.read_backbone() | opened.read_training() | prototypes


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def stop_after(trainer: Trainer, steps: int) -> None:
    """Run a trainer until it has done so many steps, then leave it as a kill would."""
    original = trainer.step

    def step(number: int, images: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        if number == steps:
            raise KeyboardInterrupt
        return original(number, images, identity)

    trainer.step = step  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def test_unseen_identities_are_told_apart_after_training(store: Store, tmp_path: Path) -> None:
    best = Checkpoint.open(trainer(store, tmp_path / "run").fit())
    assert best.info.metrics["holdout_auc"] > 0.95
    rows = trainer(store, tmp_path / "run").run.metrics()
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("steps", [1, 5, 13, 31])
def test_a_stopped_run_ends_in_the_same_weights(store: Store, tmp_path: Path, steps: int) -> None:
    trainer(store, tmp_path / "whole").fit()
    stop_after(trainer(store, tmp_path / "stopped"), steps)
    trainer(store, tmp_path / "stopped").fit()
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")
    names = ("whole", "stopped")
    logged = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in names]
    assert len(logged[0]) == len(logged[1])


def test_the_result_does_not_depend_on_the_number_of_workers(store: Store, tmp_path: Path) -> None:
    short = replace(TOY, schedule=replace(TOY.schedule, epochs=2), evaluate_epochs=2.0)
    trainer(store, tmp_path / "inline", short).fit()
    training = Training(config=short, store=store.path)
    training.trainer(tmp_path / "workers", device=CPU, workers=2).fit()
    assert_same_weights(tmp_path / "inline", tmp_path / "workers")


def test_seeds_differ(store: Store, tmp_path: Path) -> None:
    short = replace(TOY, schedule=replace(TOY.schedule, epochs=1), evaluate_epochs=1.0)
    trainer(store, tmp_path / "0", short).fit()
    trainer(store, tmp_path / "1", replace(short, seed=1)).fit()
    first, second = weights(tmp_path / "0"), weights(tmp_path / "1")
    assert not torch.equal(first["linear.weight"], second["linear.weight"])


def test_a_finished_run_returns_at_once_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    best = trainer(store, tmp_path / "run").fit()
    before = (best / "backbone.safetensors").stat().st_mtime_ns
    assert trainer(store, tmp_path / "run").fit() == best
    assert (best / "backbone.safetensors").stat().st_mtime_ns == before


def test_another_configuration_in_the_folder_is_named(store: Store, tmp_path: Path) -> None:
    trainer(store, tmp_path / "run").run.begin()
    other = replace(TOY, batch_size=32, optimizer=replace(TOY.optimizer, momentum=0.8))
    with pytest.raises(UserError) as error:
        trainer(store, tmp_path / "run", other)
    assert "config.batch_size: found 16; allowed: 32" in str(error.value)
    assert "config.optimizer.momentum: found 0.9; allowed: 0.8" in str(error.value)


def test_held_out_identities_are_never_trained_on(store: Store, tmp_path: Path) -> None:
    made = trainer(store, tmp_path / "run")
    made.fit()
    held_out = Labels.read(tmp_path / "run" / "held_out.parquet")
    steps = made.steps * TOY.batch_size
    trained = set(made.order.draw(0, steps).images.tolist())
    assert len(held_out.kept_identities) == 4
    assert not trained & set(held_out.kept().tolist())
    assert trained | set(held_out.kept().tolist()) == set(range(len(store)))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_keeps_float32_weights_and_learns(
    store: Store, tmp_path: Path, precision: Any
) -> None:
    made = trainer(store, tmp_path / "run", replace(TOY, precision=precision))
    best = Checkpoint.open(made.fit())
    assert {t.dtype for t in best.read_backbone().values() if t.is_floating_point()} == {
        torch.float32
    }
    losses = [row["loss"] for row in made.run.metrics() if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_backbone_trains_to_nearly_the_same_weights(
    store: Store, tmp_path: Path
) -> None:
    short = replace(TOY, schedule=replace(TOY.schedule, epochs=1), evaluate_epochs=1.0)
    trainer(store, tmp_path / "eager", short).fit()
    trainer(store, tmp_path / "compiled", replace(short, compile=True)).fit()
    eager, compiled = weights(tmp_path / "eager"), weights(tmp_path / "compiled")
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-2, atol=1e-3)


def test_the_loss_scale_survives_a_stop(store: Store, tmp_path: Path) -> None:
    config = replace(TOY, precision="float16")
    trainer(store, tmp_path / "whole", config).fit()
    stop_after(trainer(store, tmp_path / "stopped", config), 12)
    trainer(store, tmp_path / "stopped", config).fit()
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_fine_tuning_starts_from_the_checkpoint(store: Store, tmp_path: Path) -> None:
    trainer(store, tmp_path / "first").fit()
    tuned = trainer(store, tmp_path / "second", start_from=tmp_path / "first").learner
    best = Checkpoint.open(tmp_path / "first")
    ours = tuned.backbone.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in best.read_backbone().items())
    assert torch.equal(tuned.head.sharded_state()["prototypes"], best.read_prototypes())
    fresh = trainer(store, tmp_path / "third").learner
    assert not torch.equal(fresh.head.sharded_state()["prototypes"], best.read_prototypes())


def test_fine_tuning_with_more_identities_asks_what_to_do(store: Store, tmp_path: Path) -> None:
    trainer(store, tmp_path / "first").fit()
    everyone = replace(TOY, holdout_identities=0)
    with pytest.raises(UserError, match=r"--head new.*--head extend") as error:
        trainer(store, tmp_path / "same", everyone, start_from=tmp_path / "first")
    assert "found prototypes of 8 identities" in str(error.value)

    fresh = trainer(store, tmp_path / "fresh", everyone).learner.head.sharded_state()["prototypes"]
    learned = Checkpoint.open(tmp_path / "first").read_prototypes()
    choices = {}
    for choice in ("extend", "new"):
        made = trainer(
            store,
            tmp_path / choice,
            everyone,
            start_from=tmp_path / "first",
            head_start=choice,
        )
        choices[choice] = made.learner.head.sharded_state()["prototypes"]
    assert torch.equal(choices["extend"], torch.cat([learned, fresh[8:]]))
    assert torch.equal(choices["new"], fresh)


@pytest.mark.parametrize(
    "head",
    [
        HeadConfig(kind="cosface", margin=0.2, scale=16.0, path="dense"),
        HeadConfig(kind="adaface", margin=0.2, scale=16.0, backward="keep_exp"),
        HeadConfig(
            kind="cosface",
            margin=0.2,
            scale=16.0,
            sample_rate=0.5,
            unsampled="dense_equivalent",
            update="deferred",
        ),
    ],
    ids=lambda head: f"{head.path}-{head.kind}-{head.sample_rate:g}",
)
@pytest.mark.parametrize("in_background", [False, True])
def test_every_head_goes_on_bit_by_bit(
    store: Store, tmp_path: Path, head: HeadConfig, in_background: bool
) -> None:
    config = replace(TOY, head=head, background_checkpoints=in_background)
    trainer(store, tmp_path / "whole", config).fit()
    stop_after(trainer(store, tmp_path / "stopped", config), 13)
    trainer(store, tmp_path / "stopped", config).fit()
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(store: Store, tmp_path: Path) -> None:
    dense = replace(TOY, head=replace(TOY.head, path="dense"), augment=AugmentConfig(flip=0.0))
    prototypes = []
    for accumulate in (1, 2):
        made = trainer(store, tmp_path / str(accumulate), replace(dense, accumulate=accumulate))
        made.learner.backbone.eval()
        made.learner.backbone.train = lambda mode=True: made.learner.backbone  # type: ignore[method-assign]  # noqa: ARG005, B023
        images, identity = next(made.batches(0))
        made.step(0, images, identity)
        prototypes.append(made.learner.head.sharded_state()["prototypes"])
    torch.testing.assert_close(prototypes[0], prototypes[1], rtol=0, atol=1e-6)


def test_adding_up_gradients_with_the_fused_head_is_refused() -> None:
    with pytest.raises(UserError, match=r'head\.path="dense"'):
        replace(TOY, accumulate=2)


def test_images_whose_embeddings_are_not_finite_are_named(store: Store, tmp_path: Path) -> None:
    made = trainer(store, tmp_path / "run")
    images, identity = next(made.batches(0))
    original = made.learner.forward

    def broken(inputs: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = original(inputs)
        return embeddings.index_fill(0, torch.tensor([3]), torch.nan)

    made.learner.forward = broken
    image = made.order.draw(0, 16).images[3]
    with pytest.raises(UserError, match=f"of images {image} of the store"):
        made.step(0, images, identity)


def test_fine_tuning_another_network_is_refused(store: Store, tmp_path: Path) -> None:
    trainer(store, tmp_path / "first").fit()
    wider = replace(TOY, backbone=replace(TOY.backbone, embedding_dim=32))
    with pytest.raises(UserError, match="fine-tune with a recipe of the same backbone"):
        trainer(store, tmp_path / "second", wider, start_from=tmp_path / "first")


def test_a_diverged_loss_stops_with_advice(store: Store, tmp_path: Path) -> None:
    config = replace(TOY, optimizer=OptimizerConfig(learning_rate=1e30, clip_norm=0))
    with pytest.raises(UserError, match="lower the learning rate"):
        trainer(store, tmp_path / "run", config).fit()


def test_labels_of_another_store_are_refused(store: Store, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", identities=3)
    with pytest.raises(UserError, match="stands beside this store"):
        trainer(store, tmp_path / "run", labels=other.path / "labels.parquet")


def test_damaged_weights_are_a_clear_error(store: Store, tmp_path: Path) -> None:
    best = trainer(store, tmp_path / "run").fit()
    (best / "backbone.safetensors").write_bytes(b"\x80\x04cposix\nsystem\n")
    with pytest.raises(UserError, match="unreadable weights"):
        Checkpoint.open(best).load_backbone()

"""The planner: the paper's figures, what fits, and its prediction against real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import make_store

from openmfr.cli.plan import main as plan_command
from openmfr.config import to_dict
from openmfr.errors import CombinedUserError, UserError
from openmfr.heads import HeadConfig
from openmfr.heads.memory import (
    HeadSize,
    dense_memory,
    fused_memory,
    head_memory,
    partial_fc_memory,
)
from openmfr.models import BackboneConfig, build_backbone
from openmfr.plan import (
    DATASETS,
    DatasetSize,
    describe_plan,
    known_size,
    plan,
    smallest_ranks,
    ways_table,
)
from openmfr.recipes import load_recipe
from openmfr.train import TrainConfig

GIB = 2**30
SMALL = TrainConfig(
    backbone=BackboneConfig(name="tiny", input_size=64, embedding_dim=256), batch_size=32
)

sizes = st.builds(
    HeadSize,
    identities=st.integers(2, 3_000_000),
    embedding_dim=st.integers(1, 1024),
    images=st.integers(1, 8192),
    ranks=st.integers(1, 64),
)


@pytest.mark.parametrize(("ranks", "gib"), [(1, 12.40), (32, 1.31)])
def test_the_papers_example_of_two_million_identities(ranks: int, gib: float) -> None:
    """MFR paper, §2.1: 64 images on each rank."""
    size = HeadSize(identities=2_000_000, embedding_dim=512, images=64 * ranks, ranks=ranks)
    assert round(dense_memory(size).total / GIB, 2) == gib


def test_a_dense_head_is_three_weights_and_two_arrays_of_logits() -> None:
    size = HeadSize(identities=1001, embedding_dim=8, images=6, ranks=2)
    weight, logits = 501 * 8 * 4, 6 * 501 * 4
    assert dense_memory(size).total == 3 * weight + 2 * logits


@given(sizes)
def test_partial_fc_over_all_identities_is_the_dense_head(size: HeadSize) -> None:
    assert partial_fc_memory(size, sample_rate=1.0) == dense_memory(size)


@given(sizes, st.floats(0.01, 1.0))
def test_a_sample_is_a_part_of_the_shard(size: HeadSize, rate: float) -> None:
    sampled = size.sampled(rate)
    assert 0 <= sampled <= size.rows
    assert sampled >= min(size.rows, -(-size.images // size.ranks))


@pytest.mark.parametrize("size", DATASETS.values(), ids=DATASETS.keys())
def test_the_fused_head_needs_less_than_the_dense_one(size: DatasetSize) -> None:
    head = HeadSize(identities=size.identities, embedding_dim=512, images=512)
    fused = fused_memory(HeadConfig(), head)
    assert fused.total < 0.75 * dense_memory(head).total
    assert fused.total < 1.05 * (fused.prototypes + fused.momentum) + 2**25


@pytest.mark.parametrize(
    ("change", "part", "more"),
    [
        ({"backward": "keep_exp"}, "kept", 2 * 64 * 50_000),
        ({"update": "deferred"}, "gradient", 4 * 50_000 * 128),
    ],
)
def test_an_option_of_the_fused_head_costs_what_it_says(
    change: dict[str, Any], part: str, more: int
) -> None:
    size = HeadSize(identities=100_000, embedding_dim=128, images=64, ranks=2)
    usual, other = fused_memory(HeadConfig(), size), fused_memory(HeadConfig(**change), size)
    assert getattr(usual, part) == 0
    assert getattr(other, part) == more


def test_the_memory_of_a_head_is_that_of_its_path() -> None:
    size = HeadSize(identities=100_000, embedding_dim=128, images=64)
    assert head_memory(HeadConfig(), size) == fused_memory(HeadConfig(), size)
    ours = head_memory(HeadConfig(path="dense"), size)
    assert ours.total > dense_memory(size).total


@given(st.integers(1, 10**6), st.integers(0, 10**4), st.integers(1, 10**6), st.integers(1, 300))
def test_the_fewest_ranks_fit_and_one_fewer_do_not(
    shared: int, fixed: int, memory: int, most: int
) -> None:
    def needed(ranks: int) -> int:
        return fixed + -(-shared // ranks)

    found = smallest_ranks(needed, memory, most=most)
    if found is None:
        assert needed(most) > memory
    else:
        assert 1 <= found <= most
        assert needed(found) <= memory
        assert found == 1 or needed(found - 1) > memory


@pytest.mark.parametrize("memory_gib", [1.5, 3.0, 8.0])
def test_each_way_fits_at_its_fewest_ranks_and_not_before(memory_gib: float) -> None:
    config, size = replace(SMALL, batch_size=512), known_size("webface42m")
    ways = plan(config, size, memory_gib=memory_gib).ways
    at = {way.name: way.smallest_ranks for way in ways}
    assert any(fewest is not None for fewest in at.values())
    for name, fewest in at.items():
        counts = [256] if fewest is None else [fewest, fewest - 1]
        for ranks in filter(None, counts):
            again = {w.name: w for w in plan(config, size, ranks=ranks, memory_gib=memory_gib).ways}
            assert again[name].fits is (ranks == fewest)


def test_more_ranks_share_the_prototypes_and_the_batch() -> None:
    size = known_size("ms1mv3")
    alone, shared = plan(SMALL, size), plan(SMALL, size, ranks=4)
    assert (shared.rows, shared.images_per_rank) == (-(-size.identities // 4), 8)
    assert shared.head.prototypes == shared.rows * 256 * 4
    assert shared.backbone.activations < 0.3 * alone.backbone.activations
    assert (alone.traffic.total, alone.backbone.buckets) == (0, 0)


def test_traffic_is_embeddings_both_ways_sums_and_the_backbones_gradient() -> None:
    parts = plan(SMALL, known_size("ms1mv3"), ranks=4).traffic.parts()
    parameters = sum(p.numel() for p in build_backbone(SMALL.backbone).parameters())
    assert parts == {
        "embeddings": 32 * 256 * 4,
        "identities": 32 * 8,
        "softmax": 2 * 32 * 4,
        "gradients": 32 * 256 * 4,
        "parameters": parameters * 4,
    }


def test_activations_grow_with_the_batch_and_shrink_with_half_precision() -> None:
    size = known_size("ms1mv3")

    def activations(**changes: Any) -> int:
        return plan(replace(SMALL, **changes), size).backbone.activations

    assert activations(batch_size=64) == pytest.approx(2 * activations(), rel=0.01)
    assert 0.5 < activations(precision="bfloat16") / activations() < 0.75


def test_parts_of_a_batch_need_less_at_once() -> None:
    whole = replace(SMALL, head=HeadConfig(path="dense"))
    size = known_size("ms1mv3")
    parts = plan(replace(whole, accumulate=4), size)
    assert parts.backbone.activations < 0.3 * plan(whole, size).backbone.activations


def test_time_follows_from_the_speed() -> None:
    planned = plan(SMALL, DatasetSize(images=7200, identities=10), images_per_second=2.0)
    assert planned.hours == pytest.approx(SMALL.schedule.epochs, rel=1e-3)


def test_a_dry_run_of_the_papers_training_says_its_shapes_and_steps() -> None:
    lines = describe_plan(load_recipe("paper_cosface"), known_size("webface42m"), 48)
    assert lines["steps"].startswith("160,033 of 4512 images")  # 17 · 42,474,558 / 4512
    assert "images (94, 3, 112, 112), embeddings (94, 512)" in lines["shapes"]
    assert "prototypes (42915, 512)" in lines["shapes"]
    assert "1.7625 at its peak" in lines["learning rate"]  # 0.1 · 4512 / 256


def test_a_table_without_memory_says_nothing_about_fitting() -> None:
    size = known_size("glint360k")
    silent, asked = (ways_table(plan(SMALL, size, memory_gib=m).ways) for m in (None, 2.0))
    assert "fits" not in "\n".join(silent)
    assert len(silent) == len(asked) == 5
    assert "yes" in "\n".join(asked)


def test_the_command_plans_the_papers_recipes_without_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan_command("paper_table4_partial", memory_gib=40.0, images_per_second=1e4)
    printed = capsys.readouterr().out
    for expected in ("2,059,906 identities", "48, 94 images each", "rate 0.1", "hours", "fits"):
        assert expected in printed


def test_the_command_reads_the_size_of_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "faces", identities=110, images=4)
    plan_command("tiny_real", store=tmp_path / "faces", images_per_second=100.0, device="cpu")
    assert "40 images of 10 identities" in capsys.readouterr().out  # 100 are held out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"like": "webface42"}, "did you mean webface42m"),
        ({"images": 1000}, "found --images; allowed: one of --like"),
        ({"identities": 1000}, "found --identities; allowed: one of --like"),
        ({"like": "ms1mv3", "images": 10, "identities": 5}, "--like with --images and"),
        ({}, "found none; allowed: one of --like"),
        ({"images": 5, "identities": 10}, "images: found 5; allowed: from 10"),
        ({"like": "ms1mv3", "ranks": 0}, "ranks: found 0; allowed: from 1"),
        ({"like": "ms1mv3", "ranks": 40}, "64 images for 40 ranks"),
        ({"like": "ms1mv3", "memory_gib": -1.0}, "memory_gib: found -1.0; allowed: above 0"),
    ],
)
def test_a_wrong_request_gets_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan_command("tiny_real", **arguments)
    assert not isinstance(caught.value, CombinedUserError)


#: Trains for a few steps and prints the bytes by which its memory grew at its peak. What comes once
#: with the first step (kernels, code) is called first, with two images, and its memory given back.
MEASURE = """
import ctypes, json, sys
from dataclasses import replace
import torch
from openmfr.config import from_dict
from openmfr.heads import Step, StepSize, build_head
from openmfr.models import build_backbone
from openmfr.train import TrainConfig
from openmfr.train.optimizer import build_optimizer

def train(config, identities):
    backbone = build_backbone(config.backbone).to(memory_format=torch.channels_last).train()
    dim, pixels = config.backbone.embedding_dim, config.backbone.input_size
    head = build_head(config.head, num_identities=identities, embedding_dim=dim)
    optimizer = build_optimizer(config.optimizer, {"backbone": backbone, "head": head})
    size = StepSize(learning_rate=0.01, momentum=0.9, weight_decay=1e-4)
    for number in range(5):
        images = torch.randn(config.batch_size, 3, pixels, pixels)
        identity = torch.randint(identities, (config.batch_size,))
        loss = head(backbone(images), identity, Step(number=number, size=size))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        head.finish_step(is_skipped=False)

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

torch.set_num_threads(1)
config = from_dict(TrainConfig, json.loads(sys.argv[1]), where="test")
train(replace(config, batch_size=2), 100)
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
before = peak()
train(config, int(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("head", "has_gaps"),
    [
        (HeadConfig(), True),
        (HeadConfig(), False),
        (HeadConfig(backward="keep_exp"), False),
        (HeadConfig(sample_rate=0.1, unsampled="dense_equivalent"), False),
        (HeadConfig(update="deferred"), False),
        (HeadConfig(path="dense"), False),
    ],
    ids=["as it runs", "recompute", "keep_exp", "sampled", "deferred", "dense"],
)
def test_the_prediction_is_within_a_tenth_of_the_measured_peak(
    head: HeadConfig, has_gaps: bool
) -> None:
    config, size = replace(SMALL, head=head), DatasetSize(images=600_000, identities=60_000)
    planned = plan(config, size, device="cpu")
    predicted = planned.total if has_gaps else planned.total - planned.backbone.gaps
    ratio = measured_peak(config, size.identities, has_gaps=has_gaps) / predicted
    assert ratio == pytest.approx(1, abs=0.1)


def measured_peak(config: TrainConfig, identities: int, *, has_gaps: bool) -> int:
    """Bytes by which a process grows when it trains; without gaps, the allocator keeps nothing."""
    settings = {"OMP_NUM_THREADS": "1"}
    if not has_gaps:
        settings["MALLOC_MMAP_THRESHOLD_"] = "131072"
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(to_dict(config)), str(identities)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(child.stdout)

"""The table: parts are measured once, kept on the disk, and add up. No test depends on timing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from openmfr.errors import UserError
from openmfr.models.ridnet import Path as NetworkPath
from openmfr.search import latency
from openmfr.search.latency import LatencyTable, inner_ms
from openmfr.search.parts import ConvPart, FramePart, HeadPart, Part, PathPart, parts_of
from openmfr.search.space import Space, StageSpace

SPACE = Space(
    input_size=16,
    stem=8,
    neck=8,
    stages=(StageSpace(channels=16, widths=(32,), depths=(3,)),),
    kernels=("1", "3"),
)
PATH = PathPart(size=4, path=NetworkPath(kernel="3", depth=2, is_dense=True), width=16)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Modules that were measured; each is said to take a millisecond for each parameter tensor."""
    measured: list[object] = []

    def measure(module: object, *_: object, **__: object) -> float:
        measured.append(module)
        return float(len(list(module.parameters())))  # type: ignore[attr-defined]

    monkeypatch.setattr(latency, "measure_module", measure)
    return measured


@pytest.mark.parametrize(
    "part",
    [
        PATH,
        ConvPart(size=4, in_channels=3, channels=16, stride=2),
        FramePart(size=4, channels=16, width=16, paths=3),
        HeadPart(size=2, channels=16, neck=8, embedding_dim=24),
    ],
)
def test_every_kind_of_part_is_measured_in_onnx_runtime(part: Part, tmp_path: Path) -> None:
    found = LatencyTable(folder=tmp_path, runs=2).part_ms(part)
    assert 0 <= found < 1e4
    assert found > 0 or isinstance(part, FramePart)


def test_a_part_is_measured_once_and_kept_for_other_processes(
    tmp_path: Path, counted: list[object]
) -> None:
    first = LatencyTable(folder=tmp_path)
    assert first.part_ms(PATH) == first.part_ms(PATH)
    assert LatencyTable(folder=tmp_path).part_ms(PATH) == first.part_ms(PATH)
    assert len(counted) == 1
    LatencyTable(folder=tmp_path, threads=2).part_ms(PATH)
    assert len(counted) == 2, "another number of threads has a table of its own"


def test_an_unseen_network_of_known_parts_needs_no_measuring(
    tmp_path: Path, counted: list[object]
) -> None:
    table, rng = LatencyTable(folder=tmp_path), random.Random(0)
    for _ in range(60):
        table.predict(SPACE.sample(rng))
    known = len(counted)
    unseen = SPACE.sample(random.Random(1))
    assert not table.missing(unseen)
    table.predict(unseen)
    assert len(counted) == known < 30


def test_a_network_takes_as_long_as_its_parts(tmp_path: Path, counted: list[object]) -> None:
    """With a measure that is exact for sums, the prediction is exact."""
    from openmfr.models.ridnet import RIDNet

    architecture = SPACE.sample(random.Random(2))
    tensors = len(list(RIDNet(architecture).parameters()))
    assert LatencyTable(folder=tmp_path).predict(architecture) == tensors
    assert len(LatencyTable(folder=tmp_path / "new").missing(architecture)) == len(
        {part.fingerprint for part, _ in parts_of(architecture)}
    )


def test_parts_that_differ_have_different_fingerprints() -> None:
    parts = [part for seed in range(20) for part, _ in parts_of(SPACE.sample(random.Random(seed)))]
    assert len({part.fingerprint for part in parts}) == len(set(parts))


def test_reordering_at_the_ends_does_not_count() -> None:
    events = [
        {"name": f"{name}_kernel_time", "dur": dur, "args": {"op_name": kind}}
        for _ in range(3)
        for name, kind, dur in (
            ("in", "ReorderInput", 9000),
            ("a", "Conv", 1000),
            ("between", "ReorderOutput", 500),
            ("b", "Conv", 2000),
            ("out", "ReorderOutput", 9000),
        )
    ]
    others = [{"name": "model_run", "dur": 99999, "args": {}}]
    assert inner_ms(others + events) == 3.5


def test_a_damaged_entry_is_named(tmp_path: Path, counted: list[object]) -> None:
    LatencyTable(folder=tmp_path).part_ms(PATH)
    (entry,) = tmp_path.rglob("*.json")
    assert json.loads(entry.read_text())["part"] == repr(PATH)
    entry.write_text("{")
    with pytest.raises(UserError, match="no readable measured part"):
        LatencyTable(folder=tmp_path).part_ms(PATH)


def test_no_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="threads: found 0"):
        LatencyTable(folder=tmp_path, threads=0)

"""Limits decide the exit code; what is measured is said; mistakes are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_onnx import write_foreign, write_own

from openmfr.cli.main import main as run_openmfr
from openmfr.deploy.latency import Latency, LatencyConfig, measure_latency
from openmfr.errors import UserError
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import render_face

#: Longer, and more, than any machine needs.
SLOW_MS, MUCH_MB = "1e9", "1e6"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path / "own.onnx")


class InThisProcess:
    """Stands for a pool of one process, where starting one would say nothing more."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Latency], *arguments: object) -> Future[Latency]:
        done: Future[Latency] = Future()
        done.set_result(work(*arguments))
        return done


def run(words: str) -> int:
    try:
        return run_openmfr(["latency", *words.split()])
    except SystemExit as exit_status:
        return int(exit_status.code or 0)


@pytest.mark.parametrize(
    ("limits", "code", "verdicts"),
    [
        (f"--limit-ms {SLOW_MS} --limit-mb {MUCH_MB}", 0, ["holds", "holds"]),
        (f"--limit-ms 1e-6 --limit-mb {MUCH_MB}", 1, ["DOES NOT HOLD", "holds"]),
        (f"--limit-ms {SLOW_MS} --limit-mb 1", 1, ["holds", "DOES NOT HOLD"]),
        ("", 0, []),
    ],
)
def test_the_exit_code_says_whether_the_limits_hold(
    capsys: pytest.CaptureFixture[str], limits: str, code: int, verdicts: list[str]
) -> None:
    assert run(f"own.onnx --runs 3 {limits}") == code
    shown = capsys.readouterr().out
    found = [line.rpartition(": ")[2] for line in shown.splitlines() if "; limit" in line]
    assert found == verdicts


def test_json_has_every_run_every_layer_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("own.onnx --runs 7 --batch 2 --profile --json --limit-ms 1e-6") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["holds"] is False
    assert len(found["runs_ms"]) == len(found["cpu_ms"]) == 7
    assert min(found["runs_ms"]) <= found["median_ms"] <= found["p99_ms"] == max(found["runs_ms"])
    assert 0 < found["model_mib"] < found["memory_mib"]
    assert found["file_mib"] == pytest.approx(Path("own.onnx").stat().st_size / 2**20)
    kinds = {layer["kind"] for layer in found["layers"]}
    assert {"Cast", "AveragePool", "MatMul"} <= kinds
    assert sum(layer["share"] for layer in found["layers"]) == pytest.approx(1)


def test_the_slowest_layers_are_listed_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("own.onnx --runs 3 --profile") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "%  " in line]
    times = [float(row[0]) for row in rows]
    assert len(rows) >= 5
    assert times == sorted(times, reverse=True)


def test_99_of_100_runs_are_within_the_percentile_and_one_outlier_is_not() -> None:
    runs = [*range(1, 100), 10_000]
    latency = Latency(
        runs_ms=tuple(map(float, runs)),
        cpu_ms=(1.0,),
        parts_ms={},
        memory_mib=1,
        model_mib=1,
        file_mib=1,
        layers=(),
    )
    assert (latency.median_ms, latency.p99_ms) == (50.5, 99)


def test_memory_grows_by_the_weights() -> None:
    """64 MiB more of weights are 64 MiB more of memory, or up to twice, while they are read."""
    for name, dim in (("small", 16), ("large", 16 + 2**24 // 147)):
        write_foreign(Path(f"{name}.onnx"), dim=dim)
    small, large = (
        measure_latency(Path(f"{name}.onnx"), LatencyConfig(runs=2)) for name in ("small", "large")
    )
    assert large.file_mib - small.file_mib == pytest.approx(64, abs=1)
    assert 60 < large.memory_mib - small.memory_mib < 200
    assert large.model_mib > 60


def test_a_foreign_file_needs_no_declaration_for_its_time() -> None:
    write_foreign(Path("w.onnx"), batch=1)
    assert run("w.onnx --runs 2") == 0


def test_from_photo_to_embedding_every_step_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")
    face = render_face(make_identity(0, 1), rng=np.random.default_rng(1), size=240).image
    Image.fromarray(face).save("photo.png")
    assert run(f"own.onnx --runs 4 --photo photo.png --json --limit-ms {SLOW_MS}") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["parts_ms"]) == ["read", "detect", "align", "embed"]
    assert all(0 < part < found["p99_ms"] for part in found["parts_ms"].values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("missing.onnx", "found nothing; allowed: an ONNX file"),
        (".", "found a folder; allowed: an ONNX file; check the path; openmfr export"),
        ("wall.png", "no usable ONNX network"),
        ("own.onnx --runs 0 --threads 0", "runs: found 0"),
        ("own.onnx --runs 0 --threads 0", "threads: found 0"),
        ("own.onnx --photo wall.png", "wall.png: found no face found"),
        ("own.onnx --photo own.onnx", "not a picture"),
        ("own.onnx --photo wall.png --batch 2", "one photo at a time"),
        ("own.onnx --runtime openvino --profile", "profiles of ONNX Runtime"),
        ("own.onnx --runtime openvino --device cuda", "openvino on the CPU"),
        ("one.onnx --batch 2", "allowed: 1, which one.onnx is made for; give --batch 1"),
        ("open.onnx", "declare them in a JSON file"),
        ("one.onnx --photo wall.png", "does not say what its pixels mean"),
        ("own.onnx --input RGB", "COLOR,MEAN,STD"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    message: str,
) -> None:
    monkeypatch.setattr("openmfr.deploy.latency.ProcessPoolExecutor", InThisProcess)
    if "wall.png: found no face" in message:
        pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")
    Image.new("RGB", (200, 200), (90, 90, 90)).save("wall.png")
    write_foreign(Path("one.onnx"), batch=1)
    write_foreign(Path("open.onnx"), shape=(3, "H", "W"))
    assert run(words) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_a_mistake_found_in_the_other_process_is_one_line_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("missing.onnx") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_gpu_that_is_not_there_is_said() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime knows CUDA here")
    with pytest.raises(UserError, match=r"no CUDAExecutionProvider.*onnxruntime-gpu"):
        measure_latency(Path("own.onnx"), LatencyConfig(device="cuda"))

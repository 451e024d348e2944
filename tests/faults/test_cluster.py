"""A Ray cluster of two nodes, one of which is killed: the same files, nothing lost or twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from PIL import Image
from toys import make_store

from openmfr.cli.main import main
from openmfr.data.damage import find_damage
from openmfr.data.geometry import Geometry
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.faces.align import template
from openmfr.models import BackboneConfig
from openmfr.synthetic.dataset import synthesise
from openmfr.workers import do_all

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 240
MIB = 2**20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head and another node, each with one CPU, on this machine alone."""
    ray: Any = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(toys.__file__).parent))  # what jobs are made of
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * MIB, "include_dashboard": False}
    made: Any = Cluster(initialize_head=True, head_node_args=node)
    made.second = made.add_node(num_cpus=1, object_store_memory=80 * MIB)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["path," + ",".join(f"x{i},y{i}" for i in range(5))]
    for number in range(400):
        path = tmp_path / "photos" / f"{number % 20}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((900, 900)).save(path)
        points = template(300) + rng.uniform(0, 400, 2)
        rows.append(f"{number % 20}/{number}.jpg," + ",".join(f"{p:.2f}" for p in points.ravel()))
    (tmp_path / "landmarks.csv").write_text("\n".join(rows))
    return tmp_path / "photos"


def test_ingest_goes_on_when_a_node_is_killed(cluster: Any, photos: Path, tmp_path: Path) -> None:
    words = ["ingest", str(photos), "OUT", "--landmarks", str(tmp_path / "landmarks.csv")]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main([word.replace("OUT", str(whole)) for word in [*words, "--workers", "1"]]) == 0
    words += ["--engine", "ray", "--address", cluster.address]
    process = subprocess.Popen(
        [sys.executable, "-m", "openmfr", *(word.replace("OUT", str(out)) for word in words)]
    )
    try:
        while len(list(out.glob("shard-*.arrow"))) < 5 and process.poll() is None:
            time.sleep(0.01)
        cluster.remove_node(cluster.second, allow_graceful=False)
        assert process.wait(DEADLINE_SECONDS) == 0
    finally:
        process.kill()
    assert Store(out).fingerprint == Store(whole).fingerprint
    assert find_damage(Store(out), workers=1) == []
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_embedding_and_fitting_are_those_of_one_process(cluster: Any, tmp_path: Path) -> None:
    from toy_checkpoint import make_checkpoint

    store, _ = synthesise(tmp_path / "store", identities=10, images=4, seed=0, workers=1)
    config = BackboneConfig(name="toy_backbone:Toy", input_size=32, embedding_dim=16)
    checkpoint = make_checkpoint(tmp_path / "model", config).path
    engine = ["--engine", "ray", "--address", cluster.address]
    for name, flags in {"alone": [], "ray": engine}.items():
        words = ["embed", str(checkpoint), str(store.path), str(tmp_path / name), "--flip"]
        assert main([*words, "--device", "cpu", "--batch-size", "8", *flags]) == 0
        words = ["mask", "fit", str(store.path), "--out", str(tmp_path / f"{name}-geometry")]
        assert main([*words, *flags]) == 0
    for file in ("embeddings.npy", "embeddings.json"):
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "ray" / file).read_bytes()
    fitted = {name: Geometry(tmp_path / f"{name}-geometry") for name in ("alone", "ray")}
    assert fitted["alone"].is_fitted.any()
    assert fitted["alone"].fingerprint == fitted["ray"].fingerprint


def refuse(job: int) -> int:
    if job == 3:
        raise UserError(where="job 3", found="a fault", allowed="none", next_step="mend it")
    return job


def test_a_users_fault_on_a_node_is_the_users_fault(cluster: Any) -> None:
    with pytest.raises(UserError, match="job 3: found a fault"):
        list(do_all(refuse, range(8), workers=1, what="test", cluster=cluster.address))


def test_without_a_cluster_one_line_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "store", identities=2, images=2)
    words = ["mask", "fit", str(store.path), "--address", "127.0.0.1:1"]
    assert main(words) == 2
    assert "add --engine ray" in capsys.readouterr().err

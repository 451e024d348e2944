"""Every example runs as it stands, in small, and leaves what it promises."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import make_store

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The example that a test asks for by name, imported as a user's own module would be."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(request.param)


def test_every_example_is_tested_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in EXAMPLES.glob("*.py") if f'"{path.stem}"' not in source] == []


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_help_of_an_example_says_how_to_call_it(script: str) -> None:
    run = subprocess.run(
        [sys.executable, EXAMPLES / script, "--help"], capture_output=True, text=True, check=True
    )
    assert "--out" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("example", ["train_and_evaluate"], indirect=True)
def test_people_never_seen_are_measured(example: Any, tmp_path: Path) -> None:
    result = example.main(out=tmp_path)
    assert result.identities == 20
    assert (tmp_path / "report" / "report.html").exists()
    assert example.main(out=tmp_path).eer == result.eer, "repeated, it finds everything done"


@pytest.mark.parametrize("example", ["own_backbone"], indirect=True)
def test_an_own_network_trains_by_an_own_recipe(example: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", identities=16, images=5)
    checkpoint = example.main(store=store.path, out=tmp_path / "run")
    assert (checkpoint / "backbone.safetensors").exists()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("example", ["synthetic_people"], indirect=True)
def test_people_are_drawn_in_rows(example: Any, tmp_path: Path) -> None:
    example.main(out=tmp_path / "people.png", people=2, images=3)
    with Image.open(tmp_path / "people.png") as sheet:
        assert sheet.width > 3 * 80 > sheet.height - 80


@pytest.mark.parametrize("example", ["evaluate_own_embeddings"], indirect=True)
def test_own_embeddings_are_measured_on_a_list_of_pairs(example: Any, tmp_path: Path) -> None:
    """Ten people, two images each, whose embeddings point the same way: nothing to confuse."""
    people = np.eye(10, 16)
    names = [f"{person}/{image}.jpg" for person in range(10) for image in range(2)]
    noise = np.random.default_rng(0).normal(0, 0.05, (20, 16))
    embedding = (people.repeat(2, axis=0) + noise).astype(np.float16)
    np.savez(tmp_path / "mine.npz", embedding=embedding, path=np.array(names))
    rows = ["path_a,path_b,genuine"]
    rows += [f"{person}/0.jpg,{person}/1.jpg,1" for person in range(10)]
    rows += [f"{person}/0.jpg,{(person + 1) % 10}/1.jpg,0" for person in range(10)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    result = example.main(
        tmp_path / "mine.npz", pairs=tmp_path / "pairs.csv", out=tmp_path / "report"
    )
    assert result.eer.value == 0
    assert result.rates[0].fnmr.value == 0
    assert result.rates[-1].fnmr.is_refused, "ten impostor pairs say nothing about 0.1 %"
    assert (tmp_path / "report" / "report.json").exists()

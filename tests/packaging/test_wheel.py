"""The wheel works in an empty environment: it reads stores without torch, names what it lacks."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from toys import make_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    assert list(out.glob("*.tar.gz")), "no source archive was made"
    return built


def test_the_wheel_pins_no_torch_and_carries_types_and_styles(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    requirements = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert all("torch" not in line or "extra ==" in line for line in requirements)
    assert not any("torch==" in line for line in requirements)
    assert "openmfr/py.typed" in names
    assert {"openmfr/report/page.css", "openmfr/report/filters.js"} <= set(names)
    assert not any(name.startswith("tests") for name in names)


def test_an_empty_environment_reads_a_store_and_names_the_missing_extra(
    wheel: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True, timeout=600)
    make_store(tmp_path / "store")

    def openmfr(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "bin" / "openmfr", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert "usage: openmfr" in openmfr("--help").stdout
    shown = openmfr("inspect", "store", "--sheet", "sheet.png", "--check")
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "sheet.png").exists()
    lacking = openmfr("train", "tiny_real", "--store", "store", "--out", "run")
    assert lacking.returncode == 2
    assert 'pip install "openmfr[train]"' in lacking.stderr

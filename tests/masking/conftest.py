from pathlib import Path

import pytest

from openmfr.data.store import Store
from openmfr.synthetic.dataset import synthesise


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of synthetic faces with its labels and its exact geometry."""
    path: Path = tmp_path_factory.mktemp("people") / "store"
    store, _ = synthesise(path, identities=4, images=6, seed=5, workers=1, geometry=True)
    return store

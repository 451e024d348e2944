"""Searches of a small space, in a folder of the test."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch
from toy_search import BRIEF, SPACE, Begin, FakeProxy
from toys import make_store

from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.search.proxy import Proxy, ProxyConfig
from openmfr.search.search import Search, SearchConfig
from openmfr.search.space import Space

CONFIG = SearchConfig(trials=10, target_macs=1e6, controller="random")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("faces") / "store", identities=8, images=4)


@pytest.fixture
def begin(store: Store, tmp_path: Path) -> Begin:
    """Makes a worker of a search in a folder of the test."""

    def make(
        config: SearchConfig = CONFIG,
        *,
        space: Space = SPACE,
        storage: str | None = None,
        brief: ProxyConfig = BRIEF,
        out: str = "found",
        kind: type[Proxy] = FakeProxy,
    ) -> Search:
        labels = Labels.read(store.path / "labels.parquet")
        proxy = kind(store, labels, brief, torch.device("cpu"))
        return Search(tmp_path / out, space=space, proxy=proxy, config=config, storage=storage)

    return make

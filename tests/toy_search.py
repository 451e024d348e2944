"""A small space, a brief training, and a proxy that trains nothing."""

from __future__ import annotations

from collections.abc import Callable

from openmfr.models.ridnet import Architecture
from openmfr.search.proxy import Proxy, ProxyConfig, ProxyScore, Report
from openmfr.search.search import Search, SearchConfig
from openmfr.search.space import Space, StageSpace

SPACE = Space(
    input_size=16,
    stem=8,
    neck=8,
    stages=(
        StageSpace(channels=8, widths=(16,), depths=(1, 2, 3)),
        StageSpace(channels=16, widths=(16, 24), depths=(1, 2, 3)),
    ),
    kernels=("1", "3"),
    paths=(2,),
    path_depths=(2,),
)
BRIEF = ProxyConfig(identities=8, images=4, steps=4, batch=8, looks=4)
Begin = Callable[..., Search]


class FakeProxy(Proxy):
    """Scores by depth, without training; the deeper, the better."""

    def _train(self, architecture: Architecture, report: Report | None) -> ProxyScore:
        end = architecture.depth / 8
        history = []
        for step in self.config.look_steps:
            history.append((step, end * (0.6 + 0.4 * step / self.config.steps)))
            if report and not report(*history[-1]) and len(history) >= self.config.first_look:
                break
        step, accuracy = history[-1]
        return ProxyScore(
            accuracy=accuracy,
            seconds=0.0,
            steps=step,
            is_stopped=step < self.config.steps,
            history=tuple(history),
        )


def config(**changed: object) -> SearchConfig:
    return SearchConfig(**{"trials": 10, "target_macs": 1e6, "controller": "random", **changed})  # type: ignore[arg-type]

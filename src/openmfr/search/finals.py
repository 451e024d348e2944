"""The best few of a search, trained longer: of many brief trainings the best are partly lucky.

What comes out is written into the storage, so that it is done once for all workers; those of one
machine never train the same candidate at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from optuna.study import Study

from openmfr.files import if_free
from openmfr.run import progress
from openmfr.search.proxy import Proxy
from openmfr.search.results import FINAL, Candidate
from openmfr.search.reward import Reward

#: Times the steps of the others.
LONGER: Final = 4


def run_finals(
    study: Study, finalists: Sequence[Candidate], proxy: Proxy, *, reward: Reward, locks: Path
) -> None:
    """Train finalists longer, but for those that are done, or that another worker is at.

    Args:
        study: The search; it is told what each came to.
        finalists: Whom to train.
        proxy: What scored them in the search.
        reward: Of the search.
        locks: Folder for one lock each; it is made.
    """
    longer = proxy.longer(LONGER)
    with progress("finals", total=len(finalists), unit="candidates") as advance:
        for found in finalists:
            lock = locks / found.architecture.fingerprint
            lock.mkdir(parents=True, exist_ok=True)
            with if_free(lock) as is_free:
                key = FINAL + found.architecture.fingerprint
                if is_free and key not in study.user_attrs:
                    study.set_user_attr(key, _final(longer, found, reward))
            advance(1, "")


def _final(longer: Proxy, found: Candidate, reward: Reward) -> dict[str, Any]:
    score = longer.score(found.architecture)
    return {
        "accuracy": score.accuracy,
        "reward": reward(accuracy=score.accuracy, cost=found.cost),
        "reason": score.reason,
    }

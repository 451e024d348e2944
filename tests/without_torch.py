"""Import this first in a process that must do without torch: importing torch fails from then on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


class NoTorch:
    """Finds no torch. None in `sys.modules` would do, but tyro takes that for a torch."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{name} is not to be imported", name=name)


assert "torch" not in sys.modules
sys.meta_path.insert(0, NoTorch())

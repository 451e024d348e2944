"""What can be chosen: a space of RIDNets, as decisions that are made one after the other.

Sampling, mutation and every controller make the same decisions through `Space.build`, which asks
for each by name: `stage 1, depth`, `stage 1, path 2, kernel`. Which ones are asked depends on what
was answered: a third path has a kernel only where there is a third path.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final

from openmfr.config import from_dict, to_dict
from openmfr.errors import UserError, nearest, raise_together
from openmfr.files import fingerprint, read_json
from openmfr.models.ridnet import KERNELS, Architecture, Block, Kernel, Path, Stage

#: An answer to a decision.
Option = str | int | bool
#: Makes a decision: its name and what may be answered → the answer.
Choose = Callable[[str, tuple[Option, ...]], Option]
#: Decisions that were made, by name, in their order.
Decisions = Mapping[str, Option]

_MOST_TRIES: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class StageSpace:
    """What can be chosen in one stage; all its blocks are alike.

    Attributes:
        channels: Of the feature map.
        widths: Channels within the blocks, to choose from.
        depths: Numbers of blocks.
    """

    channels: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Space:
    """A space of architectures.

    Attributes:
        input_size: Height and width of the input in pixels.
        stem: Channels of the stem.
        stem_stride: 1 or 2.
        neck: Channels before the embedding layer.
        stages: What can be chosen in each.
        paths: Numbers of paths of a block.
        kernels: Of a path.
        path_depths: Numbers of convolutions of a path.
        density: Whether a path may be densely connected.

    Raises:
        UserError: If a list is empty or names something twice, or a member cannot be built.
    """

    input_size: int = 112
    stem: int = 32
    stem_stride: int = 1
    neck: int = 64
    stages: tuple[StageSpace, ...]
    paths: tuple[int, ...] = (2, 3)
    kernels: tuple[Kernel, ...] = KERNELS
    path_depths: tuple[int, ...] = (2, 3, 4)
    density: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        lists: dict[str, tuple[Option, ...]] = {
            "paths": self.paths,
            "kernels": self.kernels,
            "path_depths": self.path_depths,
            "density": self.density,
        }
        for number, stage in enumerate(self.stages, start=1):
            lists |= {f"stage {number}, widths": stage.widths}
            lists |= {f"stage {number}, depths": stage.depths}
        raise_together(
            [
                UserError(
                    where=f"space, {name}",
                    found=", ".join(map(str, options)) or "nothing",
                    allowed="one option or several, each once",
                    next_step="correct the list",
                )
                for name, options in lists.items()
                if not options or len(set(options)) < len(options)
            ]
        )
        # The narrowest of all with the paths that need most, and the other way round.
        self.build(lambda _, options: min(options) if isinstance(options[0], int) else options[0])
        self.build(self._hardest)

    @staticmethod
    def _hardest(name: str, options: tuple[Option, ...]) -> Option:
        if isinstance(options[0], str):
            return options[0]
        return min(options) if name.endswith("width") else max(options)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits."""
        return fingerprint("space", json.dumps(to_dict(self), sort_keys=True))

    def size(self) -> int:
        """Count the architectures in the space: those that differ."""
        paths = len(self.kernels) * len(self.path_depths) * len(self.density)
        # Paths are sorted, so a block is a choice with repetition in which order does not count.
        blocks = sum(math.comb(paths + count - 1, count) for count in self.paths)
        return math.prod(len(s.widths) * len(s.depths) * blocks for s in self.stages)

    def decisions(self) -> dict[str, tuple[Option, ...]]:
        """Every decision that may be asked for, and its options, in order."""
        asked: dict[str, tuple[Option, ...]] = {}

        def choose(name: str, options: tuple[Option, ...]) -> Option:
            asked[name] = options
            # All decisions about fewer paths come up with more of them, too.
            return max(options) if name.endswith(", paths") else options[0]

        self.build(choose)
        return asked

    def build(self, choose: Choose) -> Architecture:
        """Ask for every decision, and build what was decided.

        Args:
            choose: Called for each decision, in a fixed order, with its name and options.
        """
        stages = tuple(
            self._build_stage(f"stage {number}", stage, choose)
            for number, stage in enumerate(self.stages, start=1)
        )
        return Architecture(
            input_size=self.input_size,
            stem=self.stem,
            stem_stride=2 if self.stem_stride == 2 else 1,
            stages=stages,
            neck=self.neck,
        )

    def _build_stage(self, name: str, stage: StageSpace, choose: Choose) -> Stage:
        def ask(what: str, options: tuple[Option, ...]) -> Option:
            answer = choose(f"{name}, {what}", options)
            assert answer in options, (name, what, answer)
            return answer

        depth, width = ask("depth", stage.depths), ask("width", stage.widths)
        paths = tuple(
            Path(
                kernel=next(k for k in self.kernels if k == answer),
                depth=int(ask(f"path {number}, depth", self.path_depths)),
                is_dense=bool(ask(f"path {number}, dense", self.density)),
            )
            for number in range(1, int(ask("paths", self.paths)) + 1)
            for answer in (ask(f"path {number}, kernel", self.kernels),)
        )
        return Stage(
            channels=stage.channels,
            width=int(width),
            depth=int(depth),
            pattern=(Block(paths=paths),),
        )

    def decisions_of(self, architecture: Architecture) -> dict[str, Option]:
        """Find the decisions that lead to an architecture.

        Raises:
            UserError: If it is no member of the space.
        """
        made = _described(architecture)
        taken: dict[str, Option] = {}

        def choose(name: str, options: tuple[Option, ...]) -> Option:
            answer = made.get(name)
            if answer not in options:
                raise UserError(
                    where=f"architecture, {name}",
                    found=str(answer),
                    allowed=", ".join(map(str, options)),
                    next_step="take an architecture of this space",
                )
            taken[name] = options[options.index(answer)]
            return taken[name]

        if self.build(choose) != architecture:
            raise UserError(
                where="architecture",
                found="another stem, neck, number of stages, or channels",
                allowed="those of the space",
                next_step="take an architecture of this space",
            )
        return taken

    def sample(self, rng: random.Random) -> Architecture:
        """Draw an architecture: every decision evenly among its options."""
        return self.build(lambda _, options: rng.choice(options))

    def mutate(self, architecture: Architecture, rng: random.Random) -> Architecture:
        """Change one decision; where the change asks for new ones, they are drawn.

        Args:
            architecture: A member of the space.
            rng: Which decision, and to what.

        Returns:
            Another member.

        Raises:
            UserError: If it is no member, or the space has no other one.
        """
        made = self.decisions_of(architecture)
        for _ in range(_MOST_TRIES):
            changed = rng.choice(list(made))

            def choose(name: str, options: tuple[Option, ...], changed: str = changed) -> Option:
                if name == changed:
                    others = [option for option in options if option != made[name]]
                    return rng.choice(others) if others else made[name]
                return made[name] if name in made else rng.choice(options)

            mutant = self.build(choose)
            if mutant != architecture:
                return mutant
        raise UserError(
            where="space",
            found="a single architecture",
            allowed="a space with something to choose",
            next_step="give a list of it another option",
        )


def _described(architecture: Architecture) -> dict[str, Option]:
    """Every decision by its name; of stages whose blocks differ, none about paths."""
    made: dict[str, Option] = {}
    for number, stage in enumerate(architecture.stages, start=1):
        name = f"stage {number}"
        made |= {f"{name}, depth": stage.depth, f"{name}, width": stage.width}
        if len(stage.pattern) > 1:
            continue
        paths = stage.pattern[0].paths
        made[f"{name}, paths"] = len(paths)
        for index, path in enumerate(paths, start=1):
            at = f"{name}, path {index}"
            made |= {f"{at}, kernel": path.kernel, f"{at}, depth": path.depth}
            made[f"{at}, dense"] = path.is_dense
    return made


#: What is searched by default: narrow networks that one machine can train, around `ridnet_xs`.
NARROW: Final = Space(
    stages=(
        StageSpace(channels=64, widths=(32, 48), depths=(1, 2)),
        StageSpace(channels=128, widths=(48, 64, 80), depths=(1, 2, 3)),
        StageSpace(channels=192, widths=(64, 96, 128), depths=(1, 2, 3, 4)),
        StageSpace(channels=320, widths=(96, 128, 160), depths=(1, 2, 3)),
    )
)

#: The same for some hours of one machine without a GPU: a candidate is trained in two minutes.
#: Small images, but as many stages, and no early halving: what is found is scaled afterwards.
POCKET: Final = Space(
    input_size=48,
    stem=16,
    neck=32,
    stages=(
        StageSpace(channels=24, widths=(24,), depths=(1,)),
        StageSpace(channels=64, widths=(24, 32), depths=(1, 2)),
        StageSpace(channels=112, widths=(32, 48, 64), depths=(1, 2)),
        StageSpace(channels=192, widths=(48, 64, 96), depths=(1, 2)),
    ),
    path_depths=(2, 3),
)

SPACES: Final = {"narrow": NARROW, "pocket": POCKET}


def load_space(name: str) -> Space:
    """Find a space by its name, or read it from a JSON file that has the fields of `Space`.

    Raises:
        UserError: If there is neither, or the file describes none.

    Example:
        >>> load_space("narrow").input_size
        112
    """
    if name in SPACES:
        return SPACES[name]
    path = FilePath(name)
    if path.suffix != ".json" and not path.exists():
        raise UserError(
            where="space",
            found=name,
            allowed=f"{', '.join(SPACES)}, or a JSON file",
            next_step=nearest(name, SPACES),
        )
    return from_dict(Space, read_json(path, what="space", required=("stages",)), where=str(path))

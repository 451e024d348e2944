"""Scaling an architecture to a target: its blocks stay, their number and widths change.

It goes in two steps. First all stages grow together: by one factor, and, where parameters are asked
for beside multiply-adds, by a tilt that makes late stages wider and early ones narrower, or the
other way round: a parameter of a late stage is used on few pixels. The paper's sizes need it: from
S to M its parameters grow 8.2 times, its multiply-adds 5.8 times. Then single stages are moved by
one block or a few channels, as long as that comes nearer.

A latency is a limit, and the parts of every network that is tried are measured. So no network much
beyond the limit is tried, and single stages are moved by blocks alone, which need no new parts.

Depth and width share the growth as in EfficientNet (https://arxiv.org/abs/1905.11946, §3.3). The
resolution stays unless asked for: faces are stored at one size, and larger inputs see no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from openmfr.errors import UserError, raise_together
from openmfr.models.ridnet import Architecture, Stage
from openmfr.models.ridnet.architecture import CHANNEL_MULTIPLE
from openmfr.search.parts import EMBEDDING_DIM, cost_of

Quantity = Literal["macs", "params", "latency_ms"]
Measure = Callable[[Architecture], float]

#: What the command line calls them.
_FLAGS: Final[Mapping[Quantity, str]] = {
    "macs": "--macs",
    "latency_ms": "--limit-ms",
    "params": "--params",
}
#: Two that do not go together.
_NEVER: Final[tuple[Quantity, ...]] = ("latency_ms", "params")
#: By how much a result may miss its target; a latency may not be above it.
TOLERANCE: Final = 0.02
#: A result that is so near is not refined further.
_NEAR: Final = 0.002
#: Shares of depth, width and resolution in the growth of multiply-adds, which are proportional to
#: depth · width² · resolution²: the logarithms of EfficientNet's 1.2, 1.1 and 1.15.
_SHARES: Final = (math.log(1.2), math.log(1.1), math.log(1.15))
#: Growth and tilt: the first step away from none, and how far at most. Growth is the logarithm of a
#: factor of multiply-adds.
_GROWTH: Final = (0.7, 9.1)
_TILT: Final = (0.1, 0.8)
_BISECTIONS: Final = 16
#: Channels are rounded to this from twice as many on: processors with wide registers like it.
_WIDE_MULTIPLE: Final = 16
_MOST_MOVES: Final = 40


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a scaled network is to cost: multiply-adds, with or without parameters, or a latency.

    Attributes:
        macs: Multiply-adds; None where a latency is the target.
        latency_ms: The longest that it may take; None where multiply-adds are the target.
        params: Parameters beside multiply-adds; None leaves them free.
    """

    macs: float | None = None
    latency_ms: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        faults = [
            UserError(
                where=_FLAGS[name],
                found=f"{value:g}",
                allowed="numbers above 0",
                next_step="correct the number",
            )
            for name, value in self.wanted.items()
            if not (math.isfinite(value) and value > 0)
        ]
        if (self.macs is None) == (self.latency_ms is None) or {*self.wanted} == {*_NEVER}:
            faults.append(
                UserError(
                    where="target",
                    found=" and ".join(_FLAGS[name] for name in self.wanted) or "none",
                    allowed="--macs, --macs and --params, or --limit-ms",
                    next_step="leave out what is too much",
                )
            )
        raise_together(faults)

    @property
    def wanted(self) -> dict[Quantity, float]:
        """What is asked for, by name."""
        named: dict[Quantity, float | None] = {
            "macs": self.macs,
            "latency_ms": self.latency_ms,
            "params": self.params,
        }
        return {name: value for name, value in named.items() if value is not None}


def scale(
    base: Architecture,
    target: Target,
    *,
    predict_ms: Measure | None = None,
    is_resolution_scaled: bool = False,
    embedding_dim: int = EMBEDDING_DIM,
) -> Architecture:
    """Scale an architecture to a target. The same costs give the same result.

    Args:
        base: What is scaled.
        target: What the result is to cost, from the image to the embedding.
        predict_ms: Says how long a network takes; needed where a latency is the target.
        is_resolution_scaled: Whether the input's size grows with the rest.
        embedding_dim: D.

    Returns:
        An architecture within `TOLERANCE` of multiply-adds and parameters, or as slow as it may be.

    Raises:
        UserError: If there is none; the nearest is named.
    """
    measures: dict[Quantity, Measure] = {
        "macs": lambda found: cost_of(found, embedding_dim=embedding_dim).macs,
        "params": lambda found: cost_of(found, embedding_dim=embedding_dim).params,
    }
    if predict_ms is not None:
        measures["latency_ms"] = predict_ms
    wanted = target.wanted
    scaler = _Scaler(base, {name: measures[name] for name in wanted}, wanted, is_resolution_scaled)
    found = scaler.refine(scaler.grow())
    errors = scaler.errors(found)
    raise_together(
        [
            _missed(name, wanted[name], error)
            for name, error in errors.items()
            if error > (0.0 if scaler.is_limit else TOLERANCE)
            or (error < -TOLERANCE and not scaler.is_limit)
        ]
    )
    return found


class _Scaler:
    """One scaling: what is wanted, and how far an architecture is from it."""

    def __init__(
        self,
        base: Architecture,
        measures: Mapping[Quantity, Measure],
        wanted: Mapping[Quantity, float],
        is_resolution_scaled: bool,
    ) -> None:
        self.base = base
        self.measures = measures
        self.wanted = wanted
        self.is_limit = "latency_ms" in wanted
        self.shares = _SHARES if is_resolution_scaled else (*_SHARES[:2], 0.0)
        self._known: dict[str, dict[Quantity, float]] = {}

    def errors(self, found: Architecture) -> dict[Quantity, float]:
        """Logarithms of what was found over what was wanted."""
        key = found.fingerprint
        if key not in self._known:
            self._known[key] = {
                name: math.log(measure(found) / self.wanted[name])
                for name, measure in self.measures.items()
            }
        return self._known[key]

    def distance(self, found: Architecture) -> float:
        """The largest error; endless above a limit."""
        errors = self.errors(found).values()
        if self.is_limit and max(errors) > 0:
            return math.inf
        return max(map(abs, errors))

    def grow(self) -> Architecture:
        """Grow all stages together: the growth for the first target, the tilt for parameters."""
        if "params" not in self.wanted:
            return self._grow(tilt=0.0)
        return _largest_within(self._grow, lambda found: self.errors(found)["params"], *_TILT)

    def _grow(self, tilt: float) -> Architecture:
        first = next(iter(self.wanted))
        return _largest_within(
            lambda growth: self._grown(growth, tilt),
            lambda found: self.errors(found)[first],
            *_GROWTH,
        )

    def _grown(self, growth: float, tilt: float) -> Architecture:
        """Scale all by a factor of multiply-adds, given as its logarithm."""
        depth, width, size = self.shares
        total = depth + 2 * width + 2 * size
        depth, width, size = (math.exp(growth * share / total) for share in (depth, width, size))
        base, last = self.base, len(self.base.stages) - 1
        stages = tuple(
            _stage(
                stage,
                channels=stage.channels * width * (factor := math.exp(tilt * (2 * i - last))),
                width=stage.width * width * factor,
                depth=stage.depth * depth,
            )
            for i, stage in enumerate(base.stages)
        )
        return replace(
            base,
            input_size=max(round(base.input_size * size / base.stride), 1) * base.stride,
            stem=_channels(base.stem * width),
            stages=stages,
            neck=_channels(base.neck * width),
        )

    def refine(self, found: Architecture) -> Architecture:
        """Move single stages as long as that comes nearer."""
        for _ in range(_MOST_MOVES):
            if self.distance(found) < _NEAR:
                break
            moves = _moves_by_blocks(found) if self.is_limit else _moves(found)
            nearest = min(moves, key=self.distance)
            if self.distance(nearest) >= self.distance(found):
                break
            found = nearest
        return found


def _largest_within(
    make: Callable[[float], Architecture],
    error: Measure,
    step: float,
    most: float,
) -> Architecture:
    """Find the largest amount whose architecture is not above its target, nearly.

    Args:
        make: Amount → architecture; 0 changes nothing, and costs rise with the amount.
        error: Negative below the target.
        step: By which an amount on the other side of the target is looked for.
        most: The largest amount that is tried, in both directions.
    """
    direction = 1 if error(make(0.0)) <= 0 else -1
    near, far = 0.0, direction * step
    while abs(far) < most and (error(make(far)) <= 0) == (direction > 0):
        near, far = far, far + direction * step
    low, high = min(near, far), max(near, far)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if error(make(middle)) <= 0:
            low = middle
        else:
            high = middle
    return make(low)


def _moves(found: Architecture) -> Iterator[Architecture]:
    """All architectures that are one step away."""
    yield from _moves_by_blocks(found)
    for step in (_WIDE_MULTIPLE, -_WIDE_MULTIPLE):
        if found.neck + step > 0:
            yield replace(found, neck=_channels(found.neck + step))
    for i, stage in enumerate(found.stages):
        for step in (n * _WIDE_MULTIPLE for n in (-2, -1, 1, 2)):
            yield _with_stage(found, i, _stage(stage, channels=stage.channels + step))
            yield _with_stage(found, i, _stage(stage, width=stage.width + step))


def _moves_by_blocks(found: Architecture) -> Iterator[Architecture]:
    for i, stage in enumerate(found.stages):
        for step in (1, -1):
            yield _with_stage(found, i, _stage(stage, depth=stage.depth + step))


def _with_stage(found: Architecture, index: int, stage: Stage) -> Architecture:
    return replace(found, stages=(*found.stages[:index], stage, *found.stages[index + 1 :]))


def _stage(
    stage: Stage,
    *,
    channels: float | None = None,
    width: float | None = None,
    depth: float | None = None,
) -> Stage:
    """Change a stage's sizes to the nearest that are possible."""
    blocks = max(round(stage.depth if depth is None else depth), 1)
    pattern = stage.pattern[:blocks]
    deepest = max((path.depth for b in pattern for path in b.paths if path.is_dense), default=1)
    narrowest = deepest * CHANNEL_MULTIPLE
    return Stage(
        channels=_channels(stage.channels if channels is None else channels),
        width=max(_channels(stage.width if width is None else width), narrowest),
        depth=blocks,
        pattern=pattern,
    )


def _channels(wanted: float) -> int:
    multiple = _WIDE_MULTIPLE if wanted >= 2 * _WIDE_MULTIPLE else CHANNEL_MULTIPLE
    return max(round(wanted / multiple), 1) * multiple


def _missed(name: Quantity, wanted: float, error: float) -> UserError:
    nearest = wanted * math.exp(error)
    return UserError(
        where=_FLAGS[name],
        found=f"{wanted:,.4g}",
        allowed=f"what this architecture can be scaled to; the nearest found has {nearest:,.4g}",
        next_step="choose another target or another architecture to scale",
    )

"""Configurations: frozen dataclasses to JSON and back, with every fault in a file said at once."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from openmfr.errors import UserError, nearest, raise_together

ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain JSON values, nested as its dataclasses are.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Config:
        ...     milestones: tuple[int, ...] = (5, 9)
        >>> to_dict(Config())
        {'milestones': [5, 9]}
    """
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return plain


def from_dict(config_class: type[ConfigT], content: Mapping[str, Any], *, where: str) -> ConfigT:
    """Build a configuration from the values that `to_dict` wrote.

    Args:
        config_class: A frozen dataclass.
        content: Its fields; those that are left out take their defaults, if they have any.
        where: Name of the file or flag, for errors.

    Raises:
        UserError: If a field is unknown (the nearest name is suggested), is missing without a
            default, or has another type; all
            faults are named together. What `__post_init__` refuses is raised as it stands.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Config:
        ...     epochs: int = 17
        >>> from_dict(Config, {"epohcs": 3}, where="config.json")
        Traceback (most recent call last):
        openmfr.errors.UserError: config.json, epohcs: found an unknown field; allowed: epochs; \
did you mean epochs?
    """
    hints = typing.get_type_hints(config_class)
    names = [f.name for f in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    errors: list[UserError] = []
    values: dict[str, Any] = {}
    for name, value in content.items():
        at = f"{where}, {name}"
        if name not in names:
            errors.append(
                UserError(
                    where=at,
                    found="an unknown field",
                    allowed=", ".join(names),
                    next_step=nearest(name, names),
                )
            )
            continue
        try:
            values[name] = _convert(hints[name], value, at)
        except UserError as error:
            errors.append(error)
    for f in dataclasses.fields(config_class):  # type: ignore[arg-type]
        has_default = not (f.default is f.default_factory is dataclasses.MISSING)
        if f.name not in content and not has_default:
            errors.append(
                UserError(
                    where=f"{where}, {f.name}",
                    found="nothing",
                    allowed=_name_of(hints[f.name]),
                    next_step="give a value",
                )
            )
    raise_together(errors)
    return config_class(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check a JSON value against a type hint, and give it the type that JSON has no word for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not type(None)]
        return None if value is None else _convert(options[0], value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_dict(hint, value, where=where)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        element = arguments if arguments[-1:] != (...,) else arguments[:1] * len(value)
        if len(element) == len(value):
            return tuple(_convert(e, v, where) for e, v in zip(element, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {
            name: _convert(arguments[1], item, f"{where}, {name}") for name, item in value.items()
        }
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise UserError(
        where=where,
        found=repr(value),
        allowed=" or ".join(map(repr, arguments)) if origin is typing.Literal else _name_of(hint),
        next_step="correct the value",
    )


def _name_of(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)

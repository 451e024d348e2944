"""A configuration file's faults are said together, each with its path and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from openmfr.config import from_dict
from openmfr.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    shape: Literal["cosine", "step"] = "step"


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    steps: tuple[int, ...] = ()
    size: int = 1
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Required:
    seed: int


def test_left_out_fields_take_their_defaults() -> None:
    assert from_dict(Outer, {"inner": {"rate": 1}}, where="f") == Outer(inner=Inner(rate=1.0))


def test_lists_become_tuples_and_null_stays_none() -> None:
    assert from_dict(Outer, {"steps": [1, 2], "name": None}, where="f") == Outer(steps=(1, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"szie": 3}, "f, szie: found an unknown field; allowed: .*; did you mean size"),
        ({"inner": {"raet": 3}}, "f, inner, raet: .*did you mean rate"),
        ({"size": "3"}, "f, size: found '3'; allowed: int"),
        ({"size": True}, "f, size: found True; allowed: int"),
        ({"inner": {"shape": "sine"}}, "f, inner, shape: found 'sine'; allowed: 'cosine' or"),
        ({"steps": [1, "x"]}, "f, steps: found 'x'; allowed: int"),
        ({"steps": 5}, "f, steps: found 5"),
        ({"inner": 5}, "f, inner: found 5; allowed: Inner"),
    ],
)
def test_each_fault_names_field_value_and_what_is_allowed(
    content: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(Outer, content, where="f")


def test_a_missing_field_without_default_is_named() -> None:
    with pytest.raises(UserError, match="f, seed: found nothing; allowed: int"):
        from_dict(Required, {}, where="f")


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        from_dict(Outer, {"szie": 1, "size": "x", "inner": {"rate": "y"}}, where="f")
    assert len(str(error.value).splitlines()) == 3

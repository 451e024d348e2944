"""Errors say where, what, and what next; they survive a trip from a worker process."""

from __future__ import annotations

import pickle

import pytest

from openmfr.errors import CombinedUserError, UserError, raise_together


def fault(where: str) -> UserError:
    return UserError(where=where, found="1", allowed="2", next_step="use 2")


def test_several_faults_are_one_error_with_a_line_each() -> None:
    with pytest.raises(CombinedUserError) as error:
        raise_together([fault("a"), fault("b")])
    assert str(error.value).splitlines() == [str(fault("a")), str(fault("b"))]


def test_one_fault_is_raised_as_it_is_and_none_is_no_error() -> None:
    raise_together([])
    with pytest.raises(UserError, match=r"^a: found 1; allowed: 2; use 2$"):
        raise_together([fault("a")])


@pytest.mark.parametrize("error", [fault("a"), CombinedUserError([fault("a"), fault("b")])])
def test_an_error_comes_out_of_a_worker_as_it_went_in(error: UserError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.where) == (str(error), error.where)

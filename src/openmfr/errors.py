"""What a user did wrong, said in one way: where, what was found, what is allowed, what next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class UserError(ValueError):
    """A mistake that the user can mend; the command line prints it without a traceback and exits 2.

    Example:
        >>> print(UserError(where="ratio", found="1.5", allowed="0 to 1", next_step="use 0.15"))
        ratio: found 1.5; allowed: 0 to 1; use 0.15
    """

    def __init__(self, *, where: str, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"{where}: found {found}; allowed: {allowed}; {next_step}")
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process sends its error pickled; by default that calls __init__ with the text.
        return type(self).__new__, (type(self), str(self)), self.__dict__


class CombinedUserError(UserError):
    """Several mistakes found together, one line each, so that a user mends them in one go."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        ValueError.__init__(self, "\n".join(str(error) for error in errors))
        self.where = ", ".join(error.where for error in errors)
        self.errors = tuple(errors)


def raise_together(errors: Sequence[UserError]) -> None:
    """Raise nothing, the one error, or all of them as one `CombinedUserError`."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CombinedUserError(errors)


def check_fields(
    config: object, limits: Mapping[str, tuple[bool, str]], *, next_step: str, within: str = ""
) -> None:
    """Refuse a configuration with fields out of their limits, naming all of these at once.

    Args:
        config: The configuration.
        limits: Field → whether its value is allowed, and what is.
        next_step: What the user can do.
        within: Stands before the field's name, such as "masks.".

    Raises:
        UserError: If a value is not allowed.

    Example:
        >>> class Settings:
        ...     ratio = 1.5
        >>> check_fields(Settings, {"ratio": (False, "0 to 1")}, next_step="use 0.15")
        Traceback (most recent call last):
        openmfr.errors.UserError: ratio: found 1.5; allowed: 0 to 1; use 0.15
    """
    raise_together(
        [
            UserError(
                where=f"{within}{name}",
                found=str(getattr(config, name)),
                allowed=allowed,
                next_step=next_step,
            )
            for name, (is_valid, allowed) in limits.items()
            if not is_valid
        ]
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that `name` was probably meant to be.

    Args:
        name: What the user wrote.
        known: The names that exist.

    Returns:
        A sentence for `UserError.next_step`.

    Example:
        >>> nearest("tiny_reel", ["tiny_real", "probe_real"])
        'did you mean tiny_real?'
        >>> nearest("x", ["tiny_real", "probe_real"])
        'choose one of them'
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {matches[0]}?" if matches else "choose one of them"

"""What a user did wrong, said in one way: where, what was found, what is allowed, what next.

Beside mistakes: a disk that is full, and a process that was asked to stop.
"""

from __future__ import annotations

import difflib
import errno
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

#: Exit code of a process that was asked to stop (SIGTERM) and did: sysexits' EX_TEMPFAIL, "try
#: again later".
EXIT_PREEMPTED: Final = 75

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
#: How libraries that lose the error's number word it.
_NO_ROOM_TEXTS: Final = ("No space left on device", "Disk quota exceeded")


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


class Preempted(SystemExit):
    """The process was asked to stop, and does so where the same command goes on.

    As a `SystemExit` it passes what handles errors, and ends a program with `EXIT_PREEMPTED` where
    nobody catches it.

    Args:
        text: Where it stopped, for the user.

    Example:
        >>> Preempted("stopped after step 40").code
        75
    """

    def __init__(self, text: str) -> None:
        super().__init__(EXIT_PREEMPTED)
        self.text = text

    def __str__(self) -> str:
        return self.text


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


@contextmanager
def full_disk_said(where: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turn a full disk, or a used-up quota, into one clear line, whoever stumbles over it.

    Args:
        where: What is being written, if the error does not know.
        needed: Bytes that are to be written, if known.

    Raises:
        UserError: If the block fails as there is no room; other errors pass.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = _no_room(error)
        if cause is None:
            raise
        path = Path(getattr(cause, "filename", None) or where)
        raise _full_disk(path, needed) from error


def _no_room(error: BaseException | None) -> BaseException | None:
    """Find the error that says so among an error and those that led to it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:  # an error may be said to be its own cause
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return error
        if any(text in str(error) for text in _NO_ROOM_TEXTS):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _full_disk(path: Path, needed: int | None) -> UserError:
    folder = next((each for each in (path, *path.absolute().parents) if each.exists()), Path.cwd())
    free = shutil.disk_usage(folder).free
    wanted = "" if needed is None else f" of {_mib(needed)} needed"
    return UserError(
        where=str(path),
        found=f"no room on the disk, or in your quota ({_mib(free)} free{wanted})",
        allowed="room for what is written",
        next_step="delete what is not needed, and give the same command again: it goes on",
    )


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"

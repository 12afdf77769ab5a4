"""What a user can mend: one plain sentence that names the thing and the mend.

The command line prints these sentences without a traceback. Everything else is a bug of ours and
keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake or a mishap that the user can mend; the command ends with `exit_status`."""

    exit_status = 1


class ConfigError(UserError, ValueError):
    """A wrong command, option or experiment: nothing was run, exit status 2."""

    exit_status = 2


class DataError(UserError):
    """A data file that is missing, damaged or not what it should be, or values not finite."""


class RunError(UserError):
    """A run that cannot go on: a damaged checkpoint, a full disk, a loss that is not finite."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not there: the nearest one that is, and all that are.

    Args:
        what: what the name is of, in the singular ("modality").
        name: as the user wrote it.
        known: the names that exist.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f": did you mean {near[0]!r}?" if near else "."
    there = f"There are: {', '.join(known)}." if known else "There is none."
    return ConfigError(f"There is no {what} {name!r}{hint} {there}")


def check_sizes(config: object, *fields: str, least: int = 1) -> None:
    """Refuses a config whose fields, numbers or tuples of numbers, are not all `least` or more."""
    for field in fields:
        value = getattr(config, field)
        if any(size < least for size in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(
                f"{type(config).__name__}.{field} is {value}: it must be {least} or more."
            )

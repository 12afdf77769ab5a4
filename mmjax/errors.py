"""Errors that a user can fix: one plain sentence that names the problem and the fix.

The command line prints these sentences without a traceback. Any other exception is a bug in mmjax
and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix; the command ends with `exit_status`."""

    exit_status = 1


class ConfigError(UserError, ValueError):
    """A wrong command, option or experiment; nothing was run; exit status 2."""

    exit_status = 2


class DataError(UserError):
    """Data that is missing, damaged, of the wrong shape or kind, or not finite."""


class RunError(UserError):
    """A run that cannot continue: a damaged checkpoint, a full disk, a loss that is not finite."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown name; it suggests the closest known name and lists all.

    Args:
        what: what was to be named, in the singular ("modality").
        name: the name that the user wrote.
        known: the names that exist.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f": did you mean {near[0]!r}?" if near else "."
    available = f"Available: {', '.join(known)}." if known else "None are available."
    return ConfigError(f"There is no {what} {name!r}{hint} {available}")


def without_head(target: str, predicted: Iterable[str], what: str = "for") -> ConfigError:
    """The error for a target that no head of the model predicts.

    Args:
        target: its name.
        predicted: the targets that have a head.
        what: "for", or "that generates", the target.
    """
    predicted = list(predicted)
    other = f"set `target={predicted[0]!r}` where {target!r} is read, or " if predicted else ""
    missing = unknown_name(f"head of the model {what} the target", target, predicted)
    return ConfigError(
        f"{str(missing).removesuffix('.')}: {other}give the model a head, as in "
        f"FusionModel(heads={{{target!r}: ...}})."
    )


def article(noun: str) -> str:
    """A noun with its indefinite article: "an Evaluator", "a list"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def check_sizes(config: object, *fields: str, least: int = 1) -> None:
    """Checks that fields of a config, numbers or tuples of numbers, are at least `least`."""
    for field in fields:
        value = getattr(config, field)
        if any(size < least for size in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(
                f"{type(config).__name__}.{field} is {value}: it must be {least} or more."
            )

"""From an experiment file and the words after it on the command line to an experiment."""

import contextlib
import dataclasses
import io
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from mmjax.errors import ConfigError, unknown_name
from mmjax.training.experiment import Experiment


Config = TypeVar("Config")


def load_module(path: str | Path) -> types.ModuleType:
    """Runs an experiment file (trusted: it is the user's own code).

    Raises:
        ConfigError: for a file that is not there, or does not run; naming the line.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"The experiment file {path} cannot be read ({reason}): name a Python file such as "
            "experiments/digits_dcca.py."
        ) from error
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[path.stem] = module  # where its dataclasses are looked up by their module's name
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise ConfigError(
            f"The experiment file {path} has a syntax error in line {error.lineno}: {error.msg}."
        ) from error
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's file raises is the user's to mend
        trace = error.__traceback__
        line = None
        while trace:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        raise ConfigError(
            f"The experiment file {path} fails in line {line}: {type(error).__name__}: {error}."
        ) from error
    return module


def load_experiment(path: str | Path) -> Experiment:
    """The `experiment` of an experiment file; see `load_module`."""
    experiment = getattr(load_module(path), "experiment", None)
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            f"The file {path} defines no experiment: set `experiment = mmjax.training.Experiment("
            "...)` in it."
        )
    return experiment


def options_of(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every dotted name that can be overridden, with its value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        children = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        children = dict(value)
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
        children = {str(index): item for index, item in enumerate(value)}
    else:
        return {prefix: value}
    names: dict[str, Any] = {}
    for name, child in children.items():
        names |= options_of(child, f"{prefix}.{name}".lstrip("."))
    return names


def override(config: Config, words: Sequence[str], prog: str) -> Config:
    """Applies `--dotted.name value` words; `--help` among them prints all names and ends.

    Args:
        config: an experiment, or a part of one, with the values that hold unless a word says more.
        words: of the command line.
        prog: how `--help` calls the command.

    Raises:
        ConfigError: for a name that is not there (with the nearest) or a value that does not fit.
    """
    names = options_of(config)
    for word in words:
        if word.startswith("--") and word != "--help":
            name = word[2:].split("=")[0].replace("-", "_")
            if name not in names:
                raise unknown_name("option", name, names)
    out, err = io.StringIO(), io.StringIO()
    helps = "--help" in words or "-h" in words
    with contextlib.ExitStack() as hidden:
        if not helps:
            hidden.enter_context(contextlib.redirect_stdout(out))
            hidden.enter_context(contextlib.redirect_stderr(err))
        try:
            return tyro.cli(
                type(config),
                default=config,
                args=list(words),
                prog=prog,
                config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
            )
        except SystemExit:
            if helps:
                raise
    message = re.sub(r"[─-╿]+", " ", out.getvalue() + err.getvalue())
    message = re.split(r"Argument helptext|For full helptext|Perhaps", " ".join(message.split()))[0]
    raise ConfigError(f"{message.strip().rstrip('.')}. See `{prog} --help`.")


def replace_at(value: Any, path: str, new: Any) -> Any:
    """A copy of a config with the part at a dotted path replaced.

    Raises:
        ConfigError: where the path does not lead anywhere.
    """
    name, _, rest = path.partition(".")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        known = dict(value)
    elif isinstance(value, tuple):
        known = {str(index): item for index, item in enumerate(value)}
    else:
        known = {}
    if name not in known:
        raise unknown_name("option", name, known)
    part = replace_at(known[name], rest, new) if rest else new
    if isinstance(value, Mapping):
        return {**value, name: part}
    if isinstance(value, tuple):
        return tuple(part if str(i) == name else item for i, item in enumerate(value))
    return dataclasses.replace(value, **{name: part})

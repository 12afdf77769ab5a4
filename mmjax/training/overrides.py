"""From an experiment file and the words after it on the command line to an experiment."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
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
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ConfigError(
            f"The experiment file {path} cannot be read ({reason}): name a Python file such as "
            "experiments/digits_dcca.py."
        ) from error
    # Its dataclasses are looked up by their module's name, which must be nobody else's.
    module = types.ModuleType(f"experiment_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise ConfigError(
            f"The experiment file {path} has a syntax error in line {error.lineno}: {error.msg}."
        ) from error
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever it raises is the user's to fix
        trace, where = error.__traceback__, ""
        while trace:
            if trace.tb_frame.f_code.co_filename == str(path):
                where = f" in line {trace.tb_lineno}"
            trace = trace.tb_next
        raise ConfigError(
            f"The experiment file {path} fails{where}: {type(error).__name__}: {error}."
        ) from error
    return module


def experiment_of(module: types.ModuleType) -> Experiment:
    """The `experiment` of a module that `load_module` has run."""
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            f"The file {module.__file__} defines no experiment: set `experiment = "
            "mmjax.training.Experiment(...)` in it."
        )
    return experiment


def options_of(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every dotted name that can be overridden, with its value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        children = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            # A part that is None has no options, and is none: words do not say what it would be.
            if getattr(value, field.name) is not None
            or not any(map(dataclasses.is_dataclass, typing.get_args(hints[field.name])))
        }
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


def override(config: Config, words: Sequence[str], prog: str, others: Iterable[str] = ()) -> Config:
    """Applies `--dotted.name value` words; `--help` among them prints all names and ends.

    Of an option that is given twice, the last counts.

    Args:
        config: an experiment, or a part of one, with the values that hold unless a word says more.
        words: of the command line.
        prog: how `--help` calls the command.
        others: further options of the command, for the suggestion where one is misspelt.

    Raises:
        ConfigError: for a name that is not there (with the nearest) or a value that does not fit.
    """
    names = [_spelt(name) for name in options_of(config)]
    given = [word.split("=")[0] for word in words if word.startswith("--") and word != "--help"]
    for name in given:
        if _spelt(name) not in names:
            near = difflib.get_close_matches(_spelt(name), [*names, *map(_spelt, others)], n=1)
            hint = f": did you mean {near[0]}?" if near else "."
            raise ConfigError(f"There is no option {name}{hint} See `{prog} --help` for all.")
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
    raise ConfigError(f"{_sentence(out.getvalue() + err.getvalue(), words)} See `{prog} --help`.")


def _spelt(name: str) -> str:
    """An option as `--help` spells it."""
    return f"--{name.removeprefix('--').replace('_', '-')}"


def _sentence(complaint: str, words: Sequence[str]) -> str:
    """What tyro says in a box of several lines, in one sentence.

    The box holds a title, the complaint and, for a value of a wrong type, the option and its type,
    each between two rules.
    """
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*[-─]{5,}\s*\n", complaint)]
    said, about = [*parts, "", ""][1:3]
    if found := re.match(r"Error parsing (--\S+):", said):
        kind = re.match(rf"Argument helptext: {re.escape(found[1])} (\S+)", about)
        wanted = (
            kind[1].replace("INT", "a whole number").replace("FLOAT", "a number") if kind else ""
        )
        wanted = wanted.replace("{None}|", "None or ") or "another value"
        return f"The option {found[1]} cannot be {_value(found[1], words)!r}: give it {wanted}."
    if found := re.match(r"invalid choice (.+) for argument '(\S+)'\. Expected one of (.+)", said):
        return f"The option {found[2]} cannot be {found[1]}: choose one of {found[3].strip('().')}."
    if found := re.match(r"Missing value for argument '(\S+)'\. Expected (\d+)", said):
        return f"The option {found[1]} needs {found[2]} value(s) after it."
    if found := re.match(r"Unrecognized options: (.+)", said):
        return f"Nothing is known of {found[1]!r}."
    return (
        re.sub(r"^Error parsing \S+: ", "", said or " ".join(complaint.split())).rstrip(".") + "."
    )


def _value(option: str, words: Sequence[str]) -> str:
    """The words after an option, where it is given last."""
    taken: list[str] = []
    asked = False
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            asked = _spelt(name) == option
            taken = ([value] if equals else []) if asked else taken
        elif asked:
            taken.append(word)
    return " ".join(taken)


def replace_at(value: Any, path: str, new: Any) -> Any:
    """A copy of a config with the part at a dotted path replaced.

    Raises:
        ConfigError: where the path does not lead anywhere, or what is there refuses the value.
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
    try:
        return dataclasses.replace(value, **{name: part})
    except TypeError as error:  # a comparison with a value of another type
        raise ConfigError(f"{type(value).__name__}.{name} cannot be {part!r}: {error}.") from error

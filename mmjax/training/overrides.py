"""Makes an experiment from an experiment file and the options after it on the command line."""

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

from mmjax.errors import ConfigError, UserError, article, unknown_name
from mmjax.training.config import EXPERIMENT_MODULE
from mmjax.training.experiment import Experiment

Config = TypeVar("Config")


def load_module(path: str | Path) -> types.ModuleType:
    """Runs an experiment file, which is trusted: it is the user's own code.

    It may import the files beside it.

    Raises:
        ConfigError: the file cannot be read, or fails; names the line.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(
            f"The experiment file {path} cannot be read ({reason}): give a Python file such as "
            "experiments/digits_dcca.py."
        ) from error
    # Python finds the module of a dataclass by name, so the name must be unique.
    module = types.ModuleType(f"{EXPERIMENT_MODULE}{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    beside = str(path.resolve().parent)
    if beside not in sys.path:  # last, so that a file there does not hide a library
        sys.path.append(beside)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise ConfigError(
            f"The experiment file {path} has a syntax error in line {error.lineno}: {error.msg}."
        ) from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # any error in the user's own code
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
    """The `experiment` in a module that `load_module` has run."""
    return defined(module, "experiment", Experiment, "mmjax.training.Experiment(...)")


def defined(module: types.ModuleType, name: str, kind: type[Config], example: str) -> Config:
    """The value of a name in an experiment file; ConfigError if it is not of the given type."""
    value = getattr(module, name, None)
    if isinstance(value, kind):
        return value
    instead = "" if value is None else f" of the right type (it is {article(type(value).__name__)})"
    raise ConfigError(
        f"The file {module.__file__} does not define `{name}`{instead}: set `{name} = {example}` "
        "in it."
    )


def options_of(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every dotted name that can be overridden, with its value."""
    parts = parts_of(value)
    if dataclasses.is_dataclass(value):
        hints = typing.get_type_hints(type(value))
        parts = {
            name: part
            for name, part in parts.items()
            # A part that is None is not an option: the command line cannot say its class.
            if part is not None
            or not any(map(dataclasses.is_dataclass, typing.get_args(hints[name])))
        }
    elif not (
        isinstance(value, Mapping) or any(dataclasses.is_dataclass(part) for part in parts.values())
    ):
        return {prefix: value}
    names: dict[str, Any] = {}
    for name, part in parts.items():
        names |= options_of(part, f"{prefix}.{name}".lstrip("."))
    return names


def override(config: Config, words: Sequence[str], prog: str, others: Iterable[str] = ()) -> Config:
    """Applies options `--dotted.name value`; `--help` prints all names and exits.

    If an option is given twice, the last value applies.

    Args:
        config: an experiment, or a part of one, with the default values.
        words: of the command line.
        prog: name of the command, for `--help`.
        others: further options of the command, for suggestions when one is misspelt.

    Raises:
        ConfigError: an unknown name (the message has the closest) or a value of another type.
    """
    # Arrays cannot be set by options: while options are read, `as_config()` replaces them.
    default: Any = config
    kept = {
        field.name: getattr(default, field.name)
        for field in dataclasses.fields(default)
        if hasattr(getattr(default, field.name), "as_config")
    }
    plain = dataclasses.replace(
        default, **{name: value.as_config() for name, value in kept.items()}
    )
    changed = _overridden(plain, words, prog, others)
    for name in kept:
        if getattr(changed, name) != getattr(plain, name):
            raise ConfigError(
                f"--{name} cannot be changed by an option, because the experiment file makes it "
                "from arrays: change the file."
            )
    return dataclasses.replace(changed, **kept)


def _overridden(config: Config, words: Sequence[str], prog: str, others: Iterable[str]) -> Config:
    names = [option_name(name) for name in options_of(config)]
    given = [word.split("=")[0] for word in words if word.startswith("--") and word != "--help"]
    for name in given:
        if option_name(name) not in names:
            _refuse_part(config, name.removeprefix("--").replace("-", "_"))
            near = difflib.get_close_matches(
                option_name(name), [*names, *map(option_name, others)], n=1
            )
            hint = f": did you mean {near[0]}?" if near else "."
            raise ConfigError(f"Unknown option {name}{hint} See `{prog} --help` for all options.")
        same = [part for part in options_of(config) if option_name(part) == option_name(name)]
        if len(same) > 1:
            raise ConfigError(
                f"The option {name} means both {same[0]} and {same[1]}, since - and _ are one in "
                "options: rename one of them in the experiment file."
            )
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


def _refuse_part(config: Any, path: str) -> None:
    """Raises a ConfigError if a path leads to a part of the config, not to an option."""
    try:
        part = part_at(config, path)
    except ConfigError:
        return
    inner = list(options_of(part, path)) if parts_of(part) else []
    has = f"its options begin with {option_name(path)}." if inner else "it has no options"
    what = "None" if part is None else article(type(part).__name__)
    raise ConfigError(
        f"--{path} is {what}, which the command line cannot replace: change the experiment file, "
        f"or the row of a study ({has})."
    )


# How tyro writes the type of an option -> how a sentence says it.
_KINDS = {
    "[INT": "whole numbers with spaces between them",
    "[FLOAT": "numbers with spaces between them",
    "[STR": "words with spaces between them",
    "INT": "a whole number",
    "FLOAT": "a number",
    "{None}|": "None or ",
}


def option_name(name: str) -> str:
    """An option in the spelling of `--help`."""
    return f"--{name.removeprefix('--').replace('_', '-')}"


def _sentence(complaint: str, words: Sequence[str]) -> str:
    """The error message of tyro, a box of several lines, as one sentence.

    The box has a title, the message and, for a value of a wrong type, the option and its type,
    separated by horizontal rules.
    """
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*[-─]{5,}\s*\n", complaint)]
    message, about = [*parts, "", ""][1:3]
    if found := re.match(r"Error parsing (--\S+):", message):
        kind = re.match(rf"Argument helptext: {re.escape(found[1])} (\S+)", about)
        wanted = kind[1] if kind else ""
        for sign, words_for in _KINDS.items():
            wanted = wanted.replace(sign, words_for)
        wanted = wanted or "another value"
        return f"The option {found[1]} cannot be {_value(found[1], words)!r}: give it {wanted}."
    choice = r"invalid choice (.+) for argument '(\S+)'\s*\. Expected one of (.+)"
    if found := re.match(choice, message):
        return f"The option {found[2]} cannot be {found[1]}: choose one of {found[3].strip('().')}."
    if found := re.match(r"Missing value for argument '(\S+)'\. Expected (\d+)", message):
        return f"The option {found[1]} needs {found[2]} value(s) after it."
    if found := re.match(r"Unrecognized options: (.+)", message):
        return f"Unknown argument {found[1]!r}."
    message = message or " ".join(complaint.split())
    return re.sub(r"^Error parsing \S+: ", "", message).rstrip(".") + "."


def _value(option: str, words: Sequence[str]) -> str:
    """The words after the last occurrence of an option."""
    values: list[str] = []
    inside = False
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            inside = option_name(name) == option
            values = ([value] if equals else []) if inside else values
        elif inside:
            values.append(word)
    return " ".join(values)


def parts_of(value: Any) -> dict[str, Any]:
    """Name -> part of a config: a field, an item of a mapping, or an item of a tuple by index."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return (
        {str(index): part for index, part in enumerate(value)} if isinstance(value, tuple) else {}
    )


def part_at(value: Any, path: str) -> Any:
    """The part of a config at a dotted path; ConfigError if the path does not exist."""
    name, _, rest = path.partition(".")
    parts = parts_of(value)
    if name not in parts:
        raise unknown_name("option", name, parts)
    return part_at(parts[name], rest) if rest else parts[name]


def is_within(path: str, outer: str) -> bool:
    """Whether a dotted path lies inside another one."""
    return path.startswith(f"{outer}.")


def replace_at(value: Any, path: str, new: Any) -> Any:
    """A copy of a config with the part at a dotted path replaced.

    Raises:
        ConfigError: the path does not exist, or the config refuses the value.
    """
    name, _, rest = path.partition(".")
    old = part_at(value, name)
    part = replace_at(old, rest, new) if rest else new
    if isinstance(value, Mapping):
        return {**value, name: part}
    if isinstance(value, tuple):
        return tuple(part if str(i) == name else item for i, item in enumerate(value))
    try:
        return dataclasses.replace(value, **{name: part})
    except TypeError as error:  # a comparison with a value of another type
        raise ConfigError(f"{type(value).__name__}.{name} cannot be {part!r}: {error}.") from error

"""Experiments to and from JSON, type checks of their values, and differences between two."""

import dataclasses
import importlib
import math
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Literal, Union

from mmjax.errors import ConfigError, article

EXPERIMENT_MODULE = "experiment_"  # how the names of modules begin that experiment files become

_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}


def to_json(value: Any, path: str = "config") -> Any:
    """A config as JSON values: a dataclass becomes an object with its `type` and its fields.

    Args:
        value: a dataclass, or a value that it may hold.
        path: its dotted name, for the message.

    Raises:
        ConfigError: JSON cannot hold a value, or `from_json` could not make it again.
    """
    if hasattr(value, "as_config"):  # values too large for a config, such as arrays, summarised
        value = value.as_config()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        if "." in cls.__qualname__:
            raise ConfigError(
                f"{path} is of the class {cls.__qualname__}, which no other program can find: "
                "move the class to the top level of its file."
            )
        made_from = [field.name for field in dataclasses.fields(value) if field.init]
        fields = {name: getattr(value, name) for name in made_from}
        return {"type": f"{cls.__module__}.{cls.__qualname__}"} | _items(fields, path)
    if isinstance(value, Mapping):
        return _items(value, path)
    if isinstance(value, list):
        raise ConfigError(f"{path} is a list: declare it as a tuple, and give it a tuple.")
    if isinstance(value, tuple):
        return [to_json(item, f"{path}.{index}") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}: choose a finite number.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{path} is {_short(repr(value))}, which an experiment cannot hold: use a number, a "
        "string, True, False, None, a tuple, a mapping or a dataclass."
    )


def _items(fields: Mapping[Any, Any], path: str) -> dict[str, Any]:
    for name in fields:
        if not isinstance(name, str) or name == "type":
            raise ConfigError(
                f"{path} has an entry with the name {name!r}: use a string, other than 'type'."
            )
    return {name: to_json(item, f"{path}.{name}") for name, item in fields.items()}


def from_json(value: Any, definitions: ModuleType | None = None) -> Any:
    """The config that `to_json` wrote.

    Only dataclasses of mmjax and of `definitions` are made, so a config file cannot run other code.

    Args:
        value: JSON values.
        definitions: a module with further dataclasses (the user's experiment file).

    Raises:
        ConfigError: an unknown type, or unknown fields.
    """
    if isinstance(value, list):
        return tuple(from_json(item, definitions) for item in value)
    if not isinstance(value, dict):
        return value
    items = {key: from_json(item, definitions) for key, item in value.items() if key != "type"}
    if "type" not in value:
        return items
    cls = _class_of(value["type"], definitions)
    try:
        return cls(**items)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"This version of mmjax cannot make the config's {value['type']} ({error}): use the "
            "version of mmjax in environment.json."
        ) from error


def _class_of(path: Any, definitions: ModuleType | None) -> type:
    module_name, _, name = str(path).rpartition(".")
    if module_name.startswith("mmjax."):
        try:
            cls = getattr(importlib.import_module(module_name), name, None)
        except (ImportError, ValueError):
            cls = None
    else:
        cls = _users_class(module_name, name, definitions)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(
            f"The config uses {path!r}, which mmjax does not define: give the experiment file that "
            "defines it with --experiment FILE.py, or use the version of mmjax in environment.json."
        )
    return cls


def _users_class(module_name: str, name: str, definitions: ModuleType | None) -> Any:
    """The class of this name in `definitions`, or in a module that it imports; None if absent.

    A file may be renamed, so its own classes are found by their name alone. A class of another
    module is not: `nets.MLP` is not the `MLP` that the file defines.
    """
    if definitions is None:
        return None
    cls = getattr(definitions, name, None)
    defined_in = getattr(cls, "__module__", None)
    if defined_in == module_name:
        return cls
    stem = Path(str(getattr(definitions, "__file__", ""))).stem
    if defined_in in (definitions.__name__, "__main__") and (
        module_name == "__main__"
        or module_name.startswith(EXPERIMENT_MODULE)
        or module_name.rpartition(".")[2] == stem
    ):
        return cls
    if any(getattr(part, "__name__", "") == module_name for part in vars(definitions).values()):
        return getattr(sys.modules.get(module_name), name, None)
    return None


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The differences between two JSON configs, as lines `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("type") != new.get("type"):
            return [f"{path}: {old.get('type')} -> {new.get('type')}"]
        keys = sorted(old.keys() | new.keys())
        pairs = [(f"{path}.{key}".lstrip("."), old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{path}.{i}", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]
    return [line for name, a, b in pairs for line in differences(a, b, name)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_types(config: Any, path: str = "") -> None:
    """Checks that every value of a config has the type of its field.

    Args:
        config: a dataclass, which may hold others.
        path: its dotted name, for the message.

    Raises:
        ConfigError: a value has another type; names the field, the value and the type.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        _check_type(
            getattr(config, field.name), hints[field.name], f"{path}.{field.name}".lstrip(".")
        )


def check_seeds(config: Any, path: str = "") -> None:
    """Checks that every seed in a config is one that JAX, NumPy and scikit-learn all tell apart.

    Args:
        config: a dataclass, a mapping or a tuple, which may hold others.
        path: its dotted name, for the message.

    Raises:
        ConfigError: a field called `seed`, or `..._seed`, is not from 0 to 2^32 - 1.
    """
    if dataclasses.is_dataclass(config):
        parts = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    elif isinstance(config, Mapping):
        parts = list(config.items())
    else:
        items = config if isinstance(config, tuple) else ()
        parts = [(str(index), item) for index, item in enumerate(items)]
    for name, part in parts:
        inner = f"{path}.{name}".lstrip(".")
        if name.endswith("seed") and isinstance(part, int) and not 0 <= part < 2**32:
            raise ConfigError(f"{inner} is {part}: a seed is from 0 to {2**32 - 1}.")
        check_seeds(part, inner)


def _check_type(value: Any, hint: Any, path: str) -> None:
    choices = typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)
    hint = next((choice for choice in choices if _fits(value, choice)), None)
    if hint is None:
        wanted = " or ".join(map(_described, choices))
        raise ConfigError(f"{path} is {_short(repr(value))}: it must be {wanted}.")
    inner = typing.get_args(hint)
    if dataclasses.is_dataclass(value):
        check_types(value, path)
    elif isinstance(value, Mapping) and inner:
        for name, item in value.items():
            _check_type(item, inner[1], f"{path}.{name}")
    elif isinstance(value, tuple) and inner:
        for index, item in enumerate(value):
            _check_type(item, inner[0 if inner[-1] is ... else index], f"{path}.{index}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type (not a union); the items of containers are not checked."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and (inner[-1] is ... or len(value) == len(inner))
    if isinstance(value, bool):  # in Python, a bool is an int
        return hint is bool or hint is Any
    wanted = float | int if hint is float else origin or hint
    return not isinstance(wanted, type | UnionType) or isinstance(value, wanted)


def _described(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple:
        return "a tuple" if inner[-1] is ... else f"a tuple of {len(inner)}"
    if hint is type(None):
        return "None"
    return _NAMES.get(hint) or article((origin or hint).__name__)

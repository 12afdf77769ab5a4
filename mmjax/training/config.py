"""Experiments to JSON and back, the types of their values, and the differences of two of them."""

import dataclasses
import importlib
import math
import typing
from collections.abc import Mapping
from types import ModuleType, UnionType
from typing import Any, Literal, Union

from mmjax.errors import ConfigError

_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def to_json(value: Any, path: str = "config") -> Any:
    """A config as JSON values: a dataclass becomes an object with its `type` and its fields.

    Args:
        value: a dataclass, or what it may hold.
        path: dotted name of it, for the message.

    Raises:
        ConfigError: for a value that JSON does not have.
    """
    if hasattr(value, "as_config"):  # what is too large for a config says what stands for it
        value = value.as_config()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": f"{cls.__module__}.{cls.__qualname__}"} | _items(fields, path)
    if isinstance(value, Mapping):
        return _items(value, path)
    if isinstance(value, tuple | list):
        return [to_json(item, f"{path}.{index}") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}: choose a finite number.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{path} is {_short(repr(value))}, which is no number, text, tuple, mapping or dataclass: "
        "experiments hold plain values only."
    )


def _items(fields: Mapping[Any, Any], path: str) -> dict[str, Any]:
    for name in fields:
        if not isinstance(name, str) or name == "type":
            raise ConfigError(
                f"{path} names one of its parts {name!r}: use a text, and another than 'type'."
            )
    return {name: to_json(item, f"{path}.{name}") for name, item in fields.items()}


def from_json(value: Any, definitions: ModuleType | None = None) -> Any:
    """The config that `to_json` wrote.

    Only dataclasses of mmjax itself are made, or those that `definitions` holds: a config file
    names no code to run.

    Args:
        value: JSON values.
        definitions: a module with further dataclasses (the user's experiment file).

    Raises:
        ConfigError: for a type that is not there, or fields that it does not have.
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
            f"The config's {value['type']} cannot be made by this version of mmjax ({error}): use "
            "the version named in environment.json."
        ) from error


def _class_of(path: Any, definitions: ModuleType | None) -> type:
    module_name, _, name = str(path).rpartition(".")
    cls = getattr(definitions, name, None)
    if module_name.startswith("mmjax."):
        try:
            cls = getattr(importlib.import_module(module_name), name, None)
        except (ImportError, ValueError):
            cls = None
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(
            f"The config names {path!r}, which mmjax does not have: give the experiment file that "
            "defines it with --experiment FILE.py, or use the version named in environment.json."
        )
    return cls


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two JSON configs differ, as lines `path: old -> new`."""
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
    """Refuses a config with a value of another type than its field has.

    Args:
        config: a dataclass, with others in it.
        path: dotted name of this one, for the message.

    Raises:
        ConfigError: naming the field, its value and the type.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        _check_type(
            getattr(config, field.name), hints[field.name], f"{path}.{field.name}".lstrip(".")
        )


def _check_type(value: Any, hint: Any, path: str) -> None:
    choices = typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)
    hint = next((each for each in choices if _fits(value, each)), None)
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
    """Whether a value is of a type that is no union, apart from what it holds."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and (inner[-1] is ... or len(value) == len(inner))
    if isinstance(value, bool):  # to Python also an int
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
    return _NAMES.get(hint) or f"a {(origin or hint).__name__}"

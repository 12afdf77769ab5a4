"""Experiments to JSON and back, and the differences of two of them."""

import dataclasses
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mmjax.errors import ConfigError


def to_json(value: Any) -> Any:
    """A config as JSON values: a dataclass becomes an object with its `type` and its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        fields = {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"type": f"{cls.__module__}.{cls.__qualname__}"} | fields
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"A config holds {value!r}, which is no number, text, tuple, mapping or dataclass: "
        "experiments hold values only."
    )


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
    except TypeError as error:
        raise ConfigError(
            f"The config's {value['type']} does not have the fields of this version of mmjax "
            f"({error}): use the version named in environment.json."
        ) from error


def _class_of(path: str, definitions: ModuleType | None) -> type:
    module_name, _, name = str(path).rpartition(".")
    cls = getattr(definitions, name, None)
    if module_name.startswith("mmjax."):
        try:
            cls = getattr(importlib.import_module(module_name), name, None)
        except ImportError:
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
        return [] if old == new else [f"{path}: {old} -> {new}"]
    return [line for name, a, b in pairs for line in differences(a, b, name)]

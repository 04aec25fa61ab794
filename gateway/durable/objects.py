"""Objects of an author's own classes within payloads, in the form of Azure Durable Functions for Python (v1).

A class that defines ``to_json(obj)`` and ``from_json(data)`` (static or class methods, ``to_json`` a plain method too) is
written as ``{"__class__": name, "__module__": module, "__data__": what to_json returns}``, at any depth, and rebuilt
for whoever reads it.

What must stay true: a payload never loads code. It may come from outside (an event, an input), so only classes are
rebuilt whose module this process has imported already, and that define both methods; anything else is an error that names
the class. Plain payloads cost next to nothing more: msgspec itself asks for classes that it does not know, and only for
dataclasses and the like, which it would write as plain fields, is a payload walked; that is done only once a module that
offers functions to the registry has shown such a class (``note_classes``). A crash here: nothing is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from gateway.durable.errors import NotSerializableError, words_of

CLASS, MODULE, DATA = "__class__", "__module__", "__data__"
_FORM = frozenset((CLASS, MODULE, DATA))
_FIELDS = ("__dataclass_fields__", "__attrs_attrs__", "__struct_fields__")
"""Classes with one of these are written field by field, unless they are looked for."""

Json = Any


class _Known:
    """dataclasses: there is a class that has to be looked for before a payload is written."""

    __slots__ = ("dataclasses",)

    def __init__(self) -> None:
        self.dataclasses = False


known = _Known()


def note_classes(names: Mapping[str, object]) -> None:
    """Look through the names of a module whose functions are registered for dataclasses that define ``to_json``."""
    if not known.dataclasses:
        known.dataclasses = any(isinstance(value, type) and _writes_itself(value) for value in list(names.values()))


def _writes_itself(kind: type) -> bool:
    return hasattr(kind, "to_json") and any(hasattr(kind, fields) for fields in _FIELDS)


def written(value: object) -> Json:
    """The JSON form of an object that msgspec does not know (its ``enc_hook``).

    Errors: TypeError when its class can't be written, or could not be rebuilt.
    """
    kind = type(value)
    to_json = getattr(kind, "to_json", None)
    if to_json is None and kind.__module__ == f"{__package__}.tasks":
        raise TypeError("a task is not its result: yield it first")
    if to_json is None:
        raise TypeError(f"an object of {kind.__qualname__}: give the class to_json and from_json, or pass plain data")
    if _find(kind.__module__, kind.__name__) is None:
        raise TypeError(
            f"an object of {kind.__module__}.{kind.__qualname__} could not be rebuilt: the class must stand at the top of "
            "a module and define both to_json and from_json"
        )
    data = to_json(value)
    return {
        CLASS: kind.__name__,
        MODULE: kind.__module__,
        DATA: with_dataclasses_written(data) if known.dataclasses else data,
    }


def with_dataclasses_written(value: Json) -> Json:
    """The value, with each dataclass that defines ``to_json`` in its JSON form; the value itself if there is none."""
    kind = type(value)
    if kind is dict:
        changed = {key: with_dataclasses_written(item) for key, item in value.items()}
        return value if all(changed[key] is item for key, item in value.items()) else changed
    if kind is list or kind is tuple:
        items = [with_dataclasses_written(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return written(value) if _writes_itself(kind) else value


def rebuilt(value: Json, what: str) -> Json:
    """The value with all objects in it rebuilt, the innermost first.

    Errors: NotSerializableError, when a class is not known here or its ``from_json`` raises; it names ``what``.
    """
    kind = type(value)
    if kind is list:
        return [rebuilt(item, what) for item in value]
    if kind is not dict:
        return value
    items = {key: rebuilt(item, what) for key, item in value.items()}
    return _object(items, what) if items.keys() >= _FORM else items


def _object(form: dict[str, Json], what: str) -> object:
    name, module = form[CLASS], form[MODULE]
    if not isinstance(name, str) or not isinstance(module, str):
        raise NotSerializableError(f"{what} holds an object whose {CLASS} and {MODULE} are not text")
    found = _find(module, name)
    if found is None:
        raise NotSerializableError(
            f"{what} holds an object of {module}.{name}, which is no class of a module in use here that defines both "
            "to_json and from_json"
        )
    try:
        return found.from_json(form[DATA])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the author's code raises (SystemExit, too): the value can't be had
        raise NotSerializableError(
            f"{what}: {module}.{name}.from_json raised {type(error).__name__}: {words_of(error)}"
        ) from error


def _find(module: str, name: str) -> Any:
    """The class, if this process has it already. Nothing is imported."""
    names = getattr(sys.modules.get(module), "__dict__", {})
    found = names.get(name)
    if not isinstance(found, type) or found.__module__ != module:
        return None
    return found if callable(getattr(found, "from_json", None)) and callable(getattr(found, "to_json", None)) else None

"""Names and ids of what the engine runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MAX_ID_CHARACTERS = 256
MAX_NAME_CHARACTERS = 256
"""Of the name of an event, an operation or a function."""
MAX_TEXT_CHARACTERS = 16 * 1024
"""Of a reason, and of who gave it."""


@dataclass(frozen=True, slots=True)
class EntityId:
    """Identity of an entity: ``@name@key``, the name in lower case."""

    name: str
    key: str
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name, key = self.name, self.key
        if not isinstance(name, str) or not isinstance(key, str):
            raise TypeError(f"an entity's name and key must be text, not {name!r} and {key!r}")
        if not name or "@" in name:
            raise ValueError(f"an entity's name must not be empty nor hold '@': {name!r}")
        lower = name.lower()
        text = f"@{lower}@{key}"
        if not text.isprintable():
            raise ValueError(f"an entity's name and key must be printable: {name!r}, {key!r}")
        if not key or len(text) > MAX_ID_CHARACTERS:
            raise ValueError(f"an entity's key must not be empty, its id at most {MAX_ID_CHARACTERS} characters")
        object.__setattr__(self, "name", lower)
        object.__setattr__(self, "_text", text)

    def __str__(self) -> str:
        return self._text

    @classmethod
    def parse(cls, text: str) -> EntityId:
        """The EntityId of ``@name@key``.

        Errors: ValueError for anything else.
        """
        if not text.startswith("@") or text.count("@") < 2:
            raise ValueError(f"not an entity id: {text!r}; write @name@key")
        _, name, key = text.split("@", 2)
        return cls(name, key)


def check_instance_id(instance: str) -> str:
    """The id itself, if an orchestration may have it.

    Errors: ValueError.
    """
    if not isinstance(instance, str):
        raise TypeError(f"an instance id must be text, not {type(instance).__name__}")
    if not 1 <= len(instance) <= MAX_ID_CHARACTERS:
        raise ValueError(f"an instance id has 1 to {MAX_ID_CHARACTERS} characters, not {len(instance)}")
    if instance.startswith("@"):
        raise ValueError(f"an orchestration's id must not start with '@' (that is an entity): {instance!r}")
    if not instance.isprintable():
        raise ValueError(f"an instance id must be printable: {instance!r}")
    return instance


def entity_text(entity_id: EntityId | str) -> str:
    """``@name@key`` of an entity, which may be given as such a text.

    Errors: ValueError, TypeError.
    """
    if isinstance(entity_id, EntityId):
        return str(entity_id)
    if not isinstance(entity_id, str):
        raise TypeError(f"an entity is named by an EntityId, not {type(entity_id).__name__}")
    return str(EntityId.parse(entity_id))


def check_name(name: str, what: str) -> str:
    """The name itself, if ``what`` (an event, an operation …) may be called so: it is journaled as it stands.

    Errors: ValueError, TypeError.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of {what} must be text, not {type(name).__name__}")
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise ValueError(f"the name of {what} has 1 to {MAX_NAME_CHARACTERS} characters, not {len(name)}")
    if not name.isprintable():
        raise ValueError(f"the name of {what} must be printable: {name!r}")
    return name


def check_text(text: str, what: str) -> str:
    """The text itself, if it can be journaled; it may be empty, and have several lines.

    Errors: ValueError, TypeError.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} must be text, not {type(text).__name__}")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"{what} has {len(text)} characters; the limit is {MAX_TEXT_CHARACTERS}")
    if not text.isascii():
        text.encode()  # half of a surrogate pair is no Unicode: UnicodeEncodeError, a ValueError, says where it is
    return text


def name_of(named: str | Callable[..., object]) -> str:
    """The registered name of a function, or the name itself."""
    if isinstance(named, str):
        return check_name(named, "a function")
    name = getattr(named, "durable_name", None) or getattr(named, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"expected a function or its name, not {named!r}")
    return name

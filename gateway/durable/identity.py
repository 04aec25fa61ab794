"""Names and ids of what the engine runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MAX_ID_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class EntityId:
    """Identity of an entity: ``@name@key``, the name in lower case."""

    name: str
    key: str
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or "@" in self.name:
            raise ValueError(f"an entity's name must not be empty nor hold '@': {self.name!r}")
        if not self.key or len(self.name) + len(self.key) + 2 > MAX_ID_CHARACTERS:
            raise ValueError(f"an entity's key must not be empty, its id at most {MAX_ID_CHARACTERS} characters")
        object.__setattr__(self, "name", self.name.lower())
        object.__setattr__(self, "_text", f"@{self.name}@{self.key}")

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
    if not 1 <= len(instance) <= MAX_ID_CHARACTERS:
        raise ValueError(f"an instance id has 1 to {MAX_ID_CHARACTERS} characters, not {len(instance)}")
    if instance.startswith("@"):
        raise ValueError(f"an orchestration's id must not start with '@' (that is an entity): {instance!r}")
    if not instance.isprintable():
        raise ValueError(f"an instance id must be printable: {instance!r}")
    return instance


def name_of(named: str | Callable[..., object]) -> str:
    """The registered name of a function, or the name itself."""
    if isinstance(named, str):
        return named
    name = getattr(named, "durable_name", None) or getattr(named, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"expected a function or its name, not {named!r}")
    return name

"""A site's own procedures: Python modules that its configuration names, registered beside the stock ones.

What must stay true: a module that can't be used keeps the daemon from starting, with one sentence that names it; it is
never left out in silence. A crash here: nothing has been started yet.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gateway.durable import Registry


class ProgramError(Exception):
    """A site's module can't be loaded; the text says which and why. Nothing was started."""


def load_programs(registry: Registry, names: tuple[str, ...], site_folder: Path) -> dict[str, list[str]]:
    """Register what each module offers: its names, by module.

    names: modules on the path (``my_procedures``), or files relative to the site's folder (``procedures.py``).
    Errors: ProgramError.
    """
    offered: dict[str, list[str]] = {}
    for name in names:
        try:
            module = _load(name, site_folder)
        except (Exception, SystemExit) as error:  # a site's own code may raise whatever it likes
            raise ProgramError(f"the program {name} can't be imported: {type(error).__name__}: {error}") from error
        try:
            offered[name] = registry.add_module(module)
        except Exception as error:  # its own register() may raise whatever it likes
            raise ProgramError(f"the program {name} can't be registered: {error}") from error
        if not offered[name] and not callable(getattr(module, "register", None)):
            raise ProgramError(
                f"the program {name} offers nothing: an orchestrator is a generator function with the one argument "
                "context, or marked by @orchestrator; activities and entities are marked by @activity and @entity"
            )
    return offered


def _load(name: str, site_folder: Path) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = site_folder / name
    unique = "".join(letter if letter.isalnum() else "_" for letter in name.removesuffix(".py"))
    spec = importlib.util.spec_from_file_location(f"site_{unique}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

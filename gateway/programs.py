"""A site's own procedures: Python modules that its configuration names, registered beside the stock ones."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gateway.durable import DurableError, Registry


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
            offered[name] = registry.add_module(module)
        except (DurableError, TypeError, OSError) as error:
            raise ProgramError(f"the program {name} can't be registered: {error}") from error
        except Exception as error:
            raise ProgramError(f"the program {name} can't be imported: {type(error).__name__}: {error}") from error
    return offered


def _load(name: str, site_folder: Path) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = site_folder / name
    spec = importlib.util.spec_from_file_location(f"site_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

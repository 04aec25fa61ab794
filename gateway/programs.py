"""A site's own procedures: Python modules that its configuration names, registered beside the stock ones.

What must stay true: a module that can't be used keeps the daemon from starting, with one sentence that names it; it is
never left out in silence. A crash here: nothing has been started yet.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from gateway.durable import Registry


class ProgramError(Exception):
    """A site's module can't be loaded; the text says which and why. Nothing was started."""


def load_programs(registry: Registry, names: tuple[str, ...], site_folder: Path) -> dict[str, list[str]]:
    """Register what each module offers: its names, by module.

    names: modules on the path (``my_procedures``), or files relative to the site's folder (``procedures.py``). What a
    file imports is looked for on the path first, then in its own folder and in the site's.
    Errors: ProgramError.
    """
    offered: dict[str, list[str]] = {}
    for name in names:
        try:
            module = _load(name, site_folder)
        except (Exception, SystemExit) as error:  # a site's own code may raise whatever it likes
            raise ProgramError(f"the program {name} can't be imported: {_why(error)}") from error
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
    path = site_folder / name
    for folder in (str(path.parent), str(site_folder)):
        if folder not in sys.path:
            sys.path.append(folder)  # last: a site's file never takes the place of another module
    if not name.endswith(".py"):
        return importlib.import_module(name)
    unique = "".join(letter if letter.isalnum() else "_" for letter in name.removesuffix(".py"))
    spec = importlib.util.spec_from_file_location(f"site_{unique}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _why(error: BaseException) -> str:
    """The error in words: its line, and for a program of Azure what to import instead."""
    told = f"{type(error).__name__}: {error}"
    ours = str(Path(__file__).parent)
    lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", ours))
    ]
    if lines and lines[-1] not in told and not isinstance(error, SyntaxError):  # that names its line itself
        told += f" ({lines[-1]})"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "azure":
        told += "; write instead: import gateway.durable as df, and leave out what is of the cloud's host"
    return told

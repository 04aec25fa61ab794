"""The site's configuration: frozen models, a loader that tells every error at once, and an example site."""

from config.address import format_address, parse_address
from config.loader import load_operators, load_site
from config.models import Operators, Site
from config.problems import ConfigErrors, ConfigProblem
from config.reload import restart_needed

__all__ = [
    "ConfigErrors",
    "ConfigProblem",
    "Operators",
    "Site",
    "format_address",
    "load_operators",
    "load_site",
    "parse_address",
    "restart_needed",
]

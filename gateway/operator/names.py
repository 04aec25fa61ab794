"""Keys of the objects that operators see, and names of their types. Clients keep keys for years: none may change.

``Feeder/F0001`` is the key of a breaker, wherever its folder is; the key of an orchestration or of a timer holds the
instance's own id. A key is a pure function of a name, so a restart gives the same ones.
"""

from __future__ import annotations

NAMESPACE = "urn:gridlatch:surface"

GATEWAY = "Gateway"
STRESS = "GridStress"
SHEDDING = "LoadShedding"
SECURITY = "Security"
FEEDERS = "Folder/Feeders"
ORCHESTRATIONS = "Orchestrations"
TIMERS = "Timers"

GATEWAY_TYPE = "GatewayType"
STRESS_TYPE = "GridStressType"
SHEDDING_TYPE = "LoadSheddingType"
SECURITY_TYPE = "SecurityType"
BREAKER_TYPE = "BreakerType"
ORCHESTRATIONS_TYPE = "OrchestrationsType"
ORCHESTRATION_TYPE = "OrchestrationType"
TIMERS_TYPE = "TimersType"
TIMER_TYPE = "TimerType"

_FEEDER = "Feeder/"


def feeder_key(feeder: str) -> str:
    """Key of a feeder's breaker."""
    return _FEEDER + feeder


def is_breaker(key: str) -> bool:
    """True for the key of a feeder's breaker."""
    return key.startswith(_FEEDER)


def feeder_of(key: str) -> str:
    """Name of the feeder whose breaker has this key. Raises ValueError for the key of anything else."""
    if not is_breaker(key):
        raise ValueError(f"{key!r} is no breaker")
    return key.removeprefix(_FEEDER)


def orchestration_key(instance: str) -> str:
    """Key of an orchestration."""
    return f"Orchestration/{instance}"


def timer_key(instance: str, task_id: int) -> str:
    """Key of a durable timer of an orchestration."""
    return f"Timer/{instance}/{task_id}"

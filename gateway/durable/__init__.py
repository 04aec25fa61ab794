"""The durable engine: orchestrators, activities, entities, timers and events that survive a power loss.

It speaks the dialect of Azure Durable Functions for Python, and knows nothing of breakers, SQLite or sockets.
"""

from gateway.durable.activities import ActivityContext
from gateway.durable.client import DurableOrchestrationClient, DurableOrchestrationStatus, EntityStateResponse
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.engine import Engine
from gateway.durable.entity import DurableEntityContext, EntityContext
from gateway.durable.errors import (
    AlreadyExistsError,
    DurableError,
    EngineStoppedError,
    EntityLockError,
    EntityOperationError,
    ExportError,
    FailureDetails,
    GoneError,
    LimitExceededError,
    NondeterminismError,
    NotFoundError,
    NotSerializableError,
    TaskFailedError,
)
from gateway.durable.identity import EntityId
from gateway.durable.instances import OrchestrationRuntimeStatus
from gateway.durable.registry import Registry, activity, entity, orchestrator
from gateway.durable.retry import RetryOptions
from gateway.durable.tasks import RAISE

__all__ = [
    "RAISE",
    "ActivityContext",
    "AlreadyExistsError",
    "DurableEntityContext",
    "DurableError",
    "DurableOrchestrationClient",
    "DurableOrchestrationContext",
    "DurableOrchestrationStatus",
    "Engine",
    "EngineStoppedError",
    "EntityContext",
    "EntityId",
    "EntityLockError",
    "EntityOperationError",
    "EntityStateResponse",
    "ExportError",
    "FailureDetails",
    "GoneError",
    "LimitExceededError",
    "NondeterminismError",
    "NotFoundError",
    "NotSerializableError",
    "OrchestrationRuntimeStatus",
    "Registry",
    "RetryOptions",
    "TaskFailedError",
    "activity",
    "entity",
    "orchestrator",
]

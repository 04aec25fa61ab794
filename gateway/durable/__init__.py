"""The durable engine: orchestrators, activities, entities, timers and events that survive a power loss.

It speaks the dialect of Azure Durable Functions for Python (v1), and knows nothing of breakers, SQLite or sockets: a
program that says ``import azure.durable_functions as df`` says ``import gateway.durable as df`` here. Of that package's
public names these are deliberately absent: ``ManagedIdentityTokenSource`` (there is no cloud identity on a substation's
box), ``DurableFunctionsCompatibilityWarning`` (about the cloud host's configuration files) and ``openai_agents``; so are
the parameters ``expected_type`` and ``input_type`` (a class says itself how it is rebuilt, see ``objects``).
"""

from gateway.durable.activities import ActivityContext
from gateway.durable.app import Blueprint, DFApp, Entity, Orchestrator
from gateway.durable.client import DurableOrchestrationClient
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
    WrongStatusError,
)
from gateway.durable.housekeeping import CleanEntityStorageResult, PurgeHistoryResult
from gateway.durable.identity import EntityId
from gateway.durable.instances import OrchestrationRuntimeStatus
from gateway.durable.queries import DurableOrchestrationStatus, EntityStateResponse, EntityStatus
from gateway.durable.registry import Registry, activity, entity, orchestrator
from gateway.durable.retry import RetryOptions
from gateway.durable.tasks import RAISE

__all__ = [
    "RAISE",
    "ActivityContext",
    "AlreadyExistsError",
    "Blueprint",
    "CleanEntityStorageResult",
    "DFApp",
    "DurableEntityContext",
    "DurableError",
    "DurableOrchestrationClient",
    "DurableOrchestrationContext",
    "DurableOrchestrationStatus",
    "Engine",
    "EngineStoppedError",
    "Entity",
    "EntityContext",
    "EntityId",
    "EntityLockError",
    "EntityOperationError",
    "EntityStateResponse",
    "EntityStatus",
    "ExportError",
    "FailureDetails",
    "GoneError",
    "LimitExceededError",
    "NondeterminismError",
    "NotFoundError",
    "NotSerializableError",
    "OrchestrationRuntimeStatus",
    "Orchestrator",
    "PurgeHistoryResult",
    "Registry",
    "RetryOptions",
    "TaskFailedError",
    "WrongStatusError",
    "activity",
    "entity",
    "orchestrator",
]
